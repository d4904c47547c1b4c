import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "../../routes/static/chat/queue.js";
import { Problem } from "../../routes/static/problems.js";
import { MessageFold } from "../../routes/static/stream/message.js";

const nothing = async () => {};
const waiting = (id, at = "turn") => ({ id, at, message: { id, role: "user", parts: [{ type: "text", text: id }] } });

function queue(calls = {}) {
  const said = [];
  const around = { steer: nothing, unqueue: nothing, resume: nothing, refresh: nothing, changed: () => {}, ...calls };
  return { made: new Queue({ ...around, announce: (text) => said.push(text) }), said };
}
const ids = (made) => made.waiting.map(({ id }) => id);

test("what is being sent is shown behind what waits, and once", async () => {
  const sent = [];
  const { made } = queue({ steer: async (message, at) => sent.push([message, at]), refresh: async () => made.take([waiting("u1"), waiting(sent[0][0].id)]) });
  made.take([waiting("u1")]);
  const steering = made.steer("more", "step");
  assert.deepEqual(made.waiting.map(({ at, isSending }) => [at, isSending]), [["turn", undefined], ["step", true]]);
  assert.equal(await steering, true);
  assert.deepEqual(ids(made), ["u1", sent[0][0].id]);
  assert.deepEqual([sent[0][0].parts, sent[0][1]], [[{ type: "text", text: "more" }], "step"]);
});

test("what the answer has taken is gone at once, though a snapshot from before still has it", () => {
  const { made } = queue();
  made.take([waiting("u1"), waiting("u2")]);
  made.took("u1");
  assert.deepEqual(ids(made), ["u2"]);
  made.take([waiting("u1"), waiting("u2")]);
  assert.deepEqual(ids(made), ["u2"]);
});

test("what could not be taken back or sent is said", async () => {
  const refuse = async () => { throw new Problem({ status: 409, code: "already_taken" }); };
  const { made, said } = queue({ unqueue: refuse, steer: refuse });
  made.take([waiting("u1")]);
  await made.remove("u1");
  assert.deepEqual(ids(made), ["u1"]);
  assert.equal(await made.steer("x", "now"), false);
  assert.deepEqual(ids(made), ["u1"]);
  assert.match(said.join(), /could not be taken back.*could not be sent/);
});

test("a steer stands in the answer where it was read, once", () => {
  const fold = new MessageFold("pending");
  const steer = { type: "data-steer", id: "u7", data: { parts: [{ type: "text", text: "no" }], by: "bob" } };
  for (const chunk of [{ type: "start", messageId: "m" }, steer, steer]) fold.push(chunk);
  assert.deepEqual(fold.state.message.parts, [steer]);
});
