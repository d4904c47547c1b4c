// @ts-check
/**
 * The audio lane of the page: when the microphone is on, and the connection that carries it.
 *
 * Goes on while another lane is looked at: whoever dictates may want to read something meanwhile.
 */

import { noteOfFailure } from "../chat/endings.js";
import { Problem } from "../problems.js";
import { backoff } from "../stream/resume.js";
import { FileReading } from "./file.js";
import { forgetTakes, keepTakes, keptTakes } from "./kept.js";
import { barsOf, isMute } from "./level.js";
import { Microphone } from "./microphone.js";
import { Session } from "./session.js";
import { converse, CUT } from "./socket.js";
import { closeTrouble, microphoneTrouble, unplugged } from "./words.js";

/** @typedef {import("./kept.js").Take} Take */

/**
 * @typedef {object} Surroundings
 * @property {import("../api.js").Api} api
 * @property {(delayMs: number, signal: AbortSignal) => Promise<void>} pause
 * @property {() => void} changed called for every frame
 */

const BARS = 400;
/** Silence of so many frames is none of a room. */
const MUTE_FRAMES = 30;
const FULL = 1013;
const FULL_MS = 4000;

export class AudioLane {
  /** Oldest first. @type {Take[]} */
  takes = keptTakes();
  /** Why it did not begin, or ended. @type {import("../chat/endings.js").Note | null} */
  trouble = null;
  /** @type {import("./words.js").Sound} */
  sound = "off";
  /** How loud it was of late. @type {import("./level.js").Bar[]} */
  bars = [];
  /** The one that is heard, or was last. @type {Session | null} */
  session = null;
  /** The file that is being read. @type {FileReading | null} */
  reading = null;
  #muteFrames = 0;
  /** @type {Microphone | null} */
  #microphone = null;
  #leaving = new AbortController();
  #around;

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
    addEventListener("pagehide", () => keepTakes(this.takes));
    const source = this.takes.at(-1)?.source;
    if (source instanceof Session && !source.isOver) void this.#listen(source);
  }

  /** Between one press and the next. */
  get isOn() {
    return this.sound === "on" || this.sound === "held" || this.sound === "mute";
  }

  /** Whether what was said still waits for the gateway. */
  get isBusy() {
    return this.reading !== null || (this.session !== null && !this.session.isOver);
  }

  /** All that was dictated, a paragraph for each time. */
  get text() {
    return this.takes.map(({ source }) => source.transcript.text).filter(Boolean).join("\n\n");
  }

  async start() {
    if (this.sound !== "off" || this.isBusy) return;
    this.trouble = null;
    this.sound = "asking";
    this.#around.changed();
    try {
      await this.#open();
    } catch (error) {
      this.#shut();
      this.trouble = microphoneTrouble(error);
    }
    this.#around.changed();
  }

  async #open() {
    const microphone = (this.#microphone = new Microphone());
    const session = new Session(microphone.sampleRate);
    await microphone.open({
      heard: (frame) => this.#heard(session, frame),
      held: (isHeld) => this.#held(isHeld),
      gone: () => this.#gone(),
    });
    this.sound = "on";
    this.bars = [];
    this.#muteFrames = 0;
    this.takes.push({ source: session, startedAtMs: Date.now(), name: "" });
    void this.#listen(session);
  }

  /**
   * A file in words.
   * @param {File} file
   */
  async read(file) {
    if (this.sound !== "off" || this.isBusy) return;
    const { api, changed } = this.#around;
    const { signal } = (this.#leaving = new AbortController());
    const reading = (this.reading = new FileReading(file.name));
    this.trouble = null;
    this.takes.push({ source: reading, startedAtMs: Date.now(), name: file.name });
    changed();
    try {
      await reading.read(await api.transcribe(file, signal), changed);
    } catch (error) {
      if (!signal.aborted) this.trouble = noteOfFailure(error);
    }
    this.reading = null;
    this.#settle();
  }

  /** No more is said. What was is still heard to its end; pressed again, that is given up. */
  stop() {
    if (this.reading || this.session?.isStopping) this.#leaving.abort();
    this.session?.stop();
    this.#shut();
    this.#around.changed();
  }

  clear() {
    this.takes = [];
    this.trouble = null;
    this.#settle();
  }

  #settle() {
    keepTakes(this.takes);
    this.#around.changed();
  }

  /** Somebody else may sign in next. */
  forget() {
    this.#shut();
    this.#leaving.abort();
    this.takes = [];
    forgetTakes();
  }

  /**
   * @param {Session} session
   * @param {Int16Array} frame
   */
  #heard(session, frame) {
    this.#muteFrames = isMute(frame) ? this.#muteFrames + 1 : 0;
    if (this.sound !== "held") this.sound = this.#muteFrames >= MUTE_FRAMES ? "mute" : "on";
    const last = session.record(frame);
    this.bars = [...this.bars, ...barsOf(frame, last)].slice(-BARS);
    this.#around.changed();
  }

  /** @param {boolean} isHeld */
  #held(isHeld) {
    if (this.sound === "asking") return;
    this.sound = isHeld ? "held" : "on";
    this.#around.changed();
  }

  #gone() {
    this.stop();
    this.trouble = unplugged();
    this.#around.changed();
  }

  #shut() {
    this.#microphone?.close();
    this.#microphone = null;
    this.sound = "off";
  }

  /**
   * Connects, again and again, until the session is over.
   * @param {Session} session
   */
  async #listen(session) {
    this.session = session;
    const { signal } = (this.#leaving = new AbortController());
    try {
      while (!session.isOver) await this.#connect(session, signal);
    } catch (error) {
      if (!signal.aborted) this.trouble = noteOfFailure(error);
      session.abandon();
    }
    if (session === this.session) this.#shut();
    this.#settle();
  }

  /**
   * One connection, and the wait after it. Raises what makes another useless.
   * @param {Session} session
   * @param {AbortSignal} signal
   */
  async #connect(session, signal) {
    const { changed, pause } = this.#around;
    const { code, afterMs } = await this.#attempt(session, signal);
    signal.throwIfAborted();
    if (!session.closed(code)) {
      this.trouble ??= closeTrouble(code, session.failure);
      return;
    }
    changed();
    await pause(Math.max(afterMs, backoff(session.failures, Math.random)), signal);
  }

  /**
   * @param {Session} session
   * @param {AbortSignal} signal
   * @returns {Promise<{code: number, afterMs: number}>}
   */
  async #attempt(session, signal) {
    try {
      const ticket = await this.#around.api.ticket("/api/audio", signal);
      const code = await converse(session, ticket, this.#around.changed, signal);
      return { code, afterMs: code === FULL ? FULL_MS * (1 + Math.random()) : 0 };
    } catch (error) {
      const isPassing = error instanceof Problem ? error.isPassing : error instanceof TypeError;
      if (!isPassing) throw error;
      return { code: CUT, afterMs: error instanceof Problem ? error.retryAfterMs : 0 };
    }
  }
}
