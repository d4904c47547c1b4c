import assert from "node:assert/strict";
import { test } from "node:test";
import { firstOpen, parseBlocks } from "../../routes/static/markdown/blocks.js";
import { parseInline, safeHref } from "../../routes/static/markdown/inline.js";

/** A tree as a short text, so that a table of cases stays readable. */
function shortInline(text, growing = false) {
  const show = (node) => {
    if (node.type === "text") return node.text;
    if (node.type === "code") return `{${node.text}}`;
    if (node.type === "math") return `«${node.text}»`;
    if (node.type === "break") return "|";
    if (node.type === "image") return `[${node.alt}](${node.src})`;
    const inner = node.children.map(show).join("");
    return node.type === "link" ? `<${inner}>(${node.href})` : `<${node.type} ${inner}>`;
  };
  return parseInline(text, growing).map(show).join("");
}

const INLINE = [
  ["plain", "plain"],
  ["**a** *b* ***c*** ~~d~~ ~e~", "<strong a> <em b> <em <strong c>> <del d> ~e~"],
  ["**a *b* c**", "<strong a <em b> c>"],
  ["snake_case_name _x_ __y__", "snake_case_name <em x> <strong y>"],
  ["2 * 3 * 4, a*b*c", "2 * 3 * 4, a<em b>c"],
  ["`a*b*` ``x`y`` ` z `", "{a*b*} {x`y} {z}"],
  ["\\*not\\* \\`x\\`", "*not* `x`"],
  ["one  \ntwo\\\nthree\nfour<br>five", "one|two|three\nfour|five"],
  ['[a](https://x.y/z_(w) "title")', "<a>(https://x.y/z_(w))"],
  ["[**b** `c`](<https://x.y/a b>)", "<<strong b> {c}>(https://x.y/a%20b)"],
  ["[mail](mailto:a@b.c) <https://x.y>", "<mail>(mailto:a@b.c) <https://x.y>(https://x.y/)"],
  ["see https://x.y/a_b_c). (https://x.y/(d))", "see <https://x.y/a_b_c>(https://x.y/a_b_c)). (<https://x.y/(d)>(https://x.y/(d)))"],
  ["![alt](https://x.y/i.png) ![](<https://x.y/a b.png> 'title')", "[alt](https://x.y/i.png) [](https://x.y/a%20b.png)"],
  ["[![*build* `x`](https://x.y/i.svg) **![b](https://x.y/b)**](https://x.y)", "<build x <strong b>>(https://x.y/)"],
  ["![a [b](https://x.y/c)](https://x.y/i.png)", "![a <b>(https://x.y/c)](<https://x.y/i.png>(https://x.y/i.png))"],
  ["![dot](data:image/png;base64,iVBORw0KGgo=).", "[dot](data:image/png;base64,iVBORw0KGgo=)."],
  ["![x](data:image/svg+xml;base64,PHN2Zz4=) ![x](data:image/png;base64,<x>)", "![x](data:image/svg+xml;base64,PHN2Zz4=) ![x](data:image/png;base64,<x>)"],
  ["![x](javascript:alert(1)) ![m](mailto:a@b.c)", "![x](javascript:alert(1)) <m>(mailto:a@b.c)"],
  ["[a [b](https://x.y) c](https://z.y)", "[a <b>(https://x.y/) c](<https://z.y>(https://z.y/))"],
  ["so \\(a_1 * b_2 * c\\) and \\[x^{[2]}\\] hold", "so «\\(a_1 * b_2 * c\\)» and «\\[x^{[2]}\\]» hold"],
  ["$$a_i*b_i*$$ *b*", "«$$a_i*b_i*$$» <em b>"],
  ["with $x_1*y$ and $_z_$, or $a\\$b$.", "with «$x_1*y$» and «$_z_$», or «$a\\$b$»."],
  ["it costs $5, not $6 or *US$7*, $8-$9", "it costs $5, not $6 or <em US$7>, $8-$9"],
  ["a $ b $ c, $$, 5$", "a $ b $ c, $$, 5$"],
  ["\\\\(a*b*c\\\\)", "\\(a<em b>c\\)"],
  ["\\(never *closed*", "(never <em closed>"],
  ["`$x$` `\\(y\\)`", "{$x$} {\\(y\\)}"],
  ["<img src=x onerror=alert(1)> <script>x</script>", "<img src=x onerror=alert(1)> <script>x</script>"],
];

