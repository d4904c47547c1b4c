// @ts-check
/**
 * Who shares a chat, who of them looks at it, and who is typing. Where nobody signs in a chat has no members.
 *
 * Who is a member is in the gateway's snapshot; the rest is told on the chat's topics of the events lane while somebody
 * looks, and nothing of it is kept.
 */

import { Problem } from "../problems.js";
import { noteOfFailure } from "./endings.js";

/** @typedef {"owner" | "editor" | "approver" | "viewer"} Role */
/** @typedef {{sub: string, role: Role}} Member */
/** @typedef {"answer" | "send" | "manage"} Right */

/** What a role may do beside reading. @type {Record<Role, Right[]>} */
const RIGHTS = { owner: ["answer", "send", "manage"], editor: ["send"], approver: ["answer"], viewer: [] };

/** As long as the gateway says that somebody types who has said so once. */
const TYPING_MS = 5000;
const TYPING_EVERY_MS = 2000;

export class People {
  /** @type {Member[]} */
  members = [];
  /** The id of the chat for all of its members; empty while it has but one. */
  sharedId = "";
  /** Who follows the chat now. @type {Set<string>} */
  present = new Set();
  /** What is wrong with the last change. */
  trouble = "";
  /** Timers of those who are typing, by name. @type {Map<string, ReturnType<typeof setTimeout>>} */
  #typing = new Map();
  #toldAt = 0;
  #around;

  /**
   * @param {object} around
   * @param {(sub: string, role: Role | null) => Promise<unknown>} around.change
   * @param {() => Promise<unknown>} around.tellTyping
   * @param {() => Promise<void>} around.refresh
   * @param {() => void} around.changed
   */
  constructor(around) {
    this.#around = around;
  }

  /** Topics of the events lane that tell of a shared chat. */
  get topics() {
    return this.sharedId ? [`chat/${this.sharedId}`, `presence/chat/${this.sharedId}`] : [];
  }

  /** @param {string} own the name of who reads, who knows that they are typing */
  typing(own) {
    return [...this.#typing.keys()].filter((sub) => sub !== own);
  }

  /**
   * @param {string} own the name of who reads
   * @param {Right} right
   */
  may(own, right) {
    const role = this.members.find(({ sub }) => sub === own)?.role;
    return role === undefined || RIGHTS[role].includes(right);
  }

  /**
   * @param {string} own
   * @param {string} asker whose message the answer is for; empty: one's own
   */
  mayStop(own, asker) {
    return this.may(own, "manage") || (this.may(own, "send") && (asker === "" || asker === own));
  }

  /** @param {string} own who is told why they may not write; nothing where they may */
  whyClosed(own) {
    if (this.may(own, "send")) return "";
    const more = this.may(own, "answer") ? " and answer what is asked" : "";
    return `You may read this chat${more}, and not write in it. An owner can let you write.`;
  }

  /**
   * @param {string} own
   * @param {import("./asks.js").Ask} ask
   */
  mayAnswer(own, { roles = [] }) {
    const role = this.members.find(({ sub }) => sub === own)?.role;
    return roles.length > 0 ? role === undefined || roles.includes(role) : this.may(own, "send");
  }

  /** @param {{members?: Member[], sharedId?: string}} snapshot */
  take({ members = [], sharedId = "" }) {
    this.members = members;
    this.sharedId = sharedId;
  }

  /**
   * Takes what a topic of the chat tells.
   * @param {string} name
   * @param {Record<string, any>} data
   */
  heard(name, { sub, here }) {
    if (name === "here" && Array.isArray(here)) this.present = new Set(here);
    else if (name === "join") this.present.add(sub);
    else if (name === "leave") this.#left(sub);
    else if (name === "typing") this.#types(sub);
    this.#around.changed();
  }

  /** @param {string} sub */
  #left(sub) {
    this.present.delete(sub);
    this.stoppedTyping(sub);
  }

  /** @param {string} sub */
  #types(sub) {
    clearTimeout(this.#typing.get(sub));
    this.#typing.set(sub, setTimeout(() => this.stoppedTyping(sub), TYPING_MS));
  }

  /** @param {string} sub who has sent what was typed, or has left off */
  stoppedTyping(sub) {
    clearTimeout(this.#typing.get(sub));
    if (this.#typing.delete(sub)) this.#around.changed();
  }

  /** The person types: the others are told, now and then. */
  async type() {
    const now = Date.now();
    if (!this.sharedId || now - this.#toldAt < TYPING_EVERY_MS) return;
    this.#toldAt = now;
    await this.#around.tellTyping().catch(() => {}); // nobody misses it
  }

  /**
   * @param {string} sub
   * @param {Role | null} role null: no member any more
   * @returns {Promise<boolean>} whether it is done
   */
  async change(sub, role) {
    this.trouble = "";
    try {
      await this.#around.change(sub, role);
    } catch (error) {
      this.trouble = error instanceof Problem && error.status < 500 && error.detail ? error.detail : noteOfFailure(error).text;
    }
    await this.#around.refresh();
    this.#around.changed();
    return this.trouble === "";
  }
}
