// @ts-check
/** What was dictated in this tab outlives a reload; what was being said then is finished by the gateway, and fetched. */

import { Session } from "./session.js";

/** @typedef {{source: Session | import("./file.js").FileReading, startedAtMs: number, name: string}} Take
 *   what was dictated from one press to the next; or a file, by its name */
/** @typedef {{startedAtMs: number, name: string, id: string, cursor: string, base?: number, sampleRate: number, isOver: boolean, lines: import("./transcript.js").Line[]}} Kept */

const TAKES = "trilane.dictated";
const OVER = { id: "", cursor: "", base: 0, sampleRate: 0, isOver: true };

/** @param {Take[]} takes */
export function keepTakes(takes) {
  const kept = takes.map(({ source, startedAtMs, name }) => {
    const { lines } = source.transcript;
    const { id, cursor, base, sampleRate, isOver } = source instanceof Session ? source : OVER;
    return { startedAtMs, name, id, cursor, base, sampleRate, isOver, lines };
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
function takeOf({ startedAtMs, name, isOver, ...kept }) {
  const source = Session.again(kept);
  if (isOver || !kept.id) source.abandon();
  return { source, startedAtMs, name };
}

export const forgetTakes = () => sessionStorage.removeItem(TAKES);
