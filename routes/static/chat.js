// @ts-check
/**
 * One chat: its messages, the answer that is being read, and what became of the last one.
 *
 * The gateway's snapshot is the truth; what is held here is that truth, plus what this page has sent and not yet seen
 * in it, plus the run that is being followed. Views read the fields and are told when any of them changed.
 */

import { Problem, runSentence, sentenceOf } from "./problems.js";
import { isEmpty, MessageFold } from "./stream/message.js";
import { followRun, NotAStream, Unavailable } from "./stream/run.js";

/** @typedef {import("./stream/message.js").UIMessage} UIMessage */
/** @typedef {import("./stream/run.js").LinkState} LinkState */
/** @typedef {{kind: "error" | "stopped" | "cut" | "unanswered", text: string, detail: string}} Note */
/**
 * @typedef {object} Surroundings
 * @property {import("./api.js").Api} api
 * @property {(delayMs: number, signal: AbortSignal) => Promise<void>} pause
 * @property {() => void} changed
 * @property {(text: string, urgent?: boolean) => void} announce to people who do not see the page
 * @property {(id: string) => void} touched the chat changed on the server: other tabs and the list should look
 */
/** @typedef {{abort: AbortController, fold: MessageFold, runId: string, accepted: boolean}} Reading */

const SEND_TRIES = 4;
const LONGEST_OWN_WAIT_MS = 5000;
const STOP_PATIENCE_MS = 4000;

export class Chat {
  /** @type {UIMessage[]} */
  messages = [];
  /** What to say below a message, by its id. @type {Map<string, Note>} */
  notes = new Map();
  /** @type {"loading" | "ready" | "missing"} */
  status = "ready";
  /** @type {LinkState} */
  link = "connecting";
  stopping = false;
  /** @type {Reading | null} */
  #reading = null;
  /** Messages that the gateway has not taken yet. @type {Set<string>} */
  #unsent = new Set();
  #snapshot = "";
  /** Counts what this page did, so that a snapshot from before it is not believed. */
  #version = 0;
  #stored = false;
  #closed = false;
  #around;

  /**
   * @param {string} id
   * @param {Surroundings} around
   */
  constructor(id, around) {
    this.id = id;
    this.#around = around;
  }

  /** The answer that is being written, from its first chunk on. */
  get answer() {
    return this.#reading?.fold.state.message ?? null;
  }

  get busy() {
    return this.#reading !== null;
  }

  /** Reads the chat from the gateway, and follows the run that is active. */
  async load() {
    this.status = "loading";
    this.#around.changed();
    await this.refresh(false);
    if (this.status === "loading") this.status = "ready";
    this.#around.changed();
  }

  close() {
    this.#closed = true;
    this.#reading?.abort.abort();
  }

  /**
   * Looks whether another device has changed the chat.
   * @param {boolean} [quiet] a failure is nobody's business
   */
  async refresh(quiet = true) {
    const version = this.#version;
    try {
      const text = await this.#around.api.snapshotText(this.id, quiet);
      if (!this.#closed && version === this.#version && text !== this.#snapshot) this.#believe(text);
    } catch (error) {
      if (this.#closed || version !== this.#version) return;
      if (error instanceof Problem && error.status === 404) this.status = "missing";
      else if (!quiet) this.#note("error", describe(error));
      this.#around.changed();
    }
  }

  /** Whether there is anything on the gateway to look at. */
  get stored() {
    return this.#stored;
  }

  /** @param {string} text a snapshot */
  #believe(text) {
    /** @type {import("./api.js").Snapshot} */
    const snapshot = JSON.parse(text);
    const known = new Set(snapshot.messages.map((message) => message.id));
    const unsent = this.messages.filter((message) => this.#unsent.has(message.id) && !known.has(message.id));
    this.messages = [...reuse(this.messages, snapshot.messages), ...unsent];
    this.#snapshot = text;
    this.#stored = true;
    this.status = "ready";
    this.#noteUnanswered(snapshot);
    if (snapshot.activeRun && !this.busy) this.#follow(snapshot.activeRun);
    this.#around.changed();
  }

  /** @param {import("./api.js").Snapshot} snapshot */
  #noteUnanswered(snapshot) {
    for (const message of snapshot.messages) {
      const note = noteOf(message);
      if (note && !this.notes.has(message.id)) this.notes.set(message.id, note);
    }
    const last = this.messages.at(-1);
    if (last?.role === "user" && !snapshot.activeRun && !this.busy && !this.notes.has(last.id)) {
      this.#note("unanswered", { text: "This message has no answer.", detail: "" });
    } else if (last && (snapshot.activeRun || last.role !== "user") && this.notes.get(last.id)?.kind === "unanswered") {
      this.notes.delete(last.id);
    }
  }

  /** @param {{runId: string, cursor: string}} run */
  #follow({ runId, cursor }) {
    const lost = new AbortController();
    void this.#read((at, signal) => this.#resume(at || cursor, signal), cursor, runId, lost);
  }

