import assert from "node:assert/strict";
import { test } from "node:test";
import { Entries, KEPT } from "../../routes/static/events/entries.js";
import { Following } from "../../routes/static/events/following.js";
import { addressOf, covers, queryOf, streamOf, topicsIn, topicsOf } from "../../routes/static/events/topics.js";
import { newsOf, stateOf } from "../../routes/static/events/words.js";

const frame = (type, data, id = "") => ({ type, data: JSON.stringify(data), id });
const hello = (more = {}) => frame("hello", { recovered: true, replay: 0, ping: 15, maxAge: 500, topics: ["team/a"], ...more }, "e1.a.0");

/** What the page says after these frames; `offline` and `reconnecting` are the connection's. */
function told(frames, cursor = "", isWhole = false) {
  const following = new Following(["team/a"], cursor, isWhole);
  for (const one of frames) {
    if (typeof one === "string") following.linked(one);
    else following.take(one, 0);
  }
  return { following, state: stateOf(following, true).text, news: newsOf(following) };
}

const CASES = [
  ["nothing yet", "", [], "Connecting…", ""],
  ["connected, and no hello yet", "", ["live"], "Connecting…", ""],
  ["hello for the first time", "", [hello()], "Live", ""],
  ["hello again", "c", [hello()], "Live", "Nothing was missed."],
  ["a replay begins", "c", [hello({ replay: 2 })], "Live", "Catching up on 2 events…"],
  ["a replay ends", "c", [hello({ replay: 1 }), frame("x", 1)], "Live", "Caught up 1 event."],
  ["a cut after a replay", "c", [hello({ replay: 1 }), frame("x", 1), "reconnecting"], "Reconnecting…", ""],
  ["cut, and back", "", [hello(), "reconnecting", hello({ replay: 1 }), frame("x", 1)], "Live", "Caught up 1 event."],
  ["drain", "", [hello(), frame("drain", {}), "reconnecting"], "Reconnecting…", "The gateway is restarting."],
  ["busy", "", [frame("busy", { code: "overloaded" }), "reconnecting"], "Busy", /full right now.*in a few seconds/],
  ["busy is over", "", [frame("busy", {}), "reconnecting", hello()], "Live", ""],
  ["auth", "", [hello(), frame("auth", { expiresIn: 60 })], "Live", "Your sign-in ends within a minute."],
  ["bye", "", [hello(), frame("bye", { code: "complete", retry: false })], "Closed for good", "This topic is complete: nothing will follow."],
  ["bye for another reason", "", [hello(), frame("bye", { code: "deleted" })], "Closed for good", /nothing more to tell/],
  ["bye before hello", "", [frame("bye", { code: "too_many_topics" })], "Closed for good", "These are more topics than one stream can follow."],
  ["evicted", "c", [hello({ recovered: false, reason: "evicted", missed: 12 })], "Live", /^History lost: 12 events missed\. The gateway no longer keeps/],
  ["one missed", "c", [hello({ recovered: false, reason: "evicted", missed: 1 })], "Live", /^History lost: 1 event missed\./],
  ["not known how many", "c", [hello({ recovered: false, reason: "epoch_changed", missed: null })], "Live", /events may be missing\. A topic was begun anew/],
  ["too many at once", "c", [hello({ recovered: false, reason: "replay_limit", missed: 200000 })], "Live", /200,000 events missed\. That is more/],
  ["a reason that is new", "c", [hello({ recovered: false, reason: "moonlight", missed: null })], "Live", "History lost: events may be missing."],
  ["some of it is left", "c", [hello({ recovered: false, reason: "evicted", missed: 3, replay: 1 }), frame("x", 1)], "Live", /^History lost: 3 events.*Caught up 1 event\.$/],
  ["gap", "", [hello(), frame("gap", { topic: "t", from: 5, to: 16, reason: "evicted" }, "n")], "Live", /12 events missed.*Of t, numbers 5 to 16\.$/],
  ["gap without an end", "", [hello(), frame("gap", { topic: "t", from: 5, to: null, reason: "epoch_changed" })], "Live", /may be missing.*Of t\.$/],
  ["frames that are broken", "", [{ type: "hello", data: "{", id: "" }, { type: "gap", data: "null", id: "" }], "Live", /events may be missing/],
];

for (const [name, cursor, frames, state, news] of CASES) {
  test(`what a person is told: ${name}`, () => {
    const said = told(frames, cursor);
    assert.equal(said.state, state);
    if (typeof news === "string") assert.equal(said.news, news);
    else assert.match(said.news, news);
  });
}

