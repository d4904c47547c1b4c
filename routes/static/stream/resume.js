// @ts-check
/**
 * An event stream, read on whatever happens to the connection: the one way in which this page reads any of them.
 *
 * Owns the cursor and the waiting between attempts. Each attempt continues strictly after the last event that was read,
 * so nothing is lost and nothing comes twice. Whether a stream has come to its end is for the reader to know: here every
 * end of a connection is a cut, and the stream is opened again. Network, clock and chance are passed in.
 *
 * Not the browser's `EventSource`: that gives only events whose names are known beforehand, sends no key, does not say
 * why it was refused, and waits for ever on a connection that died in silence.
 */

import { SseParser } from "./sse.js";

/** @typedef {import("./sse.js").SseEvent} SseEvent */
/** @typedef {"connecting" | "live" | "reconnecting"} LinkState */

/**
 * @typedef {object} Link what a stream needs of its surroundings
 * @property {(cursor: string, signal: AbortSignal) => Promise<Response>} connect
 *   opens the stream after `cursor` (empty: from its start); raises what ends the reading for good
 * @property {(delayMs: number, signal: AbortSignal) => Promise<void>} pause waits, less long when the network returns
 * @property {(state: LinkState) => void} [onState]
 * @property {() => number} [random] from 0 to 1
 * @property {number} [silenceMs] after this long without a byte a connection counts as dead; the server pings every 15 s
 */

/** Raised by `connect` when the same request may succeed later. */
export class Unavailable extends Error {
  /**
   * @param {string} message
   * @param {number} [afterMs] how long the server asks to wait
   */
  constructor(message, afterMs = 0) {
    super(message);
    this.afterMs = afterMs;
  }
}

/** What came is not what was asked for; asking again would bring the same. */
export class NotAStream extends Error {}

const FIRST_DELAY_MS = 250;
const MAX_DELAY_MS = 8000;
const SILENCE_MS = 40_000;
const LINGER_MS = 1000;

/**
 * Yields the events in order, each once, until the reader leaves. Returns when the server has nothing (more) to stream.
 * @param {Link} link
 * @param {string} cursor
 * @param {AbortSignal} signal ends the reading; raises its reason
 * @returns {AsyncGenerator<SseEvent, void>}
 */
export async function* resumed(link, cursor, signal) {
  let failures = 0;
  link.onState?.("connecting");
  for (;;) {
    let delayMs = 0;
    try {
      const response = await link.connect(cursor, signal);
      if (response.status === 204 || !response.body) return;
      link.onState?.("live");
      for await (const event of events(response.body, link.silenceMs ?? SILENCE_MS, signal)) {
        if ("retryMs" in event) {
          delayMs = event.retryMs;
          continue;
        }
        failures = 0;
        cursor = event.id || cursor;
        yield event;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (!isCut(error)) throw error;
      delayMs = Math.max(delayMs, error instanceof Unavailable ? error.afterMs : 0);
    }
    link.onState?.("reconnecting");
    failures += 1;
    await link.pause(Math.max(delayMs, backoff(failures, link.random ?? Math.random)), signal);
  }
}

/**
 * Half of the delay is fixed and half is chance, so that readers who were cut together do not return together.
 * @param {number} failures counted from 1
 * @param {() => number} random
 */
export function backoff(failures, random) {
  const most = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
  return most / 2 + (random() * most) / 2;
}

/** @param {unknown} error */
function isCut(error) {
  // A browser reports every failure of the network as a TypeError, while connecting and while reading.
  return error instanceof Unavailable || error instanceof TypeError;
}

/**
 * The events of one connection, until it ends; raises when it breaks. One that falls silent is ended from here.
 * @param {ReadableStream<Uint8Array>} body
 * @param {number} silenceMs
 * @param {AbortSignal} signal
 * @returns {AsyncGenerator<import("./sse.js").SseEvent | {retryMs: number}>}
 */
async function* events(body, silenceMs, signal) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new SseParser();
  let heardAt = Date.now();
  // The wall clock, looked at often: it goes on while a computer sleeps, and a timer does not.
  const watch = setInterval(
    () => Date.now() - heardAt > silenceMs && void reader.cancel().catch(() => {}),
    Math.min(silenceMs / 4, 5000),
  );
  try {
    for (;;) {
      const { done, value } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      heardAt = Date.now();
      yield* parser.push(decoder.decode(value, { stream: true }));
      if (parser.retryMs !== null) yield { retryMs: parser.retryMs };
    }
  } finally {
    clearInterval(watch);
    void letGo(reader, signal);
  }
}

/**
 * Reads the few bytes after the terminal chunk, so that the browser can use the connection again.
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 * @param {AbortSignal} signal
 */
async function letGo(reader, signal) {
  const timer = setTimeout(() => reader.cancel().catch(() => {}), signal.aborted ? 0 : LINGER_MS);
  try {
    while (!(await reader.read()).done);
  } catch {
    // It was cut after its end: nothing is lost.
  } finally {
    clearTimeout(timer);
  }
}
