// @ts-check
/**
 * Where a message is written. Enter sends, Shift+Enter begins a line, Escape stops; drafts outlive a reload. While an answer
 * is written, a message is for that answer: it says when it is to be read.
 */

import { byId, isComposing } from "./dom.js";

/** @typedef {import("../chat/queue.js").SteerAt} SteerAt */
/**
 * @typedef {object} Commands
 * @property {(text: string) => void} send
 * @property {(text: string, at: SteerAt) => Promise<boolean>} steer whether the gateway has taken it
 * @property {(id: string, text: string) => void} edit
 * @property {() => void} stop
 * @property {() => void} type the person types
 */

const DRAFT = "trilane.draft.";

export class Composer {
  #form = byId("composer", HTMLFormElement);
  #input = byId("message", HTMLTextAreaElement);
  #send = byId("send", HTMLButtonElement);
  #stop = byId("stop", HTMLButtonElement);
  #editing = byId("editing", HTMLElement);
  #steering = byId("steering", HTMLElement);
  #steerAt = byId("steer-at", HTMLSelectElement);
  #why = byId("composer-why", HTMLElement);
  #commands;
  #chatId = "";
  /** The message that is being said differently. */
  #edited = "";
  #busy = false;
  #held = false;
  #mayStop = false;

  /** @param {Commands} commands */
  constructor(commands) {
    this.#commands = commands;
    this.#form.addEventListener("submit", (event) => this.#submit(event));
    this.#input.addEventListener("keydown", (event) => this.#key(event));
    this.#input.addEventListener("input", () => {
      this.#changed();
      if (this.#input.value) commands.type();
    });
    this.#stop.addEventListener("click", () => {
      commands.stop();
      this.focus();
    });
    byId("cancel-edit", HTMLButtonElement).addEventListener("click", () => this.#cancelEdit());
  }

  focus() {
    this.#input.focus();
  }

  /** @param {string} chatId whose draft is shown from now on */
  open(chatId) {
    this.#chatId = chatId;
    this.#edited = "";
    this.#editing.hidden = true;
    this.#set(sessionStorage.getItem(DRAFT + chatId) ?? "");
  }

  /** @param {string} chatId the new chat has got its name: drafts are its own from now on */
  keepFor(chatId) {
    this.#chatId = chatId;
  }

  /**
   * @param {string} id
   * @param {string} text
   */
  beginEdit(id, text) {
    this.#edited = id;
    this.#editing.hidden = false;
    this.#set(text);
    this.focus();
  }

  /** @param {string} text to be put behind what is written */
  add(text) {
    this.#set([this.#input.value.trimEnd(), text].filter(Boolean).join("\n"));
    this.focus();
  }

  /**
   * @param {{busy: boolean, stopping: boolean, mayStop: boolean, held: boolean, blocked: boolean, closed: string}} state
   *   `held`: write, but send later; `closed`: why who reads may not write, in words
   */
  update({ busy, stopping, mayStop, held, blocked, closed }) {
    this.#held = held;
    this.#busy = busy;
    this.#mayStop = mayStop;
    this.#stop.hidden = !busy || !mayStop;
    this.#stop.disabled = stopping;
    this.#input.disabled = blocked || closed !== "";
    this.#form.classList.toggle("closed", closed !== "");
    if (this.#why.textContent !== closed) this.#why.textContent = closed;
    this.#ready();
  }

  /** @param {SubmitEvent} event */
  #submit(event) {
    event.preventDefault();
    const text = this.#input.value.trim();
    if (!text || this.#held) return;
    const edited = this.#edited;
    if (this.#busy && edited) return;
    this.#edited = "";
    this.#editing.hidden = true;
    this.#set("");
    if (this.#busy) void this.#steer(text);
    else if (edited) this.#commands.edit(edited, text);
    else this.#commands.send(text);
  }

  /** @param {string} text which comes back when the gateway does not take it */
  async #steer(text) {
    const chatId = this.#chatId;
    if (await this.#commands.steer(text, /** @type {SteerAt} */ (this.#steerAt.value))) return;
    if (chatId === this.#chatId) this.#set([text, this.#input.value].filter(Boolean).join("\n"));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (isComposing(event)) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      this.#form.requestSubmit();
    } else if (event.key === "Escape" && this.#edited) this.#cancelEdit();
    else if (event.key === "Escape" && this.#busy && this.#mayStop) this.#commands.stop();
  }

  #cancelEdit() {
    this.open(this.#chatId);
    this.focus();
  }

  #changed() {
    if (!this.#edited) {
      if (this.#input.value) sessionStorage.setItem(DRAFT + this.#chatId, this.#input.value);
      else sessionStorage.removeItem(DRAFT + this.#chatId);
    }
    this.#fit();
    this.#ready();
  }

  /** @param {string} text */
  #set(text) {
    this.#input.value = text;
    this.#changed();
  }

  #ready() {
    const isEmpty = this.#input.value.trim() === "";
    this.#send.disabled = this.#held || isEmpty || (this.#busy && this.#edited !== "");
    this.#send.hidden = this.#busy && isEmpty;
    this.#steering.hidden = !this.#busy || isEmpty;
    const label = this.#busy ? "Send to this answer" : "Send";
    if (this.#send.title !== label) {
      this.#send.title = label;
      this.#send.setAttribute("aria-label", label);
    }
  }

  /** Grows with its text, up to the limit that the style sheet sets. */
  #fit() {
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
