// @ts-check
/** One message: its parts, what can be done with it, and the note below it. */

import { whenAgain } from "../problems.js";
import { isEmpty, textOf } from "../stream/message.js";
import { el, icon } from "./dom.js";
import { lookOf, partView } from "./parts.js";

/** @typedef {import("../stream/message.js").UIMessage} UIMessage */
/** @typedef {import("../chat/endings.js").Note} Note */
/** @typedef {import("../chat/asks.js").OpenAsk} OpenAsk */
/** @typedef {import("../chat/asks.js").Ask} Ask */
/** @typedef {import("../chat/asks.js").Given} Given */
/** @typedef {{growing: boolean, last: boolean, busy: boolean, note: Note | null, asks: OpenAsk[], sub: string, maySend: boolean}} Situation */
/**
 * @typedef {object} Actions
 * @property {() => void} regenerate
 * @property {(message: UIMessage) => void} edit
 * @property {(text: string, button: HTMLElement) => void} copy
 * @property {(ask: Ask, given: Given) => void} answer
 */

export class MessageView {
  /** @type {UIMessage} */
  #message;
  /** @type {{look: string, view: import("./parts.js").PartView}[]} */
  #parts = [];
  #body = el("div", { class: "body" });
  #waiting = el("p", { class: "waiting", role: "img", "aria-label": "Waiting for the answer" }, dot(), dot(), dot());
  #author = el("p", { class: "message-author", hidden: true });
  #tools = el("div", { class: "message-tools" });
  #note = el("div", { class: "note", hidden: true });
  #shown = "";
  #actions;
  element;

  /**
   * @param {UIMessage} message
   * @param {Actions} actions
   */
  constructor(message, actions) {
    this.#message = message;
    this.#actions = actions;
    const who = el("h2", { class: "visually-hidden" }, message.role === "user" ? "You" : "Answer");
    const attributes = { class: `message ${message.role}`, "data-id": message.id };
    this.element = el("article", attributes, who, this.#author, this.#waiting, this.#body, this.#tools, this.#note);
  }

  /**
   * @param {UIMessage} message
   * @param {Situation} situation
   */
  update(message, situation) {
    const shown = JSON.stringify(situation);
    if (message === this.#message && shown === this.#shown && !situation.growing) return;
    this.#message = message;
    this.#updateParts(message, situation);
    this.#showAuthor(situation.sub);
    this.#waiting.hidden = !situation.growing || !isEmpty(message);
    this.element.setAttribute("aria-busy", String(situation.growing));
    if (shown !== this.#shown || !situation.growing) this.#updateTools(situation);
    if (shown !== this.#shown) this.#updateNote(situation);
    this.#shown = shown;
  }

  /**
   * Parts that are not shown count for nothing here: a run tells fewer of them than its stored message has.
   * @param {UIMessage} message
   * @param {Situation} situation
   */
  #updateParts(message, { growing, asks, sub }) {
    const shown = message.parts.map((part) => ({ part, look: lookOf(part) })).filter(({ look }) => look);
    const approvals = message.parts.filter(({ type }) => type === "data-approval");
    const about = { asks, approvals, sub, isRunning: growing };
    while (this.#parts.length > shown.length || this.#parts.some(({ look }, i) => look !== shown[i].look)) {
      this.#parts.pop()?.view.element.remove();
    }
    shown.forEach(({ part, look }, index) => {
      if (index === this.#parts.length) {
        const view = partView(/** @type {import("./parts.js").Look} */ (look), message.role === "user", this.#actions.answer);
        this.#body.append(view.element);
        this.#parts.push({ look, view });
      }
      this.#parts[index].view.update(part, growing && part === message.parts.at(-1), about);
    });
  }

  /** @param {string} sub the name of who reads: their own messages need none */
  #showAuthor(sub) {
    const { role, metadata } = this.#message;
    const author = role === "user" && sub && metadata?.author !== sub ? String(metadata?.author ?? "") : "";
    this.#author.textContent = author;
    this.#author.hidden = author === "";
    const who = this.element.querySelector("h2");
    if (who && role === "user") who.textContent = author ? "From" : "You";
  }

  /** @param {Situation} situation */
  #updateTools({ growing, last, busy, note, maySend }) {
    const message = this.#message;
    this.#tools.hidden = growing || isEmpty(message);
    const copy = button("copy", "Copy", (event) => this.#actions.copy(textOf(message), event.currentTarget));
    const edit = maySend && !busy && message.role === "user" && button("edit", "Edit", () => this.#actions.edit(message));
    const again = maySend && last && !busy && message.role === "assistant" && note?.kind !== "error";
    const regenerate = again && button("again", "Regenerate", () => this.#actions.regenerate());
    const facts = el("span", { class: "facts" }, message.role === "assistant" && factsOf(message.metadata ?? {}));
    this.#tools.replaceChildren(...[copy, edit, regenerate, facts].filter((child) => child !== false));
  }

  /** @param {Situation} situation */
  #updateNote({ note, last, busy, maySend }) {
    this.#note.hidden = note === null;
    if (!note) return;
    this.#note.className = `note ${note.kind}`;
    const retryable = maySend && last && !busy && (note.kind === "error" || note.kind === "unanswered" || this.#message.role === "user");
    const retry = retryable && el("button", { type: "button", click: () => this.#actions.regenerate() }, icon("again"), "Retry");
    const detail = note.detail && el("details", {}, el("summary", {}, "Details"), el("p", {}, note.detail));
    this.#note.replaceChildren(el("p", {}, note.text, ...countdown(note.againAtMs)), ...[retry, detail].filter((child) => child !== false && child !== ""));
  }
}

/**
 * When it may be tried again, counted down for as long as it is shown.
 * @param {number} [atMs] in milliseconds since 1970
 */
function countdown(atMs) {
  if (!atMs) return [];
  const left = () => atMs - Date.now();
  const shown = el("span", { role: "timer" }, whenAgain(left()));
  const timer = setInterval(() => {
    shown.textContent = whenAgain(left());
    if (left() <= 0 || !shown.isConnected) clearInterval(timer);
  }, 500);
  return [" ", shown];
}

/**
 * Who answered, and what it took.
 * @param {{model?: string, usage?: {inputTokens?: number, outputTokens?: number, estimated?: boolean}}} metadata
 */
function factsOf({ model, usage }) {
  const isSmall = model !== undefined && document.body.dataset.model === "embedded";
  const facts = model ? [isSmall ? `${model}, a very small model` : model] : [];
  if (usage && typeof usage.outputTokens === "number") {
    const about = usage.estimated ? "about " : "";
    facts.push(`${about}${number(usage.inputTokens ?? 0)} tokens in, ${number(usage.outputTokens)} out`);
  }
  return facts.join(" · ");
}

/** @param {number} value */
const number = (value) => value.toLocaleString("en");

/**
 * @param {"copy" | "edit" | "again"} picture
 * @param {string} label
 * @param {(event: any) => void} click
 */
const button = (picture, label, click) =>
  el("button", { type: "button", class: "quiet", title: label, click }, icon(picture), el("span", {}, label));

const dot = () => el("span", { class: "dot" });
