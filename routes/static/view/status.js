// @ts-check
/** What the page says beside the conversation: the state of the connection, and announcements for screen readers. */

import { byId } from "./dom.js";

/**
 * @typedef {object} Activity
 * @property {boolean} busy
 * @property {boolean} stopping
 * @property {import("../stream/resume.js").LinkState} link
 * @property {boolean} begun whether there is anything of the answer
 * @property {boolean} reachable
 */

export class Status {
  #line = byId("status", HTMLElement);
  #polite = byId("announcer", HTMLElement);
  #urgent = byId("alarm", HTMLElement);

  /** @param {Activity} activity */
  render(activity) {
    const [kind, text] = stateOf(activity, navigator.onLine);
    if (this.#line.textContent === text) return;
    this.#line.textContent = text;
    this.#line.className = `status ${kind}`;
  }

  /**
   * @param {string} text
   * @param {boolean} [urgent]
   */
  announce(text, urgent = false) {
    const region = urgent ? this.#urgent : this.#polite;
    region.textContent = "";
    // The same words again are only read when the region was empty in between.
    requestAnimationFrame(() => {
      region.textContent = text;
    });
  }
}

/**
 * @param {Activity} activity
 * @param {boolean} onLine
 * @returns {[string, string]} a class and the words; no words when there is nothing to say
 */
function stateOf({ busy, stopping, link, begun, reachable }, onLine) {
  if (busy && link === "reconnecting") return onLine ? ["warn", "Reconnecting…"] : ["warn", "You are offline"];
  if (!onLine) return ["warn", "You are offline"];
  if (!busy) return reachable ? ["", ""] : ["warn", "The gateway is out of reach"];
  if (stopping) return ["live", "Stopping…"];
  return begun ? ["live", "Live"] : ["live", "Waiting…"];
}
