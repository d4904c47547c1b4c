import assert from "node:assert/strict";
import { test } from "node:test";
import { resumed } from "../../routes/static/stream/resume.js";

/** A server that answers with these bodies in turn, and then with 204. */
function server(bodies) {
  const cursors = [];
  const waits = [];
  const link = {
    connect: async (cursor) => {
      cursors.push(cursor);
      const body = bodies.shift();
      return new Response(body ?? null, { status: body === undefined ? 204 : 200 });
    },
    pause: async (delayMs) => void waits.push(delayMs),
    random: () => 1,
  };
  return { link, cursors, waits };
}

async function read(link, cursor) {
  const events = [];
  for await (const event of resumed(link, cursor, new AbortController().signal)) events.push(event.data);
  return events;
}

test("every end of a connection is followed by another connection, until the server has nothing more", async () => {
  const { link, cursors } = server(["id: 1\ndata: a\n\n", ": ok\n", "id: 2\ndata: b\n\ndata: half"]);
  assert.deepEqual(await read(link, "0"), ["a", "b"]);
  assert.deepEqual(cursors, ["0", "1", "1", "2"]);
});

test("a connection whose events have no id leaves the cursor where it was", async () => {
  const { link, cursors, waits } = server(["id: 7\ndata: a\n\n", "event: busy\nretry: 5000\ndata: {}\n\n"]);
  assert.deepEqual(await read(link, ""), ["a", "{}"]);
  assert.deepEqual(cursors, ["", "7", "7"]);
  assert.deepEqual(waits, [250, 5000]);
});

test("who leaves in the middle is asked for nothing more", async () => {
  const { link, cursors } = server(["data: a\n\ndata: b\n\n", "data: c\n\n"]);
  for await (const event of resumed(link, "", new AbortController().signal)) if (event.data === "a") break;
  assert.deepEqual(cursors, [""]);
});
