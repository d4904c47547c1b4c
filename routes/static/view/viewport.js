// @ts-check
/**
 * Keeps the composer above a phone's keyboard. Browsers that lay the keyboard over the page (Safari) report what is left
 * of it only here; the style sheet takes the height from the variable and falls back to `100dvh`.
 */
export function fitViewport() {
  const viewport = window.visualViewport;
  if (!viewport) return;
  const fit = () => {
    const root = document.documentElement;
    const covered = viewport.scale === 1 && window.innerHeight - viewport.height > 1;
    if (covered) root.style.setProperty("--visible-height", `${viewport.height}px`);
    else root.style.removeProperty("--visible-height");
    if (covered) window.scrollTo(0, 0);
  };
  viewport.addEventListener("resize", fit);
}
