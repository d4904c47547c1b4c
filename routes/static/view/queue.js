// @ts-check
/** The messages that wait, above the place where messages are written: each can be taken back until it is taken. */

import { textOf } from "../stream/message.js";
import { byId, el, icon } from "./dom.js";

/** @typedef {import("../chat/queue.js").Waiting} Waiting */

/** When a message is read, in words. @type {Record<string, string>} */
export const WHEN = { step: "before its next step", now: "at once", turn: "after this answer" };

export class QueueView {
  #list = byId("queue", HTMLElement);
  #commands;
  #shown = "";

  /** @param {{remove(id: string): void, resume(): void}} commands */
  constructor(commands) {
    this.#commands = commands;
  }

  /**
   * @param {Waiting[]} waiting
   * @param {boolean} busy whether an answer is written, which they wait for
   * @param {boolean} isAsked whether they wait for what people are asked
   * @param {string} sub the name of who reads
   * @param {boolean} maySend whether they may change it
   */
  render(waiting, busy, isAsked, sub, maySend) {
    const shown = JSON.stringify([waiting, busy, isAsked, sub, maySend]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#list.hidden = waiting.length === 0;
    const held = this.#list.contains(document.activeElement);
    const rows = waiting.map((one) => this.#row(one, sub, maySend));
    const isPaused = !busy && waiting.length > 0 && !waiting.some(({ isSending }) => isSending);
    const resume = isPaused && (isAsked ? el("p", { class: "queue-paused" }, "They wait for the answers above.") : this.#paused(maySend));
    this.#list.replaceChildren(el("ul", { "aria-label": "Messages that wait" }, ...rows), resume || "");
    if (held) (this.#list.querySelector("button") ?? byId("message", HTMLTextAreaElement)).focus();
  }

  /**
   * @param {Waiting} waiting
   * @param {string} sub
   * @param {boolean} maySend
   */
  #row({ id, message, at, actor, isSending }, sub, maySend) {
    const text = textOf(message);
    const by = actor?.sub && sub && actor.sub !== sub ? `${actor.sub}, ` : "";
    const remove = { type: "button", class: "icon-only", "aria-label": `Take back “${text.slice(0, 60)}”`, title: "Take back" };
    return el(
      "li",
      {},
      el("span", { class: "queue-text", dir: "auto", title: text.slice(0, 500) }, text.slice(0, 500)),
      el("span", { class: "queue-when" }, isSending ? "being sent…" : `${by}read ${WHEN[at] ?? WHEN.turn}`),
      maySend && !isSending && el("button", { ...remove, click: () => this.#commands.remove(id) }, icon("close")),
    );
  }

  /** @param {boolean} maySend */
  #paused(maySend) {
    return el(
      "p",
      { class: "queue-paused" },
      "They wait, because the answer did not finish. ",
      maySend && el("button", { type: "button", class: "quiet", click: () => this.#commands.resume() }, "Send them now"),
    );
  }
}
