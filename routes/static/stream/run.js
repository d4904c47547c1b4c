// @ts-check
/**
 * A run, read to its end whatever happens to the connection. A stream that ends without `finish`, `error` or `abort` was
 * cut, however cleanly its connection closed, and is opened again.
 */

import { parseExactly } from "./exact.js";
import { NotAStream, resumed } from "./resume.js";

/** @typedef {import("./message.js").Chunk} Chunk */

export const TERMINAL = new Set(["finish", "error", "abort"]);

/**
 * Yields the chunks of one run in order, each once. Returns "ended" after the terminal chunk, or "nothing" when the
 * server has nothing to stream: then the snapshot tells what became of the run.
 * @param {import("./resume.js").Link} link
 * @param {string} cursor
 * @param {AbortSignal} signal ends the reading; raises its reason
 * @returns {AsyncGenerator<Chunk, "ended" | "nothing">}
 */
export async function* followRun(link, cursor, signal) {
  for await (const { data } of resumed(link, cursor, signal)) {
    const chunk = decode(data);
    if (chunk === null) continue;
    yield chunk;
    if (TERMINAL.has(chunk.type)) return "ended";
  }
  return "nothing";
}

/**
 * @param {string} data
 * @returns {Chunk | null} null for the mark after the last chunk
 */
function decode(data) {
  if (data === "[DONE]") return null;
  let chunk;
  try {
    chunk = parseExactly(data);
  } catch {
    throw new NotAStream(`not JSON: ${data.slice(0, 80)}`);
  }
  if (typeof chunk?.type !== "string") throw new NotAStream(`a chunk without a type: ${data.slice(0, 80)}`);
  return chunk;
}
