// @ts-check
/**
 * Waits; less long when the network comes back or the person returns to the page, for then it is worth a try at once.
 * @param {number} delayMs
 * @param {AbortSignal} signal raises its reason
 * @returns {Promise<void>}
 */
export function pause(delayMs, signal) {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const over = new AbortController();
    const end = () => {
      clearTimeout(timer);
      over.abort();
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, delayMs);
    const returned = () => document.visibilityState === "visible" && end();
    addEventListener("online", end, { signal: over.signal });
    document.addEventListener("visibilitychange", returned, { signal: over.signal });
    signal.addEventListener("abort", end, { signal: over.signal });
    return undefined;
  });
}
