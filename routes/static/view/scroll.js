// @ts-check
/** Keeps the end of the conversation in view, but only for a reader who is there. */

const NEAR_PX = 48;

export class Follower {
  #following = true;
  #scroller;
  #button;

  /**
   * @param {HTMLElement} scroller
   * @param {HTMLElement} content
   * @param {HTMLButtonElement} button shown to a reader who is elsewhere
   */
  constructor(scroller, content, button) {
    this.#scroller = scroller;
    this.#button = button;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    button.addEventListener("click", () => this.toEnd(true));
    const resized = new ResizeObserver(() => this.#settle());
    resized.observe(scroller);
    resized.observe(content);
  }

  /** @param {boolean} [smooth] */
  toEnd(smooth = false) {
    this.#following = true;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#scroller.scrollTo({ top: this.#scroller.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
    this.#button.hidden = true;
  }

  get #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #look() {
    this.#following = this.#distance < NEAR_PX;
    this.#button.hidden = this.#following;
  }

  #settle() {
    if (this.#following) this.toEnd();
    else this.#button.hidden = this.#distance < NEAR_PX;
  }
}
