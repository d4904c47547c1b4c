// @ts-check
/** Copies, and says so on the button that was pressed. */

import { icon } from "./dom.js";

const SAID_MS = 1600;

/**
 * @param {string} text
 * @param {HTMLElement} button
 */
export async function copyText(text, button) {
  const done = await write(text);
  const before = [...button.childNodes];
  if (button.dataset.said) return;
  button.dataset.said = "yes";
  button.replaceChildren(icon(done ? "check" : "close"), done ? "Copied" : "Not allowed");
  setTimeout(() => {
    button.replaceChildren(...before);
    delete button.dataset.said;
  }, SAID_MS);
}

/** @param {string} text */
async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // an insecure origin, or the person said no
  }
}
