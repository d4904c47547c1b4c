// @ts-check
/** The parts of a message: text, reasoning, tool calls, sources, files. Each view takes its part again as it grows. */

import { MarkdownView } from "../markdown/dom.js";
import { safeHref } from "../markdown/inline.js";
import { textOf } from "../stream/message.js";
import { picturesOf } from "../stream/pictures.js";
import { el, icon } from "./dom.js";
import { pictureNode } from "./picture.js";
import { ToolView } from "./tool.js";

/** @typedef {import("../stream/message.js").Part} Part */
/** @typedef {import("./tool.js").AboutCalls} AboutCalls */
/** @typedef {{element: HTMLElement, update(part: Part, growing: boolean, about: AboutCalls): void}} PartView */
/** @typedef {"text" | "reasoning" | "tool" | "steer" | "pictures" | "link"} Look */

/**
 * What a part looks like; nothing for one that is not shown.
 * @param {Part} part
 * @returns {Look | ""}
 */
export function lookOf({ type }) {
  if (type === "text" || type === "reasoning") return type;
  if (type.startsWith("tool-") || type === "dynamic-tool") return "tool";
  if (type === "data-steer") return "steer";
  if (type === "data-provider") return "pictures";
  return type === "source-url" || type === "source-document" || type === "file" ? "link" : "";
}

/**
 * @param {Look} look
 * @param {boolean} plain show text as it was typed
 * @param {import("../view/message.js").Actions["answer"]} answer
 * @returns {PartView}
 */
export function partView(look, plain, answer) {
  if (look === "text") return plain ? new PlainView() : new AnswerView();
  if (look === "reasoning") return new ReasoningView();
  if (look === "tool") return new ToolView(answer);
  if (look === "steer") return new SteerView();
  return look === "pictures" ? new PicturesView() : new LinkView();
}

class PlainView {
  element = el("p", { class: "typed", dir: "auto" });

  /** @param {Part} part */
  update(part) {
    if (this.element.textContent !== part.text) this.element.textContent = part.text;
  }
}

/** What somebody said while the answer was being written, at the place where it was read. */
class SteerView {
  #text = el("p", { class: "typed", dir: "auto" });
  #by = el("p", { class: "steer-by" });
  element = el("div", { class: "steer", role: "group", "aria-label": "Said meanwhile" }, this.#text, this.#by);

  /**
   * @param {Part} part
   * @param {boolean} _growing
   * @param {AboutCalls} about
   */
  update({ data }, _growing, { sub }) {
    const text = textOf({ id: "", role: "user", parts: data?.parts ?? [] });
    if (this.#text.textContent !== text) this.#text.textContent = text;
    this.#by.textContent = data?.by && sub && data.by !== sub ? data.by : "";
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
