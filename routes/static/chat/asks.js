// @ts-check
/**
 * What an answer asks of people before it goes on, and what this page is answering.
 *
 * The gateway's snapshot says which asks are open: the first answer counts, whoever gave it, so nothing is taken for
 * answered here until the gateway says so.
 */

import { Problem } from "../problems.js";
import { namesOf } from "./decisions.js";
import { noteOfFailure } from "./endings.js";

/**
 * @typedef {object} Ask
 * @property {string} approvalId
 * @property {string} messageId
 * @property {string} toolCallId
 * @property {string} toolName
 * @property {"approval" | "input" | "doubt"} [kind] whether a call may be made, what its result is, or what became of it
 * @property {any} input
 * @property {string[]} [roles] who may answer; nobody named: whoever may write
 * @property {number} [expiresAt] in milliseconds since 1970
 * @property {boolean} [editable] whether who allows the call may change its input
 */
/** @typedef {{approved?: boolean, reason?: string, input?: string, output?: string}} Given `input` and `output` are JSON texts */
/** @typedef {{ask: Ask, sending: boolean, trouble: string, mayAnswer?: boolean}} OpenAsk `mayAnswer`: left out: yes */

/** What says that somebody or something else has answered. */
const DECIDED = new Set(["approval_decided", "approval_expired", "approval_moot", "approval_not_found"]);

export class Asks {
  /** By the id of the call that each is about. @type {Map<string, OpenAsk>} */
  #open = new Map();
  #around;

  /**
   * @param {object} around
   * @param {(approvalId: string, given: Given) => Promise<unknown>} around.answer
   * @param {() => Promise<void>} around.refresh
   * @param {() => void} around.changed
   * @param {(text: string, urgent?: boolean) => void} around.announce
   */
  constructor(around) {
    this.#around = around;
  }

  get isOpen() {
    return this.#open.size > 0;
  }

  /**
   * @param {string} messageId
   * @returns {OpenAsk[]}
   */
  of(messageId) {
    return [...this.#open.values()].filter(({ ask }) => ask.messageId === messageId);
  }

  /** @param {string} approvalId */
  isSending(approvalId) {
    return [...this.#open.values()].some(({ ask, sending }) => sending && ask.approvalId === approvalId);
  }

  /** @param {Ask[]} pending as the gateway has them */
  take(pending) {
    const before = this.#open;
    this.#open = new Map(pending.map((ask) => [ask.toolCallId, { ...(same(before, ask) ?? { sending: false, trouble: "" }), ask }]));
    const fresh = pending.filter((ask) => !same(before, ask));
    if (fresh.length > 0) this.#around.announce(`An answer is needed about ${fresh.map((ask) => namesOf(ask.toolName)[0]).join(", ")}`);
  }

  /**
   * @param {Ask} ask
   * @param {Given} given
   */
  async answer(ask, given) {
    this.#note(ask, true, "");
    let trouble = "";
    try {
      await this.#around.answer(ask.approvalId, given);
    } catch (error) {
      trouble = this.#troubleOf(error);
    }
    await this.#around.refresh();
    this.#note(ask, false, trouble);
  }

  /** @param {unknown} error */
  #troubleOf(error) {
    const note = noteOfFailure(error);
    const isDecided = error instanceof Problem && DECIDED.has(error.code);
    const text = error instanceof Problem && error.detail && (isDecided || error.status === 400) ? error.detail : note.text;
    if (isDecided) this.#around.announce(text, true);
    return isDecided ? "" : text;
  }

  /**
   * @param {Ask} ask
   * @param {boolean} sending
   * @param {string} trouble
   */
  #note(ask, sending, trouble) {
    const open = this.#open.get(ask.toolCallId);
    if (!open || open.ask.approvalId !== ask.approvalId) return;
    this.#open.set(ask.toolCallId, { ask: open.ask, sending, trouble });
    this.#around.changed();
  }
}

/**
 * @param {Map<string, OpenAsk>} open
 * @param {Ask} ask
 */
function same(open, ask) {
  const known = open.get(ask.toolCallId);
  return known?.ask.approvalId === ask.approvalId ? known : undefined;
}
