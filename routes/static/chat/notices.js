// @ts-check
/**
 * What happens in the caller's chats, told by the gateway on their own topic while somebody looks: an answer that another
 * device gave is shown at once, and not with the next look.
 *
 * A tab that nobody sees holds no connection: browsers have six of them for each gateway.
 */

import { queryOf, topicsOf } from "../events/topics.js";
import { resumed } from "../stream/resume.js";
import { noticing } from "./links.js";

/** @typedef {{name: string, data: Record<string, any>}} Notice */

export class Notices {
  /** The caller's name, once the gateway has said it. */
  sub = "";
  /** Whether what happens is told at once: then there is little that is left to be looked for. */
  isLive = false;
  #cursor = "";
  /** What is followed beside the caller's own topic. */
  #topics = "";
  /** @type {AbortController | null} */
  #open = null;
  #around;

  /**
   * @param {object} around
   * @param {import("../api.js").Api} around.api
   * @param {(delayMs: number, signal: AbortSignal) => Promise<void>} around.pause
   * @param {(notice: Notice) => void} around.heard
   * @param {() => void} around.changed
   * @param {() => void} around.missed something may have happened that is not told any more
   */
  constructor(around) {
    this.#around = around;
    addEventListener("pagehide", () => this.follow(false));
  }

  /**
   * @param {boolean} wanted
   * @param {string[]} [topics] beside the caller's own
   */
  follow(wanted, topics = []) {
    const named = this.sub ? topics.join(" ") : "";
    if (!wanted || named !== this.#topics) {
      this.#open?.abort();
      this.#open = null;
      this.isLive = false;
    }
    this.#topics = named;
    if (wanted && !this.#open) void this.#read((this.#open = new AbortController()));
  }

  get #query() {
    return this.#topics ? queryOf([`user/${this.sub}`, ...topicsOf(this.#topics)]) : "";
  }

  /** @param {AbortController} open */
  async #read(open) {
    const { api, pause } = this.#around;
    const onState = (/** @type {string} */ state) => {
      if (open === this.#open) this.isLive = state === "live";
    };
    try {
      for await (const event of resumed({ connect: noticing(api, this.#query), pause, onState }, this.#cursor, open.signal)) {
        this.#cursor = event.id || this.#cursor;
        this.#take(event);
      }
    } catch {
      // Where the events lane is not served here, the page looks now and then, as it does without this.
      if (open === this.#open) this.isLive = false;
    }
  }

  /** @param {import("../stream/sse.js").SseEvent} event */
  #take({ type, data }) {
    const said = objectIn(data);
    if (type === "hello") {
      const own = Array.isArray(said.topics) ? said.topics.find((topic) => String(topic).startsWith("user/")) : "";
      this.sub = String(own ?? "").slice("user/".length);
      this.#around.changed();
      if (said.recovered === false) this.#around.missed();
    } else if (type === "gap") this.#around.missed();
    else this.#around.heard({ name: type, data: said });
  }
}

/**
 * @param {string} data
 * @returns {Record<string, any>} empty when it is something else
 */
function objectIn(data) {
  try {
    return Object(JSON.parse(data));
  } catch {
    return {};
  }
}
