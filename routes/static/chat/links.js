// @ts-check
/**
 * How a run's stream is opened: by asking for it, or by its cursor.
 *
 * Decides which refusals are worth another try. The same request with the same key is the same run, so it is made as
 * often as the network needs; a refusal by the model's provider is final, that run has ended.
 */

import { Problem } from "../problems.js";
import { Unavailable } from "../stream/resume.js";

/** @typedef {import("../api.js").Api} Api */
/** @typedef {import("../stream/resume.js").Link["connect"]} Connect */

const TRIES = 4;
const LONGEST_WAIT_MS = 5000;

/**
 * Starts a run, and continues it after cuts.
 * @param {Api} api
 * @param {import("../api.js").SendBody} body
 * @param {string} key
 * @param {() => void} accepted called when the gateway has taken the message
 * @returns {Connect}
 */
export function asking(api, body, key, accepted) {
  let tries = 0;
  return async (cursor, signal) => {
    if (cursor) return resume(api, body.id, cursor, signal);
    tries += 1;
    try {
      const response = await api.send(body, key, signal);
      accepted();
      return response;
    } catch (error) {
      if (error instanceof Problem && error.isOfUpstream) accepted();
      throw isRestarting(error) && tries < TRIES ? unavailable(error) : error;
    }
  };
}

/**
 * Follows a run that another device, or this page before a reload, has started.
 * @param {Api} api
 * @param {string} chatId
 * @param {string} from the cursor of its beginning
 * @returns {Connect}
 */
export function following(api, chatId, from) {
  return (cursor, signal) => resume(api, chatId, cursor || from, signal);
}

/**
 * Follows topics of the events lane.
 * @param {Api} api
 * @param {string} query empty: the caller's own topic
 * @returns {Connect}
 */
export function noticing(api, query) {
  return async (cursor, signal) => {
    try {
      return await api.events(query, cursor, signal);
    } catch (error) {
      throw error instanceof Problem && error.isPassing ? unavailable(error) : error;
    }
  };
}

/**
 * @param {Api} api
 * @param {string} chatId
 * @param {string} cursor
 * @param {AbortSignal} signal
 */
async function resume(api, chatId, cursor, signal) {
  try {
    return await api.follow(chatId, cursor, signal);
  } catch (error) {
    throw error instanceof Problem && error.isPassing ? unavailable(error) : error;
  }
}

/**
 * The gateway itself is full or restarting, and says that it is over soon.
 * @param {unknown} error
 * @returns {error is Problem}
 */
function isRestarting(error) {
  if (!(error instanceof Problem) || error.status !== 503) return false;
  return !error.code.startsWith("upstream") && error.retryAfterMs <= LONGEST_WAIT_MS;
}

/** @param {Problem} problem */
const unavailable = (problem) => new Unavailable(problem.message, problem.retryAfterMs);
