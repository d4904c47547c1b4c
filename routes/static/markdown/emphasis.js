// @ts-check
/**
 * Delimiters to emphasis, by CommonMark's rules. Pure; a closer looks at a bounded number of openers, so it is linear.
 */

/** @typedef {import("./inline.js").Inline} Inline */
/** @typedef {import("./inline.js").Token} Token */
/** @typedef {import("./inline.js").Delimiter} Delimiter */

/** Openers that are looked through for each closer; nesting deeper than this stays text. */
export const MAX_OPEN = 24;

/**
 * Pairs delimiters into emphasis; what finds no partner is text.
 * @param {Token[]} tokens
 * @param {boolean} growing
 * @returns {Inline[]}
 */
export function resolve(tokens, growing) {
  /** @type {Token[]} */
  const out = [];
  /** @type {{at: number, token: Delimiter}[]} */
  const openers = [];
  for (const token of tokens) {
    if (token.type !== "delimiter") {
      out.push(token);
      continue;
    }
    if (growing && token === tokens.at(-1) && isUnfinished(openers, token)) continue;
    while (token.closes && token.count > 0 && pair(out, openers, token));
    if (token.count === 0) continue;
    if (token.opens && openers.length < MAX_OPEN) openers.push({ at: out.length, token });
    out.push(token);
  }
  if (growing) closeOpen(out, openers);
  return out.map(plain);
}

/**
 * Whether the last characters so far are half of a mark: the `*` of a coming `**`, or one that will open something.
 * @param {{at: number, token: Delimiter}[]} openers
 * @param {Delimiter} last
 */
function isUnfinished(openers, last) {
  if (!last.opens && !last.closes) return true;
  const opener = openers.findLast(({ token }) => token.char === last.char);
  return opener !== undefined && opener.token.count === 2 && last.count === 1;
}

/**
 * @param {Token[]} out
 * @param {{at: number, token: Delimiter}[]} openers
 * @param {Delimiter} closer
 * @returns {boolean} whether a partner was found
 */
function pair(out, openers, closer) {
  let index = openers.length - 1;
  while (index >= 0 && !matches(openers[index].token, closer)) index -= 1;
  if (index < 0) return false;
  const { at, token } = openers[index];
  const used = token.count >= 2 && closer.count >= 2 ? 2 : 1;
  wrap(out, at, token, used);
  closer.count -= used;
  openers.length = token.count > 0 ? index + 1 : index;
  return true;
}

/**
 * Puts what follows an opener into an emphasis of `used` delimiter characters.
 * @param {Token[]} out
 * @param {number} at
 * @param {Delimiter} opener
 * @param {number} used
 */
function wrap(out, at, opener, used) {
  const children = out.splice(at + 1).map(plain);
  const type = opener.char === "~" ? "del" : used === 2 ? "strong" : "em";
  opener.count -= used;
  if (opener.count === 0) out.pop();
  out.push({ type, children });
}

/**
 * @param {Token[]} out
 * @param {{at: number, token: Delimiter}[]} openers
 */
function closeOpen(out, openers) {
  for (const { at, token } of openers.reverse()) {
    if (at < out.length - 1 && token.count <= 2) wrap(out, at, token, token.count);
    else if (at === out.length - 1) out.pop();
  }
}

/**
 * CommonMark's rule of three keeps `**a*b**` from pairing wrongly.
 * @param {Delimiter} opener
 * @param {Delimiter} closer
 */
function matches(opener, closer) {
  if (opener.char !== closer.char) return false;
  if (!opener.closes && !closer.opens) return true;
  const sum = opener.count + closer.count;
  return sum % 3 !== 0 || (opener.count % 3 === 0 && closer.count % 3 === 0);
}

/**
 * @param {Token} token
 * @returns {Inline}
 */
function plain(token) {
  if (token.type === "delimiter") return { type: "text", text: token.char.repeat(token.count) };
  if (token.type === "bracket") return { type: "text", text: token.image ? "![" : "[" };
  return token;
}
