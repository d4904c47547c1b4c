// @ts-check
/**
 * What is asked of a person about one call, and the answers there are: to allow it, as it is or with another input; not to,
 * with a reason; to say its result; or, of a call that may have been made, what it is to be taken for.
 */

import { doubtWords, namesOf, timeWords } from "../chat/decisions.js";
import { written } from "../events/json.js";
import { bounded, pretty } from "./bounded.js";
import { el, isComposing } from "./dom.js";

/** @typedef {import("../chat/asks.js").Ask} Ask */
/** @typedef {import("../chat/asks.js").Given} Given */
/** @typedef {{label: string, hint?: string, text?: string, isCode?: boolean, send: string, look?: string, given(text: string): Given | string}} Writing
 *   `given` returns the answer that a text is, or what is wrong with it */

/** Browsers take a longer one for none at all. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class AskView {
  #answer;
  #choices;
  #writing = el("form", { class: "ask-writing", hidden: true });
  #trouble = el("p", { class: "trouble", role: "alert" });
  #until = el("p", { class: "ask-text" });
  #others = el("p", { class: "ask-text" });
  #sending = false;
  element;

  /**
   * @param {Ask} ask
   * @param {string} note why it is asked, in a word of the gateway
   * @param {(ask: Ask, given: Given) => void} answer
   */
  constructor(ask, note, answer) {
    this.ask = ask;
    this.#answer = answer;
    const { kind = "approval", toolName } = ask;
    const [title, ...texts] = TITLES[kind](ask, note);
    const input = bounded("What it is called with");
    const isTitle = kind === "input" && questionIn(ask.input) && Object.keys(ask.input).length === 1;
    if (!isTitle) input.update(ask.input);
    this.#choices = el("div", { class: "ask-choices" }, ...this.#choicesOf(kind));
    this.element = el(
      "div",
      { class: "ask", role: "group", "aria-label": `Question about ${namesOf(toolName)[0]}`, "aria-busy": "false" },
      el("p", { class: "ask-title", dir: "auto" }, title),
      ...texts.map((text) => el("p", { class: "ask-text" }, text)),
      input.element,
      this.#choices,
      this.#writing,
      this.#trouble,
      this.#others,
      this.#until,
    );
    this.#waitUntil(ask.expiresAt ?? 0);
    this.#writing.addEventListener("keydown", (event) => this.#key(event));
  }

  /** @param {number} atMs when its time is up; 0: never */
  #waitUntil(atMs) {
    const leftMs = atMs - Date.now();
    if (!atMs) return;
    if (leftMs > 0) {
      this.#until.textContent = `Waits until ${timeWords(atMs, Date.now())}.`;
      setTimeout(() => this.#waitUntil(atMs), Math.min(leftMs, LONGEST_TIMER_MS));
      return;
    }
    this.#until.textContent = "The time to answer is over.";
    this.#writing.hidden = true;
    this.#choices.hidden = false;
    this.#choices.replaceChildren(choice("plain", "Go on without it", () => this.#give({ approved: false })));
  }

  /** @param {import("../chat/asks.js").OpenAsk} open */
  update({ ask, sending, trouble, mayAnswer = true }) {
    this.#choices.hidden = !mayAnswer || !this.#writing.hidden;
    this.#others.textContent = mayAnswer ? "" : `This is for others to answer: ${(ask.roles ?? ["editor", "owner"]).join(" or ")}.`;
    if (this.#trouble.textContent !== trouble && !sending) this.#trouble.textContent = trouble;
    if (sending === this.#sending) return;
    this.#sending = sending;
    this.element.setAttribute("aria-busy", String(sending));
    for (const control of this.element.querySelectorAll("button, textarea")) {
      // Not `disabled`, which would lose the focus.
      control.setAttribute("aria-disabled", String(sending));
    }
  }

  /** @param {Given} given */
  #give(given) {
    if (!this.#sending) this.#answer(this.ask, given);
  }

  /**
   * @param {"approval" | "input" | "doubt"} kind
   * @returns {HTMLElement[]}
   */
  #choicesOf(kind) {
    const deny = /** @type {Writing} */ ({
      label: "Why not?",
      hint: "The model is told. You may leave it empty.",
      send: kind === "input" ? "Decline" : "Deny",
      look: "strong danger",
      given: (text) => ({ approved: false, ...(text && { reason: text }) }),
    });
    if (kind === "approval") {
      return [
        choice("strong", "Approve", () => this.#give({ approved: true })),
        choice("plain", "Deny", () => this.#write(deny)),
        ...(this.ask.editable ? [choice("plain", "Edit", () => this.#write(editing(this.ask)))] : []),
      ];
    }
    if (kind === "input") {
      return [choice("strong", "Answer", () => this.#write(ANSWERING)), choice("plain", "Decline", () => this.#write(deny))];
    }
    return [
      choice("plain", "It was made: say its result", () => this.#write(RESULT)),
      choice("plain", "Make it again", () => this.#give({ approved: true })),
      choice("plain", "Treat it as not made", () => this.#give({ approved: false })),
    ];
  }

  /** @param {Writing} writing */
  #write({ label, hint, text = "", isCode, send, look = "strong", given }) {
    const rows = Math.min(12, Math.max(2, text.split("\n").length));
    const field = el("textarea", { rows, dir: "auto", autocomplete: "off", spellcheck: isCode ? "false" : "true", class: isCode ? "code-field" : "" });
    field.value = text;
    const back = choice("plain", "Back", () => this.#back());
    const submit = el("button", { type: "submit", class: look }, send);
    this.#writing.replaceChildren(el("label", {}, el("span", {}, label), field), hint ? el("p", { class: "ask-text" }, hint) : "", el("div", { class: "ask-choices" }, submit, back));
    this.#writing.onsubmit = (event) => {
      event.preventDefault();
      const answer = given(field.value.trim());
      this.#trouble.textContent = typeof answer === "string" ? answer : "";
      if (typeof answer === "string") field.focus();
      else this.#give(answer);
    };
    this.#writing.hidden = false;
    this.#choices.hidden = true;
    field.focus();
  }

  #back() {
    this.#writing.hidden = true;
    this.#choices.hidden = false;
    this.#trouble.textContent = "";
    this.#choices.querySelector("button")?.focus();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (isComposing(event)) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      this.#back();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#writing.requestSubmit();
  }
}

/** The question, and what else there is to know, by kind. @type {Record<string, (ask: Ask, note: string) => string[]>} */
const TITLES = {
  approval: ({ toolName }, note) => [
    `May the model call ${namesOf(toolName)[0]}?`,
    ...(note === "tool_changed" ? ["The tool has changed since its call was allowed."] : []),
  ],
  input: ({ toolName, input }) => [questionIn(input) || `${namesOf(toolName)[0]} needs an answer`],
  doubt: ({ toolName }, note) => [`Was ${namesOf(toolName)[0]} called?`, `Nobody knows whether this call was made. ${doubtWords(note)}`],
};

/** @type {Writing} */
const ANSWERING = {
  label: "Your answer",
  send: "Send the answer",
  given: (text) => outputOf(text, "Write an answer, or go back."),
};
/** @type {Writing} */
const RESULT = {
  label: "What it answered",
  hint: "The model is told this as the result of the call.",
  send: "Go on with this result",
  given: (text) => outputOf(text, "Write what it answered, or go back."),
};

/**
 * @param {Ask} ask
 * @returns {Writing}
 */
const editing = ({ input }) => ({
  label: "What it is called with, as JSON",
  text: pretty(input),
  isCode: true,
  send: "Approve with this",
  given: (text) => {
    const json = written(text);
    return json?.what === "a JSON object" ? { approved: true, input: json.raw } : "This is no JSON object: check its quotes, commas and braces.";
  },
});

/**
 * @param {string} text JSON, or else a text
 * @param {string} missing
 * @returns {Given | string}
 */
function outputOf(text, missing) {
  const json = written(text);
  return json ? { output: json.raw } : missing;
}

/**
 * The question that a tool's input asks, where it is written as most write it.
 * @param {any} input
 */
function questionIn(input) {
  const text = input?.question ?? input?.message ?? input?.prompt;
  return typeof text === "string" ? text.slice(0, 2000) : "";
}

/**
 * @param {"strong" | "plain"} look
 * @param {string} label
 * @param {() => void} click
 */
const choice = (look, label, click) => el("button", { type: "button", class: look, click }, label);
