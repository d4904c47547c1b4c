import assert from "node:assert/strict";
import { test } from "node:test";
import { People } from "../../routes/static/chat/people.js";
import { Problem } from "../../routes/static/problems.js";

const nothing = async () => {};
const people = (calls = {}) => new People({ change: nothing, tellTyping: nothing, refresh: nothing, changed: () => {}, ...calls });

test("a role may do what the gateway lets it; where there are no members, everything", () => {
  const made = people();
  assert.deepEqual([made.may("x", "send"), made.may("x", "manage"), made.topics], [true, true, []]);
  made.take({ sharedId: "s_1", members: [{ sub: "a", role: "owner" }, { sub: "b", role: "viewer" }, { sub: "c", role: "approver" }] });
  const rights = ["answer", "send", "manage"];
  assert.deepEqual(["a", "b", "c"].map((sub) => rights.map((right) => made.may(sub, right))), [[true, true, true], [false, false, false], [true, false, false]]);
  assert.deepEqual(made.topics, ["chat/s_1", "presence/chat/s_1"]);
});

test("an answer is stopped by an owner, and by an editor whose message it answers; who may not write is told why", () => {
  const made = people();
  assert.deepEqual([made.mayStop("x", "y"), made.whyClosed("x")], [true, ""]);
  const roles = { a: "owner", b: "editor", c: "approver", d: "viewer" };
  made.take({ sharedId: "s_1", members: Object.entries(roles).map(([sub, role]) => ({ sub, role })) });
  const stops = Object.keys(roles).map((sub) => ["", sub, "z"].map((asker) => made.mayStop(sub, asker)));
  const none = [false, false, false];
  assert.deepEqual(stops, [[true, true, true], [true, true, false], none, none]);
  assert.deepEqual(Object.keys(roles).map((sub) => /answer what is asked/.test(made.whyClosed(sub))), [false, false, true, false]);
  assert.deepEqual(Object.keys(roles).map((sub) => made.whyClosed(sub) === ""), [true, true, false, false]);
});

test("who is here and who types is told, and who leaves types no more", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const made = people();
  made.heard("here", { here: ["a", "b"] });
  made.heard("join", { sub: "c" });
  for (const sub of ["a", "b", "c"]) made.heard("typing", { sub });
  made.heard("leave", { sub: "b" });
  assert.deepEqual([[...made.present], made.typing("a")], [["a", "c"], ["c"]]);
  t.mock.timers.tick(5000);
  assert.deepEqual(made.typing("a"), []);
});

test("typing is told once in two seconds, and only where somebody hears it", async (t) => {
  t.mock.timers.enable({ apis: ["Date"], now: 10_000 });
  let told = 0;
  const made = people({ tellTyping: async () => (told += 1) });
  await made.type();
  made.take({ sharedId: "s_1" });
  await Promise.all([made.type(), made.type()]);
  assert.equal(told, 1);
  t.mock.timers.tick(2000);
  await made.type();
  assert.equal(told, 2);
});

test("a change that is refused says why", async () => {
  const made = people({ change: async () => { throw new Problem({ status: 409, detail: "'a' is the last owner" }); } });
  assert.equal(await made.change("a", null), false);
  assert.equal(made.trouble, "'a' is the last owner");
});
