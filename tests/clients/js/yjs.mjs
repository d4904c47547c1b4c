// Documents shared by the provider of deploy/clients/yjs: `node yjs.mjs URL TOKEN READ_TOKEN SEED SCENE...` plays the
// scenes, all at once, and prints what came of each as one JSON object. Decides nothing: what is right is said by the
// tests. The provider is linked into node_modules, where it finds its packages.

import { setTimeout as pause } from "node:timers/promises";
import { EventSource } from "eventsource";
import * as Y from "yjs";
import { TrilaneProvider } from "./node_modules/.trilane-yjs/provider.js";
import { CuttingProxy } from "./proxy.mjs";

const [url, token, readToken, seed, ...names] = process.argv.slice(2);
const PATIENCE_MS = 25_000;

let state = Number(seed);
/** A number below `n`, from the seed. */
function below(n) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return state % n;
}

async function until(met, what) {
  for (const end = Date.now() + PATIENCE_MS; !met(); await pause(10)) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
  }
}

class Device {
  constructor(topic, { gateway = url, doc = new Y.Doc(), ...options } = {}) {
    this.doc = doc;
    this.text = doc.getText("text");
    this.map = doc.getMap("map");
    this.errors = [];
    this.provider = new TrilaneProvider(doc, { url: gateway, topic, token, EventSource, compactAfter: 5, ...options });
    this.provider.on("error", ({ message }) => this.errors.push(message));
  }

  edit(label) {
    if (this.text.length && below(4) === 0) this.text.delete(below(this.text.length), 1);
    else this.text.insert(below(this.text.length + 1), label);
    this.map.set(`k${below(8)}`, label);
  }

  synced() {
    return until(() => this.provider.synced, "the document is here");
  }

  sent() {
    return until(() => this.provider.outbox.isEmpty, "all is sent");
  }

  get content() {
    return JSON.stringify([this.text.toString(), Object.entries(this.map.toJSON()).sort()]);
  }
}

const headers = token ? { authorization: `Bearer ${token}` } : {};
const topicState = async (topic) => (await fetch(`${url}/api/events/topics/${topic}`, { headers })).json();

/** All devices show the same, and have nothing to send. */
async function agree(devices) {
  for (const device of devices) await device.sent();
  await until(() => new Set(devices.map((device) => device.content)).size === 1, "all show the same");
}

/** Waits until the topic has dropped what it began with. */
async function forget(topic) {
  for (const end = Date.now() + PATIENCE_MS; (await topicState(topic)).oldest <= 1; await pause(100)) {
    if (Date.now() > end) throw new Error("the topic keeps its beginning");
  }
}

/** Waits until somebody has published the state of a document of which the beginning was dropped. */
async function compacted(topic) {
  for (const end = Date.now() + PATIENCE_MS; ; await pause(100)) {
    const probe = new Device(topic, { awareness: null });
    await probe.synced();
    probe.provider.destroy();
    if (!probe.errors.length) return;
    if (Date.now() > end) throw new Error("nobody has published the state");
  }
}

/** Many small updates, each an event of its own. */
async function write(device, count) {
  for (let n = 0; n < count; n++) {
    device.edit(`${n}`);
    await device.sent();
  }
}

