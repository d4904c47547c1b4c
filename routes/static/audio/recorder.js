// @ts-check
/** Runs in the audio thread (an AudioWorklet): frames of 16-bit samples of one channel, for the page to send. */

const thread = /** @type {any} */ (globalThis);

class Recorder extends thread.AudioWorkletProcessor {
  /** @type {Int16Array<ArrayBuffer>} */
  #frame;
  #filled = 0;

  /** @param {{processorOptions: {samples: number}}} options how many samples make a frame */
  constructor({ processorOptions }) {
    super();
    this.#frame = new Int16Array(processorOptions.samples);
  }

  /** @param {Float32Array[][]} inputs none while the microphone gives nothing */
  process([input]) {
    for (const sample of input[0] ?? []) {
      this.#frame[this.#filled] = Math.round(Math.max(-1, Math.min(1, sample)) * 32_767);
      this.#filled += 1;
      if (this.#filled === this.#frame.length) this.#hand();
    }
    return true;
  }

  #hand() {
    const full = this.#frame;
    this.#frame = new Int16Array(full.length);
    this.#filled = 0;
    this.port.postMessage(full, [full.buffer]);
  }
}

thread.registerProcessor("recorder", Recorder);
