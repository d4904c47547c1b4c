// @ts-check
/**
 * One chat: its messages, the answer that is being read, and what became of earlier ones.
 *
 * The gateway's snapshot is the truth. Held here are that truth, what this page has sent and not yet seen in it, and the
 * run that is being followed. Views read the fields, and are told when any of them changed.
 */

import { Problem } from "../problems.js";
import { isEmpty, MessageFold } from "../stream/message.js";
import { parseExactly } from "../stream/exact.js";
import { followRun } from "../stream/run.js";
import { Asks } from "./asks.js";
import { noteOfFailure, noteOfRun, noteOfStored, saysWhen, UNANSWERED } from "./endings.js";
import { asking, following } from "./links.js";
import { newId, PENDING, reused, userMessage } from "./messages.js";
import { People } from "./people.js";
import { Queue } from "./queue.js";
import { isForgotten, stopped } from "./stopping.js";

/** @typedef {import("../stream/message.js").UIMessage} UIMessage */
/** @typedef {import("../stream/resume.js").LinkState} LinkState */
/** @typedef {import("../api.js").Snapshot} Snapshot */
/** @typedef {import("./endings.js").Note} Note */
/** @typedef {{abort: AbortController, fold: MessageFold, runId: string, asker: string, accepted: boolean}} Reading */

/**
 * @typedef {object} Surroundings
 * @property {import("../api.js").Api} api
 * @property {(delayMs: number, signal: AbortSignal) => Promise<void>} pause
 * @property {() => void} changed
 * @property {(text: string, urgent?: boolean) => void} announce to people who do not see the page
 * @property {(id: string) => void} touched the chat changed on the gateway: other tabs and the list should look
 */

const STOP_PATIENCE_MS = 4000;

export class Chat {
  /** @type {UIMessage[]} */
  messages = [];
  /** What to say below a message, by its id. @type {Map<string, Note>} */
  notes = new Map();
  /** @type {"loading" | "ready" | "missing" | "unreachable"} */
  status = "ready";
  /** Why it could not be loaded. @type {Note | null} */
  trouble = null;
  /** @type {LinkState} */
  link = "connecting";
  stopping = false;
  /** Whether the gateway answered when it was asked last. */
  reachable = true;
  /** Whether the gateway has this chat. */
  stored = false;
  /** @type {Reading | null} */
  #reading = null;
  /** Messages that the gateway has not taken yet. @type {Set<string>} */
  #unsent = new Set();
  #snapshot = "";
  #isLooking = false;
  #isNoticed = false;
  /** Counts what this page did, so that a snapshot from before it is not believed. */
  #version = 0;
  #closed = false;
  #around;

  /**
   * @param {string} id
   * @param {Surroundings} around
   */
  constructor(id, around) {
    this.id = id;
    this.#around = around;
    const { api, changed, announce } = around;
    const refresh = () => this.refresh();
    this.asks = new Asks({ answer: (approvalId, given) => api.answer(id, approvalId, given), refresh, changed, announce });
    this.queue = new Queue({
      steer: (message, at) => api.steer(id, message, at),
      unqueue: (messageId) => api.unqueue(id, messageId),
      resume: () => api.resumeQueue(id),
      ...{ refresh, changed, announce },
    });
    this.people = new People({
      change: (sub, role) => api.member(id, sub, role),
      tellTyping: () => api.typing(id),
      ...{ refresh, changed },
    });
  }

  /** The answer that is being written; without parts until its first chunk is here. */
  get answer() {
    return this.#reading?.fold.state.message ?? null;
  }

  /** Whose message is being answered, where that is known to be somebody else's. */
  get asker() {
    return this.#reading?.asker ?? "";
  }

  get busy() {
    return this.#reading !== null;
  }

  /** Whether the gateway has taken the message whose answer is awaited: it may be told more from then on. */
  get steerable() {
    return this.#reading?.accepted ?? false;
  }

  close() {
    this.#closed = true;
    this.#reading?.abort.abort();
  }

  // Looking at the gateway

  /** Reads the chat, and follows the run that is active. */
  async load() {
    this.status = "loading";
    this.#around.changed();
    await this.refresh(false);
  }

