// @ts-check
/**
 * JSON for people: what they read of an event's data, and what they write. Pure.
 *
 * Works on the text and not on its value, because a value would lose digits: ids of 19 digits are common in events.
 */

/** @typedef {{text: string, isText: boolean}} Readable `isText`: it was a JSON string, and is shown without its quotes */
/** @typedef {{raw: string, what: string, isBroken: boolean}} Written
 *   the JSON to send, what it is in words, and whether it was perhaps meant to be something else */
/** @typedef {{open: string, items: Piece[], width: number}} Group */
/** @typedef {{text: string, width: number}} Leaf */
/** @typedef {{key: string, value: Group | Leaf, width: number}} Piece */

const WIDTH = 64;
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[[\]{}:,]|[^\s"[\]{}:,]+/g;

/**
 * @param {string} data
 * @returns {Readable}
 */
export function readable(data) {
  try {
    const value = JSON.parse(data);
    if (typeof value === "string") return { text: value, isText: true };
    return { text: printed(grouped(data.match(TOKENS) ?? []), ""), isText: false };
  } catch {
    return { text: data, isText: true }; // no JSON, or nested more deeply than anyone reads
  }
}

/**
 * What a person typed: JSON as it stands, anything else as a JSON string.
 * @param {string} typed
 * @returns {Written | null} null when there is nothing to send
 */
export function written(typed) {
  const raw = typed.trim();
  if (raw === "") return null;
  try {
    return { raw, what: kindOf(JSON.parse(raw)), isBroken: false };
  } catch {
    return { raw: JSON.stringify(typed.trimEnd()), what: "text", isBroken: /^[[{]/.test(raw) };
  }
}

/** @param {unknown} value */
function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "a JSON list";
  const kinds = { object: "a JSON object", string: "text", number: "a number", boolean: String(value) };
  return kinds[/** @type {keyof typeof kinds} */ (typeof value)];
}

/**
 * The tokens as a tree that knows how wide each part would be on one line.
 * @param {string[]} tokens
 * @returns {Group | Leaf}
 */
function grouped(tokens) {
  let at = 0;
  /** @returns {Group | Leaf} */
  const value = () => {
    const token = tokens[at++];
    if (token !== "{" && token !== "[") return leaf(token);
    /** @type {Group} */
    const group = { open: token, items: [], width: 2 };
    while (tokens[at] !== "}" && tokens[at] !== "]") {
      if (tokens[at] === ",") at += 1;
      const piece = item(token === "{" ? `${leaf(tokens[at]).text}: ` : "");
      group.items.push(piece);
      group.width += piece.width + 2;
    }
    at += 1;
    return group;
  };
  /** @param {string} key */
  const item = (key) => {
    if (key) at += 2;
    const inner = value();
    return { key, value: inner, width: key.length + inner.width };
  };
  return value();
}

/**
 * @param {string} token
 * @returns {Leaf}
 */
function leaf(token) {
  // `\u00e9` was written for a parser; a person reads é.
  const text = token.startsWith('"') ? JSON.stringify(JSON.parse(token)) : token;
  return { text, width: text.length };
}

/**
 * On one line what fits there, on lines of their own what does not.
 * @param {Group | Leaf} value
 * @param {string} indent
 * @returns {string}
 */
function printed(value, indent) {
  if ("text" in value) return value.text;
  const { open, items, width } = value;
  const close = open === "{" ? "}" : "]";
  if (items.length === 0) return open + close;
  const inner = `${indent}  `;
  if (indent.length + width <= WIDTH) {
    return open + items.map(({ key, value: one }) => key + printed(one, "")).join(", ") + close;
  }
  const lines = items.map(({ key, value: one }) => inner + key + printed(one, inner));
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}
