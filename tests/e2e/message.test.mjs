import assert from "node:assert/strict";
import { test } from "node:test";
import { isEmpty, MessageFold, textOf, titleOf } from "../../routes/static/stream/message.js";
import { picturesOf } from "../../routes/static/stream/pictures.js";

function fold(chunks, known = []) {
  const made = new MessageFold("pending", known);
  for (const chunk of chunks) made.push(chunk);
  return made.state;
}

const TEXT = [
  { type: "start", messageId: "m1", messageMetadata: { model: "small" } },
  { type: "start-step" },
  { type: "reasoning-start", id: "r0" },
  { type: "reasoning-delta", id: "r0", delta: "hm" },
  { type: "reasoning-end", id: "r0" },
  { type: "text-start", id: "t1" },
  { type: "text-delta", id: "t1", delta: "Hel" },
  { type: "text-delta", id: "t1", delta: "lo" },
];
const PARTS = [
  { type: "reasoning", text: "hm", state: "done" },
  { type: "text", text: "Hello", state: "streaming" },
];

test("text and reasoning become parts of one message", () => {
  const { message, status } = fold(TEXT);
  assert.deepEqual(message, { id: "m1", role: "assistant", parts: PARTS, metadata: { model: "small" } });
  assert.equal(status, "streaming");
});

test("a replay from the start leaves no trace of what was there before", () => {
  assert.deepEqual(fold([...TEXT, ...TEXT]), fold(TEXT));
});

test("a run that continues an answer keeps that answer's parts, also when it is replayed", () => {
  const known = [{ id: "m1", role: "assistant", parts: [{ type: "text", text: "Before.", state: "done" }], metadata: { a: 1 } }];
  const { message } = fold([...TEXT, ...TEXT], known);
  assert.deepEqual(message.parts, [known[0].parts[0], ...PARTS]);
  assert.deepEqual(message.metadata, { a: 1, model: "small" });
  assert.equal(known[0].parts.length, 1);
});

for (const [type, rest] of [["finish", { finishReason: "stop" }], ["error", { errorText: "no" }], ["abort", { reason: "stopped" }]]) {
  test(`${type} closes what is open and keeps the text`, () => {
    const state = fold([...TEXT, { type: "message-metadata", messageMetadata: { code: "x" } }, { type, ...rest }]);
    assert.equal(state.status, type);
    assert.equal(textOf(state.message), "Hello");
    assert.equal(state.message.parts[1].state, "done");
    assert.equal(state.message.metadata.code, "x");
  });
}

test("a tool call grows, gets its input and its output", () => {
  const chunks = [
    { type: "start", messageId: "m" },
    { type: "tool-input-start", toolCallId: "c", toolName: "look" },
    { type: "tool-input-delta", toolCallId: "c", inputTextDelta: '{"a":' },
  ];
  assert.equal(fold(chunks).message.parts[0].inputText, '{"a":');
  chunks.push({ type: "tool-input-available", toolCallId: "c", toolName: "look", input: { a: 1 } });
  const called = { type: "tool-look", toolCallId: "c", state: "input-available", input: { a: 1 } };
  assert.deepEqual(fold(chunks).message.parts, [called]);
  chunks.push({ type: "tool-output-available", toolCallId: "c", output: [2] });
  assert.deepEqual(fold(chunks).message.parts, [{ ...called, state: "output-available", output: [2] }]);
});

test("chunks of unknown types are left out", () => {
  const odd = [{ type: "data-drain", data: {}, transient: true }, { type: "custom" }, { type: "reset-step" }];
  assert.deepEqual(fold([...TEXT, ...odd]), fold(TEXT));
});

test("a message is empty until there is something to see", () => {
  assert.ok(isEmpty(fold(TEXT.slice(0, 3)).message));
  assert.ok(!isEmpty(fold(TEXT).message));
});

test("pictures of a provider add up, in the text's part and beside it", () => {
  const image = (name) => ({ type: "image_url", image_url: { url: `https://x.y/${name}` } });
  const text = (delta, name) => ({ type: "text-delta", id: "t1", delta, providerMetadata: { up: { images: [image(name)] } } });
  const { parts } = fold([...TEXT, text("!", "a"), text("?", "b"), { type: "data-provider", data: { up: { images: [image("c")] } } }]).message;
  assert.equal(parts[1].text, "Hello!?");
  assert.deepEqual(parts.map(picturesOf), [[], ["https://x.y/a", "https://x.y/b"], ["https://x.y/c"]]);
});

const DATA = "data:image/png;base64,AA==";
const PICTURES = [
  [{ type: "file", mediaType: "image/png", url: "https://x.y/a" }, ["https://x.y/a"]],
  [{ type: "file", mediaType: "image/png", url: DATA }, [DATA]],
  [{ type: "file", mediaType: "text/html", url: "https://x.y/a" }, []],
  [{ type: "file", mediaType: "image/png", url: "javascript:alert(1)" }, []],
  [{ type: "data-provider", data: { up: { images: [{ b64_json: "AA==" }, "https://x.y/b", { url: DATA }, 1, null] } } }, [DATA, "https://x.y/b", DATA]],
  [{ type: "data-provider", data: { up: { image: { url: "https://x.y/a" } }, down: null } }, ["https://x.y/a"]],
  [{ type: "data-provider", data: { up: { images: ["data:image/svg+xml;base64,AA==", "data:text/html,x", "//x.y"] } } }, []],
  [{ type: "data-provider", data: "text" }, []],
];

for (const [part, addresses] of PICTURES) {
  test(`pictures of ${JSON.stringify(part)}`, () => assert.deepEqual(picturesOf(part), addresses));
}

const FAMILY = "\u{1F469}\u200D\u{1F469}\u200D\u{1F467}";
const TITLES = [
  ["  two\n words ", "two words"],
  ["", ""],
  ["word ".repeat(40), `${"word ".repeat(15)}word…`],
  ["x".repeat(200), `${"x".repeat(79)}…`],
  [FAMILY.repeat(30), `${FAMILY.repeat(9)}…`],
  [`${"x".repeat(78)}e\u0301${"y".repeat(9)}`, `${"x".repeat(78)}…`],
];

for (const [text, expected] of TITLES) {
  test(`a title keeps the beginning, whole: ${JSON.stringify(text.slice(0, 20))}`, () => {
    assert.equal(titleOf({ id: "u", role: "user", parts: [{ type: "text", text }] }), expected);
  });
}
