// Speaks to both of the Realtime clients of OpenAI's JavaScript SDK, and has it spoken to: `node realtime.mjs URL KEY PCM
// PACE`; prints what each was told as one JSON object. Decides nothing: what is right is said by the tests.
//
// Both clients insist on wss:. Here TLS ends before the wire begins, as it does behind a proxy.

import { readFileSync } from "node:fs";
import https from "node:https";
import net from "node:net";
import { setTimeout as pause } from "node:timers/promises";

import OpenAI from "openai";
import { OpenAIRealtimeWebSocket } from "openai/realtime/websocket";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const [url, apiKey, file, pace] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const pcm = readFileSync(file);
const CHUNK_S = 0.2;
const CHUNK_BYTES = 24000 * 2 * CHUNK_S;
const COMPLETED = "conversation.item.input_audio_transcription.completed";

class Plain extends https.Agent {
  createConnection(options, connected) {
    return net.connect({ host: options.host, port: options.port }, connected);
  }
}

globalThis.WebSocket = class extends globalThis.WebSocket {
  constructor(wss, protocols) {
    super(wss.replace("wss:", "ws:"), protocols);
  }
};

/** All events of a conversation, and how it closed; `isOver` says when it is. */
async function converse(open, session, after, isOver) {
  const realtime = open();
  const events = [];
  let over;
  const done = new Promise((resolve) => (over = resolve));
  realtime.on("event", (event) => {
    events.push(event);
    if (isOver(events)) over();
  });
  realtime.on("error", () => {}); // told as an event too; without a listener the SDK throws
  const closed = new Promise((resolve) => realtime.socket.addEventListener("close", resolve));
  await new Promise((resolve) => realtime.socket.addEventListener("open", resolve));
  realtime.send({ type: "session.update", session: { type: "transcription", audio: { input: session } } });
  realtime.send({ type: "response.create", event_id: "mine" });
  for (let at = 0; at < pcm.length; at += CHUNK_BYTES) {
    const audio = pcm.subarray(at, at + CHUNK_BYTES).toString("base64");
    realtime.send({ type: "input_audio_buffer.append", audio });
    await pause((CHUNK_S * 1000) / pace);
  }
  for (const event of after) realtime.send(event);
  await done;
  const protocol = realtime.socket.protocol;
  realtime.close();
  return { events, protocol, closed: (await closed).code };
}

const completed = (events) => events.filter((event) => event.type === COMPLETED).length;
const begun = (events) => events.filter((event) => event.type === "input_audio_buffer.speech_started").length;
const isHeard = (events) =>
  events.some((event) => event.error?.event_id === "end") && completed(events) === begun(events);

const ws = converse(
  () => new OpenAIRealtimeWS({ intent: "transcription", options: { agent: new Plain() } }, client),
  { turn_detection: { type: "server_vad" } },
  [{ type: "response.create", event_id: "end" }], // its error comes after all that was heard before it
  isHeard,
);
const secret = await client.realtime.clientSecrets.create({ session: { type: "transcription" } });
const visitor = new OpenAI({ baseURL: `${url}/v1`, apiKey: secret.value });
const browser = converse(
  () => new OpenAIRealtimeWebSocket({ intent: "transcription" }, visitor),
  { turn_detection: null },
  [{ type: "input_audio_buffer.commit" }],
  (events) => completed(events) === 1,
);
const said = { model: "gpt-4o-mini-tts", voice: "marin", input: "Good morning to you all." };
const sound = await client.audio.speech.create({ ...said, response_format: "wav" });
const wav = Buffer.from(await sound.arrayBuffer());
const speech = { type: sound.headers.get("content-type"), head: wav.toString("latin1", 0, 4), bytes: wav.length };
process.stdout.write(JSON.stringify({ ws: await ws, browser: await browser, speech }));
