// @ts-check
/** What was dictated in this tab outlives a reload; what was being said then is finished by the gateway, and fetched. */

import { Session } from "./session.js";

/** @typedef {{session: Session, startedAtMs: number}} Take what was dictated from one press to the next */
/** @typedef {{startedAtMs: number, id: string, cursor: string, sampleRate: number, isOver: boolean, lines: import("./transcript.js").Line[]}} Kept */

const TAKES = "trilane.dictated";

/** @param {Take[]} takes */
export function keepTakes(takes) {
  const kept = takes.map(({ session, startedAtMs }) => {
    const { id, cursor, sampleRate, isOver, transcript } = session;
    return { startedAtMs, id, cursor, sampleRate, isOver, lines: transcript.lines };
  });
  try {
    sessionStorage.setItem(TAKES, JSON.stringify(kept));
  } catch {
    // The tab's storage is full: then it does not outlive a reload.
  }
}

/** @returns {Take[]} */
export function keptTakes() {
  /** @type {Kept[]} */
  const kept = JSON.parse(sessionStorage.getItem(TAKES) ?? "[]");
  return kept.filter(({ id, lines }) => id || lines.length > 0).map(takeOf);
}

/** @param {Kept} kept */
function takeOf({ startedAtMs, isOver, ...kept }) {
  const session = Session.again(kept);
  if (isOver || !kept.id) session.abandon();
  return { session, startedAtMs };
}

export const forgetTakes = () => sessionStorage.removeItem(TAKES);
