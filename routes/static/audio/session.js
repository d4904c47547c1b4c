// @ts-check
/**
 * One listening session as its client keeps it: samples by number, and what the gateway said of them. Pure: frames,
 * messages and the time go in; what is to be sent comes out.
 *
 * Every sample is kept until it is acknowledged. A connection that is lost leaves all that matters here: the next one
 * says `session` and `cursor`, is told from which sample on the gateway wants to hear, and goes on there. The samples'
 * numbers are the gateway's own, so none is heard twice and none is left out. A gateway that has lost the session is told
 * all that is kept in a new one, whose first sample is the first that nobody has settled.
 */

import { Tape } from "./tape.js";
import { Transcript } from "./transcript.js";

/** @typedef {"connecting" | "live" | "away" | "over"} Phase */
/** @typedef {{code: string, message: string}} Failure */
/** @typedef {Record<string, any> & {type: string}} Message */

const KEPT_S = 300;
/** Of what waits, this much more than real time is sent: the gateway closes a connection (4504) that brings 60 s more. */
const AHEAD_S = 50;
/** Samples: 64 KiB are the most that one message may be. */
const MOST = 24_000;
/** What follows a pause that was not recorded is no part of the sentence before it. */
const BREAK_S = 1;
/** Less than this is not behind: it is on its way. */
const NEAR_S = 0.5;
/** The gateway does not know the session. */
const UNKNOWN = 4502;

const LOST = "The gateway lost this session.";

export class Session {
  /** @type {Phase} */
  phase = "connecting";
  /** Seconds that the gateway says it is behind. */
  lagS = 0;
  /** The language that is heard; empty while it is not known. */
  language = "";
  /** When all that waited was sent, after a connection was lost; 0: that did not happen. */
  caughtUpAtMs = 0;
  /** Why the gateway ended the last connection, where it said so. @type {Failure | null} */
  failure = null;
  isStopping = false;
  isDraining = false;
  /** Connections in a row that came to nothing. */
  failures = 0;
  /** As the gateway names it; empty until it has. */
  id = "";
  /** Of the last line that came. */
  cursor = "";
  /** Seconds that could not be recorded, because too much waited. */
  missedS = 0;
  /** Number of the sample that is the gateway's first; 0 until it has lost a session. */
  base = 0;
  /** Number of the sample before which everything is settled. */
  #settled = 0;
  #isOfEarlierVisit = false;
  #tape;
  #sent = 0;
  #isReady = false;
  #saidStop = false;
  #hasBeenAway = false;
  #readyAtMs = 0;
  #readyFrom = 0;

  /**
   * @param {number} sampleRate
   * @param {import("./transcript.js").Line[]} [lines] of an earlier visit
   */
  constructor(sampleRate, lines) {
    this.sampleRate = sampleRate;
    this.transcript = new Transcript(lines);
    this.#tape = new Tape(KEPT_S * sampleRate);
  }

  /**
   * A session of an earlier visit, whose samples are gone: to hear what became of it.
   * @param {{id: string, cursor: string, base?: number, sampleRate: number, lines: import("./transcript.js").Line[]}} kept
   */
  static again({ id, cursor, base = 0, sampleRate, lines }) {
    const session = new Session(sampleRate, lines);
    session.id = id;
    session.cursor = cursor;
    session.base = base;
    session.#isOfEarlierVisit = true;
    session.isStopping = true;
    return session;
  }

  get isOver() {
    return this.phase === "over";
  }

  /** Recorded so far. */
  get durationS() {
    return this.#tape.last / this.sampleRate;
  }

  /** Number of the sample after the last that was sent on this connection, or settled before it. */
  get sent() {
    return this.#sent;
  }

