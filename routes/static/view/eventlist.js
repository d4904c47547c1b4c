// @ts-check
/** The events that were heard, one row each, newest last. Data is only ever text: nothing in it can become an element. */

import { readable } from "../events/json.js";
import { isPattern } from "../events/topics.js";
import { el, icon } from "./dom.js";
import { quietEvents } from "./quiet.js";

/** @typedef {import("../events/following.js").Following} Following */
/** @typedef {import("../events/entries.js").Entry} Entry */
/** @typedef {import("../events/entries.js").Heard} Heard */

/** Longer data is cut, until someone asks for all of it. */
const SHOWN_CHARACTERS = 2000;

export class EventList {
  /** @type {Following | null} */
  #following = null;
  /** Rows in order, by the number of their entry. @type {Map<number, HTMLElement>} */
  #rows = new Map();
  #next = 0;
  #older = el("p", { class: "older", hidden: true });
  #list = el("ol", { class: "events" });
  /** What stands here while nothing was heard. @type {HTMLElement} */
  #quiet = el("div");
  #log;
  #commands;

  /**
   * @param {HTMLElement} log
   * @param {{copy(text: string, button: HTMLElement): void, signedIn(): boolean}} commands
   */
  constructor(log, commands) {
    this.#log = log;
    this.#commands = commands;
  }

  /** @param {Following} following whose events are shown from now on */
  begin(following) {
    this.#following = following;
    this.#rows.clear();
    this.#next = 0;
    this.#list.replaceChildren();
  }

  /** @returns {number} how many events are new */
  render() {
    const following = this.#following;
    if (!following) return 0;
    const { all, gone } = following.entries;
    this.#drop(all[0]?.number ?? Infinity);
    const fresh = all.filter((entry) => entry.number >= this.#next);
    const rows = fresh.map((entry) => this.#row(entry, following));
    this.#list.append(...rows);
    this.#next = fresh.at(-1) ? /** @type {Entry} */ (fresh.at(-1)).number + 1 : this.#next;
    this.#older.hidden = gone === 0;
    this.#older.textContent = `This page keeps the newest ${all.length}. ${gone.toLocaleString("en")} older are not shown any more.`;
    this.#place(all.length === 0, following);
    return fresh.filter((entry) => "name" in entry).length;
  }

  /**
   * @param {boolean} isEmpty
   * @param {Following} following
   */
  #place(isEmpty, following) {
    const said = `${following.topics.join(" ")} ${following.isOver}`;
    if (isEmpty && this.#quiet.dataset.said !== said) {
      this.#quiet = quietEvents(following, this.#commands.signedIn());
      this.#quiet.dataset.said = said;
    }
    const children = isEmpty ? [this.#quiet] : [this.#older, this.#list];
    if (this.#log.lastChild !== children.at(-1)) this.#log.replaceChildren(...children);
  }

  /** @param {number} first the oldest number that is still there */
  #drop(first) {
    for (const [number, row] of this.#rows) {
      if (number >= first) return;
      row.remove();
      this.#rows.delete(number);
    }
  }

  /**
   * @param {Entry} entry
   * @param {Following} following
   */
  #row(entry, following) {
    const row = "name" in entry ? eventRow(entry, following, this.#commands.copy) : el("li", { class: "hole" }, entry.missing);
    this.#rows.set(entry.number, row);
    return row;
  }
}

/**
 * @param {Heard} event
 * @param {Following} following
 * @param {(text: string, button: HTMLElement) => void} copy
 */
function eventRow({ name, data, cursor, atMs, replayed }, { topics, isWhole }, copy) {
  const at = new Date(atMs);
  // Of several topics, or of a pattern's, nothing says from which one an event came.
  const topic = topics.length === 1 && !isPattern(topics[0]) && topics[0];
  const label = { type: "button", class: "quiet", "aria-label": "Copy the data", title: "Copy the data" };
  return el(
    "li",
    { class: "event" },
    el(
      "p",
      { class: "event-head" },
      el("strong", {}, name),
      topic && el("span", { class: "event-topic" }, topic),
      replayed && el("span", { class: "tag", title: "It happened before the time that is shown" }, isWhole ? "earlier" : "caught up"),
      el("span", { class: "event-cursor", title: `Cursor: ${cursor}` }, cursor),
      el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, at.toLocaleTimeString("en-GB")),
    ),
    dataView(data),
    el("button", { ...label, click: (/** @type {any} */ event) => copy(data, event.currentTarget) }, icon("copy")),
  );
}

/** @param {string} data */
function dataView(data) {
  const { text, isText } = readable(data);
  const shown = el(isText ? "p" : "pre", { class: isText ? "typed" : "json", dir: isText ? "auto" : "ltr" }, text);
  if (text.length <= SHOWN_CHARACTERS) return shown;
  shown.textContent = `${text.slice(0, SHOWN_CHARACTERS)}…`;
  const all = el("button", { type: "button", class: "quiet" }, `Show all ${text.length.toLocaleString("en")} characters`);
  all.addEventListener("click", () => {
    shown.textContent = text;
    all.remove();
  });
  return el("div", { class: "long" }, shown, all);
}
