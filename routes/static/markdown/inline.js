// @ts-check
/**
 * One paragraph's text to a tree: emphasis, code, links, breaks. Pure, and linear in the length of the text.
 *
 * Emphasis follows CommonMark's flanking rules. A link is a link only when its address is safe to open; anything else,
 * HTML too, stays the text it was. So does mathematics, with its delimiters: `\\(..\\)`, `\\[..\\]`, `$..$`, `$$..$$`.
 */

import { pictureAddress } from "../stream/pictures.js";
import { MAX_OPEN, resolve } from "./emphasis.js";

/**
 * @typedef {{type: "text" | "code" | "math", text: string} | {type: "break"}
 *   | {type: "strong" | "em" | "del", children: Inline[]} | {type: "link", href: string, children: Inline[]}
 *   | {type: "image", src: string, alt: string}} Inline
 * @typedef {{type: "delimiter", char: string, count: number, opens: boolean, closes: boolean}} Delimiter
 * @typedef {{type: "bracket", image: boolean}} Bracket
 * @typedef {Inline | Delimiter | Bracket} Token
 */

const MAX_ADDRESS = 2048;
const MAX_MATH = 500; // characters of one `$..$`; more is two prices
const SPECIAL = /[\\`*_~[\]!<\n$]|https?:\/\//g;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const BARE_URL = /^https?:\/\/[^\s<>"`]+/;
const AUTOLINK = /^<((?:https?:\/\/|mailto:)[^\s<>]*)>/i;
const LINE_BREAK_TAG = /^<br *\/?>/i;
const DESTINATION = /^\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\((?:[^\s()\\]|\\.)*\))*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/;
const EMBEDDED_PICTURE = /^\(data:image\/[a-z]{1,8};base64,/i;
const NO_BASE64 = /[^A-Za-z0-9+/=]/g;
const DOLLARS = /^\$(?![\s$])(?:[^$\\\n]|\\.)*(?<!\s)\$(?![\d$])/;
/** @type {Record<string, string>} the end of each mathematics that a backslash begins, by its second character */
const FORMULAS = { "(": "\\)", "[": "\\]" };
const SPACE = /^[\s\u00a0]$/;
const PUNCTUATION = /^[\p{P}\p{S}]$/u;

/**
 * @param {string} text
 * @param {boolean} [growing] more text follows: what is still open counts as closed at the end, so that nothing flickers
 * @returns {Inline[]}
 */
export function parseInline(text, growing = false) {
  return new Scanner(text, growing).scan();
}

/**
 * The address as a browser would open it, or null when it may not be opened from here.
 * @param {string} address
 */
export function safeHref(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

class Scanner {
  /** @type {Token[]} */
  #tokens = [];
  /** @type {number[]} where in the tokens brackets are open */
  #brackets = [];
  /** @type {Set<number | string>} lengths of backtick runs, and ends of mathematics, that are known not to come again */
  #unclosed = new Set();
  #text;
  #growing;
  #at = 0;

  /**
   * @param {string} text
   * @param {boolean} growing
   */
  constructor(text, growing) {
    this.#text = text;
    this.#growing = growing;
  }

  scan() {
    while (this.#at < this.#text.length) {
      SPECIAL.lastIndex = this.#at;
      const found = SPECIAL.exec(this.#text);
      const until = found ? found.index : this.#text.length;
      if (until > this.#at) this.#say(this.#text.slice(this.#at, until));
      this.#at = until;
      if (found) this.#special(found[0]);
    }
    return resolve(this.#tokens, this.#growing);
  }

  /** @param {string} char */
  #special(char) {
    switch (char) {
      case "\\":
        return this.#formula(FORMULAS[this.#text[this.#at + 1]]) || this.#escape();
      case "$":
        if (this.#text[this.#at + 1] === "$") return this.#formula("$$") || this.#take(2);
        return this.#dollars() || this.#take(1);
      case "`":
        return this.#code();
      case "*":
      case "_":
      case "~":
        return this.#delimiter(char);
      case "[":
        return this.#open(false);
      case "!":
        return this.#text[this.#at + 1] === "[" ? this.#open(true) : this.#take(1);
      case "]":
        return this.#close();
      case "<":
        return this.#angle();
      case "\n":
        return this.#newline();
      default:
        return this.#bareUrl();
    }
  }

  /** @param {string} text */
  #say(text) {
    const last = this.#tokens.at(-1);
    if (last?.type === "text") last.text += text;
    else this.#tokens.push({ type: "text", text });
  }

  /** @param {number} length */
  #take(length) {
    this.#say(this.#text.slice(this.#at, this.#at + length));
    this.#at += length;
  }

  #escape() {
    const next = this.#text[this.#at + 1] ?? "";
    if (next === "\n") {
      this.#tokens.push({ type: "break" });
      this.#at += 2;
    } else if (ESCAPABLE.test(next)) {
      this.#say(next);
      this.#at += 2;
    } else this.#take(1);
  }

  /**
   * Takes mathematics up to its end, or else up to the end of a text that grows.
   * @param {string | undefined} end
   * @returns {boolean} whether it was any
   */
  #formula(end) {
    if (end === undefined || this.#unclosed.has(end)) return false;
    let until = this.#text.indexOf(end, this.#at + 2);
    if (until < 0) {
      this.#unclosed.add(end);
      if (!this.#growing) return false;
      until = this.#text.length;
    }
    return this.#math(until + end.length);
  }

  /** `$..$` as Pandoc reads it: no space inside its ends, and no digit after it, because those are prices. */
  #dollars() {
    const rest = this.#text.slice(this.#at, this.#at + MAX_MATH);
    const found = DOLLARS.exec(rest);
    return found !== null && this.#math(this.#at + found[0].length);
  }

  /** @param {number} end */
  #math(end) {
    this.#tokens.push({ type: "math", text: this.#text.slice(this.#at, end) });
    this.#at = end;
    return true;
  }

  #code() {
    const length = runLength(this.#text, this.#at);
    const from = this.#at + length;
    let end = this.#unclosed.has(length) ? -1 : closingRun(this.#text, from, length);
    if (end < 0) {
      this.#unclosed.add(length);
      if (!this.#growing || from >= this.#text.length) return this.#take(length);
      end = this.#text.length;
    }
    const inner = this.#text.slice(from, end).replaceAll("\n", " ");
    this.#tokens.push({ type: "code", text: /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner });
    this.#at = end + length;
  }

  /** @param {string} char */
  #delimiter(char) {
    const count = runLength(this.#text, this.#at);
    if (char === "~" && count !== 2) return this.#take(count);
    const before = this.#text[this.#at - 1] ?? " ";
    const after = this.#text[this.#at + count] ?? " ";
    const left = !SPACE.test(after) && (!PUNCTUATION.test(after) || SPACE.test(before) || PUNCTUATION.test(before));
    const right = !SPACE.test(before) && (!PUNCTUATION.test(before) || SPACE.test(after) || PUNCTUATION.test(after));
    const inWord = char === "_";
    const opens = left && (!inWord || !right || PUNCTUATION.test(before));
    const closes = right && (!inWord || !left || PUNCTUATION.test(after));
    this.#tokens.push({ type: "delimiter", char, count, opens, closes });
    this.#at += count;
  }

  /** @param {boolean} image */
  #open(image) {
    if (this.#brackets.length < MAX_OPEN) {
      this.#brackets.push(this.#tokens.length);
      this.#tokens.push({ type: "bracket", image });
      this.#at += image ? 2 : 1;
    } else this.#take(image ? 2 : 1);
  }

  #close() {
    const opened = this.#brackets.pop();
    if (opened === undefined) return this.#take(1);
    const bracket = this.#tokens[opened];
    const isImage = bracket.type === "bracket" && bracket.image;
    const rest = this.#text.slice(this.#at + 1, this.#at + 1 + MAX_ADDRESS);
    if (isImage && this.#embedded(opened, rest)) return undefined;
    const found = DESTINATION.exec(rest);
    const href = found && safeHref((found[1] ?? found[2]).replace(/\\(.)/g, "$1"));
    const src = isImage && href ? pictureAddress(href) : null;
    if (found && src) {
      this.#image(opened, src, this.#at + 1 + found[0].length);
    } else if (found && href) {
      const children = resolve(this.#tokens.splice(opened).slice(1), false).map(unlinked);
      this.#tokens.push({ type: "link", href, children });
      this.#at += 1 + found[0].length;
      this.#brackets.length = 0; // links do not hold links
    } else if (this.#growing && !found && /^\((?:<?https?:|<?mailto:)?[^\s)]*$/i.test(rest)) {
      this.#tokens.splice(opened, 1);
      this.#at = this.#text.length; // the address is still coming: show its label meanwhile
    } else this.#take(1);
    return undefined;
  }

  /**
   * Takes a picture that stands in the text as a whole; it is longer than any address.
   * @param {number} opened
   * @param {string} rest the beginning of what follows the bracket
   */
  #embedded(opened, rest) {
    const head = EMBEDDED_PICTURE.exec(rest);
    if (!head) return false;
    NO_BASE64.lastIndex = this.#at + 1 + head[0].length;
    const end = NO_BASE64.exec(this.#text);
    const src = end?.[0] === ")" ? pictureAddress(this.#text.slice(this.#at + 2, end.index)) : null;
    if (end && src) this.#image(opened, src, end.index + 1);
    return src !== null;
  }

  /**
   * @param {number} opened
   * @param {string} src
   * @param {number} end where the text goes on
   */
  #image(opened, src, end) {
    const alt = resolve(this.#tokens.splice(opened).slice(1), false).map(plainText).join("");
    this.#tokens.push({ type: "image", src, alt });
    this.#at = end;
  }

  #angle() {
    const rest = this.#text.slice(this.#at, this.#at + MAX_ADDRESS);
    const tag = LINE_BREAK_TAG.exec(rest);
    const link = AUTOLINK.exec(rest);
    const href = link && safeHref(link[1]);
    if (tag) {
      this.#tokens.push({ type: "break" });
      this.#at += tag[0].length;
    } else if (link && href) {
      this.#tokens.push({ type: "link", href, children: [{ type: "text", text: link[1] }] });
      this.#at += link[0].length;
    } else this.#take(1);
  }

  #newline() {
    const last = this.#tokens.at(-1);
    const hard = last?.type === "text" && last.text.endsWith("  ");
    if (last?.type === "text") last.text = last.text.trimEnd();
    if (hard) this.#tokens.push({ type: "break" });
    else this.#say("\n");
    this.#at += 1;
  }

  #bareUrl() {
    const found = BARE_URL.exec(this.#text.slice(this.#at, this.#at + MAX_ADDRESS));
    const address = found && trimUrl(found[0]);
    const href = address && safeHref(address);
    if (!address || !href) return this.#take(4);
    this.#tokens.push({ type: "link", href, children: [{ type: "text", text: address }] });
    this.#at += address.length;
    return undefined;
  }
}

/**
 * A node as it stands in a link, which holds no other link, and nothing that is pressed.
 * @param {Inline} node
 * @returns {Inline}
 */
function unlinked(node) {
  if (node.type === "link" || node.type === "image") return { type: "text", text: plainText(node) };
  return "children" in node ? { ...node, children: node.children.map(unlinked) } : node;
}

/**
 * @param {Inline} node
 * @returns {string}
 */
function plainText(node) {
  if (node.type === "image") return node.alt;
  if ("children" in node) return node.children.map(plainText).join("");
  return "text" in node ? node.text : " ";
}

/**
 * @param {string} text
 * @param {number} at
 */
function runLength(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

/**
 * Where a run of exactly `length` backticks begins, or -1.
 * @param {string} text
 * @param {number} from
 * @param {number} length
 */
function closingRun(text, from, length) {
  let at = text.indexOf("`", from);
  while (at >= 0) {
    const run = runLength(text, at);
    if (run === length) return at;
    at = text.indexOf("`", at + run);
  }
  return -1;
}

/**
 * An address as people end it: without the punctuation of the sentence around it.
 * @param {string} address
 */
function trimUrl(address) {
  let end = address.replace(/[.,;:!?'*_~]+$/, "");
  while (end.endsWith(")") && end.split(")").length > end.split("(").length) end = end.slice(0, -1).replace(/[.,;:!?'*_~]+$/, "");
  return end;
}
