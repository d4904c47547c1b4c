import assert from "node:assert/strict";
import { test } from "node:test";
import { noteOfFailure, noteOfRun, noteOfStored } from "../../routes/static/chat/endings.js";
import { Problem, problemOf, retryAfter, runSentence, sentenceOf, whenAgain } from "../../routes/static/problems.js";

test("a problem document is read, and said in a sentence without its jargon", async () => {
  const document = { title: "t", detail: "d", code: "upstream_refused", retryable: false, request_id: "r1" };
  const headers = { "content-type": "application/problem+json", "retry-after": "7" };
  const problem = await problemOf(new Response(JSON.stringify(document), { status: 429, headers }));
  assert.equal(problem.retryAfterMs, 7000);
  assert.equal(problem.retryable, false);
  assert.equal(problem.requestId, "r1");
  assert.equal(sentenceOf(problem), "The model is busy: its provider allows no more requests right now.");
  assert.equal(noteOfFailure(problem).detail, "d · request r1");
  assert.equal(noteOfFailure(problem, 1000).againAtMs, 8000);
});

test("a refusal that is no problem document still has a sentence", async () => {
  for (const body of ["<html>Bad gateway</html>", "", "{broken"]) {
    const headers = { "content-type": body.startsWith("{") ? "application/json" : "text/html" };
    const problem = await problemOf(new Response(body, { status: 502, headers }));
    assert.equal(sentenceOf(problem), "The gateway cannot be reached right now.");
  }
  assert.equal(sentenceOf(new Problem({ status: 418 })), "Something went wrong in the gateway.");
});

test("a code that is not known counts as what it begins with, and no code is taken from elsewhere", () => {
  assert.equal(runSentence({ code: "upstream_cut_hard" }), runSentence({ code: "upstream_cut" }));
  assert.equal(runSentence({ code: "upstream_new" }), "The model could not finish this answer.");
  assert.equal(runSentence({ code: "constructor" }), "The model could not finish this answer.");
  assert.equal(runSentence({}), "The model could not finish this answer.");
});

test("what arrived is mentioned only when something did", () => {
  assert.match(runSentence({ code: "interrupted", emitted: 3 }), /kept above/);
  assert.doesNotMatch(runSentence({ code: "interrupted", emitted: 0 }), /kept above/);
});

test("Retry-After is seconds or a date", () => {
  assert.equal(retryAfter("3", 0), 3000);
  assert.equal(retryAfter("Thu, 01 Jan 1970 00:00:10 GMT", 4000), 6000);
  for (const value of [null, "", "soon", "-1"]) assert.equal(retryAfter(value, Date.now()), 0);
});

test("the time until the next try is told as people tell it", () => {
  const told = [90_000, 89_000, 7000, 1500, 1000, 1, 0, -3].map(whenAgain);
  assert.deepEqual(told, [
    "Try again in 2 minutes.", "Try again in 89 seconds.", "Try again in 7 seconds.", "Try again in 2 seconds.",
    "Try again in a second.", "Try again in a second.", "You can try again now.", "You can try again now.",
  ]);
});

test("a refusal says whose key it was, and speaks of no key where there may be none", () => {
  const of = (status, code) => sentenceOf(new Problem({ status, code }));
  assert.match(of(502, "upstream_auth"), /^The model provider refused the gateway's key/);
  for (const [status, code] of [[403, "forbidden"], [403, "bad_origin"], [403, ""], [403, "topic_forbidden"], [401, "unauthorized"]]) {
    assert.doesNotMatch(of(status, code), /your key/i, code);
  }
});

test("what a provider says of a request is no fault of the gateway or of the chat", () => {
  const title = "The upstream refused the request";
  const of = (status, code) => sentenceOf(new Problem({ status, code, title }));
  for (const [status, code] of [[400, "invalid_value"], [404, "DeploymentNotFound"], [409, "locked"], [422, "x"], [402, "x"]]) {
    assert.equal(of(status, code), "The model's provider refused this request.", code);
    assert.ok(new Problem({ status, code, title }).isOfUpstream);
  }
  assert.match(of(400, "context_length_exceeded"), /longer than the model can take/);
  for (const code of ["insufficient_quota", "billing_hard_limit_reached"]) assert.match(of(429, code), /nothing left to spend/);
  assert.match(of(404, "upstream_not_found"), /no such model/);
  assert.ok(!new Problem({ status: 404, code: "chat_not_found", title: "Not found" }).isOfUpstream);
});

test("every end of a run has its note, and a plain end has none", () => {
  const message = { id: "m", role: "assistant", parts: [], metadata: {} };
  const end = (status, finishReason = "", errorText = "") => noteOfRun({ status, finishReason, errorText, message });
  assert.equal(end("finish", "stop"), null);
  assert.equal(end("finish", "length").kind, "cut");
  assert.equal(end("finish", "content-filter").kind, "cut");
  assert.equal(end("abort").kind, "stopped");
  assert.deepEqual(end("error", "", "why"), { kind: "error", text: "The model could not finish this answer.", detail: "why" });
});

test("an answer from history has the note of its run", () => {
  assert.equal(noteOfStored({ model: "m" }), null);
  assert.equal(noteOfStored({ outcome: "finish", finishReason: "stop" }), null);
  assert.equal(noteOfStored({ outcome: "abort" }).kind, "stopped");
  assert.equal(noteOfStored({ outcome: "error", code: "upstream_cut" }).kind, "error");
});
