// @ts-check
/** The events lane on the page: which topics, how the connection stands, and what was heard. */

import { KEPT } from "../events/entries.js";
import { topicsOf } from "../events/topics.js";
import { events, newsOf, stateOf } from "../events/words.js";
import { byId } from "./dom.js";
import { EventList } from "./eventlist.js";
import { Follower } from "./scroll.js";

/** @typedef {import("../events/following.js").Following} Following */

/**
 * @typedef {object} Commands
 * @property {(topics: string[]) => void} follow
 * @property {() => void} earlier
 * @property {() => void} clear
 * @property {(text: string, button: HTMLElement) => void} copy
 * @property {() => boolean} signedIn whether the gateway asks for a key
 * @property {(text: string) => void} announce to people who do not see the page
 */

const ANNOUNCE_MS = 2000;

export class EventsView {
  #input = byId("follow-topics", HTMLInputElement);
  #state = byId("watch-state", HTMLElement);
  #news = byId("watch-news", HTMLElement);
  #facts = byId("watch-facts", HTMLElement);
  #earlier = byId("earlier", HTMLButtonElement);
  #clear = byId("clear-events", HTMLButtonElement);
  #log = byId("event-log", HTMLElement);
  #scroller = byId("event-scroller", HTMLElement);
  #follower = new Follower(this.#scroller, this.#log, byId("event-jump", HTMLButtonElement));
  /** @type {Following | null} */
  #following = null;
  #list;
  #commands;
  /** How many events came since people who do not see the page were told. */
  #untold = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #telling;

  /** @param {Commands} commands */
  constructor(commands) {
    this.#commands = commands;
    this.#list = new EventList(this.#log, commands);
    byId("follow", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      commands.follow(topicsOf(this.#input.value));
    });
    this.#earlier.addEventListener("click", () => this.#leave(commands.earlier));
    this.#clear.addEventListener("click", () => this.#leave(commands.clear));
  }

  /** @param {Following} following */
  render(following) {
    if (following !== this.#following) this.#begin(following);
    const state = stateOf(following, navigator.onLine);
    say(this.#state, state.text);
    this.#state.className = `status ${state.kind}`;
    say(this.#news, newsOf(following));
    this.#news.classList.toggle("warn", following.news.some((one) => one.kind === "lost"));
    this.#input.setAttribute("aria-invalid", String(following.phase === "refused"));
    if (following.asked.length === 0) this.#input.placeholder = ownOf(following.topics);
    this.#renderEntries(following);
  }

  /**
   * The button that was pressed goes, and with it would the focus.
   * @param {() => void} act
   */
  #leave(act) {
    act();
    this.#scroller.focus({ preventScroll: true });
  }

  toEnd() {
    this.#follower.toEnd();
  }

  /** @param {Following} following */
  #begin(following) {
    this.#following = following;
    this.#input.value = following.asked.join(" ");
    this.#untold = 0;
    this.#list.begin(following);
    this.#follower.toEnd();
  }

  /** @param {Following} following */
  #renderEntries(following) {
    const { entries } = following;
    entries.trim();
    const count = entries.heard;
    say(this.#facts, countOf(count, entries.gone));
    this.#facts.title = entries.gone > 0 ? `This page keeps the newest ${KEPT}. The gateway may still have the others.` : "";
    this.#clear.hidden = entries.all.length === 0;
    this.#earlier.hidden = following.isWhole || following.isOver;
    const added = this.#list.render();
    if (following.phase === "live" && !following.replay) this.#tell(added);
  }

  /** @param {number} added */
  #tell(added) {
    this.#untold += added;
    if (this.#untold === 0 || this.#telling !== undefined) return;
    this.#telling = setTimeout(() => {
      this.#telling = undefined;
      if (this.#untold > 0) this.#commands.announce(this.#untold === 1 ? "A new event" : `${this.#untold} new events`);
      this.#untold = 0;
    }, ANNOUNCE_MS);
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

/**
 * @param {number} count
 * @param {number} gone
 */
function countOf(count, gone) {
  if (gone > 0) return `newest ${count.toLocaleString("en")} of ${events(count + gone)}`;
  return count > 0 ? events(count) : "";
}

/** @param {string[]} topics */
const ownOf = (topics) => (topics.length > 0 ? `${topics[0]} (your own), team/*, …` : "your own");
