// @ts-check
/** The conversation: one view per message, kept as long as its message is there; and the page of an empty chat. */

import { PENDING } from "../chat/messages.js";
import { el } from "./dom.js";
import { MessageView } from "./message.js";

/** @typedef {import("../chat/chat.js").Chat} Chat */
/** @typedef {import("./message.js").Actions} Actions */

const EXAMPLES = [
  ["Explain", "How can a chat answer survive a lost connection?"],
  ["Write", "Write a Python function that parses server-sent events."],
  ["Compare", "Compare SSE, WebSocket and long polling in a table."],
  ["Plan", "Plan a rolling deploy that cuts off nobody's answer."],
];

/** What is said of the model that comes with the gateway. */
const SMALL_MODEL = [
  "No model is set, so ",
  el("strong", {}, "SmolLM2 135M"),
  " answers, a very small one: much of what it says is wrong. For a better one restart the gateway with ",
  el("code", {}, "OPENAI_API_KEY"),
  ", or for a server such as Ollama with ",
  el("code", {}, "OPENAI_BASE_URL"),
  ".",
];

export class ConversationView {
  /** @type {Map<string, MessageView>} */
  #views = new Map();
  /** @type {Chat | null} */
  #chat = null;
  #log;
  #actions;
  #welcome;
  #missing;
  #loading = el("p", { class: "loading" }, "Loading…");

  /**
   * @param {HTMLElement} log
   * @param {Actions & {send(text: string): void, reload(): void}} actions
   */
  constructor(log, actions) {
    this.#log = log;
    this.#actions = actions;
    this.#welcome = welcome(actions.send);
    this.#missing = el("div", { class: "blank" });
  }

  /**
   * @param {Chat} chat
   * @param {string} sub the name of who reads; empty while it is not known
   */
  render(chat, sub) {
    if (chat !== this.#chat) this.#begin(chat);
    const answer = chat.answer;
    const messages = answer ? withAnswer(chat.messages, answer) : chat.messages;
    const last = messages.at(-1);
    const maySend = chat.people.may(sub, "send");
    const views = messages.map((message) => {
      const view = this.#views.get(message.id) ?? this.#adopt(message);
      const growing = message === answer;
      const note = growing ? null : (chat.notes.get(message.id) ?? null);
      view.update(message, { growing, last: message === last, busy: chat.busy, note, asks: asksOf(chat, message.id, sub), sub, maySend });
      return view.element;
    });
    this.#drop(new Set(messages.map((message) => message.id)));
    place(this.#log, messages.length > 0 ? views : this.#blank(chat, maySend));
    // A screen reader is told when the answer is there, not each of its words.
    this.#log.setAttribute("aria-live", chat.busy || chat.status === "loading" ? "off" : "polite");
  }

  /** @param {Chat} chat */
  #begin(chat) {
    this.#chat = chat;
    this.#views.clear();
    this.#log.replaceChildren();
  }

  /** @param {import("./message.js").UIMessage} message */
  #adopt(message) {
    const view = new MessageView(message, this.#actions);
    this.#views.set(message.id, view);
    return view;
  }

  /** @param {Set<string>} kept */
  #drop(kept) {
    for (const id of this.#views.keys()) if (!kept.has(id)) this.#views.delete(id);
  }

  /**
   * @param {Chat} chat
   * @param {boolean} maySend
   * @returns {HTMLElement[]}
   */
  #blank(chat, maySend) {
    if (chat.status === "loading") return [this.#loading];
    if (chat.status === "ready") return maySend ? [this.#welcome] : [];
    const missing = chat.status === "missing";
    const text = missing ? "This chat does not exist." : (chat.trouble?.text ?? "");
    if (this.#missing.dataset.text !== text) {
      this.#missing.dataset.text = text;
      const again = el("button", { type: "button", class: "strong", click: () => this.#actions.reload() }, "Try again");
      const fresh = el("a", { href: "#/", class: "button strong" }, "Start a new chat");
      this.#missing.replaceChildren(el("p", {}, text), missing ? fresh : again);
    }
    return [this.#missing];
  }
}

/**
 * @param {Chat} chat
 * @param {string} messageId
 * @param {string} sub
 */
function asksOf(chat, messageId, sub) {
  return chat.asks.of(messageId).map((open) => ({ ...open, mayAnswer: chat.people.mayAnswer(sub, open.ask) }));
}

/**
 * @param {import("./message.js").UIMessage[]} messages
 * @param {import("./message.js").UIMessage} answer
 */
function withAnswer(messages, answer) {
  const at = answer.id === PENDING ? -1 : messages.findIndex((message) => message.id === answer.id);
  return at < 0 ? [...messages, answer] : messages.with(at, answer);
}

/**
 * Makes these the children, touching only what is out of place: a moved node would lose selection and focus.
 * @param {HTMLElement} parent
 * @param {HTMLElement[]} children
 */
function place(parent, children) {
  const wanted = new Set(/** @type {Node[]} */ (children));
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  children.forEach((child, index) => {
    if (parent.childNodes[index] !== child) parent.insertBefore(child, parent.childNodes[index] ?? null);
  });
}

/** @param {(text: string) => void} send */
function welcome(send) {
  const examples = EXAMPLES.map(([what, text]) =>
    el("button", { type: "button", click: () => send(text) }, el("strong", {}, what), el("span", {}, text)),
  );
  return el(
    "div",
    { class: "welcome" },
    el("h2", {}, "What can I help with?"),
    el("p", {}, "Every stream here resumes: reload, lose the network or change to another device, and the answer goes on where it was."),
    document.body.dataset.model === "embedded" && el("p", { class: "small-model" }, ...SMALL_MODEL),
    el("div", { class: "examples", role: "group", "aria-label": "Examples" }, ...examples),
  );
}
