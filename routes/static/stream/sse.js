// @ts-check
/**
 * The bytes of an event stream, as text, to events: the parsing rules of the HTML standard's server-sent events.
 *
 * Pure: no fetch, no timers. Pieces may be cut anywhere, inside a line ending too. What stands after the last blank
 * line is never an event: a stream that is cut loses the half event, and the cursor stays before it.
 */

/**
 * @typedef {object} SseEvent
 * @property {string} type `message` when the stream does not say
 * @property {string} data lines joined with LF
 * @property {string} id the last id seen, which a reconnecting client sends as `Last-Event-ID`
 */

const LF = 10;
const CR = 13;

export class SseParser {
  /** The reconnection delay in milliseconds that the stream asked for. @type {number | null} */
  retryMs = null;
  /** The line that has not ended yet, in the pieces it came in: a long one stays linear. @type {string[]} */
  #line = [];
  #started = false;
  #skipLf = false;
  #data = "";
  #hasData = false;
  #type = "";
  #id = "";

  /**
   * Takes the next piece of text and returns the events that it completes.
   * @param {string} text
   * @returns {SseEvent[]}
   */
  push(text) {
    if (!this.#started && text) {
      this.#started = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    /** @type {SseEvent[]} */
    const events = [];
    let begin = 0;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code === LF && this.#skipLf) {
        begin = at + 1;
      } else if (code === LF || code === CR) {
        this.#line.push(text.slice(begin, at));
        this.#read(this.#line.join(""), events);
        this.#line = [];
        begin = at + 1;
      }
      this.#skipLf = code === CR;
    }
    if (begin < text.length) this.#line.push(text.slice(begin));
    return events;
  }

  /**
   * @param {string} line
   * @param {SseEvent[]} events
   */
  #read(line, events) {
    if (line === "") {
      this.#dispatch(events);
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.charCodeAt(0) === 32) value = value.slice(1);
    this.#field(field, value);
  }

  /**
   * @param {string} field
   * @param {string} value
   */
  #field(field, value) {
    if (field === "data") {
      this.#data = this.#hasData ? `${this.#data}\n${value}` : value;
      this.#hasData = true;
    } else if (field === "event") {
      this.#type = value;
    } else if (field === "id") {
      if (!value.includes("\0")) this.#id = value;
    } else if (field === "retry" && /^[0-9]+$/.test(value)) {
      this.retryMs = Number(value);
    }
  }

  /** @param {SseEvent[]} events */
  #dispatch(events) {
    if (this.#hasData) events.push({ type: this.#type || "message", data: this.#data, id: this.#id });
    this.#data = "";
    this.#hasData = false;
    this.#type = "";
  }
}
