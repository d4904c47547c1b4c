// @ts-check
/**
 * What a page knows of the topics that it follows: the state of the connection, and what was heard. Pure.
 *
 * The gateway's own frames (`hello`, `gap`, `drain`, `busy`, `auth`, `bye`) are folded here; every other is an event.
 * `words.js` says all of it in sentences.
 */

import { Entries } from "./entries.js";
import { gapWords, lossWords } from "./words.js";

/** @typedef {import("../stream/sse.js").SseEvent} SseEvent */
/** @typedef {import("../chat/endings.js").Note} Note */
/** @typedef {"connecting" | "live" | "reconnecting" | "ended" | "refused"} Phase */

/**
 * What happened since the connection was made, of which a person should know.
 * @typedef {{kind: "caught-up" | "catching-up", got: number, of: number}} Replay
 * @typedef {Replay | {kind: "nothing-missed"} | {kind: "lost", text: string}} News
 */

export class Following {
  /** As the gateway names them; what was asked for until it has. @type {string[]} */
  topics;
  entries = new Entries();
  /** @type {Phase} */
  phase = "connecting";
  /** Why the gateway sent its reader away: `drain`, `busy`, `bye`'s code; empty when it did not say. */
  why = "";
  /** Of the last connection. @type {News[]} */
  news = [];
  /** After so long without a byte the gateway sends a ping. */
  pingMs = 15_000;
  /** Whether the sign-in is about to end. */
  isEnding = false;
  /** Why the topics could not be followed. @type {Note | null} */
  trouble = null;
  cursor;

  /**
   * @param {string[]} asked none: one's own topic
   * @param {string} [cursor] of an earlier visit
   * @param {boolean} [isWhole] begins with the oldest event that the gateway still has
   */
  constructor(asked, cursor = "", isWhole = false) {
    this.asked = asked;
    this.isWhole = isWhole;
    this.topics = asked;
    this.cursor = cursor;
  }

  get isOver() {
    return this.phase === "ended" || this.phase === "refused";
  }

  /** Whether it is over for a reason that may pass. */
  get isWorthATry() {
    return this.phase === "refused" || (this.phase === "ended" && this.why !== "complete");
  }

  /** The replay that has not come to its end. */
  get replay() {
    return /** @type {Replay | undefined} */ (this.news.find((one) => one.kind === "catching-up"));
  }

  /** @param {import("../stream/resume.js").LinkState} link */
  linked(link) {
    // A connection is live when the gateway has said hello.
    if (link === "live") return;
    this.phase = link;
    if (link === "reconnecting") this.news = [];
  }

  /**
   * @param {SseEvent} event
   * @param {number} nowMs
   */
  take({ type, data, id }, nowMs) {
    const fresh = this.cursor === "";
    this.cursor = id || this.cursor;
    switch (type) {
      case "hello":
        return this.#hello(objectIn(data), fresh);
      case "gap":
        return this.#miss(gapWords(objectIn(data)));
      case "drain":
      case "busy":
        this.why = type;
        return undefined;
      case "auth":
        this.isEnding = true;
        return undefined;
      case "bye":
        return this.end(textIn(objectIn(data).code));
      default:
        return this.#heard({ name: type, data, cursor: id, atMs: nowMs });
    }
  }

  /**
   * @param {Record<string, unknown>} said
   * @param {boolean} fresh nothing was followed before
   */
  #hello({ recovered, replay, reason, missed, ping, topics }, fresh) {
    this.phase = "live";
    this.isWhole &&= fresh;
    this.why = "";
    this.isEnding = false;
    this.news = [];
    this.pingMs = numberIn(ping, 15) * 1000;
    if (Array.isArray(topics)) this.topics = topics.map(String);
    const of = numberIn(replay, 0);
    if (recovered === false) this.#miss(lossWords(textIn(reason), numberIn(missed, null)), of > 0);
    if (of > 0) this.news.push({ kind: "catching-up", got: 0, of });
    else if (recovered !== false && !fresh) this.news.push({ kind: "nothing-missed" });
  }

  /**
   * @param {string} text
   * @param {boolean} [goesOn] what is left of it follows
   */
  #miss(text, goesOn = false) {
    const others = this.news.filter((one) => one.kind !== "nothing-missed" && one.kind !== "lost");
    this.news = [{ kind: "lost", text }, ...others];
    this.entries.addHole(goesOn ? `${text} What is still there follows.` : text);
  }

  /** @param {Omit<import("./entries.js").Heard, "number" | "replayed">} event */
  #heard(event) {
    const { replay } = this;
    this.entries.add({ ...event, replayed: replay !== undefined });
    if (!replay) return;
    replay.got += 1;
    if (replay.got >= replay.of) this.caughtUp();
  }

  /**
   * The replay is over. It may be shorter than `hello` said: events that nobody needs any more (`ttl`) count there, and
   * are not sent.
   */
  caughtUp() {
    this.news = this.news.map((one) => (one.kind === "catching-up" ? { ...one, kind: "caught-up" } : one));
  }

  /** @param {string} why nothing will follow, ever */
  end(why) {
    this.phase = "ended";
    this.why = why;
    this.caughtUp();
  }

  /** @param {Note} trouble */
  refuse(trouble) {
    this.phase = "refused";
    this.trouble = trouble;
  }
}

/**
 * @param {string} data
 * @returns {Record<string, unknown>} empty when it is something else
 */
function objectIn(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {};
  }
}

/** @param {unknown} value */
const textIn = (value) => (typeof value === "string" ? value : "");

/**
 * @template T
 * @param {unknown} value
 * @param {T} otherwise
 */
const numberIn = (value, otherwise) => (typeof value === "number" ? value : otherwise);
