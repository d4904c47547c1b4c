// @ts-check
/**
 * Markdown text to a tree of blocks: paragraphs, headings, fenced code, mathematics, lists, quotes, tables, rules. Pure.
 *
 * The parts of CommonMark and GFM that language models write. Left out on purpose: HTML (it stays text), indented code
 * (models indent by accident), reference links, setext headings (`---` under a line is a rule).
 * A block's `start` lets a growing text be parsed from its last block on; see `firstOpen`.
 */

/**
 * @typedef {{type: "paragraph", text: string} | {type: "heading", level: number, text: string}
 *   | {type: "code", language: string, text: string} | {type: "math", text: string} | {type: "rule"} | {type: "quote", blocks: Block[]}
 *   | {type: "list", ordered: boolean, first: number, loose: boolean, items: Block[][]}
 *   | {type: "table", align: Align[], head: string[], rows: string[][]}} Content
 * @typedef {Content & {line: number, start: number}} Block `start` is an offset into the text, for top-level blocks
 * @typedef {"left" | "center" | "right" | ""} Align
 * @typedef {{content: Content, next: number}} Read
 */

const MAX_DEPTH = 6;
const FENCE = /^( {0,3})(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$/;
const MATH = /^ {0,3}(\$\$|\\\[)(.*)$/;
/** Lines of one formula; what goes on for longer is text that begins like one. */
const MAX_MATH_LINES = 100;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#*[ \t]*)?$/;
const RULE = /^ {0,3}(?:(?:-[ \t]*){3,}|(?:_[ \t]*){3,}|(?:\*[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|(\d{1,9})[.)])(?:( +)(.*)|)$/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/**
 * @param {string} text
 * @returns {Block[]}
 */
export function parseBlocks(text) {
  const lines = text.split("\n").map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line));
  const blocks = readBlocks(lines, 0);
  let offset = 0;
  let line = 0;
  for (const block of blocks) {
    for (; line < block.line; line += 1) offset = text.indexOf("\n", offset) + 1;
    block.start = offset;
  }
  return blocks;
}

/**
 * The index of the first block that more text could still change. All blocks before it stay as they are for ever.
 * Only the last block can grow; but what its line begins is not certain until that line is complete.
 * @param {Block[]} blocks
 * @param {string} text
 */
export function firstOpen(blocks, text) {
  const last = blocks.length - 1;
  if (last <= 0) return 0;
  return text.indexOf("\n", blocks[last].start) < 0 ? last - 1 : last;
}

/**
 * @param {string[]} lines
 * @param {number} depth
 * @returns {Block[]}
 */
function readBlocks(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const { content, next } = readBlock(lines, at, depth);
    blocks.push({ ...content, line: at, start: 0 });
    at = next;
  }
  return blocks;
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {Read}
 */
function readBlock(lines, at, depth) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return readFence(lines, at, fence);
  const formulaEnd = endOfFormula(lines, at);
  if (formulaEnd > at) {
    return { content: { type: "math", text: lines.slice(at, formulaEnd).join("\n") }, next: formulaEnd };
  }
  const heading = HEADING.exec(line);
  if (heading) {
    return { content: { type: "heading", level: heading[1].length, text: (heading[2] ?? "").trim() }, next: at + 1 };
  }
  if (RULE.test(line)) return { content: { type: "rule" }, next: at + 1 };
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return readQuote(lines, at, depth);
    if (ITEM.test(line)) return readList(lines, at, depth);
  }
  if (isTable(lines, at)) return readTable(lines, at);
  return readParagraph(lines, at);
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {RegExpExecArray} fence
 * @returns {Read}
 */
