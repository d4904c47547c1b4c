// @ts-check
/** The state of a subscription in words for a person. Pure. */

import { byCode } from "../problems.js";

/** @typedef {import("./following.js").Following} Following */
/** @typedef {{kind: "live" | "warn" | "over" | "error", text: string}} State `kind` is how it looks */

/** By the reason that `hello` or `gap` gives. @type {Record<string, string>} */
const REASONS = {
  evicted: "The gateway no longer keeps events that old.",
  replay_limit: "That is more than the gateway sends again at once.",
  epoch_changed: "A topic was begun anew.",
  unknown_cursor: "The gateway does not know the place up to which this page had read.",
  malformed: "The gateway cannot read the place up to which this page had read.",
};

/**
 * How the connection stands.
 * @param {Following} following
 * @param {boolean} onLine
 * @returns {State}
 */
export function stateOf({ phase, why, trouble }, onLine) {
  switch (phase) {
    case "live":
      return { kind: "live", text: "Live" };
    case "ended":
      return { kind: "over", text: "Closed for good" };
    case "refused":
      return { kind: "error", text: trouble?.text ?? "" };
    case "connecting":
    case "reconnecting": {
      const text = phase === "connecting" ? "Connecting…" : why === "busy" ? "Busy" : "Reconnecting…";
      return { kind: "warn", text: onLine ? text : "You are offline" };
    }
  }
}

/**
 * What a person should know besides; empty when that is nothing.
 * @param {Following} following
 */
export function newsOf({ phase, why, news, topics, isEnding, isWhole, trouble }) {
  switch (phase) {
    case "live":
      return [...news.map((one) => newsWords(one, isWhole)), isEnding && "Your sign-in ends within a minute."].filter(Boolean).join(" ");
    case "ended":
      return [...news.map((one) => newsWords(one, isWhole)), endWords(why, topics)].join(" ");
    case "refused":
      return trouble?.detail ?? "";
    case "connecting":
    case "reconnecting":
      return AWAY[why] ?? "";
  }
}

/** Why the gateway sent its reader away. @type {Record<string, string>} */
const AWAY = {
  drain: "The gateway is restarting.",
  busy: "The gateway is full right now. There will be another try in a few seconds.",
};

/**
 * @param {import("./following.js").News} one
 * @param {boolean} isWhole
 */
function newsWords(one, isWhole) {
  switch (one.kind) {
    case "caught-up":
      return isWhole ? `From the oldest that is kept: ${events(one.got)}.` : `Caught up ${events(one.got)}.`;
    case "catching-up":
      return `${isWhole ? "Reading" : "Catching up on"} ${events(one.of)}…`;
    case "nothing-missed":
      return "Nothing was missed.";
    case "lost":
      return one.text;
  }
}

/**
 * @param {string} code
 * @param {string[]} topics
 */
function endWords(code, topics) {
  if (code !== "complete") return byCode(code) ?? "The gateway has nothing more to tell here.";
  return topics.length > 1 ? "These topics are complete: nothing will follow." : "This topic is complete: nothing will follow.";
}

/**
 * @param {string} reason
 * @param {number | null} missed null when that cannot be known
 */
export function lossWords(reason, missed) {
  const lost = missed === null ? "events may be missing." : `${events(missed)} missed.`;
  return [`History lost: ${lost}`, REASONS[reason]].filter(Boolean).join(" ");
}

/** @param {Record<string, unknown>} gap what the gateway says of a hole that it noticed while connected */
export function gapWords({ topic, from, to, reason }) {
  const known = typeof from === "number" && typeof to === "number";
  const missed = known ? to - from + 1 : null;
  const where = `Of ${typeof topic === "string" ? topic : "a topic"}`;
  const span = known ? (missed === 1 ? `, number ${from}` : `, numbers ${from} to ${to}`) : "";
  return `${lossWords(String(reason), missed)} ${where}${span}.`;
}

/**
 * @param {number} count
 * @returns {string}
 */
export const events = (count) => `${count.toLocaleString("en")} ${count === 1 ? "event" : "events"}`;
