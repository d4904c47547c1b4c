// @ts-check
/** How listening stands, in words for a person. Pure. */

import { byCode } from "../problems.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("../chat/endings.js").Note} Note */
/** @typedef {"off" | "asking" | "on" | "held" | "mute"} Sound
 *   of the microphone; `held`: by another app or the system; `mute`: it gives nothing but silence */
/** @typedef {{session: Session | null, sound: Sound, trouble: Note | null, reading: {name: string} | null, onLine: boolean, nowMs: number}} Standing
 *   `reading`: a file */
/** @typedef {{kind: "live" | "warn" | "over" | "error", text: string, news: string}} Words `kind` is how it looks */

const NEWS_MS = 6000;
/** After so many attempts that came to nothing, it is worth a word. */
const MANY = 4;

/**
 * @param {Standing} standing
 * @returns {Words}
 */
export function wordsOf(standing) {
  const { session, sound, trouble, reading } = standing;
  if (sound === "asking") return warn("Allow the microphone…", "Your browser asks whether this page may listen.");
  if (reading) return { kind: "live", text: "Reading a file…", news: reading.name };
  if (trouble) return { kind: "error", text: trouble.text, news: trouble.detail };
  if (!session || session.isOver) return { kind: "over", text: "The microphone is off", news: "" };
  if (session.phase !== "live") return waitingWords(session, standing.onLine);
  if (session.isStopping) return { kind: "live", text: "Finishing…", news: sendingWords(session) || "The last words are on their way." };
  return { kind: "live", text: "Listening", news: newsOf(session, sound, standing.nowMs) };
}

/**
 * @param {string} text
 * @param {string} news
 * @returns {Words}
 */
const warn = (text, news) => ({ kind: "warn", text, news });

/**
 * @param {Session} session that has no connection
 * @param {boolean} onLine
 * @returns {Words}
 */
function waitingWords(session, onLine) {
  const { phase, failure, failures, isDraining, isStopping, isFull } = session;
  if (isFull) {
    return { kind: "error", text: "Not recording", news: "5 minutes of what you said wait to be sent, and no more can be kept. It goes on when the gateway is back." };
  }
  const kept = keptWords(session);
  if (!onLine) return warn("You are offline", kept);
  if (failure?.code === "overloaded") return warn("The gateway is full", `It is asked again in a few seconds; else try later. ${kept}`);
  if (phase === "away") return warn(isDraining ? "The gateway is restarting…" : "Reconnecting…", kept);
  if (failures >= MANY) return warn("Connecting…", `The gateway does not answer here. It may run without its audio lane. ${kept}`);
  return warn("Connecting…", isStopping ? kept : `Go ahead. ${kept}`);
}

/** @param {Session} session */
function keptWords({ waitingS, isStopping }) {
  if (waitingS < 1) return isStopping ? "" : "What you say is kept until the gateway has heard it.";
  return `${seconds(waitingS)} of what you said ${waitingS < 1.5 ? "is" : "are"} kept here.`;
}

/**
 * @param {Session} session
 * @param {Sound} sound
 * @param {number} nowMs
 */
function newsOf(session, sound, nowMs) {
  const { lagS, caughtUpAtMs, transcript } = session;
  if (sound === "held") return "Something else uses the microphone right now.";
  if (sound === "mute") return "No sound comes from the microphone. Is it muted?";
  const sending = sendingWords(session);
  if (sending) return sending;
  if (lagS > 0) return `The gateway is ${seconds(lagS)} behind.`;
  if (caughtUpAtMs > 0 && nowMs - caughtUpAtMs < NEWS_MS) return "Caught up: nothing was lost.";
  return transcript.lines.length > 0 || transcript.now.length > 0 ? "" : invitation(session);
}

/** @param {Session} session */
const invitation = ({ language }) => (language === "en" ? "Say something, in English." : "Say something.");

/** @param {Session} session */
const sendingWords = ({ waitingS }) => (waitingS >= 2 ? `Sending what was kept: ${seconds(waitingS)}.` : "");

/** @param {number} count */
const seconds = (count) => (count < 90 ? `${Math.round(count)} s` : `${Math.round(count / 60)} minutes`);

/** What kept the microphone from being opened. @type {Record<string, [string, string]>} */
const MICROPHONE = {
  NotAllowedError: [
    "The microphone was refused.",
    "Allow it for this page beside the browser's address, and for the browser in the system's privacy settings. Then press the button again.",
  ],
  NotFoundError: ["No microphone was found.", "Connect one, then press the button again."],
  SecurityError: [
    "Browsers give a microphone to secure pages only.",
    "Open this page by https, or on the gateway's own machine as localhost.",
  ],
  NotReadableError: ["The microphone cannot be used right now.", "Another app may hold it. Close that, then press the button again."],
};
MICROPHONE.OverconstrainedError = MICROPHONE.NotFoundError;
MICROPHONE.AbortError = MICROPHONE.NotReadableError;

/**
 * @param {unknown} error
 * @returns {Note}
 */
export function microphoneTrouble(error) {
  const name = error instanceof Error ? error.name : "";
  if (Object.hasOwn(MICROPHONE, name)) return note(...MICROPHONE[name]);
  return note("The microphone could not be started.", error instanceof Error ? error.message : String(error));
}

/** @returns {Note} */
export const unplugged = () => note("The microphone is gone.", "It was unplugged, or this page may no longer use it. What was heard is kept above.");

/** @type {Record<number, string>} */
const CLOSES = {
  1008: "Your key does not allow this page to listen.",
  4500: "The gateway did not understand this page.",
  4501: "The gateway could not read the sound of this microphone.",
  4502: "The gateway does not know this session any more.",
  4503: "Listening went on elsewhere: a newer connection took this session over.",
  4504: "The gateway was sent more sound than it takes.",
};

/**
 * Why the gateway ended the session; null when it was at its end.
 * @param {number} code
 * @param {import("./session.js").Failure | null} failure
 * @returns {Note | null}
 */
export function closeTrouble(code, failure) {
  if (code === 1000) return null;
  const text = CLOSES[code] ?? byCode(failure?.code ?? "") ?? "The gateway ended the session.";
  return note(text, failure?.message ?? "");
}

/**
 * @param {string} text
 * @param {string} detail
 * @returns {Note}
 */
const note = (text, detail) => ({ kind: "error", text, detail });

/**
 * A time in a recording.
 * @param {number} atS
 */
export function clock(atS) {
  const whole = Math.floor(atS);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const padded = String(rest).padStart(2, "0");
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, "0")}:${padded}` : `${minutes}:${padded}`;
}