for (const [text, expected] of INLINE) {
  test(`inline: ${JSON.stringify(text)}`, () => assert.equal(shortInline(text), expected));
}

test("only addresses that are safe to open become links", () => {
  const hostile = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)", "java\nscript:alert(1)",
    "\u0001javascript:alert(1)", "vbscript:x", "data:text/html,<script>alert(1)</script>", "blob:https://x.y/1",
    "file:///etc/passwd", "//x.y/z", "/relative", "relative", "#hash", "", "https://", "http:",
  ];
  for (const address of hostile) {
    assert.equal(safeHref(address), null, address);
    const tree = JSON.stringify(parseInline(`[x](${address}) [x](<${address}>) <${address}>`));
    for (const [, href] of tree.matchAll(/"href":"([^"]*)"/g)) assert.match(href, /^https:/, address);
  }
  assert.equal(safeHref("https://x.y/"), "https://x.y/");
});

const GROWING = [
  ["some **bold", "some <strong bold>"],
  ["some **", "some "],
  ["some \\(a_1 *b", "some «\\(a_1 *b»"],
  ["some $$a_1 *b", "some «$$a_1 *b»"],
  ["some $5 *b", "some $5 <em b>"],
  ["some **bold*", "some <strong bold>"],
  ["some `code", "some {code}"],
  ["a [label](https://exam", "a label"],
  ["a *b **c", "a <em b <strong c>>"],
];

for (const [text, expected] of GROWING) {
  test(`what is still open while it grows counts as closed: ${text}`, () => {
    assert.equal(shortInline(text, true), expected);
  });
}

function shortBlocks(text) {
  const show = (block) => {
    switch (block.type) {
      case "paragraph": return `p(${block.text})`;
      case "heading": return `h${block.level}(${block.text})`;
      case "code": return `code:${block.language}(${block.text})`;
      case "math": return `math(${block.text})`;
      case "rule": return "rule";
      case "quote": return `quote(${block.blocks.map(show).join(" ")})`;
      case "table": return `table(${[block.head, ...block.rows].map((row) => row.join(",")).join(";")})`;
      default: {
        const items = block.items.map((item) => item.map(show).join(" "));
        return `${block.ordered ? `ol${block.first}` : "ul"}${block.loose ? "~" : ""}(${items.join("; ")})`;
      }
    }
  };
  return parseBlocks(text).map(show).join(" ");
}

