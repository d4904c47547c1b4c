// @ts-check
/**
 * Markdown trees to DOM nodes, and a text that grows: only its last unfinished block is ever made anew.
 */

import { el, icon } from "../view/dom.js";
import { pictureNode } from "../view/picture.js";
import { firstOpen, parseBlocks } from "./blocks.js";
import { parseInline } from "./inline.js";

/** @typedef {import("./blocks.js").Block} Block */
/** @typedef {import("./inline.js").Inline} Inline */

/** Headings of an answer stand below those of the page; most models begin with the second level. */
const HEADINGS = /** @type {const} */ (["h3", "h3", "h4", "h5", "h6", "h6"]);

/** Markdown in an element, which is told the whole text each time it has grown. */
export class MarkdownView {
  /** @type {HTMLElement} */
  element = el("div", { class: "markdown" });
  #text = "";
  #growing = false;
  /** Where the first block that can still change begins. */
  #settled = 0;
  /** @type {ChildNode | null} the last node that stays */
  #anchor = null;

  /**
   * @param {string} text
   * @param {boolean} growing
   */
  update(text, growing) {
    if (text === this.#text && growing === this.#growing) return;
    if (!text.startsWith(this.#text)) this.#reset();
    this.#text = text;
    this.#growing = growing;
    const rest = text.slice(this.#settled);
    const blocks = parseBlocks(rest);
    if (this.#growsCode(blocks)) return;
    this.#dropOpen();
    const open = firstOpen(blocks, rest);
    blocks.forEach((block, index) => {
      const node = blockNode(block, growing && index === blocks.length - 1);
      this.element.append(node);
      if (index < open) this.#anchor = node;
    });
    if (open > 0) this.#settled += blocks[open].start;
  }

  #reset() {
    this.#settled = 0;
    this.#anchor = null;
  }

  #dropOpen() {
    let node = this.#anchor ? this.#anchor.nextSibling : this.element.firstChild;
    while (node) {
      const next = node.nextSibling;
      node.remove();
      node = next;
    }
  }

  /**
   * A long program grows in place: its element keeps the reader's selection and scroll position.
   * @param {Block[]} blocks
   */
  #growsCode(blocks) {
    const only = blocks.length === 1 ? blocks[0] : null;
    const last = this.element.lastChild;
    if (only?.type !== "code" || !(last instanceof HTMLElement) || last === this.#anchor) return false;
    if (last.dataset.language !== only.language || last.previousSibling !== this.#anchor) return false;
    const code = last.querySelector("code");
    if (code) code.textContent = only.text;
    return code !== null;
  }
}

/**
 * @param {Block} block
 * @param {boolean} growing
 * @returns {HTMLElement}
 */
function blockNode(block, growing) {
  switch (block.type) {
    case "paragraph":
      return el("p", { dir: "auto" }, ...inlineNodes(block.text, growing));
    case "heading":
      return el(HEADINGS[block.level - 1], { class: `h${block.level}`, dir: "auto" }, ...inlineNodes(block.text, growing));
    case "code":
      return codeNode(block.language, block.text);
    case "math":
      return el("div", { class: "math", dir: "ltr" }, block.text);
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", { dir: "auto" }, ...blockNodes(block.blocks, growing));
    case "list":
      return listNode(block, growing);
    case "table":
      return tableNode(block);
  }
}

/**
 * @param {Block[]} blocks
 * @param {boolean} growing
 */
const blockNodes = (blocks, growing) =>
  blocks.map((block, index) => blockNode(block, growing && index === blocks.length - 1));

/**
 * @param {string} language
 * @param {string} text
 */
function codeNode(language, text) {
  const copy = el("button", { type: "button", class: "quiet", "data-copy": "code" }, icon("copy"), "Copy");
  const head = el("div", { class: "code-head" }, el("span", {}, language || "text"), copy);
  const label = language ? `Code, ${language}` : "Code";
  const body = el("pre", { tabindex: 0, dir: "ltr", role: "group", "aria-label": label }, el("code", {}, text));
  return el("div", { class: "code", "data-language": language }, head, body);
}

/**
 * @param {Extract<Block, {type: "list"}>} list
 * @param {boolean} growing
 */
function listNode(list, growing) {
  const items = list.items.map((blocks, index) => {
    const last = growing && index === list.items.length - 1;
    return el("li", { dir: "auto" }, ...(list.loose ? blockNodes(blocks, last) : tightNodes(blocks, last)));
  });
  if (!list.ordered) return el("ul", { dir: "auto" }, ...items);
  return el("ol", { dir: "auto", start: list.first === 1 ? null : list.first }, ...items);
}

/**
 * @param {Block[]} blocks
 * @param {boolean} growing
 * @returns {(Node | string)[]}
 */
function tightNodes(blocks, growing) {
  return blocks.flatMap((block, index) => {
    const last = growing && index === blocks.length - 1;
    return block.type === "paragraph" ? inlineNodes(block.text, last) : [blockNode(block, last)];
  });
}

/** @param {Extract<Block, {type: "table"}>} table */
function tableNode(table) {
  /** @type {(tag: "th" | "td", cells: string[]) => HTMLElement} */
  const row = (tag, cells) =>
    el("tr", {}, ...cells.map((cell, i) => el(tag, { class: table.align[i] || null, dir: "auto" }, ...inlineNodes(cell, false))));
  const body = el("tbody", {}, ...table.rows.map((cells) => row("td", cells)));
  const element = el("table", {}, el("thead", {}, row("th", table.head)), body);
  return el("div", { class: "table", tabindex: 0, role: "group", "aria-label": "Table" }, element);
}

/**
 * @param {string} text
 * @param {boolean} growing
 */
const inlineNodes = (text, growing) => parseInline(text, growing).map(inlineNode);

/**
 * @param {Inline} node
 * @returns {Node | string}
 */
function inlineNode(node) {
  switch (node.type) {
    case "text":
      return node.text;
    case "code":
      return el("code", {}, node.text);
    case "math":
      return el("span", { class: "math", dir: "ltr" }, node.text);
    case "break":
      return el("br");
    case "image":
      return pictureNode(node.src, node.alt);
    case "link": {
      const attributes = { href: node.href, target: "_blank", rel: "noopener noreferrer" };
      return el("a", attributes, ...node.children.map(inlineNode));
    }
    default:
      return el(node.type, {}, ...node.children.map(inlineNode));
  }
}
