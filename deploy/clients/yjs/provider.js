// @ts-check
/**
 * Shares a Yjs document over the events lane of Trilane: one topic a document, and `<topic>/awareness` for cursors.
 *
 *     const provider = new TrilaneProvider(doc, { url: "https://gateway.example", topic: "docs/plan" });
 *     provider.on("sync", () => console.log("the document is here"));
 *
 * Needs `yjs`, `y-protocols` and `lib0`. The topic is the document's alone. Reading resumes from the id of the last
 * event; after a loss (`hello` without `recovered`, `gap`) the document is read anew. What this device has and the log
 * has not is sent after every such reading, so edits made offline, or kept by `y-indexeddb` over a reload, arrive.
 *
 * A topic keeps its newest events (10,000, 16 MiB, 7 days). So that the document stays longer than its events, whoever
 * finds that much was written since the last state publishes a new one: the whole document, as one list of events that
 * must get the very next offsets. Of several that do so at once one wins, and a state covers everything before it. A
 * document that nobody opens for as long as events are kept (`TRILANE_RETENTION_S`) is forgotten.
 */

import * as buffer from "lib0/buffer";
import { ObservableV2 } from "lib0/observable";
import * as awarenessProtocol from "y-protocols/awareness";
import * as Y from "yjs";
import { BATCH_MS, Follower, Gateway, joined, newId, Outbox, pieces } from "./lane.js";

/** Bytes of a document that can be published as a state. */
const MAX_STATE_BYTES = 4_000_000;
/** Bytes written since the last state after which a new one is due. */
const COMPACT_BYTES = 1_000_000;
/** Age of a state, in milliseconds, at which it is due to be published anew. */
const COMPACT_MS = 86_400_000;
/** Seconds after which a cursor that was not heard of again is gone, as in `y-protocols`. */
const AWARENESS_TTL_S = 30;

/**
 * @typedef {object} DocumentOptions
 * @property {string} topic of the document
 * @property {awarenessProtocol.Awareness | null} [awareness] null: no cursors
 * @property {number} [compactAfter] events after which the state is published; far fewer than a topic keeps
 * @property {boolean} [connect] whether to connect at once
 *
 * @typedef {import("./lane.js").GatewayOptions & DocumentOptions} Options
 * @typedef {import("./lane.js").Piece} Piece
 *
 * @typedef {object} ProviderEvents
 * @property {(event: { status: "connected" | "disconnected" }) => void} status
 * @property {(isSynced: boolean) => void} sync
 * @property {(error: Error) => void} error what needs a person: a refusal, or history that is gone
 */

/** @extends {ObservableV2<ProviderEvents>} */
export class TrilaneProvider extends ObservableV2 {
  /** @type {Follower | undefined} */
  #follower;
  /** @type {Follower | undefined} */
  #peers;
  /** What the log has, while the document is read from its beginning. @type {Y.Doc | null} */
  #shadow = null;
  /** Events of the log that are still to come before the document is complete here. */
  #remaining = 0;
  /** The pieces of an update, or of a state, that has begun to come. @type {string[]} */
  #pieces = [];
  #offset = 0;
  #stateOffset = 0;
  #stateAt = 0;
  #bytes = 0;
  /** Whether all that was ever written is in the document. */
  #isWhole = false;
  /** Whether nothing says that a state of this device would be refused. */
  #mayCompact = true;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #compactTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #awarenessTimer;