  /**
   * Looks whether another device has changed the chat.
   * @param {boolean} [quiet] a failure is nobody's business: there will be another look
   */
  async refresh(quiet = true) {
    const version = this.#version;
    try {
      const text = await this.#around.api.snapshotText(this.id, quiet);
      this.reachable = true;
      if (!this.#closed && version === this.#version && text !== this.#snapshot) this.#believe(text);
    } catch (error) {
      if (this.#closed || version !== this.#version) return;
      this.reachable = error instanceof Problem;
      if (error instanceof Problem && error.status === 404) this.#isGone();
      else if (!quiet) this.#failedToLoad(error);
    }
    if (this.status === "loading") this.status = "ready";
    this.#around.changed();
  }

  /** Something happened in this chat elsewhere: looks at once, and once more if more happens meanwhile. */
  async noticed() {
    this.#isNoticed = this.#isLooking;
    if (this.#isLooking || (this.busy && !this.steerable)) return;
    this.#isLooking = true;
    await this.refresh();
    this.#isLooking = false;
    if (this.#isNoticed) await this.noticed();
  }

  #isGone() {
    this.status = "missing";
    if (this.stored) this.messages = []; // deleted, or no longer shared with who reads
    this.people.take({});
  }

  /** @param {unknown} error */
  #failedToLoad(error) {
    this.status = "unreachable";
    this.trouble = noteOfFailure(error);
    this.#around.announce(this.trouble.text, true);
  }

  /** @param {string} text a snapshot */
  #believe(text) {
    /** @type {Snapshot} */
    const snapshot = parseExactly(text);
    const known = new Set(snapshot.messages.map((message) => message.id));
    const unsent = this.messages.filter((message) => this.#unsent.has(message.id) && !known.has(message.id));
    this.messages = [...reused(this.messages, snapshot.messages), ...unsent];
    this.#snapshot = text;
    this.stored = true;
    this.status = "ready";
    this.asks.take(snapshot.pending ?? []);
    this.queue.take(snapshot.queue ?? []);
    this.people.take(snapshot);
    if (snapshot.activeRun) this.#follow(snapshot.activeRun);
    this.#noteStored();
  }

  #noteStored() {
    for (const [id, note] of this.notes) if (note === UNANSWERED || !this.#holds(id)) this.notes.delete(id);
    this.messages.forEach((message, index) => {
      const next = this.messages[index + 1];
      const answered = next ? next.role === "assistant" : this.busy;
      const note = message.role === "user" ? !answered && UNANSWERED : noteOfStored(message.metadata ?? {});
      if (note && !this.notes.has(message.id)) this.notes.set(message.id, note);
    });
  }

  /** @param {string} id */
  #holds(id) {
    return this.messages.some((message) => message.id === id);
  }

  // Asking

  /** @param {string} text */
  send(text) {
    const message = userMessage(newId(), text);
    this.messages = [...this.messages, message];
    this.#ask({ id: this.id, message, trigger: "submit-message" });
  }

  /**
   * Says an earlier message differently; what followed it is replaced.
   * @param {string} id
   * @param {string} text
   */
  edit(id, text) {
    const at = this.messages.findIndex((message) => message.id === id);
    if (at < 0) return this.send(text);
    const message = userMessage(id, text);
    this.messages = [...this.messages.slice(0, at), message];
    return this.#ask({ id: this.id, message, trigger: "submit-message", messageId: id });
  }

  /** Asks for the last answer again. */
  regenerate() {
    const at = this.messages.findLastIndex((message) => message.role === "user");
    if (at < 0 || this.busy) return;
    const message = this.messages[at];
    const replaced = this.messages[at + 1]?.id ?? message.id;
    this.messages = this.messages.slice(0, at + 1);
    this.#ask({ id: this.id, message, trigger: "regenerate-message", messageId: replaced });
  }

  /** @param {import("../api.js").SendBody} body */
  #ask(body) {
    const { message } = body;
    for (const id of this.notes.keys()) if (id === message.id || !this.#holds(id)) this.notes.delete(id);
    if (!this.#snapshot.includes(JSON.stringify(message.id))) this.#unsent.add(message.id);
    this.#snapshot = ""; // whatever comes of this, the next one is to be believed
    const connect = asking(this.#around.api, body, newId(), () => this.#accepted(message.id));
    void this.#read(connect, "", "");
  }

  /** @param {string} messageId */
  #accepted(messageId) {
    this.#unsent.delete(messageId);
    this.stored = true;
    if (this.#reading) this.#reading.accepted = true;
    this.#around.touched(this.id);
  }

  // Reading

  /** @param {{runId: string, cursor: string, sub?: string}} run */
  #follow({ runId, cursor, sub }) {
    if (!this.busy) void this.#read(following(this.#around.api, this.id, cursor), cursor, runId, sub);
  }

  /**
   * Reads one run to its end, writes down how it ended, and looks what the gateway made of it.
   * @param {import("../stream/resume.js").Link["connect"]} connect
   * @param {string} cursor
   * @param {string} runId empty when it is not known
   * @param {string} asker
   */
  async #read(connect, cursor, runId, asker = "") {
    const last = this.messages.at(-1);
    const isContinued = runId !== "" && last?.role === "assistant";
    const fold = new MessageFold(isContinued ? last.id : PENDING, this.messages);
    const reading = { abort: new AbortController(), fold, runId, asker, accepted: runId !== "" };
    this.#reading = reading;
    this.#version += 1;
    /** @type {Note | null} */
    let note = null;
    try {
      if (await this.#consume(connect, cursor, reading)) note = noteOfRun(fold.state);
    } catch (error) {
      note = isForgotten(error) ? null : noteOfFailure(error);
    }
    if (this.#closed) return;
    this.#reading = null;
    this.#version += 1;
    this.stopping = false;
    this.#settle(fold, note);
    this.#around.changed();
    await this.refresh();
    this.#around.touched(this.id);
  }

  /**
   * @param {import("../stream/resume.js").Link["connect"]} connect
   * @param {string} cursor
   * @param {Reading} reading
   * @returns {Promise<boolean>} whether the run was read to its end
   */
  async #consume(connect, cursor, reading) {
    const { pause } = this.#around;
    const link = { connect, pause, onState: (/** @type {LinkState} */ state) => this.#linked(state) };
    const run = followRun(link, cursor, reading.abort.signal);
    for (;;) {
      const { done, value } = await run.next();
      if (done) return value === "ended";
      reading.fold.push(value);
      if (value.type === "data-steer") this.queue.took(value.id);
      this.#around.changed();
    }
  }

  /** @param {LinkState} state */
  #linked(state) {
    this.link = state;
    this.#around.changed();
  }

  /**
   * @param {MessageFold} fold
   * @param {Note | null} note
   */
  #settle(fold, note) {
    const { message, status } = fold.state;
    if (!isEmpty(message)) {
      const at = this.messages.findIndex((known) => known.id === message.id);
      this.messages = at < 0 ? [...this.messages, message] : this.messages.with(at, message);
    }
    const last = this.messages.at(-1);
    if (note && last && !saysWhen(this.notes.get(last.id), note)) this.notes.set(last.id, note);
    if (note) this.#around.announce(note.text, note.kind === "error");
    else if (status === "finish") this.#around.announce("Answer finished");
  }

  // Stopping

  /** Stops the run on the gateway, for every device. What was written stays. */
  async stop() {
    const reading = this.#reading;
    if (!reading || this.stopping) return;
    this.stopping = true;
    this.#around.changed();
    if (!reading.accepted && this.link === "reconnecting") return reading.abort.abort();
    try {
      await stopped(this.#around, this.id, reading.runId, reading.abort.signal, () => this.#reading !== reading);
      await this.#around.pause(STOP_PATIENCE_MS, reading.abort.signal);
      if (this.#reading === reading) reading.abort.abort();
    } catch (error) {
      if (this.#reading !== reading) return;
      this.stopping = false;
      this.#around.announce(`Could not stop. ${noteOfFailure(error).text}`, true);
      this.#around.changed();
    }
  }
}
