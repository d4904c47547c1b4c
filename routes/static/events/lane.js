// @ts-check
/**
 * The events lane of the page: which topics are followed, and when.
 *
 * Holds at most one stream, and that only while someone sees it: a browser allows six connections to a gateway that
 * speaks HTTP/1.1, for all its tabs together. Whoever comes back continues where the page had stopped.
 */

import { noteOfFailure } from "../chat/endings.js";
import { Problem } from "../problems.js";
import { resumed, Unavailable } from "../stream/resume.js";
import { Following } from "./following.js";
import { forgetPlaces, keepPlace, placeOf } from "./places.js";
import { queryOf, streamOf } from "./topics.js";

/**
 * @typedef {object} Surroundings
 * @property {import("../api.js").Api} api
 * @property {(delayMs: number, signal: AbortSignal) => Promise<void>} pause
 * @property {() => void} changed
 */

const QUIET_MS = 1000;
const LEAST_SILENCE_MS = 40_000;

export class EventsLane {
  following = new Following([]);
  #shown = false;
  #begun = false;
  /** @type {AbortController | null} */
  #open = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #quiet;
  #around;

  /** @param {Surroundings} around */
  constructor(around) {
    this.#around = around;
    document.addEventListener("visibilitychange", () => this.#look());
    addEventListener("pagehide", () => this.#close());
    addEventListener("pageshow", () => this.#look());
  }

  /** @param {string[]} asked none: one's own topic */
  show(asked) {
    this.#shown = true;
    const other = !this.#begun || streamOf(asked) !== streamOf(this.following.asked);
    if (other || this.following.isWorthATry) this.#begin(new Following(asked, placeOf(asked)));
    else this.#look();
  }

  hide() {
    this.#shown = false;
    this.#look();
  }

  /** Begins anew with the oldest event that the gateway still has. */
  fromEarliest() {
    this.#begin(new Following(this.following.asked, "", true));
  }

  clear() {
    this.following.entries.clear();
    this.#around.changed();
  }

  /** Somebody else may sign in next. */
  forget() {
    this.#close();
    forgetPlaces();
  }

  /** @param {Following} following */
  #begin(following) {
    this.#close();
    this.#begun = true;
    this.following = following;
    this.#around.changed();
    this.#look();
  }

  #look() {
    const wanted = this.#shown && document.visibilityState === "visible" && !this.following.isOver;
    if (!wanted) this.#close();
    else if (!this.#open) void this.#read(this.following, (this.#open = new AbortController()).signal);
  }

  #close() {
    clearTimeout(this.#quiet);
    this.#open?.abort();
    this.#open = null;
  }

  /**
   * Reads until nothing more will come, or nobody looks.
   * @param {Following} following
   * @param {AbortSignal} signal
   */
  async #read(following, signal) {
    const { changed, pause } = this.#around;
    /** @type {import("../stream/resume.js").Link} */
    const link = {
      connect: (cursor, until) => this.#connect(following, cursor, until),
      pause,
      onState: (state) => {
        following.linked(state);
        changed();
      },
    };
    try {
      for await (const event of resumed(link, following.cursor, signal)) {
        following.take(event, Date.now());
        link.silenceMs = Math.max(LEAST_SILENCE_MS, 2.5 * following.pingMs);
        keepPlace(following.asked, following.cursor);
        this.#wait(following);
        changed();
        if (following.isOver) break;
      }
      if (!following.isOver) following.end("complete");
    } catch (error) {
      if (!signal.aborted) following.refuse(noteOfFailure(error));
    }
    if (!signal.aborted) this.#close();
    changed();
  }

  /**
   * @param {Following} following
   * @param {string} cursor
   * @param {AbortSignal} signal
   */
  async #connect(following, cursor, signal) {
    const from = following.isWhole && !cursor ? "from=earliest" : "";
    // `partial`: when some of it is lost, the rest is better than nothing; the gateway says how much is missing.
    const query = [queryOf(following.asked), "partial=1", from].filter(Boolean).join("&");
    try {
      return await this.#around.api.events(query, cursor, signal);
    } catch (error) {
      throw error instanceof Problem && error.isPassing ? new Unavailable(error.message, error.retryAfterMs) : error;
    }
  }

  /**
   * A replay that falls silent is over, though fewer events came than were announced.
   * @param {Following} following
   */
  #wait(following) {
    clearTimeout(this.#quiet);
    if (!following.replay) return;
    this.#quiet = setTimeout(() => {
      following.caughtUp();
      this.#around.changed();
    }, QUIET_MS);
  }
}