test("being offline is said instead of reconnecting, and a live stream is live all the same", () => {
  for (const [frames, text] of [[["reconnecting"], "You are offline"], [[], "You are offline"], [[hello()], "Live"]]) {
    assert.equal(stateOf(told(frames).following, false).text, text);
  }
});

test("events and holes stand in the order in which they came", () => {
  const { following } = told([
    hello({ recovered: false, reason: "evicted", missed: 3, replay: 1 }), frame("old", { a: 1 }, "c1"), frame("new", "x", "c2"),
    frame("gap", { topic: "t", from: 1, to: 1, reason: "evicted" }, "c3"),
  ], "c");
  const [hole, old, fresh, gap] = following.entries.all;
  assert.match(hole.missing, /3 events missed.*What is still there follows\.$/);
  assert.deepEqual(old, { number: 1, name: "old", data: '{"a":1}', cursor: "c1", atMs: 0, replayed: true });
  assert.equal(fresh.replayed, false);
  assert.match(gap.missing, /1 event missed.*number 1\.$/);
  assert.equal(following.cursor, "c3");
  assert.equal(following.entries.heard, 2);
});

test("the place is kept through frames that have none, and the topics are the gateway's", () => {
  const { following } = told([hello({ topics: ["user/me"] }), frame("x", 1, "e1.a.1"), frame("drain", {}), "reconnecting"]);
  assert.equal(following.cursor, "e1.a.1");
  assert.deepEqual(following.topics, ["user/me"]);
});

test("a replay that is shorter than it was said to be ends all the same", () => {
  const { following } = told([hello({ replay: 5 }), frame("x", 1)], "c");
  assert.ok(following.replay);
  following.caughtUp();
  assert.equal(following.replay, undefined);
  assert.equal(newsOf(following), "Caught up 1 event.");
});

test("what is read from the beginning was not missed; after a cut it is like any other stream", () => {
  const frames = [hello({ replay: 1 }), frame("x", 1)];
  assert.equal(told(frames, "", true).news, "From the oldest that is kept: 1 event.");
  assert.equal(told([...frames, "reconnecting", hello({ replay: 1 }), frame("x", 1)], "", true).news, "Caught up 1 event.");
});

test("no frame can make the page say or show more than text", () => {
  const { following } = told([hello({ topics: [{}, 7] }), frame("__proto__", { a: 1 }), frame("constructor", 1)]);
  assert.deepEqual(following.topics, ["[object Object]", "7"]);
  assert.deepEqual(following.entries.all.map(({ name }) => name), ["__proto__", "constructor"]);
});

test("the list is bounded: the oldest go, and are counted", () => {
  const entries = new Entries();
  entries.addHole("lost");
  for (let i = 0; i < 3 * KEPT; i += 1) {
    entries.add({ name: "x", data: String(i), cursor: "", atMs: 0, replayed: false });
    assert.ok(entries.all.length < 2 * KEPT);
  }
  entries.trim();
  assert.equal(entries.all.length, KEPT);
  assert.equal(entries.gone, 2 * KEPT);
  assert.equal(entries.all.at(-1).data, String(3 * KEPT - 1));
  assert.deepEqual(entries.all.map(({ number }) => number), Array.from({ length: KEPT }, (_, i) => 2 * KEPT + 1 + i));
  entries.clear();
  assert.equal(entries.gone, 0);
  entries.add({ name: "x", data: "", cursor: "", atMs: 0, replayed: false });
  assert.equal(entries.all[0].number, 3 * KEPT + 1);
});

test("topics are separated by spaces or commas, each once, and their order is no other stream", () => {
  assert.deepEqual(topicsOf(" team/b,team/a  team/b\n*,"), ["team/b", "team/a", "*"]);
  assert.deepEqual(topicsOf(" , "), []);
  assert.equal(streamOf(["b", "a"]), streamOf(["a", "b"]));
});

test("topics and their address are one another", () => {
  for (const topics of [[], ["user/a"], ["a:b/c", "team/*"], ["ü&x=1#", "a+b%2F"]]) {
    assert.deepEqual(topicsIn(addressOf(topics)), topics);
    assert.deepEqual(new URLSearchParams(queryOf(topics)).getAll("topic"), topics);
  }
  assert.equal(addressOf(["team/*", "a:b"]), "#/events?topic=team/*&topic=a:b");
  for (const address of ["", "#/", "#/c/1", "#/eventsx", "#/c/events?topic=a"]) assert.equal(topicsIn(address), null, address);
});

test("a pattern covers what begins like it", () => {
  assert.ok(covers(["a", "team/*"], "team/x/y") && covers(["*"], "x") && covers(["a"], "a"));
  assert.ok(!covers(["team/*"], "team") && !covers(["a"], "a/b") && !covers([], "a"));
});
