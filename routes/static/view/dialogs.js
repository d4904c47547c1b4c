// @ts-check
/** The two questions that the page asks: for a key, and whether to delete. */

import { sentenceOf, whenAgain } from "../problems.js";
import { byId } from "./dom.js";

/**
 * @param {import("../problems.js").Problem | null} refused what was wrong with the key before; null when there was none
 * @returns {Promise<string | null>} null when the person declines
 */
export function askForKey(refused) {
  const dialog = byId("sign-in", HTMLDialogElement);
  const input = byId("key", HTMLInputElement);
  const trouble = byId("key-trouble", HTMLElement);
  trouble.textContent = refused ? [sentenceOf(refused), refused.retryAfterMs > 0 && whenAgain(refused.retryAfterMs), refused.detail].filter(Boolean).join(" ") : "";
  input.value = "";
  return answerOf(dialog, () => {
    const key = input.value.trim();
    // A header takes printable ASCII only, and so do all keys and tokens.
    if (/^[!-~]+$/.test(key)) return key;
    trouble.textContent = "A key has no spaces and no accented letters.";
    input.focus();
    return null;
  });
}

/**
 * @param {string} title
 * @returns {Promise<boolean>}
 */
export async function confirmDelete(title) {
  byId("confirm-text", HTMLElement).textContent = `“${title}” and all its answers will be gone for good.`;
  return (await answerOf(byId("confirm", HTMLDialogElement), () => "yes")) === "yes";
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {() => string | null} read the answer; null when it cannot be taken yet
 * @returns {Promise<string | null>}
 */
function answerOf(dialog, read) {
  const form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
  const over = new AbortController();
  return new Promise((resolve) => {
    /** @type {string | null} */
    let answer = null;
    const { signal } = over;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = read();
      if (answer !== null) dialog.close();
    }, { signal });
    dialog.querySelector("[data-cancel]")?.addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener("close", () => {
      over.abort();
      resolve(answer);
    }, { signal });
    dialog.showModal();
  });
}
