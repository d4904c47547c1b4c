// @ts-check
/**
 * What was heard in one session: lines that are settled for ever, and what is being said now. Pure.
 *
 * A line that was told before is not told again, whatever a connection repeats: the gateway's lines follow one another
 * in time.
 */

/**
 * @typedef {{kind: "said" | "unsure" | "guessed" | "gap" | "note", text: string, startS: number, endS: number}} Line
 *   `unsure`: probably another language than the gateway hears; `guessed`: it never became final; `gap`: audio that was not heard and will not be; `note`: of this page's own
 * @typedef {{startS: number, stable: string, tail: string}} Hypothesis `tail` may still change
 * @typedef {{segment: number, text: string, start: number, end: number, unsure?: boolean}} Final
 * @typedef {{segment: number, text: string, stable: string, start: number, end: number}} Partial
 */

export class Transcript {
  #settledS;
  /** By segment: the one that is spoken, and those before it whose final is due. @type {Map<number, Partial>} */
  #partials = new Map();

  /** @param {Line[]} [lines] of an earlier visit */
  constructor(lines = []) {
    this.lines = lines;
    this.#settledS = Math.max(0, ...lines.filter(({ kind }) => kind !== "note").map(({ endS }) => endS));
  }

  /** @param {Partial} partial */
  guess(partial) {
    if (partial.end > this.#settledS) this.#partials.set(partial.segment, partial);
  }

  /** @param {Final} final */
  settle({ segment, text, start, end, unsure }) {
    for (const known of this.#partials.keys()) if (known <= segment) this.#partials.delete(known);
    this.#add({ kind: unsure ? "unsure" : "said", text, startS: start, endS: end });
  }

  /**
   * @param {number} startS
   * @param {number} endS
   * @param {string} text
   */
  miss(startS, endS, text) {
    for (const [segment, { start }] of this.#partials) if (start < endS) this.#partials.delete(segment);
    this.#add({ kind: "gap", text, startS, endS });
  }

  /**
   * Says something of a moment, though lines of before it may come later.
   * @param {number} atS
   * @param {string} text
   */
  note(atS, text) {
    this.#insert({ kind: "note", text, startS: atS, endS: atS });
  }

  /**
   * A line whose time is not known, behind all others.
   * @param {string} text
   */
  append(text) {
    /** @type {Line} */
    const line = { kind: "said", text, startS: NaN, endS: NaN };
    if (text) this.lines = [...this.lines, line];
  }

  /** Everything before this is told. */
  get settledS() {
    return this.#settledS;
  }

  /** What is being said is heard anew, in segments that are counted anew. */
  forgetGuesses() {
    this.#partials.clear();
  }

  /** Nothing more will come: what was only guessed at stays a guess. */
  end() {
    for (const { startS, stable, tail } of this.now) {
      this.#insert({ kind: "guessed", text: `${stable} ${tail}`.trim(), startS, endS: startS });
    }
    this.#partials.clear();
  }

  /** @param {Line} line */
  #add(line) {
    if (line.endS <= this.#settledS) return;
    this.#settledS = line.endS;
    if (line.text) this.#insert(line);
  }

  /** @param {Line} line */
  #insert(line) {
    this.lines = [...this.lines, line].sort((one, other) => one.startS - other.startS);
  }

  /** What is being said, in order. @returns {Hypothesis[]} */
  get now() {
    const known = [...this.#partials.values()].sort((one, other) => one.segment - other.segment);
    return known.map(({ start, text, stable }) => ({ startS: start, stable, tail: tailOf(text, stable) }));
  }

  /** All that was said, as one text. */
  get text() {
    const said = this.lines.filter(({ kind }) => kind !== "gap" && kind !== "note");
    return said.map(({ text }) => text).join(" ");
  }
}

/**
 * @param {string} text
 * @param {string} stable its beginning
 */
const tailOf = (text, stable) => (text.startsWith(stable) ? text.slice(stable.length).trim() : "");
