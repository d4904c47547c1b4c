// @ts-check
/** JSON or text of any length: its beginning, and all of it for whoever asks. */

import { el } from "./dom.js";

const MOST_CHARS = 8000;

/**
 * @param {string} label
 * @returns {{element: HTMLElement, update(value: unknown): void}} shows nothing for what is undefined
 */
export function bounded(label) {
  const text = el("pre", { tabindex: 0, role: "group", "aria-label": label, dir: "auto" });
  const more = el("button", { type: "button", class: "quiet", hidden: true });
  const element = el("div", { class: "bounded", hidden: true }, el("p", { class: "bounded-label", "aria-hidden": "true" }, label), text, more);
  /** @type {unknown} */
  let shown;
  return {
    element,
    update(value) {
      if (value === shown) return;
      shown = value;
      const whole = pretty(value);
      const left = whole.length - MOST_CHARS;
      element.hidden = whole === "";
      text.textContent = left > 0 ? whole.slice(0, MOST_CHARS) : whole;
      more.hidden = left <= 0;
      more.textContent = left > 0 ? `Show ${left.toLocaleString("en")} more characters` : "";
      more.onclick = () => {
        text.textContent = whole;
        more.hidden = true;
        text.focus();
      };
    },
  };
}

/** @param {unknown} value */
export function pretty(value) {
  if (value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}
