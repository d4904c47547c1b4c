// @ts-check
/**
 * The gateway's routes. Raises `Problem` for what was refused and lets the network's own errors through.
 *
 * The key lives in this tab's session storage only. A 401 asks for one, once for all requests that wait, and goes on.
 */

import { problemOf } from "./problems.js";
import { NotAStream } from "./stream/resume.js";

/** @typedef {import("./stream/message.js").UIMessage} UIMessage */
/** @typedef {{id: string, title: string, updatedAt: number, role?: string}} ChatSummary */
/** @typedef {{id: string, messages: UIMessage[], activeRun: {runId: string, cursor: string, sub?: string} | null, pending?: import("./chat/asks.js").Ask[], queue?: import("./chat/queue.js").Waiting[],
 *   members?: import("./chat/people.js").Member[], sharedId?: string}} Snapshot */
/** @typedef {{id: string, message: UIMessage, trigger: "submit-message" | "regenerate-message", messageId?: string}} SendBody */
/** @typedef {{topic: string, offset: number, cursor: string, duplicate: boolean}} Published */
/** @typedef {{method?: string, body?: unknown, headers?: Record<string, string>, signal?: AbortSignal, quiet?: boolean}} Call
 *   `body`: text and forms are sent as they are; `quiet`: do not ask for a key when one is needed */

const KEY = "trilane.key";
const STREAM = "text/event-stream";

export class Api {
  /** @type {Promise<string | null> | null} */
  #asking = null;
  #askForKey;

  /** @param {(refused: import("./problems.js").Problem | null) => Promise<string | null>} askForKey null when the person declines */
  constructor(askForKey) {
    this.#askForKey = askForKey;
  }

  get signedIn() {
    return sessionStorage.getItem(KEY) !== null;
  }

  signOut() {
    sessionStorage.removeItem(KEY);
  }

