// @ts-check
/**
 * The events lane of Trilane, as a shared document uses it: topics that are followed over any cut, and an outbox that
 * publishes in order, once. Knows of documents only that updates can be merged, and come in pieces.
 */

import * as buffer from "lib0/buffer";
import * as Y from "yjs";

/** Bytes of an update in one event: 64 KiB of data hold this much as base64, with what stands beside it. */
const PIECE_BYTES = 45_000;
/** Milliseconds in which edits, or moves of a cursor, are gathered into one event. */
export const BATCH_MS = 50;
/** Bounds of the wait, in milliseconds, before the next try. */
const RETRY_MS = [500, 30_000];

/**
 * @typedef {object} GatewayOptions
 * @property {string} url of the gateway, such as `https://gateway.example`
 * @property {string | (() => string | Promise<string>)} [token] an API key or a token; none: the browser's cookie
 * @property {new (url: string, init?: EventSourceInit) => EventSource} [EventSource] where there is no global one
 *
 * @typedef {object} Piece one of the pieces of an update or of a state
 * @property {string} bytes base64
 * @property {string} id of the whole
 * @property {number} part from 0
 * @property {number} of how many pieces there are
 * @property {number} [at] when a state was made, in milliseconds since 1970
 *
 * @typedef {object} NewEvent one event, as `POST /api/events` takes it
 * @property {string} topic
 * @property {string} event
 * @property {Piece | string} data
 * @property {number} [ttl] in seconds
 * @property {number} [expectedOffset] the offset that it must get
 *
 * @typedef {object} Listener
 * @property {(hello: { replay: number }, isFirst: boolean) => void} hello `isFirst`: from the oldest event kept
 * @property {(envelope: any) => void} event
 * @property {() => void} lost events were missed: follow the topic anew
 * @property {(isConnected: boolean) => void} status
 */

/** @param {number} ms */
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
export const newId = () => buffer.toBase64UrlEncoded(crypto.getRandomValues(new Uint8Array(12)));
/** @param {number} tries */
const retryMs = (tries) => Math.min(RETRY_MS[1], RETRY_MS[0] * 2 ** tries) * (0.5 + Math.random());

/**
 * @param {string} topic
 * @param {string} event
 * @param {Uint8Array} bytes
 * @param {number} [at]
 * @returns {NewEvent[]}
 */
export function pieces(topic, event, bytes, at) {
  const id = newId();
  const of = Math.max(1, Math.ceil(bytes.length / PIECE_BYTES));
  return Array.from({ length: of }, (_, part) => {
    const piece = bytes.subarray(part * PIECE_BYTES, (part + 1) * PIECE_BYTES);
    return { topic, event, data: { id, part, of, at, bytes: buffer.toBase64(piece) } };
  });
}

/** @param {string[]} base64 */
export function joined(base64) {
  const parts = base64.map(buffer.fromBase64);
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** The HTTP of the gateway, signed in. */
export class Gateway {
  /** @param {GatewayOptions} options */
  constructor({ url, token, EventSource = globalThis.EventSource }) {
    this.url = url.replace(/\/$/, "");
    this.token = token;
    this.EventSource = EventSource;
  }

  /**
   * @param {string} path
   * @param {RequestInit & { headers?: Record<string, string> }} [init]
   */
  async fetch(path, init = {}) {
    const token = typeof this.token === "function" ? await this.token() : this.token;
    const headers = { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) };
    return await fetch(this.url + path, { ...init, headers, credentials: token ? "omit" : "include" });
  }

  /** @param {Record<string, string>} query */
  async eventSource(query) {
    if (this.token) {
      const answer = await this.fetch("/api/tickets", { method: "POST", body: '{"route":"/api/events"}' });
      if (!answer.ok) throw new Error(`no ticket: status ${answer.status}`);
      query = { ...query, ticket: (await answer.json()).ticket };
    }
    const options = { withCredentials: !this.token };
    return new this.EventSource(`${this.url}/api/events?${new URLSearchParams(query)}`, options);
  }

  /**
   * Publishes all of these events or none.
   * @param {NewEvent[]} events
   * @param {string} key the same events with the same key are published once
   * @param {boolean} [keepalive] whether the page may be gone before the answer
   */
  async publish(events, key, keepalive = false) {
    const headers = { "content-type": "application/json", "idempotency-key": key };
    return await this.fetch("/api/events", { method: "POST", body: JSON.stringify(events), headers, keepalive });
  }
}