const scenes = {
  async concurrent() {
    const proxies = await Promise.all([0, 1, 2].map(() => CuttingProxy.before(url)));
    const devices = proxies.map((proxy) => new Device("docs/concurrent", { gateway: proxy.url }));
    for (const device of devices) await device.synced();
    for (let n = 0; n < 120; n++) {
      devices[n % 3].edit(`${n} `);
      if (below(12) === 0) proxies[below(3)].cut();
      if (below(12) === 0) proxies[below(3)].cutAfter(below(2_000));
      await pause(below(25));
    }
    devices[0].text.insert(0, "x".repeat(150_000));
    await agree(devices);
    const late = new Device("docs/concurrent");
    await late.synced();
    await agree([...devices, late]);
    const sets = devices.every(({ doc }) => Y.equalSnapshots(Y.snapshot(doc), Y.snapshot(late.doc)));
    return { sets, length: late.text.length, errors: [...devices, late].flatMap(({ errors }) => errors) };
  },

  async outlived() {
    const topic = "docs/outlived";
    const [one, other] = [new Device(topic), new Device(topic)];
    for (const device of [one, other]) await device.synced();
    other.provider.disconnect();
    other.text.insert(0, "written offline ");
    await write(one, 20);
    await forget(topic);
    await compacted(topic);
    const late = new Device(topic);
    await late.synced();
    const lateSawAll = late.content === one.content;
    other.provider.connect();
    await other.synced();
    await agree([one, other, late]);
    const errors = [one, other, late].flatMap(({ errors }) => errors);
    return { lateSawAll, text: one.text.toString(), oldest: (await topicState(topic)).oldest, errors };
  },

  async resumedTooLate() {
    const topic = "docs/too-late";
    const proxy = await CuttingProxy.before(url);
    const [one, other] = [new Device(topic), new Device(topic, { gateway: proxy.url })];
    for (const device of [one, other]) await device.synced();
    await write(one, 3);
    await agree([one, other]);
    const { server } = proxy;
    const { port } = server.address();
    proxy.close();
    other.text.insert(0, "in a tunnel ");
    await write(one, 20);
    await forget(topic);
    server.listen(port, "127.0.0.1");
    await agree([one, other]);
    return { text: one.text.toString(), errors: [...one.errors, ...other.errors] };
  },

  async twoCompactors() {
    const topic = "docs/compactors";
    const devices = [1, 2, 3].map(() => new Device(topic, { compactAfter: Infinity }));
    for (const device of devices) await device.synced();
    devices[0].edit("a");
    await agree(devices);
    const before = (await topicState(topic)).head;
    const won = await Promise.all(devices.map(({ provider }) => provider.compact()));
    return { won, added: (await topicState(topic)).head - before };
  },

  async forgotten() {
    const topic = "docs/forgotten";
    const device = new Device(topic, { compactAfter: Infinity });
    await device.synced();
    await write(device, 20);
    await forget(topic);
    const late = new Device(topic, { compactAfter: Infinity });
    await late.synced();
    return { errors: late.errors, mayCompact: await late.provider.compact() };
  },

  async keptElsewhere() {
    const topic = "docs/kept";
    const first = new Device(topic);
    await first.synced();
    first.edit("early");
    await first.sent();
    const stored = Y.encodeStateAsUpdate(first.doc);
    first.provider.destroy();
    const doc = new Y.Doc();
    Y.applyUpdate(doc, stored); // as y-indexeddb does after a reload
    doc.getText("text").insert(0, "never sent ");
    const reloaded = new Device(topic, { doc });
    const other = new Device(topic);
    await reloaded.synced();
    await other.synced();
    await agree([reloaded, other]);
    return { text: other.text.toString() };
  },

  async awareness() {
    const topic = "docs/cursors";
    const [one, other] = [new Device(topic), new Device(topic)];
    for (const device of [one, other]) await device.synced();
    const seen = () => other.provider.awareness.getStates().get(one.doc.clientID);
    one.provider.awareness.setLocalStateField("cursor", 7);
    await until(() => seen()?.cursor === 7, "the cursor is seen");
    one.provider.disconnect();
    await until(() => seen() === undefined, "the cursor is gone");
    one.provider.connect();
    await until(() => seen()?.cursor === 7, "the cursor is back");
    return { head: (await topicState(topic)).head };
  },

  async readOnly() {
    const topic = "docs/read-only";
    const device = new Device(topic, { token: readToken, compactAfter: 1, awareness: null });
    await device.synced();
    device.edit("mine");
    await until(() => device.errors.length, "the refusal is told");
    const writer = new Device(topic);
    writer.map.set("theirs", true);
    await until(() => device.map.get("theirs"), "it still reads");
    return { errors: device.errors, mine: writer.text.toString() };
  },
};

const play = async (name) => [name, await scenes[name]().catch(({ stack }) => ({ stack }))];
process.stdout.write(JSON.stringify(Object.fromEntries(await Promise.all(names.map(play)))));
process.exit(0);