  /** @param {string} text */
  send(text) {
    const message = { id: newId(), role: /** @type {const} */ ("user"), parts: [{ type: "text", text }] };
    this.messages = [...this.messages, message];
    this.#start({ id: this.id, message, trigger: "submit-message" });
  }

  /**
   * Says an earlier message differently; what followed it is replaced.
   * @param {string} id
   * @param {string} text
   */
  edit(id, text) {
    const at = this.messages.findIndex((message) => message.id === id);
    const message = { ...this.messages[at], parts: [{ type: "text", text }] };
    this.messages = [...this.messages.slice(0, at), message];
    this.#start({ id: this.id, message, trigger: "submit-message", messageId: id });
  }

  /** Asks for the last answer again. */
  regenerate() {
    const at = this.messages.findLastIndex((message) => message.role === "user");
    if (at < 0) return;
    const replaced = this.messages[at + 1]?.id ?? this.messages[at].id;
    this.messages = this.messages.slice(0, at + 1);
    this.#start({ id: this.id, message: this.messages[at], trigger: "regenerate-message", messageId: replaced });
  }

  /** @param {import("./api.js").SendBody} body */
  #start(body) {
    const { message } = body;
    for (const id of this.notes.keys()) if (id === message.id || !this.#holds(id)) this.notes.delete(id);
    if (!this.#snapshot.includes(message.id)) this.#unsent.add(message.id);
    const key = newId();
    let tries = 0;
    /** @type {import("./stream/run.js").Link["connect"]} */
    const connect = async (cursor, signal) => {
      if (cursor) return this.#resume(cursor, signal);
      tries += 1;
      return this.#offer(body, key, tries, signal);
    };
    void this.#read(connect, "", "", new AbortController());
  }

  /** @param {string} id */
  #holds(id) {
    return this.messages.some((message) => message.id === id);
  }

