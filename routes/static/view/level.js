// @ts-check
/** The level meter: how loud it was over the last seconds, newest at the right. What was not sent yet has a colour of its own. */

const STEP_PX = 5;
const BAR_PX = 3;
const LEAST_PX = 2;

export class LevelMeter {
  #canvas;

  /** @param {HTMLCanvasElement} canvas its `color` is that of what was sent, its `accent-color` that of what waits */
  constructor(canvas) {
    this.#canvas = canvas;
  }

  /**
   * @param {import("../audio/level.js").Bar[]} bars
   * @param {number} sent number of the sample after the last that was sent
   */
  render(bars, sent) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const pen = this.#fit(width, height);
    if (!pen) return;
    const { color, accentColor, borderTopColor } = getComputedStyle(this.#canvas);
    for (let left = width - BAR_PX, at = bars.length - 1; left >= 0; left -= STEP_PX, at -= 1) {
      const bar = bars[at];
      const size = Math.max(LEAST_PX, (bar?.level ?? 0) * height);
      pen.fillStyle = !bar ? borderTopColor : bar.end <= sent ? color : accentColor;
      pen.beginPath();
      pen.roundRect(left, (height - size) / 2, BAR_PX, size, BAR_PX / 2);
      pen.fill();
    }
  }

  /**
   * As many dots as the screen has.
   * @param {number} width
   * @param {number} height
   */
  #fit(width, height) {
    const pen = this.#canvas.getContext("2d");
    const scale = devicePixelRatio;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    pen?.scale(scale, scale);
    return pen;
  }
}
