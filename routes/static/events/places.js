// @ts-check
/** Up to where this tab has read which topics: it outlives a reload, and goes with the tab and with the sign-in. */

import { streamOf } from "./topics.js";

const PLACE = "trilane.place.";

/** @param {string[]} asked */
const nameOf = (asked) => PLACE + streamOf(asked);

/**
 * @param {string[]} asked
 * @returns {string} the cursor; empty when they were never followed
 */
export const placeOf = (asked) => sessionStorage.getItem(nameOf(asked)) ?? "";

/**
 * @param {string[]} asked
 * @param {string} cursor
 */
export function keepPlace(asked, cursor) {
  try {
    if (cursor) sessionStorage.setItem(nameOf(asked), cursor);
  } catch {
    // The tab's storage is full: after a reload the stream begins at its head.
  }
}

export function forgetPlaces() {
  const names = Object.keys(sessionStorage).filter((name) => name.startsWith(PLACE));
  for (const name of names) sessionStorage.removeItem(name);
}
