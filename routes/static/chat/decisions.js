// @ts-check
/** Calls of tools and what was asked about them, in words: who answered, and when. Pure. */

/** Why nobody's answer counts, by what happened in its place. @type {Record<string, string>} */
const INSTEAD = {
  expired: "Nobody answered in time",
  superseded: "Not answered: another message was sent instead",
  stopped: "Not answered: the answer was stopped",
};

/** By the kind of ask. @type {Record<string, [string, string]>} */
const WORDS = {
  approval: ["Approved", "Denied"],
  input: ["Answered", "Declined"],
  doubt: ["Decided", "Treated as not made"],
};

/** What is in doubt, by the note of its ask. @type {Record<string, string>} */
const DOUBTS = {
  interrupted: "The server that made it went away before its result came.",
  tool_timeout: "It did not answer in time.",
};

/**
 * @param {{state?: string, kind?: string, reason?: string, at?: number, actor?: {sub?: string, via?: string}}} decision
 * @param {string} own the name of who reads
 * @param {number} nowMs
 * @returns {string} empty while nobody has answered
 */
export function decisionWords({ state, kind, reason, at, actor }, own, nowMs) {
  if (state !== "approved" && state !== "denied" && state !== "expired") return "";
  const when = at ? ` · ${timeWords(at, nowMs)}` : "";
  const instead = INSTEAD[state === "expired" ? "expired" : (actor?.via ?? "")];
  if (instead) return instead + when;
  const [yes, no] = WORDS[kind ?? ""] ?? WORDS.approval;
  const who = actor?.sub ? ` by ${actor.sub === own ? "you" : actor.sub}` : "";
  return `${state === "approved" ? yes : no}${who}${when}${reason ? `: ${reason}` : ""}`;
}

/**
 * An answer that somebody gave elsewhere, for who does not see it.
 * @param {{approved?: boolean, actor?: {sub?: string, via?: string}}} notice
 * @param {string} own
 */
export const noticeWords = ({ approved, actor }, own) => decisionWords({ state: approved ? "approved" : "denied", actor }, own, 0);

/**
 * A tool's own name, and that of its server, if it has one: the gateway joins them by two underscores.
 * @param {string} name
 */
export function namesOf(name) {
  const at = name.indexOf("__");
  return at > 0 ? [name.slice(at + 2), name.slice(0, at)] : [name, ""];
}

/** @param {string} note */
export const doubtWords = (note) => DOUBTS[note] ?? "Its result did not come.";

/**
 * @param {number} atMs
 * @param {number} nowMs
 */
export function timeWords(atMs, nowMs) {
  const at = new Date(atMs);
  const time = at.toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const isToday = at.toDateString() === new Date(nowMs).toDateString();
  return isToday ? time : `${at.toLocaleDateString("en", { day: "numeric", month: "long" })}, ${time}`;
}