  /**
   * The same request with the same key is the same run, so it can be made as often as the network needs.
   * @param {import("./api.js").SendBody} body
   * @param {string} key
   * @param {number} tries
   * @param {AbortSignal} signal
   */
  async #offer(body, key, tries, signal) {
    try {
      const response = await this.#around.api.send(body, key, signal);
      this.#accepted(body.message.id);
      return response;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // The provider's refusal ended the run; the gateway's own means that there is none yet.
      const own = error.status === 503 && !error.code.startsWith("upstream");
      const soon = error.retryAfterMs <= LONGEST_OWN_WAIT_MS;
      if (own && soon && tries < SEND_TRIES) throw new Unavailable(error.message, error.retryAfterMs);
      if (error.code.startsWith("upstream")) this.#accepted(body.message.id);
      throw error;
    }
  }

  /** @param {string} messageId */
  #accepted(messageId) {
    this.#unsent.delete(messageId);
    this.#stored = true;
    if (this.#reading) this.#reading.accepted = true;
    this.#around.touched(this.id);
  }

  /**
   * @param {string} cursor
   * @param {AbortSignal} signal
   */
  async #resume(cursor, signal) {
    try {
      return await this.#around.api.follow(this.id, cursor, signal);
    } catch (error) {
      if (error instanceof Problem && (error.status >= 500 || error.status === 429 || error.status === 408)) {
        throw new Unavailable(error.message, error.retryAfterMs);
      }
      throw error;
    }
  }

  /**
   * Reads one run to its end, and writes down how it ended.
   * @param {import("./stream/run.js").Link["connect"]} connect
   * @param {string} cursor
   * @param {string} runId
   * @param {AbortController} abort
   */
  async #read(connect, cursor, runId, abort) {
    this.#version += 1;
    const fold = new MessageFold("pending", this.messages);
    const reading = (this.#reading = { abort, fold, runId, accepted: runId !== "" });
    const link = { connect, pause: this.#around.pause, onState: (/** @type {LinkState} */ state) => this.#linked(state) };
    this.#around.changed();
    let outcome = "nothing";
    /** @type {unknown} */
    let failure = null;
    try {
      const run = followRun(link, cursor, abort.signal);
      for (let next = await run.next(); ; next = await run.next()) {
        if (next.done) {
          outcome = next.value;
          break;
        }
        fold.push(next.value);
        this.#around.changed();
      }
    } catch (error) {
      failure = error;
    }
    if (this.#closed || this.#reading !== reading) return;
    this.#reading = null;
    this.#version += 1;
    this.stopping = false;
    this.#settle(fold, outcome, failure);
    this.#around.changed();
    await this.refresh();
    this.#around.touched(this.id);
  }

  /** @param {LinkState} state */
  #linked(state) {
    this.link = state;
    this.#around.changed();
  }

  /**
   * @param {MessageFold} fold
   * @param {string} outcome
   * @param {unknown} failure
   */
  #settle(fold, outcome, failure) {
    const { message, status, finishReason, errorText } = fold.state;
    if (!isEmpty(message)) this.#put(message);
    if (failure instanceof Problem && (failure.status === 410 || failure.status === 404)) return; // the snapshot knows
    if (failure instanceof DOMException && failure.name === "AbortError") {
      this.#note("stopped", { text: "Stopped before the gateway could be reached.", detail: "" });
    } else if (failure) this.#note("error", describe(failure));
    else if (outcome === "nothing") return;
    else if (status === "error") {
      this.#note("error", { text: runSentence(message.metadata ?? {}), detail: errorText });
    } else if (status === "abort") this.#note("stopped", { text: "Stopped", detail: "" });
    else if (finishReason === "length") this.#note("cut", { text: "The answer reached its length limit.", detail: "" });
    else if (finishReason === "content-filter") {
      this.#note("cut", { text: "The model's provider withheld the rest of this answer.", detail: "" });
    } else this.#around.announce("Answer finished");
  }

  /** @param {UIMessage} message */
  #put(message) {
    const at = this.messages.findIndex((known) => known.id === message.id);
    this.messages = at < 0 ? [...this.messages, message] : this.messages.with(at, message);
  }

  /**
   * Below the last message, and aloud.
   * @param {Note["kind"]} kind
   * @param {{text: string, detail: string}} said
   */
  #note(kind, { text, detail }) {
    const last = this.messages.at(-1);
    if (last) this.notes.set(last.id, { kind, text, detail });
    if (kind !== "unanswered") this.#around.announce(text, kind === "error");
  }

  /** Stops the run on the gateway, for every device. What was written stays. */
  async stop() {
    const reading = this.#reading;
    if (!reading || this.stopping) return;
    this.stopping = true;
    this.#around.changed();
    if (!reading.accepted && this.link !== "live") {
      reading.abort.abort();
      return;
    }
    try {
      await this.#around.api.stop(this.id, reading.runId);
      await this.#around.pause(STOP_PATIENCE_MS, reading.abort.signal);
      if (this.#reading === reading) reading.abort.abort();
    } catch (error) {
      if (this.#reading !== reading) return;
      this.stopping = false;
      this.#around.announce(`Could not stop: ${describe(error).text}`, true);
      this.#around.changed();
    }
  }
}
