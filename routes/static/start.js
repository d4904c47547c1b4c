// @ts-check
/**
 * Loads the page again when one of its files was lost on the way. A browser whose network changes (a VPN, another Wi-Fi)
 * drops what it waits for, and a page that lacks a single module does nothing at all.
 *
 * This is no module, and the first file of the page: it is there before another can be missing.
 */
{
  const LOSSES = "trilane.losses";
  /** Waits before each further try; then it is left as it is. */
  const PAUSES_MS = [500, 2000, 8000];
  let isWhole = true;

  /** @param {Event} event */
  const lose = ({ target }) => {
    const isNeeded = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === "stylesheet");
    if (!isNeeded || !isWhole) return;
    isWhole = false;
    const losses = Number(sessionStorage.getItem(LOSSES));
    if (losses >= PAUSES_MS.length) return;
    sessionStorage.setItem(LOSSES, String(losses + 1));
    setTimeout(() => location.reload(), PAUSES_MS[losses]);
  };

  addEventListener("error", lose, true);
  addEventListener("load", () => {
    removeEventListener("error", lose, true);
    if (isWhole) sessionStorage.removeItem(LOSSES);
  });
}
