// @ts-check
/**
 * Messages that wait while an answer is written: for the answer to take them, or for an answer of their own.
 *
 * The gateway's snapshot says what waits. Held here beside it is only what this page is sending, or taking back.
 */

import { noteOfFailure } from "./endings.js";
import { newId, userMessage } from "./messages.js";

/** @typedef {import("../stream/message.js").UIMessage} UIMessage */
/** @typedef {"now" | "step" | "turn"} SteerAt when the answer may take it: at once, before its next step, or not at all */
/** @typedef {{id: string, message: UIMessage, at: SteerAt, actor?: {sub?: string}, isSending?: boolean}} Waiting */

export class Queue {
  /** @type {Waiting[]} as the gateway has them */
  #waiting = [];
  /** @type {Map<string, Waiting>} */
  #sending = new Map();
  /** Ids of those that are gone, though a snapshot from before may still have them. @type {Set<string>} */
  #gone = new Set();
  #around;

  /**
   * @param {object} around
   * @param {(message: UIMessage, at: SteerAt) => Promise<unknown>} around.steer
   * @param {(id: string) => Promise<unknown>} around.unqueue
   * @param {() => Promise<unknown>} around.resume
   * @param {() => Promise<void>} around.refresh
   * @param {() => void} around.changed
   * @param {(text: string, urgent?: boolean) => void} around.announce
   */
  constructor(around) {
    this.#around = around;
  }

  /** @returns {Waiting[]} in order */
  get waiting() {
    const known = this.#waiting.filter(({ id }) => !this.#gone.has(id));
    const ids = new Set(known.map(({ id }) => id));
    return [...known, ...[...this.#sending.values()].filter(({ id }) => !ids.has(id))];
  }

  /** @param {Waiting[]} queue as the gateway has it */
  take(queue) {
    this.#waiting = queue;
    const ids = new Set(queue.map(({ id }) => id));
    for (const id of this.#gone) if (!ids.has(id)) this.#gone.delete(id);
  }

  /** @param {string} id of a message that the answer has taken */
  took(id) {
    this.#gone.add(id);
  }

  /**
   * @param {string} text
   * @param {SteerAt} at
   * @returns {Promise<boolean>} whether the gateway has taken it
   */
  async steer(text, at) {
    const message = userMessage(newId(), text);
    this.#sending.set(message.id, { id: message.id, message, at, isSending: true });
    const isTaken = await this.#do(() => this.#around.steer(message, at), "Your message could not be sent.");
    this.#sending.delete(message.id);
    this.#around.changed();
    return isTaken;
  }

  /** @param {string} id */
  async remove(id) {
    this.#gone.add(id);
    if (!(await this.#do(() => this.#around.unqueue(id), "It could not be taken back."))) this.#gone.delete(id);
    this.#around.changed();
  }

  /** Goes on with what waits although the answer before it did not finish. */
  async resume() {
    await this.#do(() => this.#around.resume(), "They could not be sent.");
  }

  /**
   * @param {() => Promise<unknown>} request
   * @param {string} failed
   * @returns {Promise<boolean>}
   */
  async #do(request, failed) {
    this.#around.changed();
    let isDone = true;
    try {
      await request();
    } catch (error) {
      isDone = false;
      this.#around.announce(`${failed} ${noteOfFailure(error).text}`, true);
    }
    await this.#around.refresh();
    return isDone;
  }
}