  /**
   * @param {Y.Doc} doc
   * @param {Options} options
   */
  constructor(doc, options) {
    super();
    this.doc = doc;
    this.topic = options.topic;
    this.synced = false;
    this.awareness = options.awareness === undefined ? new awarenessProtocol.Awareness(doc) : options.awareness;
    this.compactAfter = options.compactAfter ?? 500;
    this.gateway = new Gateway(options);
    this.outbox = new Outbox(this.gateway, this.topic, (refusal) => this.emit("error", [refusal]));
    doc.on("update", this.#changed);
    doc.on("destroy", this.#destroyed);
    this.awareness?.on("update", this.#moved);
    if (options.connect !== false) this.connect();
  }

  connect() {
    if (this.#follower) return;
    this.#join();
    if (this.awareness) {
      this.#peers = new Follower(this.gateway, `${this.topic}/awareness`, ["y-awareness"], {
        hello: () => this.#moved({ updated: [this.doc.clientID] }, "hello"),
        event: ({ data }) => this.#apply(() => this.#heard(data)),
        lost: () => {},
        status: () => {},
      });
      this.awareness.setLocalState(this.awareness.getLocalState()); // others may believe that it is gone
    }
  }

  /** Keeps the document, and what is written until `connect`. */
  disconnect() {
    if (!this.#follower) return;
    if (this.awareness) {
      const others = [...this.awareness.getStates().keys()].filter((client) => client !== this.doc.clientID);
      awarenessProtocol.removeAwarenessStates(this.awareness, others, this);
      clearTimeout(this.#awarenessTimer);
      this.#tell(true);
    }
    this.#follower.close();
    this.#peers?.close();
    this.#follower = this.#peers = undefined;
    this.outbox.isClosed = true;
    this.outbox = new Outbox(this.gateway, this.topic, this.outbox.refused);
    clearTimeout(this.#compactTimer);
    this.#compactTimer = undefined;
    this.#setSynced(false);
    this.emit("status", [{ status: "disconnected" }]);
  }

  destroy() {
    this.disconnect();
    this.doc.off("update", this.#changed);
    this.doc.off("destroy", this.#destroyed);
    this.awareness?.off("update", this.#moved);
    super.destroy();
  }

  /**
   * Publishes the document as it stands, so that what was written before is not needed any more.
   * @returns {Promise<boolean>} whether this device did so; no when another one wrote in the meantime
   */
  async compact() {
    const offset = this.#offset;
    const state = Y.encodeStateAsUpdate(this.doc);
    if (!this.#isWhole) return false;
    if (state.length > MAX_STATE_BYTES) {
      this.#mayCompact = false; // said once
      const detail = `the document has ${state.length} bytes: a state has at most ${MAX_STATE_BYTES}`;
      this.emit("error", [new Error(`${detail}, so this one is lost when its events are`)]);
      return false;
    }
    const events = pieces(this.topic, "y-state", state, Date.now());
    events.forEach((event, at) => (event.expectedOffset = offset + 1 + at));
    const { ok, status } = await this.gateway.publish(events, newId());
    this.#mayCompact = ![403, 413].includes(status);
    return ok;
  }

  // Reading

  #join() {
    this.#follower?.close();
    this.#shadow = new Y.Doc();
    this.#pieces = [];
    this.#isWhole = false;
    this.#offset = this.#stateOffset = this.#stateAt = this.#bytes = 0;
    this.#setSynced(false);
    this.#follower = new Follower(this.gateway, this.topic, ["y-update", "y-state"], {
      hello: ({ replay }, isFirst) => this.#hello(replay, isFirst),
      event: (envelope) => this.#event(envelope),
      lost: () => this.#join(),
      status: (isConnected) => this.emit("status", [{ status: isConnected ? "connected" : "disconnected" }]),
    });
  }

  /**
   * @param {number} replay
   * @param {boolean} isFirst
   */
  async #hello(replay, isFirst) {
    this.#remaining = replay;
    if (replay || !this.#shadow) return;
    const follower = this.#follower;
    if (isFirst) {
      // Nothing is kept, but something may have been: the next offset is not always 1.
      const path = this.topic.split("/").map(encodeURIComponent).join("/");
      const answer = await this.gateway.fetch(`/api/events/topics/${path}`).catch(() => null);
      if (follower !== this.#follower || this.#remaining) return;
      this.#offset ||= answer?.ok ? (await answer.json()).head : 0;
      this.#stateOffset = this.#offset;
      this.#isWhole = true;
    }
    await this.#finishJoin(isFirst);
  }

  /** @param {{ offset: number, event: string, data: Piece }} envelope */
  #event({ offset, event, data }) {
    if (!this.#offset) {
      this.#isWhole = offset === 1;
      this.#stateOffset = offset - 1;
    }
    this.#offset = offset;
    this.#bytes += data.bytes?.length ?? 0;
    this.#apply(() => this.#take(offset, event, data));
    if (this.#remaining && --this.#remaining === 0 && this.#shadow) this.#finishJoin(false);
    else if (this.synced) this.#compactWhenDue();
  }

  /**
   * @param {number} offset
   * @param {string} event
   * @param {Piece} piece
   */
  #take(offset, event, { part, of, at, bytes }) {
    if (part === 0) this.#pieces = [];
    if (part !== this.#pieces.length) return; // its beginning is not kept any more
    if (this.#pieces.push(bytes) < of) return;
    const update = joined(this.#pieces.splice(0));
    if (this.#shadow) Y.applyUpdate(this.#shadow, update);
    Y.applyUpdate(this.doc, update, this);
    if (event === "y-state") {
      this.#isWhole = true;
      this.#stateOffset = offset;
      this.#stateAt = at ?? 0;
      this.#bytes = 0;
    }
  }

  /** @param {boolean} isEmpty whether the log has nothing of this document */
  async #finishJoin(isEmpty) {
    const shadow = /** @type {Y.Doc} */ (this.#shadow);
    this.#shadow = null;
    const isComplete = this.#isWhole;
    if (isEmpty) this.#stateAt = Date.now();
    const hasMore = !Y.equalSnapshots(Y.snapshot(this.doc), Y.snapshot(shadow));
    const missing = Y.encodeStateAsUpdate(this.doc, Y.encodeStateVector(shadow));
    shadow.destroy();
    this.outbox.clear();
    this.#setSynced(true);
    if (!isComplete) {
      const detail = `the beginning of ${this.topic} is not kept any more, and nobody has published its state`;
      this.emit("error", [new Error(detail)]);
    }
    if (hasMore && !(isEmpty && (await this.compact().catch(() => false)))) this.outbox.push(missing);
    this.#compactWhenDue();
  }

  /** @param {() => void} apply */
  #apply(apply) {
    try {
      apply();
    } catch (error) {
      this.emit("error", [/** @type {Error} */ (error)]);
    }
  }

  /** @param {boolean} isSynced */
  #setSynced(isSynced) {
    if (this.synced === isSynced) return;
    this.synced = isSynced;
    this.emit("sync", [isSynced]);
  }

  // Writing

  /** @type {(update: Uint8Array, origin: unknown) => void} */
  #changed = (update, origin) => {
    if (origin !== this && this.synced) this.outbox.push(update); // before that, it is found when all is read
  };

  #destroyed = () => this.destroy();

  get #isDue() {
    const events = this.#offset - this.#stateOffset;
    const isOld = events > 0 && Date.now() - this.#stateAt > COMPACT_MS;
    const isDue = events >= this.compactAfter || this.#bytes >= COMPACT_BYTES || isOld;
    return isDue && this.#isWhole && this.#mayCompact && this.synced;
  }

  /** Each device waits for another while: whoever is first spares the others the work. */
  #compactWhenDue() {
    if (!this.#isDue || this.#compactTimer) return;
    this.#compactTimer = setTimeout(async () => {
      const isDone = !this.#isDue || (await this.compact().catch(() => false));
      this.#compactTimer = undefined;
      if (!isDone) this.#compactWhenDue(); // what came meanwhile found the timer still set
    }, Math.random() * 1000);
  }

  // Cursors

  /** @type {(changes: { added?: number[], updated?: number[], removed?: number[] }, origin: unknown) => void} */
  #moved = ({ added = [], updated = [], removed = [] }, origin) => {
    if (origin === this || !this.#peers) return;
    if (![...added, ...updated, ...removed].includes(this.doc.clientID)) return;
    clearTimeout(this.#awarenessTimer);
    this.#awarenessTimer = setTimeout(() => this.#tell(), BATCH_MS);
  };

  #tell(isLast = false) {
    if (!this.awareness?.meta.has(this.doc.clientID)) return;
    const states = isLast ? new Map() : this.awareness.states;
    const bytes = awarenessProtocol.encodeAwarenessUpdate(this.awareness, [this.doc.clientID], states);
    const about = { topic: `${this.topic}/awareness`, event: "y-awareness", ttl: AWARENESS_TTL_S };
    const event = { ...about, data: buffer.toBase64(bytes) };
    this.gateway.publish([event], newId(), isLast).catch(() => {}); // it is told again within seconds
  }

  /** @param {string} data */
  #heard(data) {
    if (this.awareness) awarenessProtocol.applyAwarenessUpdate(this.awareness, buffer.fromBase64(data), this);
  }
}
