import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff, NotAStream, Unavailable } from "../../routes/static/stream/resume.js";
import { followRun } from "../../routes/static/stream/run.js";

const encoder = new TextEncoder();

/** The bytes of one run: `start`, eight deltas of several bytes per character, `finish`, the mark after it. */
function runBytes() {
  const chunks = [
    { type: "start", messageId: "m" },
    { type: "text-start", id: "t" },
    ..."é漢🙂abcde".match(/./gu).map((delta) => ({ type: "text-delta", id: "t", delta })),
    { type: "text-end", id: "t" },
    { type: "finish", finishReason: "stop" },
  ];
  const frames = chunks.map((chunk, i) => `id: r.${i + 1}\ndata: ${JSON.stringify(chunk)}\n\n`);
  return { chunks, frames };
}

/** A server that replays strictly after the cursor, and cuts each connection after so many bytes. */
function server(frames, cuts, how = "error") {
  const cursors = [];
  async function connect(cursor) {
    cursors.push(cursor);
    const after = cursor ? Number(cursor.split(".")[1]) : 0;
    const bytes = encoder.encode(`: ok\n${frames.slice(after).join("")}data: [DONE]\n\n`);
    const cut = cuts.shift() ?? Infinity;
    let sent = cut === 0;
    return new Response(new ReadableStream({
      pull(controller) {
        if (!sent) controller.enqueue(bytes.slice(0, cut));
        else if (cut < bytes.length && how === "error") controller.error(new TypeError("network error"));
        else controller.close();
        sent = true;
      },
    }, { highWaterMark: 0 }));
  }
  return { connect, cursors };
}

async function read(link, cursor = "", signal = new AbortController().signal) {
  const chunks = [];
  const run = followRun({ pause: async () => {}, random: () => 0, ...link }, cursor, signal);
  for (;;) {
    const { value, done } = await run.next();
    if (done) return { chunks, outcome: value };
    chunks.push(value);
  }
}

test("a run that is cut at any byte is read once, whole and in order", async () => {
  const { chunks, frames } = runBytes();
  const total = encoder.encode(frames.join("")).length;
  for (let cut = 0; cut <= total; cut += 1) {
    for (const how of ["error", "clean"]) {
      const got = await read(server(frames, [cut], how));
      assert.deepEqual(got, { chunks, outcome: "ended" }, `${how} cut at byte ${cut}`);
    }
  }
});

test("a run that is cut after every few bytes is still read once, whole and in order", async () => {
  const { chunks, frames } = runBytes();
  const longest = Math.max(...frames.map((frame) => encoder.encode(frame).length)) + ": ok\n".length;
  const { connect, cursors } = server(frames, Array(40).fill(longest));
  assert.deepEqual((await read({ connect })).chunks, chunks);
  assert.ok(cursors.length > 5);
  assert.equal(cursors[0], "");
  assert.match(cursors[1], /^r\.\d+$/);
});

test("a clean end without a terminal chunk is a cut, never a success", async () => {
  const { frames } = runBytes();
  const states = [];
  const link = server(frames, [120], "clean");
  const got = await read({ ...link, onState: (state) => states.push(state) });
  assert.equal(got.outcome, "ended");
  assert.deepEqual(states, ["connecting", "live", "reconnecting", "live"]);
});

test("nothing to stream is told apart from an end", async () => {
  const got = await read({ connect: async () => new Response(null, { status: 204 }) }, "r.9");
  assert.deepEqual(got, { chunks: [], outcome: "nothing" });
});

test("a refusal that may pass is waited for, as long as the server asks", async () => {
  const { chunks, frames } = runBytes();
  const { connect } = server(frames, []);
  const waits = [];
  let tries = 0;
  const got = await read({
    connect: (cursor) => ((tries += 1) < 3 ? Promise.reject(new Unavailable("full", 3000)) : connect(cursor)),
    pause: async (ms) => void waits.push(ms),
  });
  assert.deepEqual(got.chunks, chunks);
  assert.deepEqual(waits, [3000, 3000]);
});

test("`retry:` of the stream is the shortest wait", async () => {
  const { frames } = runBytes();
  const waits = [];
  const { connect } = server([`retry: 2500\n${frames[0]}`, ...frames.slice(1)], [200]);
  await read({ connect, pause: async (ms) => void waits.push(ms) });
  assert.deepEqual(waits, [2500]);
});

test("what is no chunk ends the reading instead of asking for ever", async () => {
  for (const data of ["<html>", "{}", "[]", "null", '"text"']) {
    await assert.rejects(read(server([`data: ${data}\n\n`], [])), NotAStream, data);
  }
});

test("a refusal that will not pass is raised", async () => {
  const refused = new Error("no");
  await assert.rejects(read({ connect: () => Promise.reject(refused) }), refused);
});

test("leaving raises the reason, also while waiting", async () => {
  const leave = new AbortController();
  const pause = async () => leave.abort(new Error("left"));
  const connect = async () => { throw new TypeError("network error"); };
  await assert.rejects(
    read({ connect, pause: async () => { await pause(); leave.signal.throwIfAborted(); } }, "", leave.signal),
    /left/,
  );
});

test("a connection that falls silent is opened again", async () => {
  const { chunks, frames } = runBytes();
  const whole = server(frames, []);
  let cancelled = false;
  let tries = 0;
  const silent = () => new Response(new ReadableStream({
    start: (controller) => controller.enqueue(encoder.encode(frames[0])),
    cancel: () => { cancelled = true; },
  }));
  const connect = async (cursor) => ((tries += 1) === 1 ? silent() : whole.connect(cursor));
  const got = await read({ connect, silenceMs: 40 });
  assert.deepEqual(got.chunks, chunks);
  assert.ok(cancelled);
});

test("waits grow, are bounded, and are never the same for all", () => {
  assert.equal(backoff(1, () => 0), 125);
  assert.equal(backoff(1, () => 1), 250);
  assert.equal(backoff(50, () => 1), 8000);
  assert.ok(backoff(4, () => 0.3) > backoff(2, () => 0.3));
});
