import assert from "node:assert/strict";
import { test } from "node:test";
import { Asks } from "../../routes/static/chat/asks.js";
import { decisionWords, timeWords } from "../../routes/static/chat/decisions.js";
import { Problem } from "../../routes/static/problems.js";
import { parseExactly } from "../../routes/static/stream/exact.js";
import { MessageFold } from "../../routes/static/stream/message.js";

function fold(chunks, known = []) {
  const made = new MessageFold("pending", known);
  for (const chunk of chunks) made.push(chunk);
  return made.state.message.parts;
}

// Calls of the gateway's tools

const CALL = { toolCallId: "k1", toolName: "shop__refund", providerExecuted: true, dynamic: true };
const ASKED = [
  { type: "start", messageId: "m1" },
  { type: "tool-input-start", ...CALL },
  { type: "tool-input-available", ...CALL, input: { order: 7 } },
  { type: "tool-approval-request", approvalId: "ap-1", toolCallId: "k1" },
  { type: "data-approval", id: "ap-1", data: { toolCallId: "k1", state: "requested" } },
];
const WAITING = {
  type: "dynamic-tool",
  toolName: "shop__refund",
  toolCallId: "k1",
  state: "approval-requested",
  input: { order: 7 },
  providerExecuted: true,
  approval: { id: "ap-1" },
};
const approval = (data) => ({ type: "data-approval", id: "ap-1", data: { toolCallId: "k1", ...data } });

test("a call that is asked about is the part that the snapshot has", () => {
  assert.deepEqual(fold(ASKED), [WAITING, approval({ state: "requested" })]);
});

test("a continued answer tells who answered in place of the question, how far the call is, and its output", () => {
  const known = [{ id: "m1", role: "assistant", parts: fold(ASKED) }];
  const goesOn = [{ type: "start", messageId: "m1" }, approval({ state: "approved" }), { type: "data-progress", id: "k1", data: { progress: 1 } }];
  assert.deepEqual(fold(goesOn, known), [{ ...WAITING, progress: { progress: 1 } }, approval({ state: "approved" })]);
  const done = [...goesOn, { type: "tool-output-available", toolCallId: "k1", output: "paid" }];
  assert.deepEqual(fold(done, known), [{ ...WAITING, state: "output-available", output: "paid" }, approval({ state: "approved" })]);
  assert.deepEqual(known[0].parts[0], WAITING, "what was known is as it was");
});

test("a fold that continues a known answer begins with it, before the run says anything", () => {
  const parts = [{ type: "text", text: "So far." }];
  assert.deepEqual(new MessageFold("m1", [{ id: "m1", role: "assistant", parts }]).state.message.parts, parts);
});

test("progress of a call that nobody knows is left out", () => {
  assert.deepEqual(fold([{ type: "data-progress", id: "k9", data: {} }]), []);
});

for (const text of ['{"id":12345678901234567890}', "[1234567890123456.5,-0.1]", '{"id":7,"name":"12345678901234567890"}', "1e3"]) {
  test(`no digit is lost of ${text}`, () => {
    assert.deepEqual(JSON.parse(JSON.stringify(parseExactly(text))), JSON.parse(text));
    if (text !== "1e3" && JSON.rawJSON) assert.equal(JSON.stringify(parseExactly(text)), text);
  });
}

// Asks

const ASK = { approvalId: "ap-1", messageId: "m1", toolCallId: "k1", toolName: "refund", input: {} };

function asks(answer) {
  const said = [];
  const made = new Asks({ answer, refresh: async () => {}, changed: () => {}, announce: (text) => said.push(text) });
  made.take([ASK]);
  return { made, said };
}

test("an ask is open until the gateway says otherwise, and is announced once", async () => {
  const given = [];
  const { made, said } = asks(async (...all) => given.push(all));
  const answering = made.answer(ASK, { approved: true });
  assert.equal(made.of("m1")[0].sending, true);
  assert.equal(made.isSending("ap-1"), true);
  made.take([{ ...ASK }]);
  assert.equal(made.of("m1")[0].sending, true, "another look changes nothing");
  await answering;
  assert.deepEqual(given, [["ap-1", { approved: true }]]);
  assert.equal(made.of("m1")[0].sending, false);
  made.take([]);
  assert.deepEqual([made.of("m1"), made.of("m2"), said.length], [[], [], 1]);
});

test("what the gateway does not take is said beside the ask; that somebody was faster is announced", async () => {
  const bad = asks(async () => { throw new Problem({ status: 400, code: "bad_edit", detail: "input: want a JSON object" }); });
  await bad.made.answer(ASK, { approved: true });
  assert.deepEqual(bad.made.of("m1"), [{ ask: ASK, sending: false, trouble: "input: want a JSON object" }]);
  const late = asks(async () => { throw new Problem({ status: 409, code: "approval_decided", detail: "this was allowed already, by bob" }); });
  await late.made.answer(ASK, { approved: false });
  assert.equal(late.made.of("m1")[0].trouble, "");
  assert.equal(late.said.at(-1), "this was allowed already, by bob");
});

test("a later ask about the same call is another one", () => {
  const { made, said } = asks(async () => {});
  made.take([{ ...ASK, approvalId: "ap-2", kind: "doubt" }]);
  assert.equal(said.length, 2);
  assert.equal(made.of("m1")[0].ask.approvalId, "ap-2");
});

// Decisions, in words

const AT = new Date(2026, 10, 30, 9, 5).getTime();
for (const [decision, words] of [
  [{ state: "requested" }, ""],
  [{}, ""],
  [{ state: "approved" }, "Approved"],
  [{ state: "approved", actor: { sub: "me" }, at: AT }, "Approved by you · 09:05"],
  [{ state: "denied", actor: { sub: "bob" }, reason: "too much" }, "Denied by bob: too much"],
  [{ state: "denied", kind: "input", actor: { sub: "bob" } }, "Declined by bob"],
  [{ state: "denied", kind: "doubt", actor: { sub: "bob" } }, "Treated as not made by bob"],
  [{ state: "approved", kind: "doubt" }, "Decided"],
  [{ state: "denied", actor: { sub: "me", via: "superseded" } }, "Not answered: another message was sent instead"],
  [{ state: "expired", actor: { via: "expired" }, at: AT }, "Nobody answered in time · 09:05"],
]) {
  test(`${JSON.stringify(decision)} is said as “${words}”`, () => assert.equal(decisionWords(decision, "me", AT), words));
}

test("another day is named", () => {
  assert.equal(timeWords(AT, AT + 86_400_000), "November 30, 09:05");
});