const BLOCKS = [
  ["a\nb\n\nc", "p(a\nb) p(c)"],
  ["# A\n### B ###\ntext\n#no", "h1(A) h3(B) p(text\n#no)"],
  ["```py\na\n\nb\n```\nc", "code:py(a\n\nb) p(c)"],
  ["````md\n```\nx\n```\n````", "code:md(```\nx\n```)"],
  ["```\nnever closed\n\n- x", "code:(never closed\n\n- x)"],
  ["~~~js title\nx\n~~~", "code:js(x)"],
  ["text\n---\ntext\n***", "p(text) rule p(text) rule"],
  ["- a\n- b\n\ntext", "ul(p(a); p(b)) p(text)"],
  ["1. a\n2. b\n   - c\n   - d\n3. e", "ol1(p(a); p(b) ul(p(c); p(d)); p(e))"],
  ["1. a\n  - two spaces are enough\n2. b", "ol1(p(a) ul(p(two spaces are enough)); p(b))"],
  ["3) a\n4) b", "ol3(p(a); p(b))"],
  ["- a\n\n- b", "ul~(p(a); p(b))"],
  ["- a\n\n  more\n- b", "ul~(p(a) p(more); p(b))"],
  ["- a\n  ```js\n  x\n    y\n  ```\n- b", "ul(p(a) code:js(x\n  y); p(b))"],
  ["* a\n- b", "ul(p(a)) ul(p(b))"],
  ["text\n2023. no list\n- a\n2. b", "p(text\n2023. no list) ul(p(a)) ol2(p(b))"],
  ["> a\n> - b\n>\n> c\nd", "quote(p(a) ul(p(b)) p(c)) p(d)"],
  ["| a | b |\n|---|:-:|\n| 1 | `x\\|y` |\n| 2 |\nend", "table(a,b;1,`x|y`;2,) p(end)"],
  ["before\na | b\n--|--\n1 | 2", "p(before) table(a,b;1,2)"],
  ["a | b\nno table", "p(a | b\nno table)"],
  ["<div>\n<script>alert(1)</script>", "p(<div>\n<script>alert(1)</script>)"],
  ["a\r\nb\r\n\r\n- c\r\n", "p(a\nb) ul(p(c))"],
  ["so\n$$\na_1\n- b_1 \\\\\n# c\n$$\nand", "p(so) math($$\na_1\n- b_1 \\\\\n# c\n$$) p(and)"],
  ["\\[ x\n+ y \\]\n\nz", "math(\\[ x\n+ y \\]) p(z)"],
  ["$$ x $$ is inline", "p($$ x $$ is inline)"],
  ["$$\nstill coming\n- so far", "math($$\nstill coming\n- so far)"],
  ["$$ makes money\n- a", "p($$ makes money) ul(p(a))"],
  ["- a\n\n  $$\n  b\n  $$", "ul~(p(a) math($$\nb\n$$))"],
];

for (const [text, expected] of BLOCKS) {
  test(`blocks: ${JSON.stringify(text)}`, () => assert.equal(shortBlocks(text), expected));
}

/** Pseudo-random, from a seed that a failure prints. */
function generator(seed) {
  let state = seed;
  return (n) => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

const PIECES = [
  "# ", "- ", "1. ", "2. ", "> ", "```", "```js\n", "~~~", "---", "***", "| a | b |", "|--|--|", "|", "\n", "\n", "\n\n",
  "  ", "   ", "text", "**", "*", "`", "[a](", "https://x.y", ")", "- a\n  - b", "\r\n", "--", "#", "> > ",
];

test("blocks before the first open one never change, whatever follows", () => {
  for (let seed = 1; seed <= 1500; seed += 1) {
    const random = generator(seed);
    const text = Array.from({ length: 4 + random(14) }, () => PIECES[random(PIECES.length)]).join("");
    const whole = parseBlocks(text);
    for (let at = 0; at < text.length; at += 1) {
      const part = text.slice(0, at);
      const blocks = parseBlocks(part);
      const settled = firstOpen(blocks, part);
      assert.deepEqual(blocks.slice(0, settled), whole.slice(0, settled), `seed ${seed}, ${JSON.stringify(text)} at ${at}`);
      const start = blocks[settled]?.start ?? 0;
      const again = parseBlocks(text.slice(start)).map(({ line, start: _, ...block }) => block);
      const rest = whole.slice(settled).map(({ line, start: _, ...block }) => block);
      assert.deepEqual(again, rest, `seed ${seed}, ${JSON.stringify(text)} from ${start}`);
    }
  }
});

test("hostile text is parsed in linear time and at bounded depth", () => {
  const hostile = [
    "*a ", "[", "[a](", "**a*", "`a``b", "<http://", "> ", "- ", "1. ", "- a\n", "|a|b\n", "```\n", "*a**b_c", "![", "\\", "![](data:image/png;base64,", "![a](data:image/png;base64,aaaa",
  ];
  for (const piece of hostile) {
    const text = piece.repeat(20_000);
    const before = process.cpuUsage();
    for (const growing of [false, true]) parseInline(text, growing);
    JSON.stringify(parseBlocks(text));
    const used = process.cpuUsage(before);
    const ms = (used.user + used.system) / 1000;
    assert.ok(ms < 1500, `${JSON.stringify(piece)} took ${ms} ms of CPU time`);
  }
});
