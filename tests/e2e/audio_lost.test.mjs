import assert from "node:assert/strict";
import { test } from "node:test";
import { Session } from "../../routes/static/audio/session.js";
import { drained, final, FRAME, listening, partial, RATE, ready, samplesIn, sound } from "./audio_session.mjs";

const ack = (samples) => ({ type: "ack", samples });
const startOf = (session) => (({ session: id, cursor }) => ({ id, cursor }))(session.start());

test("a session that was lost begins anew with all that was kept, and its times go on", () => {
  const session = listening(50);
  drained(session);
  session.take(final(0, 0.5, 2, "One."), 0);
  session.take(ack(2 * RATE), 0);
  session.take(partial(1, 2.5, 4, "two", "two thr"), 0);
  assert.ok(session.closed(1006));
  session.record(sound(50 * FRAME, 60 * FRAME));
  assert.deepEqual(startOf(session), { id: "s1", cursor: "c0" });
  session.take({ type: "error", code: "session_unknown", message: "", retryable: false }, 0);
  assert.ok(session.closed(4502), "there is to be another connection");
  assert.deepEqual([session.phase, session.failure, session.transcript.now.length], ["away", null, 0]);
  assert.equal(session.waitingS, 4);
  assert.deepEqual(startOf(session), { id: undefined, cursor: undefined });
  session.take({ ...ready(), session: "s2", cursor: "d" }, 0);
  assert.deepEqual(samplesIn(drained(session)), [...sound(2 * RATE, 60 * FRAME)]);
  session.take(partial(0, 0.5, 1, "", "two"), 0);
  assert.deepEqual(session.transcript.now.map(({ startS }) => startS), [2.5]);
  session.take(final(0, 0.5, 2, "Two.", "d0"), 0);
  session.take({ type: "gap", start: 2, end: 3, reason: "overload" }, 0);
  assert.deepEqual(session.transcript.lines.map(({ kind, startS }) => [kind, startS]), [["said", 0.5], ["note", 2], ["said", 2.5], ["gap", 4]]);
  assert.match(session.transcript.lines[1].text, /lost this session.*with the 4 s that were kept.*in this tab alone/);
  assert.equal(session.transcript.text, "One. Two.");
  session.take(ack(3 * RATE), 0);
  session.record(sound(60 * FRAME, 61 * FRAME));
  session.closed(1006);
  assert.deepEqual(startOf(session), { id: "s2", cursor: "d0" });
  session.take({ ...ready(3 * RATE), session: "s2" }, 0);
  assert.deepEqual(samplesIn(drained(session)), [...sound(5 * RATE, 61 * FRAME)]);
});

test("what was final but not yet settled is not heard twice in a new session", () => {
  const session = listening(40);
  drained(session);
  session.take(final(0, 0.5, 3, "One."), 0);
  session.closed(4502);
  session.start();
  session.take({ ...ready(), session: "s2" }, 0);
  assert.deepEqual(samplesIn(drained(session)), [...sound(3 * RATE, 4 * RATE)]);
});

test("a session may be lost again and again, and each time it is said", () => {
  const session = listening(10);
  for (let time = 1; time <= 3; time += 1) {
    drained(session);
    session.take(ack(5 * FRAME), 0);
    assert.ok(session.closed(4502));
    session.start();
    session.take({ ...ready(), session: `s${time + 1}` }, 0);
    for (let at = 0; at < 5; at += 1) session.record(sound((5 + 5 * time + at) * FRAME, (6 + 5 * time + at) * FRAME));
  }
  assert.equal(session.transcript.lines.filter(({ kind }) => kind === "note").length, 3);
  assert.deepEqual(samplesIn(drained(session)), [...sound(15 * FRAME, 25 * FRAME)]);
});

test("a stopped session that was lost is still heard to its end", () => {
  const session = listening(10);
  session.stop();
  drained(session);
  assert.ok(session.closed(4502));
  session.start();
  session.take({ ...ready(), session: "s2" }, 0);
  assert.deepEqual(drained(session).map((one) => one.type ?? one.length), [10 * FRAME, "stop"]);
  session.take({ type: "done" }, 0);
  assert.ok(session.isOver);
});

test("of an earlier visit nothing is kept: that is said, and it is over", () => {
  const lines = [{ kind: "said", text: "One.", startS: 0, endS: 2 }];
  const session = Session.again({ id: "s1", cursor: "c", sampleRate: RATE, lines });
  session.start();
  assert.equal(session.closed(4502), false);
  assert.ok(session.isOver);
  assert.match(session.transcript.lines[1].text, /lost this session.*is gone/);
});

test("an earlier visit to a session that had begun anew goes on in its time", () => {
  const lines = [{ kind: "said", text: "One.", startS: 0, endS: 2 }];
  const session = Session.again({ id: "s2", cursor: "d", base: 2 * RATE, sampleRate: RATE, lines });
  session.start();
  session.take({ ...ready(3 * RATE), session: "s2" }, 0);
  session.take(final(0, 0.5, 2, "Two."), 0);
  assert.deepEqual(session.transcript.lines.map(({ startS }) => startS), [0, 2.5]);
});

test("a session that was all settled ends in peace, and one that never began for good", () => {
  const settled = listening(10);
  settled.stop();
  drained(settled);
  settled.take(ack(RATE), 0);
  assert.equal(settled.closed(4502), false);
  assert.deepEqual(settled.transcript.lines, []);
  const fresh = new Session(RATE);
  fresh.start();
  assert.equal(fresh.closed(4502), false);
  assert.ok(fresh.isOver);
});
