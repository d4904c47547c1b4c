import assert from "node:assert/strict";
import { test } from "node:test";
import { FileReading } from "../../routes/static/audio/file.js";
import { barsOf, isMute, levelOf } from "../../routes/static/audio/level.js";
import { isForGood, Session } from "../../routes/static/audio/session.js";
import { Tape } from "../../routes/static/audio/tape.js";
import { Transcript } from "../../routes/static/audio/transcript.js";
import { clock, closeTrouble, microphoneTrouble, wordsOf } from "../../routes/static/audio/words.js";
import { drained, final, FRAME, listening, partial, RATE, ready, samplesIn, sound } from "./audio_session.mjs";

function seeded(seed) {
  return () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
    return seed / 2 ** 31;
  };
}

// The tape

test("a tape reads any part of what it keeps, and silence for what it dropped", () => {
  const tape = new Tape(1000);
  for (const [start, end] of [[0, 100], [100, 107], [107, 300]]) assert.ok(tape.append(sound(start, end)));
  for (const [start, end] of [[0, 300], [99, 101], [100, 107], [5, 250], [300, 400], [250, 999]]) {
    assert.deepEqual(tape.read(start, end), sound(start, Math.max(start, Math.min(end, 300))), `${start} to ${end}`);
  }
  tape.drop(106);
  assert.equal(tape.first, 100);
  tape.drop(107);
  assert.deepEqual([tape.first, tape.last], [107, 300]);
  assert.deepEqual([...tape.read(105, 109)], [0, 0, ...sound(107, 109)]);
});

test("a full tape refuses what comes, and takes it when something was settled", () => {
  const tape = new Tape(200);
  assert.ok(tape.append(sound(0, 150)));
  assert.equal(tape.append(sound(150, 250)), false);
  assert.equal(tape.last, 150);
  tape.drop(150);
  assert.ok(tape.append(sound(150, 250)));
  assert.deepEqual(tape.read(150, 250), sound(150, 250));
});

// Resuming

test("a new session says how it sounds, an old one where it stood", () => {
  const session = new Session(44_100);
  assert.deepEqual(session.start(), { type: "start", sampleRate: 44_100, encoding: "pcm_s16le", channels: 1 });
  session.take(ready(0, "c0"), 0);
  session.take(final(0, 0, 1, "One."), 0);
  assert.ok(session.closed(1006));
  assert.equal(session.phase, "away");
  assert.deepEqual(session.start(), { type: "start", session: "s1", cursor: "c0", sampleRate: 44_100, encoding: "pcm_s16le", channels: 1 });
});

test("nothing is sent before the gateway is ready, and then from the sample that it names", () => {
  const session = new Session(RATE);
  session.record(sound(0, FRAME));
  session.start();
  assert.equal(session.next(0), null);
  session.take(ready(), 0);
  assert.deepEqual(samplesIn(drained(session)), [...sound(0, FRAME)]);
  session.record(sound(FRAME, 3 * FRAME));
  assert.deepEqual(samplesIn(drained(session)), [...sound(FRAME, 3 * FRAME)]);
  session.closed(1006);
  session.start();
  session.take(ready(FRAME + 7), 0);
  assert.deepEqual(samplesIn(drained(session)), [...sound(FRAME + 7, 3 * FRAME)]);
});

test("whatever is cut, and wherever, every sample is heard once and in order", () => {
  for (let seed = 1; seed <= 10; seed += 1) {
    const random = seeded(seed);
    const session = new Session(RATE);
    const heard = [];
    let recorded = 0;
    let settled = 0;
    let open = false;
    const connect = () => {
      assert.equal(session.start().session, heard.length > 0 || settled > 0 ? "s1" : session.id || undefined);
      // Another process knows what is settled; the same one also what it heard.
      const from = random() < 0.5 ? settled : heard.length;
      heard.length = from;
      session.take(ready(from), 0);
      open = true;
    };
    for (let step = 0; step < 300 || !open || session.waitingS > 0; step += 1) {
      if (step < 300) {
        session.record(sound(recorded, recorded + FRAME));
        recorded += FRAME;
      }
      if (!open && random() < 0.3) connect();
      if (!open) continue;
      const sent = samplesIn(drained(session, step * 100));
      // What is under way when a connection breaks may arrive in part.
      const isCut = random() < 0.1;
      heard.push(...(isCut ? sent.slice(0, Math.floor(random() * sent.length)) : sent));
      if (isCut) {
        open = false;
        assert.ok(session.closed(1006));
      } else if (random() < 0.2) {
        settled += Math.floor(random() * (heard.length - settled));
        session.take({ type: "ack", samples: settled }, 0);
      }
    }
    assert.equal(heard.length, recorded, `seed ${seed}`);
    assert.equal(heard.findIndex((sample, at) => sample !== (at % 60_000) - 30_000), -1, `seed ${seed}`);
  }
});

