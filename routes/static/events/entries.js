// @ts-check
/** What was heard, in the order of arrival, with a mark where something is missing. Bounded: the oldest go. Pure. */

/** @typedef {{number: number, name: string, data: string, cursor: string, atMs: number, replayed: boolean}} Heard
 *   `replayed`: it happened before the page was there to hear it */
/** @typedef {{number: number, missing: string}} Hole */
/** @typedef {Heard | Hole} Entry `number` counts all that were ever put in, from 0 */

export const KEPT = 500;

export class Entries {
  /** @type {Entry[]} */
  #all = [];
  #next = 0;
  /** How many went to make room, since the last `clear`. */
  gone = 0;

  get all() {
    return /** @type {readonly Entry[]} */ (this.#all);
  }

  /** How many events are here; marks do not count. */
  get heard() {
    return this.#all.reduce((count, entry) => count + ("name" in entry ? 1 : 0), 0);
  }

  /** @param {Omit<Heard, "number">} event */
  add(event) {
    this.#put({ ...event, number: this.#next });
  }

  /** @param {string} missing in words */
  addHole(missing) {
    this.#put({ missing, number: this.#next });
  }

  clear() {
    this.#all = [];
    this.gone = 0;
  }

  /** @param {Entry} entry */
  #put(entry) {
    this.#next += 1;
    this.#all.push(entry);
    // Not one at a time: moving the whole list for each event of a long replay would take longer than reading it.
    if (this.#all.length >= 2 * KEPT) this.trim();
  }

  /** Lets go of what is over the bound; called before anyone looks. */
  trim() {
    const over = this.#all.length - KEPT;
    if (over <= 0) return;
    this.gone += this.#all.splice(0, over).filter((entry) => "name" in entry).length;
  }
}
