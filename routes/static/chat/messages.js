// @ts-check
/** Messages as this page makes and compares them. Pure, but for the chance in a new name. */

/** @typedef {import("../stream/message.js").UIMessage} UIMessage */

/** The id of an answer that has not begun. */
export const PENDING = "pending";

/**
 * The new messages, as the same objects where nothing changed, so that views need not look at them again.
 * @param {UIMessage[]} before
 * @param {UIMessage[]} now
 */
export function reused(before, now) {
  const known = new Map(before.map((message) => [message.id, message]));
  return now.map((message) => {
    const same = known.get(message.id);
    return same && JSON.stringify(same) === JSON.stringify(message) ? same : message;
  });
}

/**
 * @param {string} id
 * @param {string} text
 * @returns {UIMessage}
 */
export const userMessage = (id, text) => ({ id, role: "user", parts: [{ type: "text", text }] });

/** A name that nobody else chooses. Browsers have `randomUUID` only on secure origins. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
