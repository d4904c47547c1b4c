// @ts-check
/** The microphone of this device, as frames of 16-bit samples. */

const FRAME_S = 0.1;
const MIN_RATE = 8000;
const MAX_RATE = 48_000;

/**
 * @typedef {object} Listener
 * @property {(frame: Int16Array) => void} heard
 * @property {(isHeld: boolean) => void} held the system keeps the sound to itself (a call, a closed lid), or gives it back
 * @property {() => void} gone it was unplugged, or its permission was taken back
 */

export class Microphone {
  #context;
  /** @type {MediaStream | null} */
  #stream = null;
  #isClosed = false;

  /** Must be made while a press is handled: only then may a page use sound. */
  constructor() {
    this.#context = newContext();
  }

  get sampleRate() {
    return this.#context.sampleRate;
  }

  /**
   * Asks the person, and begins. Raises what the browser says; then all is closed again.
   * @param {Listener} listener
   */
  async open(listener) {
    try {
      await this.#open(listener);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** @param {Listener} listener */
  async #open(listener) {
    const { mediaDevices } = navigator;
    if (!mediaDevices || !this.#context.audioWorklet) {
      throw new DOMException("the address of this page is not secure", "SecurityError");
    }
    // The page makes no sound, so there is no echo; and what takes noise away takes some of the words along.
    const audio = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    const [stream] = await Promise.all([
      mediaDevices.getUserMedia({ audio }),
      this.#context.audioWorklet.addModule(new URL("recorder.js", import.meta.url)),
    ]);
    this.#stream = stream;
    await this.#context.resume();
    this.#watch(stream.getAudioTracks()[0], listener);
    const recorder = new AudioWorkletNode(this.#context, "recorder", {
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { samples: Math.round(this.sampleRate * FRAME_S) },
    });
    recorder.port.onmessage = ({ data }) => this.#isClosed || listener.heard(data);
    this.#context.createMediaStreamSource(stream).connect(recorder);
    // Some browsers run only what leads to the loudspeaker; what leaves the recorder is silence.
    recorder.connect(this.#context.destination);
  }

  /**
   * @param {MediaStreamTrack} track
   * @param {Listener} listener
   */
  #watch(track, listener) {
    const look = () => this.#isClosed || listener.held(track.muted || this.#context.state !== "running");
    track.addEventListener("mute", look);
    track.addEventListener("unmute", look);
    track.addEventListener("ended", () => this.#isClosed || listener.gone());
    this.#context.addEventListener("statechange", look);
    document.addEventListener("visibilitychange", () => {
      if (!this.#isClosed && this.#context.state !== "running") void this.#context.resume();
    });
  }

  close() {
    this.#isClosed = true;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    if (this.#context.state !== "closed") void this.#context.close();
  }
}

/** At the rate of the device, where that is one that the gateway takes. */
function newContext() {
  const context = new AudioContext({ latencyHint: "interactive" });
  const { sampleRate } = context;
  if (sampleRate >= MIN_RATE && sampleRate <= MAX_RATE) return context;
  void context.close();
  return new AudioContext({ sampleRate: Math.min(MAX_RATE, Math.max(MIN_RATE, sampleRate)) });
}