test("no more is sent than real time and what the gateway allows besides", () => {
  const session = listening(2000);
  const at = (nowMs) => samplesIn(drained(session, nowMs)).length / RATE;
  assert.equal(at(0), 50);
  assert.equal(at(0), 0);
  assert.equal(at(1500), 1.5);
  assert.ok(session.waitingS > 148);
  session.closed(1006);
  session.start();
  session.take(ready(51 * RATE), 10_000);
  assert.equal(at(10_000), 50);
});

test("one message is never more than the gateway takes", () => {
  for (const chunk of drained(listening(300))) assert.ok(chunk.byteLength <= 65_536);
});

test("five minutes are kept; then recording waits, says so, and goes on behind a moment of silence", () => {
  const session = new Session(RATE);
  for (let at = 0; at < 3010; at += 1) session.record(sound(at * FRAME, (at + 1) * FRAME));
  assert.equal(session.durationS, 300);
  assert.ok(session.isFull);
  assert.ok(Math.abs(session.missedS - 1) < 1e-6);
  assert.match(wordsOf({ session, sound: "on", trouble: null, reading: null, onLine: true, nowMs: 0 }).text, /Not recording/);
  session.start();
  session.take(ready(), 0);
  drained(session, 260_000);
  session.take({ type: "ack", samples: RATE }, 0);
  session.record(sound(0, FRAME));
  assert.ok(session.isFull, "so little room would be full again at once");
  session.take({ type: "ack", samples: 100 * RATE }, 0);
  session.record(sound(0, FRAME));
  assert.equal(session.isFull, false);
  assert.equal(session.durationS, 301.1);
  const rest = samplesIn(drained(session, 260_000));
  assert.ok(rest.slice(0, RATE).every((sample) => sample === 0));
  assert.deepEqual(rest.slice(RATE), [...sound(0, FRAME)]);
  assert.deepEqual(session.transcript.lines.map(({ kind, startS }) => [kind, startS]), [["note", 300]]);
  session.take(final(0, 1, 2, "Before it."), 0);
  assert.equal(session.transcript.text, "Before it.");
});

// Stopping

test("stop is said once, behind the last sample; again on a new connection; and done ends it", () => {
  const session = listening(5);
  session.stop();
  session.record(sound(0, FRAME));
  assert.deepEqual(drained(session).map((one) => one.type ?? one.length), [5 * FRAME, "stop"]);
  assert.ok(session.closed(1012));
  session.start();
  session.take(ready(3 * FRAME), 0);
  assert.deepEqual(drained(session).map((one) => one.type ?? one.length), [2 * FRAME, "stop"]);
  session.take({ type: "done", duration: 0.5, segments: 0 }, 0);
  assert.ok(session.isOver);
  assert.equal(session.closed(1000), false);
});

test("what was stopped before anything was said is over", () => {
  const session = new Session(RATE);
  session.stop();
  assert.ok(session.isOver);
});

test("a session of an earlier visit is only heard to its end", () => {
  const session = Session.again({ id: "s1", cursor: "c4", sampleRate: RATE, lines: [] });
  assert.equal(session.start().cursor, "c4");
  session.take(ready(70_000), 0);
  session.take(final(5, 3, 4, "The end."), 0);
  assert.deepEqual(drained(session), [{ type: "stop" }]);
  session.take({ type: "done" }, 0);
  assert.equal(session.transcript.text, "The end.");
});

// How a connection ends

for (const [code, comesBack] of [[1000, false], [1001, true], [1006, true], [1008, false], [1011, true], [1012, true], [1013, true], [4000, true], [4499, true], [4500, false], [4503, false], [4999, false]]) {
  test(`a close with ${code} ${comesBack ? "is not the end" : "is the end"}`, () => {
    assert.equal(isForGood(code), !comesBack);
    assert.equal(listening().closed(code), comesBack);
    assert.equal(closeTrouble(code, null) === null, code === 1000);
  });
}

test("a session that the gateway does not know is said to be so", () => {
  assert.match(closeTrouble(4502, { code: "session_unknown", message: "" }).text, /does not know/);
});

test("what was being said when a session ends for good stays, as a guess", () => {
  const session = listening();
  session.take(partial(0, 0.5, 2, "and so", "and so my"), 0);
  session.closed(4503);
  assert.deepEqual(session.transcript.lines, [{ kind: "guessed", text: "and so my", startS: 0.5, endS: 0.5 }]);
  assert.deepEqual(session.transcript.now, []);
});

