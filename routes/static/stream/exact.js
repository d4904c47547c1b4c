// @ts-check
/**
 * JSON read without losing a digit: ids of 19 digits are common in what tools are called with, and a call that a person
 * edits is made with what the page writes. Pure.
 */

const LONG_NUMBER = /\d{16}/;

/**
 * As `JSON.parse`; a number that JavaScript cannot hold becomes what `JSON.stringify` writes as it was, where the browser can.
 * @param {string} text
 * @returns {any}
 */
export function parseExactly(text) {
  const { rawJSON } = /** @type {any} */ (JSON);
  if (!rawJSON || !LONG_NUMBER.test(text)) return JSON.parse(text);
  /** @type {any} */
  const keep = (/** @type {string} */ _, /** @type {unknown} */ value, /** @type {{source?: string}} */ { source }) =>
    typeof value === "number" && source && LONG_NUMBER.test(source) && String(value) !== source ? rawJSON(source) : value;
  return JSON.parse(text, keep);
}
