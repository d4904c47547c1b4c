// @ts-check
/** What was dictated, a row for each line; and below it what is being said, of which the end may still change. */

import { clock } from "../audio/words.js";
import { byId, el } from "./dom.js";

/** @typedef {import("../audio/transcript.js").Line} Line */
/** @typedef {import("../audio/kept.js").Take} Take */

export class TranscriptList {
  #finals = byId("finals", HTMLElement);
  #hypotheses = byId("hypotheses", HTMLElement);
  /** @type {Map<Take, {list: HTMLElement, rows: Map<Line, HTMLElement>}>} */
  #shown = new Map();

  /** @param {Take[]} takes oldest first */
  render(takes) {
    for (const [take, { list }] of this.#shown) {
      if (takes.includes(take)) continue;
      list.parentElement?.remove();
      this.#shown.delete(take);
    }
    for (const take of takes) this.#renderTake(take);
    this.#renderNow(takes.at(-1));
  }

  /** @param {Take} take */
  #renderTake(take) {
    const { lines, now } = take.source.transcript;
    if (lines.length + now.length === 0) return;
    const { list, rows } = this.#shown.get(take) ?? this.#begin(take);
    if (rows.size === lines.length) return;
    lines.forEach((line, index) => {
      if (rows.has(line)) return;
      const row = rowOf(line);
      rows.set(line, row);
      list.insertBefore(row, list.children[index] ?? null);
    });
  }

  /** @param {Take} take */
  #begin(take) {
    const begun = { list: el("ol", { class: "spoken" }), rows: new Map() };
    const at = new Date(take.startedAtMs);
    const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
    const when = el("time", { datetime: at.toISOString(), title: at.toLocaleString() }, time);
    const head = el("h2", { class: "spoken-at" }, when, take.name && ` · ${take.name}`);
    this.#finals.append(el("section", { "aria-label": take.name || `Dictated at ${time}` }, head, begun.list));
    this.#shown.set(take, begun);
    return begun;
  }

  /** @param {Take | undefined} take */
  #renderNow(take) {
    const now = take?.source.transcript.now ?? [];
    while (this.#hypotheses.children.length > now.length) this.#hypotheses.lastChild?.remove();
    now.forEach(({ startS, stable, tail }, index) => {
      const row = this.#hypotheses.children[index] ?? this.#hypotheses.appendChild(hypothesisRow());
      const [at, said] = row.children;
      const [settled, open] = said.children;
      say(at, clock(startS));
      say(settled, stable);
      say(open, tail);
    });
  }
}

/** @param {Line} line */
function rowOf({ kind, text, startS }) {
  return el("li", { class: `line ${kind}` }, el("span", { class: "at" }, Number.isFinite(startS) ? clock(startS) : ""), el("p", {}, text));
}

function hypothesisRow() {
  const said = el("p", {}, el("span", { class: "stable" }), " ", el("span", { class: "tail" }));
  return el("div", { class: "line now" }, el("span", { class: "at" }), said);
}

/**
 * @param {Element} element
 * @param {string} text
 */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