function readFence(lines, at, fence) {
  const [, indent, mark, language] = fence;
  const close = new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}[ \\t]*$`);
  const text = [];
  let next = at + 1;
  for (; next < lines.length && !close.test(lines[next]); next += 1) text.push(unindent(lines[next], indent.length));
  return { content: { type: "code", language, text: text.join("\n") }, next: next + 1 };
}

/**
 * The line after the displayed formula that begins here; `at` when none does. It holds no blank line and ends with its
 * closing mark; one that is alone on its line begins a formula that may still grow.
 * @param {string[]} lines
 * @param {number} at
 */
function endOfFormula(lines, at) {
  const found = MATH.exec(lines[at]);
  if (!found) return at;
  const close = found[1] === "$$" ? "$$" : "\\]";
  let rest = found[2];
  for (let next = at + 1; ; next += 1) {
    const end = rest.indexOf(close);
    if (end >= 0) return rest.slice(end + 2).trim() ? at : next;
    if (next - at >= MAX_MATH_LINES) return at;
    if (next >= lines.length || isBlank(lines[next])) return found[2].trim() ? at : next;
    rest = lines[next];
  }
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {Read}
 */
function readQuote(lines, at, depth) {
  const inner = [];
  let next = at;
  for (; next < lines.length && QUOTE.test(lines[next]); next += 1) inner.push(lines[next].replace(QUOTE, ""));
  return { content: { type: "quote", blocks: readBlocks(inner, depth + 1) }, next };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {number} depth
 * @returns {Read}
 */
function readList(lines, at, depth) {
  const first = itemOf(lines[at]);
  /** @type {Block[][]} */
  const items = [];
  let loose = false;
  let next = at;
  for (;;) {
    const item = next < lines.length ? itemOf(lines[next]) : null;
    if (!item || item.kind !== first?.kind || RULE.test(lines[next])) break;
    const read = readItem(lines, next, item);
    items.push(readBlocks(read.lines, depth + 1));
    next = read.next;
    const after = skipBlank(lines, next);
    loose ||= read.gap || (after > next && after < lines.length && itemOf(lines[after])?.kind === item.kind);
    if (after > next && itemOf(lines[after] ?? "")?.kind !== item.kind) break;
    next = after;
  }
  const number = first?.number ?? "";
  return {
    content: { type: "list", ordered: number !== "", first: Number(number || 1), loose, items },
    next,
  };
}

/**
 * @typedef {object} Item
 * @property {string} kind items of another kind begin another list
 * @property {number} indent of the marker
 * @property {number} inner indent of what belongs to the item
 * @property {string} number
 * @property {string} text
 */

/**
 * @param {string} line
 * @returns {Item | null}
 */
function itemOf(line) {
  const found = ITEM.exec(line);
  if (!found) return null;
  const [, indent, marker, number = "", gap = " ", text = ""] = found;
  const width = indent.length + marker.length + (gap.length > 4 ? 1 : gap.length);
  return { kind: marker.slice(-1), indent: indent.length, inner: width, number, text };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @param {Item} item
 * @returns {{lines: string[], next: number, gap: boolean}} `gap`: a blank line stands between two of its blocks
 */
function readItem(lines, at, item) {
  const inner = [item.text];
  let gap = false;
  let next = at + 1;
  while (next < lines.length) {
    const after = skipBlank(lines, next);
    if (after >= lines.length || !belongs(lines, after, item, after === next)) break;
    gap ||= after > next && !itemOf(lines[after]);
    for (; next < after; next += 1) inner.push("");
    inner.push(unindent(lines[next], item.inner));
    next += 1;
  }
  return { lines: inner, next, gap };
}

/**
 * Whether a line is part of an item: indented far enough, or a paragraph that simply goes on.
 * Models indent a nested list by two whatever the marker's width, so that is enough for a nested marker.
 * @param {string[]} lines
 * @param {number} at
 * @param {Item} item
 * @param {boolean} adjacent no blank line before it
 */
function belongs(lines, at, item, adjacent) {
  const indent = indentOf(lines[at]);
  if (indent >= item.inner) return true;
  const nested = itemOf(lines[at]);
  if (nested) return indent >= item.indent + 2;
  return adjacent && !beginsBlock(lines, at);
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Read}
 */
function readTable(lines, at) {
  const head = cells(lines[at]);
  const align = cells(lines[at + 1]).map(alignOf);
  const rows = [];
  let next = at + 2;
  for (; next < lines.length && lines[next].includes("|"); next += 1) {
    const row = cells(lines[next]).slice(0, head.length);
    rows.push([...row, ...Array(head.length - row.length).fill("")]);
  }
  return { content: { type: "table", align, head, rows }, next };
}

/**
 * @param {string[]} lines
 * @param {number} at
 * @returns {Read}
 */
function readParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && !isBlank(lines[next]) && !beginsBlock(lines, next)) next += 1;
  const text = lines.slice(at, next).map((line) => line.trimStart());
  return { content: { type: "paragraph", text: text.join("\n").trimEnd() }, next };
}

/**
 * Whether a paragraph ends before this line.
 * @param {string[]} lines
 * @param {number} at
 */
function beginsBlock(lines, at) {
  const line = lines[at];
  if (FENCE.test(line) || endOfFormula(lines, at) > at || HEADING.test(line) || RULE.test(line) || QUOTE.test(line)) return true;
  const item = itemOf(line);
  if (item) return item.text !== "" && (item.number === "" || item.number === "1");
  return isTable(lines, at);
}

/**
 * @param {string[]} lines
 * @param {number} at
 */
function isTable(lines, at) {
  const delimiters = lines[at + 1];
  if (delimiters === undefined || !lines[at].includes("|") || !delimiters.includes("-")) return false;
  return DELIMITERS.test(delimiters) && cells(lines[at]).length === cells(delimiters).length;
}

/** @param {string} line */
function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/**
 * @param {string} cell
 * @returns {Align}
 */
function alignOf(cell) {
  if (cell.endsWith(":")) return cell.startsWith(":") ? "center" : "right";
  return cell.startsWith(":") ? "left" : "";
}

/** @param {string} line */
const isBlank = (line) => line.trim() === "";

/** @param {string} line */
const indentOf = (line) => line.length - line.trimStart().length;

/**
 * @param {string} line
 * @param {number} most
 */
const unindent = (line, most) => line.slice(Math.min(indentOf(line), most));

/**
 * @param {string[]} lines
 * @param {number} at
 */
function skipBlank(lines, at) {
  while (at < lines.length && isBlank(lines[at])) at += 1;
  return at;
}
