import assert from "node:assert/strict";
import { test } from "node:test";
import { readable, written } from "../../routes/static/events/json.js";

const SHOWN = [
  ['{"a":1,"b":[1,2,{"c":null}]}', '{"a": 1, "b": [1, 2, {"c": null}]}'],
  ["[]", "[]"],
  ['{"a":{}}', '{"a": {}}'],
  ["-1.50e3", "-1.50e3"],
  ["1234567890123456789012", "1234567890123456789012"],
  ['{"\\u00e9":"\\u6f22 \\" \\\\ {}[],:"}', '{"é": "漢 \\" \\\\ {}[],:"}'],
  [" [ true ,\n false ] ", "[true, false]"],
];

for (const [data, shown] of SHOWN) {
  test(`shown: ${data}`, () => assert.deepEqual(readable(data), { text: shown, isText: false }));
}

test("what is wider than a line has lines of its own, and only that", () => {
  const name = "x".repeat(40);
  assert.equal(
    readable(JSON.stringify({ name, usage: { in: 1, out: 2 }, steps: [name, name] })).text,
    `{\n  "name": "${name}",\n  "usage": {"in": 1, "out": 2},\n  "steps": [\n    "${name}",\n    "${name}"\n  ]\n}`,
  );
});

test("text is shown without its quotes, and what is no JSON as it came", () => {
  assert.deepEqual(readable('"two\\nlines <b>"'), { text: "two\nlines <b>", isText: true });
  for (const data of ["", "{", "hello", "[1,]", "{'a':1}"]) assert.deepEqual(readable(data), { text: data, isText: true });
});

test("what is shown is the same JSON, whatever it holds", () => {
  let state = 7;
  const random = (n) => Math.floor(((state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32) * n);
  const make = (depth) => {
    const kind = random(depth > 4 ? 4 : 6);
    if (kind === 0) return random(2) ? null : random(2) === 1;
    if (kind === 1) return (random(2e9) - 1e9) / [1, 7, 1e12][random(3)];
    if (kind < 4) return ["", "a b", '"\\{}[]:,', "漢🙂\u2028\u0000", "x".repeat(random(90))][random(5)];
    const items = Array.from({ length: random(6) }, () => make(depth + 1));
    return kind === 4 ? items : Object.fromEntries(items.map((item, i) => [`${i}{"`, item]));
  };
  for (let i = 0; i < 2000; i += 1) {
    const value = { value: make(0) };
    const { text } = readable(JSON.stringify(value));
    assert.deepEqual(JSON.parse(text), value);
  }
});

test("64 KiB of anything are shown in no time", () => {
  const deep = "[".repeat(30_000) + "]".repeat(30_000);
  for (const data of [deep, `[${Array(20_000).fill("{}").join()}]`, JSON.stringify("\\\"".repeat(20_000))]) {
    const started = performance.now();
    readable(data);
    assert.ok(performance.now() - started < 1000);
  }
});

const SENT = [
  ['{"a": 1}', '{"a": 1}', "a JSON object", false],
  [" [1] ", "[1]", "a JSON list", false],
  ["12345678901234567890", "12345678901234567890", "a number", false],
  ["true", "true", "true", false],
  ["null", "null", "null", false],
  ['"quoted"', '"quoted"', "text", false],
  ["hello\nyou\n", '"hello\\nyou"', "text", false],
  ["NaN", '"NaN"', "text", false],
  ['{"a": 1,}', '"{\\"a\\": 1,}"', "text", true],
  ["[link](x)", '"[link](x)"', "text", true],
];

for (const [typed, raw, what, isBroken] of SENT) {
  test(`sent: ${JSON.stringify(typed)}`, () => assert.deepEqual(written(typed), { raw, what, isBroken }));
}

test("nothing is nothing to send", () => {
  for (const typed of ["", " ", "\n"]) assert.equal(written(typed), null);
});
