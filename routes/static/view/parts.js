// @ts-check
/** The parts of a message: text, reasoning, tool calls, sources, files. Each view takes its part again as it grows. */

import { MarkdownView } from "../markdown/dom.js";
import { safeHref } from "../markdown/inline.js";
import { picturesOf } from "../stream/pictures.js";
import { el, icon } from "./dom.js";
import { pictureNode } from "./picture.js";

/** @typedef {import("../stream/message.js").Part} Part */
/** @typedef {{element: HTMLElement, update(part: Part, growing: boolean): void}} PartView */

/**
 * A view for parts of this type; null for types that are not shown.
 * @param {Part} part
 * @param {boolean} plain show text as it was typed
 * @returns {PartView | null}
 */
export function partView(part, plain) {
  if (part.type === "text") return plain ? new PlainView() : new AnswerView();
  if (part.type === "reasoning") return new ReasoningView();
  if (part.type.startsWith("tool-") || part.type === "dynamic-tool") return new ToolView();
  if (part.type === "data-provider") return new PicturesView();
  if (part.type === "source-url" || part.type === "source-document" || part.type === "file") return new LinkView();
  return null;
}

class PlainView {
  element = el("p", { class: "typed", dir: "auto" });

  /** @param {Part} part */
  update(part) {
    if (this.element.textContent !== part.text) this.element.textContent = part.text;
  }
}

class AnswerView {
  #markdown = new MarkdownView();
  #pictures = new PicturesView();
  element = el("div", { class: "answer" }, this.#markdown.element, this.#pictures.element);

  /**
   * @param {Part} part
   * @param {boolean} growing
   */
  update(part, growing) {
    this.#markdown.update(part.text, growing);
    this.#markdown.element.classList.toggle("growing", growing);
    this.#pictures.update(part);
  }
}

/** The pictures that a provider has sent among fields of its own. */
class PicturesView {
  element = el("div", { class: "pictures", hidden: true });

  /** @param {Part} part */
  update(part) {
    const addresses = picturesOf(part);
    if (addresses.length === this.element.childElementCount) return;
    this.element.hidden = addresses.length === 0;
    this.element.replaceChildren(...addresses.map((address) => pictureNode(address, "")));
  }
}

class ReasoningView {
  #markdown = new MarkdownView();
  #label = el("span", {}, "Thinking");
  element = el("details", { class: "reasoning" }, el("summary", {}, icon("chevron"), this.#label), this.#markdown.element);

  /**
   * @param {Part} part
   * @param {boolean} growing
   */
  update(part, growing) {
    this.#markdown.update(part.text, growing);
    this.#label.textContent = growing ? "Thinking…" : "Thoughts before the answer";
    this.element.classList.toggle("working", growing);
  }
}

/** What a tool call is at, in words. @type {Record<string, string>} */
const TOOL_STATES = {
  "input-streaming": "being called…",
  "input-available": "called",
  "approval-requested": "waits for approval",
  "approval-responded": "answered",
  "output-available": "done",
  "output-error": "failed",
  "output-denied": "not allowed",
};

class ToolView {
  #name = el("strong");
  #state = el("span", { class: "tool-state" });
  #input = el("pre", { tabindex: 0, role: "group", "aria-label": "What it was called with" });
  #output = el("pre", { tabindex: 0, role: "group", "aria-label": "What it answered" });
  element = el(
    "details",
    { class: "tool" },
    el("summary", {}, icon("tool"), this.#name, this.#state, icon("chevron")),
    this.#input,
    this.#output,
  );

  /** @param {Part} part */
  update(part) {
    this.#name.textContent = part.toolName ?? part.type.slice("tool-".length);
    this.#state.textContent = TOOL_STATES[part.state] ?? "";
    this.element.dataset.state = part.state;
    this.#input.textContent = part.inputText ?? pretty(part.input);
    this.#output.textContent = part.errorText ?? pretty(part.output);
    this.#output.hidden = this.#output.textContent === "";
  }
}

class LinkView {
  element = el("p", { class: "source" });

  /** @param {Part} part */
  update(part) {
    const name = part.title || part.filename || part.url || part.mediaType || "file";
    const [address] = picturesOf(part);
    if (address) {
      this.element.replaceChildren(pictureNode(address, part.filename ?? ""));
      return;
    }
    const href = part.url && safeHref(part.url);
    const link = href ? el("a", { href, target: "_blank", rel: "noopener noreferrer" }, name) : name;
    this.element.replaceChildren(icon("link"), link);
  }
}

/** @param {unknown} value */
const pretty = (value) => (value === undefined ? "" : JSON.stringify(value, null, 2));