  /**
   * @param {string | null} cursor
   * @param {boolean} quiet
   * @returns {Promise<{chats: ChatSummary[], cursor: string | null}>}
   */
  async chats(cursor, quiet) {
    const query = cursor ? `?cursor=${encodeURIComponent(cursor)}` : "";
    return (await this.#call(`/api/chats${query}`, { quiet })).json();
  }

  /**
   * The chat as JSON text, so that two of them can be compared without being read.
   * @param {string} id
   * @param {boolean} quiet
   */
  async snapshotText(id, quiet) {
    return (await this.#call(path(id), { quiet })).text();
  }

  /** @param {string} id */
  async remove(id) {
    await this.#call(path(id), { method: "DELETE" });
  }

  /**
   * @param {string} id
   * @param {string} runId empty: whichever runs
   * @returns {Promise<boolean>} whether there was one to stop
   */
  async stop(id, runId) {
    const body = runId ? { activeStreamId: runId } : {};
    const response = await this.#call(`${path(id)}/stop`, { method: "POST", body });
    return (await response.json()).stopped !== false;
  }

  /**
   * Answers what a parked answer asks; the first answer counts.
   * @param {string} id
   * @param {string} approvalId
   * @param {import("./chat/asks.js").Given} given
   */
  async answer(id, approvalId, given) {
    const { input, output, ...rest } = given;
    const fields = Object.entries(rest).map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
    // Put together from JSON texts, so that no digit of a long number is lost.
    if (input !== undefined) fields.push(`"input":${input}`);
    if (output !== undefined) fields.push(`"output":${output}`);
    await this.#call(`${path(id)}/approvals/${encodeURIComponent(approvalId)}`, { method: "POST", body: `{${fields.join()}}` });
  }

  /**
   * Makes somebody a member of a chat, gives them another role, or takes them out of it.
   * @param {string} id
   * @param {string} sub
   * @param {import("./chat/people.js").Role | null} role null: no member any more
   */
  async member(id, sub, role) {
    const url = `${path(id)}/members?sub=${encodeURIComponent(sub)}`; // no path takes every name
    await this.#call(url, role ? { method: "PUT", body: { role } } : { method: "DELETE" });
  }

  /** @param {string} id */
  async typing(id) {
    await this.#call(`${path(id)}/typing`, { method: "POST", body: {}, quiet: true });
  }

  /**
   * Queues a message that the running answer may take before it ends; without one it is answered now.
   * @param {string} id
   * @param {UIMessage} message
   * @param {import("./chat/queue.js").SteerAt} at
   */
  async steer(id, message, at) {
    await this.#call(`${path(id)}/steer`, { method: "POST", body: { message, at } });
  }

  /**
   * @param {string} id
   * @param {string} messageId
   */
  async unqueue(id, messageId) {
    await this.#call(`${path(id)}/queue/${encodeURIComponent(messageId)}`, { method: "DELETE" });
  }

  /** @param {string} id */
  async resumeQueue(id) {
    await this.#call(`${path(id)}/queue/resume`, { method: "POST", body: {} });
  }

  /**
   * Starts a run, or finds the one that the same key has started before.
   * @param {SendBody} body
   * @param {string} key
   * @param {AbortSignal} signal
   */
  send(body, key, signal) {
    return this.#call("/api/chat", { method: "POST", body, headers: { "idempotency-key": key }, signal });
  }

  /**
   * @param {string} id
   * @param {string} cursor
   * @param {AbortSignal} signal
   */
  follow(id, cursor, signal) {
    return this.#call(`${path(id)}/stream`, { headers: { "last-event-id": cursor }, signal });
  }

  /**
   * Follows topics.
   * @param {string} query
   * @param {string} cursor empty: from now on
   * @param {AbortSignal} signal
   */
  async events(query, cursor, signal) {
    /** @type {Record<string, string>} */
    const headers = cursor ? { accept: STREAM, "last-event-id": cursor } : { accept: STREAM };
    const response = await this.#call(`/api/events?${query}`, { headers, signal });
    const type = response.headers.get("content-type") ?? "";
    if (response.status === 204 || type.startsWith(STREAM)) return response;
    throw new NotAStream(`${type || "something"} instead of an event stream`);
  }

  /**
   * @param {string} publication as JSON text, so that no digit of a long number is lost
   * @returns {Promise<Published>}
   */
  async publish(publication) {
    const response = await this.#call("/api/events", { method: "POST", body: publication });
    return (await response.json()).events[0];
  }

  /**
   * What stands for the key on one connection that can send no header.
   * @param {string} route
   * @param {AbortSignal} signal
   * @returns {Promise<string>}
   */
  async ticket(route, signal) {
    const response = await this.#call("/api/tickets", { method: "POST", body: { route }, signal });
    return (await response.json()).ticket;
  }

  /**
   * The words of a file, as events.
   * @param {File} file
   * @param {AbortSignal} signal
   */
  async transcribe(file, signal) {
    const body = new FormData();
    body.set("file", file);
    body.set("stream", "true");
    const response = await this.#call("/api/audio/transcriptions", { method: "POST", body, signal });
    return /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (response.body);
  }

  /**
   * @param {string} url
   * @param {Call} [call]
   * @returns {Promise<Response>}
   */
  async #call(url, call = {}) {
    for (;;) {
      const key = sessionStorage.getItem(KEY);
      const response = await fetch(url, this.#init(call, key));
      if (response.ok) return response;
      const problem = await problemOf(response);
      if (response.status !== 401 || call.quiet) throw problem;
      await this.#signIn(key, problem);
    }
  }

  /**
   * @param {Call} call
   * @param {string | null} key
   * @returns {RequestInit}
   */
  #init(call, key) {
    const headers = new Headers(call.headers);
    const isAsItIs = call.body === undefined || typeof call.body === "string" || call.body instanceof FormData;
    if (call.body !== undefined && !(call.body instanceof FormData)) headers.set("content-type", "application/json");
    if (key !== null) headers.set("authorization", `Bearer ${key}`);
    return {
      method: call.method ?? "GET",
      headers,
      body: isAsItIs ? /** @type {any} */ (call.body) : JSON.stringify(call.body),
      signal: call.signal ?? null,
      cache: "no-store",
    };
  }

  /**
   * @param {string | null} used the key that was refused
   * @param {import("./problems.js").Problem} refused
   */
  async #signIn(used, refused) {
    if (sessionStorage.getItem(KEY) !== used) return; // another request has asked meanwhile
    this.#asking ??= this.#askForKey(used === null ? null : refused).finally(() => {
      this.#asking = null;
    });
    const key = await this.#asking;
    if (key === null) throw refused;
    sessionStorage.setItem(KEY, key);
  }
}

/** @param {string} id */
const path = (id) => `/api/chat/${encodeURIComponent(id)}`;

