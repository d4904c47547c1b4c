import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.addEventListener ??= () => {};
const { Notices } = await import("../../routes/static/chat/notices.js");

const frame = (name, data) => new TextEncoder().encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
const turn = () => new Promise((wake) => setTimeout(wake, 0));

/** Notices whose connections a test opens, feeds and cuts. */
function notices() {
  const heard = [];
  const links = [];
  const events = async (query, cursor, signal) => {
    const link = {};
    const body = new ReadableStream({ start: (controller) => Object.assign(link, { controller }) });
    links.push(link);
    signal.addEventListener("abort", () => link.controller.error(signal.reason));
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  };
  const made = new Notices({
    api: { events },
    pause: () => new Promise((wake) => (made.wake = wake)),
    heard: ({ name, data }) => heard.push([name, data.messageId]),
    changed: () => {},
    missed: () => heard.push(["missed"]),
  });
  return { made, links, heard };
}

test("a page that is told what happens knows it, until its connection ends", async () => {
  const { made, links, heard } = notices();
  assert.equal(made.isLive, false);
  made.follow(true);
  await turn();
  assert.equal(made.isLive, true);
  links[0].controller.enqueue(frame("queued", { chatId: "c", messageId: "u2" }));
  links[0].controller.enqueue(frame("unqueued", { chatId: "c", messageId: "u2" }));
  await turn();
  assert.deepEqual(heard, [
    ["queued", "u2"],
    ["unqueued", "u2"],
  ]);
  links[0].controller.close();
  await turn();
  assert.equal(made.isLive, false);
  made.wake();
  await turn();
  assert.deepEqual([made.isLive, links.length], [true, 2]);
  made.follow(false);
  assert.equal(made.isLive, false);
});
