// @ts-check
/** How a run is stopped on the gateway, for every device. */

import { Problem } from "../problems.js";

const TRIES = 5;
const AGAIN_MS = 400;

/**
 * Stops a run. A message that is still on its way has no run yet that could be stopped, so this is tried for a moment.
 * @param {{api: import("../api.js").Api, pause: (delayMs: number, signal: AbortSignal) => Promise<void>}} around
 * @param {string} chatId
 * @param {string} runId empty: whichever runs
 * @param {AbortSignal} signal
 * @param {() => boolean} isOver
 */
export async function stopped({ api, pause }, chatId, runId, signal, isOver) {
  for (let tries = 1; !isOver(); tries += 1) {
    try {
      if ((await api.stop(chatId, runId)) || tries === TRIES) return;
    } catch (error) {
      if (!isForgotten(error)) throw error;
      if (tries === TRIES) return;
    }
    await pause(AGAIN_MS, signal);
  }
}

/**
 * The gateway has no such chat or run, or keeps it no longer: its snapshot says what there is.
 * @param {unknown} error
 */
export const isForgotten = (error) => error instanceof Problem && (error.status === 404 || error.status === 410);
