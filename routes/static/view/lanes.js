// @ts-check
/** The lanes of the page, of which one is shown. */

import { byId } from "./dom.js";

/** @typedef {"chat" | "events" | "audio"} LaneName */

/** @type {LaneName[]} */
const LANES = ["chat", "events", "audio"];

/** @type {Record<LaneName, string>} */
const SKIP = { chat: "Skip to the message box", events: "Skip to what is published", audio: "Skip to the microphone" };

/**
 * @param {LaneName} shown
 * @param {string} chatAddress where the way back to the chat leads
 */
export function showLane(shown, chatAddress) {
  for (const lane of LANES) {
    byId(lane, HTMLElement).hidden = lane !== shown;
    const link = byId(`lane-${lane}`, HTMLAnchorElement);
    if (lane === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("lane-chat", HTMLAnchorElement).href = chatAddress;
  byId("skip", HTMLAnchorElement).textContent = SKIP[shown];
  // The other lanes have a line of their own for the state of its connection.
  byId("status", HTMLElement).hidden = shown !== "chat";
}
