// @ts-check
/** A file in words: sent whole, and its words read as they come. Raises what kept it from being read. */

import { Problem } from "../problems.js";
import { SseParser } from "../stream/sse.js";
import { Transcript } from "./transcript.js";

export class FileReading {
  transcript = new Transcript();
  isOver = false;

  /** @param {string} name of the file */
  constructor(name) {
    this.name = name;
  }

  /**
   * @param {ReadableStream<Uint8Array<ArrayBuffer>>} body
   * @param {() => void} changed
   */
  async read(body, changed) {
    const parser = new SseParser();
    const reader = body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      for (const { data } of parser.push(decoder.decode(value, { stream: true }))) this.take(JSON.parse(data));
      changed();
    }
    if (!this.isOver) throw new TypeError("the connection was cut before the end of the file");
  }

  /** @param {Record<string, any>} event as OpenAI's API has them */
  take({ type, delta, error }) {
    if (error) throw new Problem({ status: 500, code: String(error.code), detail: String(error.message) });
    if (type === "transcript.text.delta") this.transcript.append(delta.trim());
    else if (type === "transcript.text.done") this.isOver = true;
  }
}
