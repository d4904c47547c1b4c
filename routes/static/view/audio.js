// @ts-check
/** The audio lane on the page: the button, the level, how listening stands, and what was said. */

import { clock, wordsOf } from "../audio/words.js";
import { byId, icon } from "./dom.js";
import { LevelMeter } from "./level.js";
import { Follower } from "./scroll.js";
import { TranscriptList } from "./transcript.js";

/** @typedef {import("../audio/lane.js").AudioLane} AudioLane */
/** @typedef {{copy: (text: string, button: HTMLElement) => void, toChat: (text: string) => void}} Commands */
/** @typedef {"start" | "stop" | "cancel" | "give-up"} Press what a press of the button does */

const TICK_MS = 1000;

/** @type {Record<Press, string>} */
const LABELS = {
  start: "Start listening",
  stop: "Stop listening",
  cancel: "Stop reading the file",
  "give-up": "Stop waiting for the last words",
};

export class AudioView {
  #button = byId("listen", HTMLButtonElement);
  #state = byId("audio-state", HTMLElement);
  #news = byId("audio-news", HTMLElement);
  #time = byId("audio-time", HTMLElement);
  #file = byId("audio-file", HTMLInputElement);
  #toChat = byId("audio-to-chat", HTMLButtonElement);
  #copy = byId("audio-copy", HTMLButtonElement);
  #clear = byId("audio-clear", HTMLButtonElement);
  #welcome = byId("audio-welcome", HTMLElement);
  #onAir = byId("on-air", HTMLElement);
  #level = new LevelMeter(byId("level", HTMLCanvasElement));
  #list = new TranscriptList();
  #follower = new Follower(byId("audio-scroller", HTMLElement), byId("audio-log", HTMLElement), byId("audio-jump", HTMLButtonElement));
  #lane;
  #isShown = false;
  #isDue = false;
  /** @type {Press | ""} */
  #press = "";

  /**
   * @param {AudioLane} lane
   * @param {Commands} commands
   */
  constructor(lane, commands) {
    this.#lane = lane;
    this.#button.addEventListener("click", () => (this.#press === "start" ? void this.#begin() : lane.stop()));
    this.#toChat.addEventListener("click", () => commands.toChat(lane.text));
    this.#copy.addEventListener("click", () => commands.copy(lane.text, this.#copy));
    this.#clear.addEventListener("click", () => {
      lane.clear();
      this.focus();
    });
    this.#takeFiles(byId("audio", HTMLElement));
    for (const moment of ["online", "offline", "resize"]) addEventListener(moment, () => this.later());
    // News passes, though nothing happens.
    setInterval(() => lane.isBusy && this.later(), TICK_MS);
  }

  focus() {
    this.#button.focus();
  }

  /** @param {boolean} isShown */
  show(isShown) {
    this.#isShown = isShown;
    if (isShown) this.#follower.toEnd();
    this.later();
  }

  /** Draws what changed, once for each frame. */
  later() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#render();
    });
  }

  /** @param {HTMLElement} place where one may be dropped */
  #takeFiles(place) {
    this.#file.addEventListener("change", () => {
      const [file] = this.#file.files ?? [];
      if (file) void this.#lane.read(file);
      this.#file.value = "";
    });
    place.addEventListener("dragover", (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
    place.addEventListener("drop", (event) => {
      const [file] = event.dataTransfer?.files ?? [];
      if (!file) return;
      event.preventDefault();
      void this.#lane.read(file);
    });
  }

  async #begin() {
    this.#follower.toEnd();
    await this.#lane.start();
  }

  #render() {
    const { isOn, takes } = this.#lane;
    this.#onAir.hidden = !isOn;
    if (!this.#isShown) return;
    this.#renderWords();
    this.#renderButton();
    this.#list.render(takes);
    const { session, bars, isBusy } = this.#lane;
    // What was said a moment ago is on its way: only what waits longer is worth a colour.
    this.#level.render(bars, session && session.waitingS >= 1 ? session.sent : Infinity);
    say(/** @type {HTMLElement} */ (this.#time.lastElementChild), clock(session?.durationS ?? 0));
    const isEmpty = takes.every(({ source: { transcript } }) => transcript.lines.length + transcript.now.length === 0);
    this.#welcome.hidden = !isEmpty;
    const hasText = this.#lane.text !== "";
    for (const tool of [this.#toChat, this.#copy]) tool.disabled = !hasText;
    this.#clear.hidden = isBusy || isEmpty;
    this.#file.disabled = isBusy || this.#lane.sound !== "off";
  }

  #renderWords() {
    const { session, sound, trouble, reading } = this.#lane;
    const words = wordsOf({ session, sound, trouble, reading, onLine: navigator.onLine, nowMs: Date.now() });
    say(this.#state, words.text);
    this.#state.className = `status ${words.kind}`;
    say(this.#news, words.news);
  }

  #renderButton() {
    const { sound, isOn, isBusy, reading } = this.#lane;
    const press = isOn ? "stop" : reading ? "cancel" : isBusy ? "give-up" : "start";
    this.#button.disabled = sound === "asking";
    if (press === this.#press) return;
    this.#press = press;
    this.#button.dataset.press = press;
    this.#button.replaceChildren(icon(press === "start" ? "microphone" : press === "stop" ? "stop" : "close"));
    this.#button.ariaLabel = this.#button.title = LABELS[press];
  }
}

/**
 * What did not change is not said again.
 * @param {HTMLElement} element
 * @param {string} text
 */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