  /** Recorded, and not sent. */
  get waitingS() {
    return (this.#tape.last - this.#sent) / this.sampleRate;
  }

  get isFull() {
    return this.missedS > 0;
  }

  /**
   * The next samples.
   * @param {Int16Array} frame
   * @returns {number} of the sample after them
   */
  record(frame) {
    if (this.isStopping) return this.#tape.last;
    if (this.isFull) this.#goOn(frame.length);
    if (this.isFull || !this.#tape.append(frame)) this.missedS += frame.length / this.sampleRate;
    return this.#tape.last;
  }

  /**
   * Records again when there is room, behind a moment of silence.
   * @param {number} length
   */
  #goOn(length) {
    const { sampleRate } = this;
    // A little room is none: it would be full again at once.
    const free = KEPT_S * sampleRate - (this.#tape.last - this.#tape.first);
    if (free < 2 * BREAK_S * sampleRate + length) return;
    this.transcript.note(this.durationS, `${Math.ceil(this.missedS)} s were not recorded: too much waited to be sent`);
    this.#tape.append(new Int16Array(BREAK_S * sampleRate));
    this.missedS = 0;
  }

  /** What a new connection says first. */
  start() {
    this.#isReady = false;
    this.failure = null;
    const known = this.id ? { session: this.id, ...(this.cursor && { cursor: this.cursor }) } : {};
    return { type: "start", ...known, sampleRate: this.sampleRate, encoding: "pcm_s16le", channels: 1 };
  }

  /** No more is recorded; the session is over when the gateway has heard it all. */
  stop() {
    this.isStopping = true;
    if (!this.id && this.#tape.last === 0) this.phase = "over";
  }

  /**
   * What is to be sent next; null when that is nothing, for now.
   * @param {number} nowMs
   * @returns {Int16Array | {type: string} | null}
   */
  next(nowMs) {
    if (!this.#isReady || this.#saidStop) return null;
    const allowed = this.#readyFrom + (AHEAD_S + (nowMs - this.#readyAtMs) / 1000) * this.sampleRate;
    const end = Math.min(this.#tape.last, Math.floor(allowed), this.#sent + MOST);
    if (end > this.#sent) {
      const samples = this.#tape.read(this.#sent, end);
      this.#sent = end;
      this.#arrive(nowMs);
      return samples;
    }
    if (!this.isStopping || this.#sent < this.#tape.last) return null;
    this.#saidStop = true;
    return { type: "stop" };
  }

  /** @param {number} nowMs */
  #arrive(nowMs) {
    if (!this.#hasBeenAway || this.waitingS >= NEAR_S) return;
    this.#hasBeenAway = false;
    this.caughtUpAtMs = nowMs;
  }

  /**
   * @param {Message} message of the gateway
   * @param {number} nowMs
   */
  take(message, nowMs) {
    switch (message.type) {
      case "ready":
        return this.#ready(message, nowMs);
      case "partial":
        return this.transcript.guess(/** @type {any} */ (this.#inTime(message)));
      case "final":
        this.cursor = message.cursor || this.cursor;
        return this.transcript.settle(/** @type {any} */ (this.#inTime(message)));
      case "gap":
        return this.#miss(this.#inTime(message));
      case "ack":
        this.#settled = this.base + message.samples;
        return this.#tape.drop(this.#settled);
      case "lag":
        this.lagS = message.seconds;
        return undefined;
      case "drain":
        this.isDraining = true;
        return undefined;
      case "error":
        this.failure = { code: String(message.code), message: String(message.message) };
        return undefined;
      case "done":
        return this.#end();
      default:
        return undefined;
    }
  }

  /**
   * A message of the gateway, with times since the beginning of all that was recorded.
   * @param {Message} message
   * @returns {Message}
   */
  #inTime(message) {
    const baseS = this.base / this.sampleRate;
    return { ...message, start: message.start + baseS, end: message.end + baseS };
  }

  /** @param {Message} gap */
  #miss(gap) {
    this.transcript.miss(gap.start, gap.end, gapWords(gap));
  }

  /**
   * @param {Message} message
   * @param {number} nowMs
   */
  #ready({ session, resumeFrom, cursor, language = "" }, nowMs) {
    this.language = language;
    const from = this.base + resumeFrom;
    this.id = session;
    this.cursor ||= cursor;
    if (this.#tape.last < from) this.#tape.moveTo(from);
    this.#sent = this.#readyFrom = from;
    this.#readyAtMs = nowMs;
    this.#isReady = true;
    this.#saidStop = false;
    this.isDraining = false;
    this.failures = 0;
    this.phase = "live";
    this.#arrive(nowMs);
  }

  /**
   * A connection is over.
   * @param {number} code of its close; 1006 when it was cut
   * @returns {boolean} whether there is to be another
   */
  closed(code) {
    const wasOver = this.isOver;
    this.#isReady = false;
    this.lagS = 0;
    this.caughtUpAtMs = 0;
    if (wasOver) return false;
    if (code === UNKNOWN && this.#beginAnew()) return true;
    if (isForGood(code)) {
      this.#end();
      return false;
    }
    this.failures += 1;
    this.#hasBeenAway = this.id !== "";
    this.phase = this.#hasBeenAway ? "away" : "connecting";
    return true;
  }

  /**
   * Goes on in a new session, with all that is kept, and says what is gone.
   * @returns {boolean} whether there is anything to go on with
   */
  #beginAnew() {
    if (!this.id) return false; // even a new session is not known
    const { transcript, sampleRate } = this;
    const settled = Math.max(this.#settled, Math.round(transcript.settledS * sampleRate));
    const first = Math.max(settled, this.#tape.first);
    const keptS = (this.#tape.last - first) / sampleRate;
    if (this.isStopping && keptS <= 0) {
      if (this.#isOfEarlierVisit) transcript.note(transcript.settledS, `${LOST} Whatever was said after this, before the page was loaded again, is gone.`);
      return false;
    }
    this.base = this.#sent = first;
    this.id = this.cursor = "";
    this.failure = null;
    this.phase = "away";
    this.#hasBeenAway = true;
    transcript.forgetGuesses();
    const goes = keptS > 0 ? `with the ${Math.ceil(keptS)} s that were kept here` : "here";
    transcript.note(first / sampleRate, `${LOST} It goes on in a new one, ${goes}; what is above is in this tab alone.`);
    return true;
  }

  #end() {
    this.phase = "over";
    this.transcript.end();
  }

  /** It cannot go on, for a reason of this side. */
  abandon() {
    this.#isReady = false;
    this.#end();
  }
}

/**
 * Whether coming back would bring the same again.
 * @param {number} code
 */
export const isForGood = (code) => code === 1000 || code === 1008 || (code >= 4500 && code <= 4999);

/** @param {Message} gap */
function gapWords({ start, end, reason }) {
  const spanS = Math.max(1, Math.round(end - start));
  const why = reason === "overload" ? "the gateway had too much to do" : "the gateway could not make it out";
  return `${spanS} s were not heard: ${why}`;
}
