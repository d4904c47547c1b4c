// @ts-check
/** The state of a subscription in words for a person. Pure. */

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
 * @param {Following} following
 * @param {boolean} onLine
 * @returns {State}
 */
export function stateOf({ phase, why, topics, trouble }, onLine) {
  switch (phase) {
    case "connecting":
      return onLine ? { kind: "warn", text: "Connecting…" } : OFFLINE;
    case "live":
      return { kind: "live", text: "Live" };
    case "reconnecting":
      return onLine ? { kind: "warn", text: AWAY[why] ?? "Reconnecting…" } : OFFLINE;
    case "ended":
      return { kind: "over", text: why === "complete" ? complete(topics) : "Closed for good: the gateway has nothing more to tell." };
    case "refused":
      return { kind: "error", text: trouble?.text ?? "" };
  }
}

/** @type {State} */
const OFFLINE = { kind: "warn", text: "You are offline" };

/** Why the gateway sent its reader away. @type {Record<string, string>} */
const AWAY = {
  drain: "The gateway is restarting. Reconnecting…",
  busy: "The gateway is full right now. Trying again in a few seconds…",
};

/** @param {string[]} topics */
const complete = (topics) => `Closed for good: ${topics.length > 1 ? "these topics are" : "this topic is"} complete.`;

/**
 * What happened since the connection was made; empty when that is nothing to speak of.
 * @param {Following} following
 */
export function newsOf({ phase, news, isEnding }) {
  if (phase !== "live" && phase !== "ended") return "";
  const said = news.map((one) => {
    switch (one.kind) {
      case "caught-up":
        return `Caught up ${events(one.got)}.`;
      case "catching-up":
        return `Catching up on ${events(one.of)}…`;
      case "nothing-missed":
        return "Nothing was missed.";
      case "lost":
        return one.text;
    }
  });
  if (isEnding) said.push("Your sign-in ends within a minute.");
  return said.join(" ");
}

/**
 * @param {string} reason
 * @param {number | null} missed null when that cannot be known
 * @param {boolean} goesOn what is left of them follows
 */
export function lossWords(reason, missed, goesOn) {
  const lost = missed === null ? "events may be missing." : `${events(missed)} missed.`;
  return [`History lost: ${lost}`, REASONS[reason], goesOn && "What is still there follows."].filter(Boolean).join(" ");
}

/** @param {Record<string, unknown>} gap what the gateway says of a hole that it noticed while connected */
export function gapWords({ topic, from, to, reason }) {
  const known = typeof from === "number" && typeof to === "number";
  const missed = known ? to - from + 1 : null;
  const where = `Of ${typeof topic === "string" ? topic : "a topic"}`;
  const span = known ? (missed === 1 ? `, number ${from}` : `, numbers ${from} to ${to}`) : "";
  return `${lossWords(String(reason), missed, false)} ${where}${span}.`;
}

/**
 * @param {number} count
 * @returns {string}
 */
export const events = (count) => `${count.toLocaleString("en")} ${count === 1 ? "event" : "events"}`;
