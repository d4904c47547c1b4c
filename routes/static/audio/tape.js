// @ts-check
/** The samples that the gateway may still ask for, by their number in the session. Pure; bounded by its maker. */

export class Tape {
  /** Number of the first sample that is kept. */
  first = 0;
  /** Number after the last. */
  last = 0;
  /** @type {Int16Array[]} */
  #frames = [];
  #most;

  /** @param {number} most samples; what comes when it is full is refused, for what was said first is worth no less */
  constructor(most) {
    this.#most = most;
  }

  /**
   * @param {Int16Array} frame the next samples
   * @returns {boolean} false when there is no room for them
   */
  append(frame) {
    if (this.last - this.first + frame.length > this.#most) return false;
    this.#frames.push(frame);
    this.last += frame.length;
    return true;
  }

  /**
   * Begins elsewhere, with nothing.
   * @param {number} at
   */
  moveTo(at) {
    this.#frames = [];
    this.first = this.last = at;
  }

  /**
   * Forgets whole frames that end at or before a sample.
   * @param {number} before
   */
  drop(before) {
    let count = 0;
    while (count < this.#frames.length && this.first + this.#frames[count].length <= before) {
      this.first += this.#frames[count].length;
      count += 1;
    }
    this.#frames.splice(0, count);
  }

  /**
   * The samples from `start` to `end`. What is no longer there reads as silence, so that all others keep their number.
   * @param {number} start
   * @param {number} end
   */
  read(start, end) {
    const samples = new Int16Array(Math.max(0, Math.min(end, this.last) - start));
    let at = this.first;
    for (const frame of this.#frames) {
      if (at >= end) break;
      const part = frame.subarray(Math.max(0, start - at), Math.max(0, end - at));
      if (part.length > 0) samples.set(part, Math.max(0, at - start));
      at += frame.length;
    }
    return samples;
  }
}