// The transcript

test("partials replace one another, their stable part apart, and a final replaces them", () => {
  const transcript = new Transcript();
  transcript.guess(partial(0, 0, 1, "", "And so"));
  transcript.guess(partial(0, 0, 2, "And so", "And so my fellow"));
  transcript.guess(partial(1, 2.5, 3, "", "ask"));
  assert.deepEqual(transcript.now, [
    { startS: 0, stable: "And so", tail: "my fellow" },
    { startS: 2.5, stable: "", tail: "ask" },
  ]);
  transcript.settle(final(0, 0, 2.4, "And so, my fellow Americans,"));
  assert.deepEqual(transcript.now.map(({ tail }) => tail), ["ask"]);
  transcript.settle(final(1, 2.5, 4, "ask not."));
  assert.equal(transcript.text, "And so, my fellow Americans, ask not.");
});

test("a line that comes again is not shown again, and a partial that comes late neither", () => {
  const transcript = new Transcript();
  transcript.settle(final(0, 0, 2, "One."));
  transcript.miss(2, 5, "3 s were not heard");
  transcript.settle(final(1, 5, 6, "Two."));
  transcript.miss(2, 5, "3 s were not heard");
  transcript.settle(final(1, 5, 6, "Two."));
  transcript.guess(partial(1, 5, 6, "Two", "Two"));
  assert.deepEqual(transcript.lines.map(({ text }) => text), ["One.", "3 s were not heard", "Two."]);
  assert.deepEqual(transcript.now, []);
  const kept = new Transcript(transcript.lines);
  kept.settle(final(1, 5, 6, "Two."));
  assert.equal(kept.text, "One. Two.");
});

test("what is probably another language is shown as such, and is a part of the text", () => {
  const transcript = new Transcript();
  transcript.settle({ ...final(0, 0, 1, "Thank you."), unsure: true });
  assert.deepEqual([transcript.lines[0].kind, transcript.text], ["unsure", "Thank you."]);
});

test("a final without words is no line", () => {
  const transcript = new Transcript();
  transcript.guess(partial(0, 0, 1, "", "hm"));
  transcript.settle(final(0, 0, 1, ""));
  assert.deepEqual([transcript.lines, transcript.now], [[], []]);
});

// A file

/** What is made of a file whose words come in these events; with whatever was raised. */
async function readFile(...events) {
  const reading = new FileReading("talk.mp3");
  const text = events.map((event) => `: 5.0 of 9.0 s\ndata: ${JSON.stringify(event)}\n\n`).join("");
  const raised = await reading.read(new Response(text).body, () => {}).catch((error) => error);
  return { text: reading.transcript.text, isOver: reading.isOver, raised };
}
const delta = (text) => ({ type: "transcript.text.delta", delta: text });

test("a file's words are lines without a time, and a cut or an error is never its end", async () => {
  const done = { type: "transcript.text.done", text: "One. Two." };
  assert.deepEqual(await readFile(delta("One."), delta(" Two."), done), { text: "One. Two.", isOver: true, raised: undefined });
  const cut = await readFile(delta("One."));
  assert.deepEqual([cut.text, cut.isOver, cut.raised instanceof TypeError], ["One.", false, true]);
  const failed = await readFile(delta("One."), { error: { code: "bad_audio", message: "no" } });
  assert.deepEqual([failed.isOver, failed.raised.detail], [false, "no"]);
});

// Words

/** A session that this has happened to, in words. */
function told(happen, more = {}) {
  const session = happen ? listening(100) : null;
  happen?.(session);
  const { text, news, kind } = wordsOf({ session, sound: "on", trouble: null, reading: null, onLine: true, nowMs: 1000, ...more });
  return [kind, text, news];
}
const cut = (session) => (drained(session), session.closed(1006));
const back = (session) => (cut(session), session.start(), session.take(ready(8 * FRAME), 500), drained(session, 500));