/** A topic that is followed: it comes back by itself, strictly after the last event. */
export class Follower {
  #cursor = "";
  #tries = 0;
  #isClosed = false;
  /** @type {EventSource | undefined} */
  #source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {Gateway} gateway
   * @param {string} topic
   * @param {string[]} names of events
   * @param {Listener} listener
   */
  constructor(gateway, topic, names, listener) {
    this.gateway = gateway;
    this.topic = topic;
    this.names = names;
    this.listener = listener;
    this.#open();
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  async #open() {
    const isFirst = !this.#cursor;
    /** @type {Record<string, string>} */
    const from = isFirst ? { from: "earliest" } : { last_event_id: this.#cursor };
    let source;
    try {
      source = await this.gateway.eventSource({ topic: this.topic, envelope: "1", ...from });
    } catch {
      return this.#comeBack();
    }
    if (this.#isClosed) return source.close();
    this.#source = source;
    /** @type {(name: string, take: (event: MessageEvent) => void) => void} */
    const on = (name, take) =>
      source.addEventListener(name, (event) => {
        if (this.#source === source && !this.#isClosed) take(/** @type {MessageEvent} */ (event));
      });
    on("hello", ({ data, lastEventId }) => {
      this.#tries = 0;
      this.#cursor = lastEventId;
      this.listener.status(true);
      const hello = JSON.parse(data);
      if (!isFirst && !hello.recovered) this.listener.lost();
      else this.listener.hello(hello, isFirst);
    });
    for (const name of this.names)
      on(name, ({ data, lastEventId }) => {
        this.#cursor = lastEventId;
        this.listener.event(JSON.parse(data));
      });
    on("gap", () => this.listener.lost());
    on("busy", () => this.#comeBack(5_000 + Math.random() * 10_000));
    on("drain", () => this.#comeBack());
    on("bye", () => this.close());
    on("error", () => this.#comeBack());
  }

  /** A browser would come back by itself, but with its ticket, which is good once. */
  #comeBack(ms = retryMs(this.#tries++)) {
    if (this.#source) this.listener.status(false);
    this.#source?.close();
    this.#source = undefined;
    clearTimeout(this.#timer);
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#open(), ms);
  }
}

/** What is still to be published, in order; what is gathered during a request goes with the next. */
export class Outbox {
  /** @type {Uint8Array[]} */
  #updates = [];
  #isSending = false;
  isClosed = false;

  /**
   * @param {Gateway} gateway
   * @param {string} topic
   * @param {(refusal: Error) => void} refused
   */
  constructor(gateway, topic, refused) {
    this.gateway = gateway;
    this.topic = topic;
    this.refused = refused;
  }

  get isEmpty() {
    return !this.#updates.length && !this.#isSending;
  }

  /** @param {Uint8Array} update */
  push(update) {
    this.#updates.push(update);
    if (!this.#isSending) this.#send();
  }

  clear() {
    this.#updates = [];
  }

  async #send() {
    this.#isSending = true;
    await pause(BATCH_MS);
    while (this.#updates.length && !this.isClosed) {
      const updates = this.#updates.splice(0);
      await this.#publish(pieces(this.topic, "y-update", Y.mergeUpdates(updates)));
    }
    this.#isSending = false;
  }

  /** @param {NewEvent[]} events */
  async #publish(events) {
    const key = newId();
    for (let tries = 0; !this.isClosed; tries++) {
      let waitMs = retryMs(tries);
      try {
        const answer = await this.gateway.publish(events, key);
        if (answer.ok) return;
        const mayPass = [401, 408, 429].includes(answer.status) || answer.status >= 500;
        if (!mayPass) return this.refused(new Error((await answer.json()).detail ?? `status ${answer.status}`));
        waitMs = Math.max(waitMs, Number(answer.headers.get("retry-after") ?? 0) * 1000);
      } catch {
        // no network: the same again, with the same key
      }
      await pause(waitMs);
    }
  }
}
