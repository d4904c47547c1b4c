import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser } from "../../routes/static/stream/sse.js";

const STREAM =
  ": ok\n" +
  "id: run.1\ndata: {\"a\":1}\n\n" +
  ": ping\n" +
  "id: run.2\r\nevent: named\r\ndata: one\r\ndata: two\r\n\r\n" +
  "data\n\n" +
  "data:no space\rdata:  two spaces\r\r" +
  "id: bad\0id\nretry: 1500\nretry: soon\nunknown: field\ndata: é漢🙂\n\n" +
  "id\ndata: id is reset\n\n" +
  "data: cut off";

const EVENTS = [
  { type: "message", data: '{"a":1}', id: "run.1" },
  { type: "named", data: "one\ntwo", id: "run.2" },
  { type: "message", data: "", id: "run.2" },
  { type: "message", data: "no space\n two spaces", id: "run.2" },
  { type: "message", data: "é漢🙂", id: "run.2" },
  { type: "message", data: "id is reset", id: "" },
];

test("a stream in one piece gives its events, and nothing of the half event at its end", () => {
  const parser = new SseParser();
  assert.deepEqual(parser.push(STREAM), EVENTS);
  assert.equal(parser.retryMs, 1500);
});

test("a stream cut into two pieces at any place gives the same events", () => {
  for (let at = 0; at <= STREAM.length; at += 1) {
    const parser = new SseParser();
    assert.deepEqual([...parser.push(STREAM.slice(0, at)), ...parser.push(STREAM.slice(at))], EVENTS, `cut at ${at}`);
  }
});

test("a stream in single characters gives the same events, with empty pieces in between", () => {
  const parser = new SseParser();
  const events = [...STREAM].flatMap((character) => [...parser.push(character), ...parser.push("")]);
  assert.deepEqual(events, EVENTS);
});

test("a byte order mark is skipped at the start only", () => {
  assert.deepEqual(new SseParser().push("\ufeffdata: x\n\n\ufeffdata: y\n\ndata: z\n\n").map((e) => e.data), ["x", "z"]);
});

test("comments without a blank line after them are no events", () => {
  assert.deepEqual(new SseParser().push(": ok\n: ping\n: ping\ndata: x\n\n").map((e) => e.data), ["x"]);
});

test("a line of a million characters in many pieces is read in linear time", () => {
  const parser = new SseParser();
  const piece = "x".repeat(100);
  const started = performance.now();
  parser.push("data: ");
  for (let i = 0; i < 10_000; i += 1) parser.push(piece);
  assert.equal(parser.push("\n\n")[0].data.length, 1_000_000);
  assert.ok(performance.now() - started < 2000);
});