const CASES = [
  ["nothing yet", null, {}, "over", "The microphone is off", ""],
  ["the browser asks", null, { sound: "asking" }, "warn", "Allow the microphone…", /asks whether/],
  ["listening", (s) => drained(s), {}, "live", "Listening", "Say something."],
  ["one language", (s) => (drained(s), (s.language = "en")), {}, "live", "Listening", "Say something, in English."],
  ["something was said", (s) => (drained(s), s.take(partial(0, 0, 1, "", "a"), 0)), {}, "live", "Listening", ""],
  ["lag", (s) => (drained(s), s.take({ type: "lag", seconds: 4.4 }, 0)), {}, "live", "Listening", "The gateway is 4 s behind."],
  ["lag is over", (s) => (drained(s), s.take({ type: "lag", seconds: 4 }, 0), s.take({ type: "lag", seconds: 0 }, 0)), {}, "live", "Listening", "Say something."],
  ["muted", (s) => drained(s), { sound: "mute" }, "live", "Listening", /Is it muted/],
  ["in a call", (s) => drained(s), { sound: "held" }, "live", "Listening", /Something else/],
  ["a cut", cut, {}, "warn", "Reconnecting…", "What you say is kept until the gateway has heard it."],
  ["a longer cut", (s) => (cut(s), s.record(sound(0, 7 * RATE))), {}, "warn", "Reconnecting…", "7 s of what you said are kept here."],
  ["a cut, and no network", cut, { onLine: false }, "warn", "You are offline", /is kept/],
  ["back", back, {}, "live", "Listening", "Caught up: nothing was lost."],
  ["back for a while", back, { nowMs: 60_000 }, "live", "Listening", "Say something."],
  ["back, and sending", (s) => (cut(s), s.record(sound(0, 80 * RATE)), s.start(), s.take(ready(0), 0), drained(s, 0)), {}, "live", "Listening", "Sending what was kept: 40 s."],
  ["drain", (s) => (drained(s), s.take({ type: "drain", resume: "s1" }, 0), s.closed(1012)), {}, "warn", "The gateway is restarting…", /is kept/],
  ["full", (s) => (drained(s), s.take({ type: "error", code: "overloaded", message: "" }, 0), s.closed(1013)), {}, "warn", "The gateway is full", /else try later/],
  ["finishing", (s) => (s.stop(), drained(s)), { sound: "off" }, "live", "Finishing…", "The last words are on their way."],
  ["finishing without a connection", (s) => (s.stop(), s.closed(1006)), { sound: "off" }, "warn", "Reconnecting…", "10 s of what you said are kept here."],
  ["a file", null, { reading: { name: "talk.mp3" }, sound: "off" }, "live", "Reading a file…", "talk.mp3"],
  ["done", (s) => s.take({ type: "done" }, 0), { sound: "off" }, "over", "The microphone is off", ""],
  ["taken over", (s) => s.closed(4503), { trouble: closeTrouble(4503, null), sound: "off" }, "error", /newer connection/, ""],
];

for (const [name, happen, more, kind, text, news] of CASES) {
  test(`what a person is told: ${name}`, () => {
    const said = told(happen, more);
    assert.equal(said[0], kind);
    for (const [got, want] of [[said[1], text], [said[2], news]]) {
      if (want instanceof RegExp) assert.match(got, want);
      else assert.equal(got, want);
    }
  });
}

test("a session that never began says what may be wrong with the gateway", () => {
  const session = new Session(RATE);
  const words = () => wordsOf({ session, sound: "on", trouble: null, reading: null, onLine: true, nowMs: 0 });
  assert.deepEqual([words().text, words().news], ["Connecting…", "Go ahead. What you say is kept until the gateway has heard it."]);
  for (let failures = 0; failures < 4; failures += 1) session.closed(1006);
  assert.match(words().news, /may run without its audio lane/);
});

test("a microphone that was refused says what to do", () => {
  const named = (name) => microphoneTrouble(new DOMException("", name));
  assert.match(named("NotAllowedError").detail, /Allow it/);
  assert.match(named("NotFoundError").text, /No microphone/);
  assert.match(named("NotReadableError").detail, /Another app/);
  assert.match(named("SecurityError").detail, /https/);
  assert.equal(microphoneTrouble(new Error("odd")).detail, "odd");
});

test("times are minutes and seconds, and hours where there are some", () => {
  assert.deepEqual([0, 9.99, 61, 600, 3605].map(clock), ["0:00", "0:09", "1:01", "10:00", "1:00:05"]);
});

// The level

test("the level goes from silence to the loudest, and bars know where they end", () => {
  assert.equal(levelOf(new Int16Array(100)), 0);
  assert.ok(levelOf(new Int16Array(100).fill(32_767)) > 0.99);
  const quiet = levelOf(new Int16Array(100).fill(300));
  assert.ok(quiet > 0.05 && quiet < 0.4, String(quiet));
  assert.deepEqual(barsOf(new Int16Array(FRAME), 5000).map(({ end }) => end), [5000 - FRAME / 2, 5000]);
  assert.ok(isMute(new Int16Array(10).fill(1)));
  assert.equal(isMute(new Int16Array([0, 5])), false);
});
