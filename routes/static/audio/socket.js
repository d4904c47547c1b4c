// @ts-check
/** One connection of a session: sends what is due, hands over what comes, and notices when the network is dead. */

/** @typedef {import("./session.js").Session} Session */

const PATH = "/api/audio";
const SUBPROTOCOL = "trilane.audio.v1";
/** What was cut says nothing. */
export const CUT = 1006;
const STEP_MS = 100;
const MOST_BUFFERED = 256 * 1024;
/** A gateway that hears something says something, every 5 s at least; one that loads its model may take longer. */
const SILENCE_MS = 20_000;
const SILENCE_S = 10;
const OPEN_MS = 60_000;
const KEEPALIVE_MS = 15_000;

/**
 * @param {Session} session
 * @param {string} ticket
 * @param {() => void} changed
 * @param {AbortSignal} signal ends it
 * @returns {Promise<number>} the code of its close
 */
export function converse(session, ticket, changed, signal) {
  const address = new URL(PATH, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  // A browser's WebSocket sends no header, and an address is written to logs.
  const socket = new WebSocket(address, [SUBPROTOCOL, `ticket.${ticket}`]);
  return new Promise((resolve) => {
    const watch = new Watch(session.sampleRate);
    const step = () => {
      if (socket.readyState === WebSocket.OPEN) pump(socket, session, watch);
      if (watch.isDead(session.phase === "live")) end(CUT);
    };
    const timer = setInterval(step, STEP_MS);
    /** @param {number} code */
    const end = (code) => {
      clearInterval(timer);
      socket.onopen = socket.onmessage = socket.onclose = null;
      signal.removeEventListener("abort", abort);
      socket.close(); // of a dead network, no answer to this will come: nobody waits for it
      resolve(code);
    };
    const abort = () => end(CUT);
    signal.addEventListener("abort", abort);
    socket.onopen = () => socket.send(JSON.stringify(session.start()));
    socket.onmessage = ({ data }) => {
      watch.heard();
      session.take(JSON.parse(data), Date.now());
      step();
      changed();
    };
    socket.onclose = ({ code }) => end(code);
    if (signal.aborted) abort();
  });
}

/**
 * @param {WebSocket} socket
 * @param {Session} session
 * @param {Watch} watch
 */
function pump(socket, session, watch) {
  while (socket.bufferedAmount < MOST_BUFFERED) {
    const next = session.next(Date.now()) ?? watch.keepalive(session.phase === "live");
    if (!next) return;
    const isSound = next instanceof Int16Array;
    socket.send(isSound ? next : JSON.stringify(next)); // every machine with a browser is little-endian, as the wire is
    watch.sent(isSound ? next.length : 0);
  }
}

/** Whether the other side is there: a network that died says nothing, for minutes. */
class Watch {
  #heardAtMs = Date.now();
  #sentAtMs = Date.now();
  #sent = 0;
  #sampleRate;

  /** @param {number} sampleRate */
  constructor(sampleRate) {
    this.#sampleRate = sampleRate;
  }

  heard() {
    this.#heardAtMs = Date.now();
    this.#sent = 0;
  }

  /** @param {number} samples */
  sent(samples) {
    this.#sentAtMs = Date.now();
    this.#sent += samples;
  }

  /** @param {boolean} isLive */
  keepalive(isLive) {
    return isLive && Date.now() - this.#sentAtMs > KEEPALIVE_MS ? { type: "keepalive" } : null;
  }

  /** @param {boolean} isLive */
  isDead(isLive) {
    const silentMs = Date.now() - this.#heardAtMs;
    return isLive ? silentMs > SILENCE_MS && this.#sent > SILENCE_S * this.#sampleRate : silentMs > OPEN_MS;
  }
}
