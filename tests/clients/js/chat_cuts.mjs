// Reads one finished answer again and again by each client, cut once after each number of bytes:
// `node chat_cuts.mjs url body from to`. Prints, for each client, what it got for each cut.
// Decides nothing: what is right is said by the tests.

import { fetchEventSource as fortaine } from "@fortaine/fetch-event-source";
import { fetchEventSource as microsoft } from "@microsoft/fetch-event-source";
import { EventSource as PlainEventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource } from "extended-eventsource";
import { CuttingProxy } from "./proxy.mjs";

const [url, body, from, to] = [process.argv[2], process.argv[3], Number(process.argv[4]), Number(process.argv[5])];
const PATIENCE_MS = 20_000;
const AT_ONCE = 32;
const AT_ONCE_PATIENT = 512;
/** Clients that wait for two or three seconds before they come back, which nothing but the server can change. */
const PATIENT = ["eventsource", "eventsource-client"];
const headers = { "content-type": "application/json" };

// They are written for browsers: they look at the tab and keep their timers in the window.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

function byFetch(fetchEventSource) {
  return (address, take) => {
    const controller = new AbortController();
    fetchEventSource(address, {
      method: "POST",
      headers,
      body,
      signal: controller.signal,
      openWhenHidden: true,
      onmessage: ({ data }) => take(data),
      onclose() {
        throw new Error("the stream has ended"); // a clean end is for good only to those who do not say so
      },
      onerror: () => 1,
    }).catch(() => {});
    return () => controller.abort();
  };
}

function byEventSource(address, take) {
  const source = new EventSource(address, { method: "POST", body, headers, retry: 1, disableLogger: true });
  source.onmessage = ({ data }) => take(data);
  return () => source.close();
}

function byPlainEventSource(address, take) {
  const post = (url, init) => fetch(url, { ...init, method: "POST", body, headers: { ...init.headers, ...headers } });
  const source = new PlainEventSource(address, { fetch: post });
  source.onmessage = ({ data }) => take(data);
  return () => source.close();
}

function byEventSourceClient(url, take) {
  const source = createEventSource({ url, method: "POST", body, headers, onMessage: ({ data }) => take(data) });
  return () => source.close();
}

const clients = {
  "@microsoft/fetch-event-source": byFetch(microsoft),
  "@fortaine/fetch-event-source": byFetch(fortaine),
  "extended-eventsource": byEventSource,
  eventsource: byPlainEventSource,
  "eventsource-client": byEventSourceClient,
};

/** What one client got, with its connection cut after so many bytes. */
async function read(client, bytes) {
  const proxy = await CuttingProxy.before(url);
  proxy.cutAfter(bytes);
  const got = [];
  let timer;
  let close;
  await new Promise((done) => {
    timer = setTimeout(done, PATIENCE_MS);
    close = client(`${proxy.url}/api/chat`, (data) => {
      got.push(data);
      if (data === "[DONE]") done();
    });
  });
  clearTimeout(timer);
  close();
  proxy.close();
  return got;
}

const results = {};
for (const [name, client] of Object.entries(clients)) {
  const cuts = Array.from({ length: to - from }, (_, place) => from + place);
  results[name] = new Array(cuts.length);
  const worker = async () => {
    for (let cut = cuts.shift(); cut !== undefined; cut = cuts.shift()) {
      results[name][cut - from] = await read(client, cut);
    }
  };
  await Promise.all(Array.from({ length: PATIENT.includes(name) ? AT_ONCE_PATIENT : AT_ONCE }, worker));
}
process.stdout.write(JSON.stringify(results), () => process.exit(0));
