// @ts-check
/** How a run ended, as something to show below a message. Pure. */

import { Problem, runSentence, sentenceOf } from "../problems.js";
import { NotAStream } from "../stream/resume.js";

/** @typedef {{kind: "error" | "stopped" | "cut" | "unanswered", text: string, detail: string, againAtMs?: number}} Note
 *   `againAtMs`: when it may be tried again, in milliseconds since 1970; 0 or left out when nobody said */
/** @typedef {import("../stream/message.js").RunState} RunState */

/** @type {Note} */
export const UNANSWERED = { kind: "unanswered", text: "This message has no answer.", detail: "" };

/**
 * A run that was read to its end; null when it simply finished.
 * @param {RunState} state
 * @returns {Note | null}
 */
export function noteOfRun({ status, finishReason, errorText, message }) {
  if (status === "error") return { kind: "error", text: runSentence(message.metadata ?? {}), detail: errorText };
  if (status === "abort") return { kind: "stopped", text: "Stopped", detail: "" };
  return noteOfFinish(finishReason);
}

/**
 * An answer from the gateway's history, whose metadata says how its run ended.
 * @param {{outcome?: string, finishReason?: string, code?: string, emitted?: number, errorText?: string}} metadata
 * @returns {Note | null}
 */
export function noteOfStored(metadata) {
  if (metadata.outcome === "error" || (!metadata.outcome && metadata.code)) {
    return { kind: "error", text: runSentence({ emitted: 1, ...metadata }), detail: metadata.errorText ?? "" };
  }
  if (metadata.outcome === "abort") return { kind: "stopped", text: "Stopped", detail: "" };
  return noteOfFinish(metadata.finishReason ?? "");
}

/**
 * @param {string} reason
 * @returns {Note | null}
 */
function noteOfFinish(reason) {
  if (reason === "length") return { kind: "cut", text: "The answer reached its length limit.", detail: "" };
  if (reason === "content-filter") {
    return { kind: "cut", text: "The model's provider withheld the rest of this answer.", detail: "" };
  }
  return null;
}

/**
 * What kept a run from being read.
 * @param {unknown} error
 * @param {number} [nowMs]
 * @returns {Note}
 */
export function noteOfFailure(error, nowMs = Date.now()) {
  if (error instanceof Problem) {
    const request = error.requestId && `request ${error.requestId}`;
    const againAtMs = error.retryAfterMs > 0 ? nowMs + error.retryAfterMs : 0;
    return { kind: "error", text: sentenceOf(error), detail: [error.detail, request].filter(Boolean).join(" · "), againAtMs };
  }
  if (error instanceof DOMException && error.name === "AbortError") {
    return { kind: "stopped", text: "Stopped before the gateway answered.", detail: "" };
  }
  if (error instanceof NotAStream) {
    return { kind: "error", text: "The gateway sent something that this page does not understand.", detail: error.message };
  }
  const detail = error instanceof Error ? error.message : String(error);
  return { kind: "error", text: "The gateway cannot be reached right now.", detail };
}

/**
 * Whether what is known of an ending says more than this note. A run that was refused may be seen as active for a moment, and is read
 * once more then: its stream does not say when to try again.
 * @param {Note | undefined} known
 * @param {Note} note
 */
export function saysWhen(known, note) {
  return known !== undefined && known.text === note.text && Boolean(known.againAtMs) && !note.againAtMs;
}
