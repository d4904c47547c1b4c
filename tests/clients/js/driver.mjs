// A remote control for the AI SDK's own client: `node driver.mjs ai5`, then one JSON command a line on stdin and its
// answer, with the command's `id`, on stdout. Commands overlap: `send` answers when the client's promise does.
// Decides nothing: what is right is said by the tests.

import { createInterface } from "node:readline";
import { openChat } from "./chat.mjs";
import { CuttingProxy } from "./proxy.mjs";

const UNTIL_MS = 10_000;
const sdk = await import(process.argv[2]);
const open = new Map();

const commands = {
  async open({ client, ...init }) {
    const proxy = await CuttingProxy.before(init.url);
    open.set(client, { proxy, ...openChat(sdk, { ...init, url: proxy.url }) });
  },
  send: ({ client, message, body }) => chatOf(client).sendMessage(message, { body }),
  regenerate: ({ client, messageId, body }) => chatOf(client).regenerate({ messageId, body }),
  resume: ({ client }) => chatOf(client).resumeStream(),
  stop: ({ client }) => chatOf(client).stop(),
  toolOutput: ({ client, ...output }) => chatOf(client).addToolOutput(output),
  approve: ({ client, answer }) => chatOf(client).addToolApprovalResponse(answer),
  // As an application that edits what is on screen calls it: keeps the messages of these ids, with other texts where given.
  show: ({ client, ids, texts = {} }) => {
    const kept = chatOf(client).messages.filter((message) => ids.includes(message.id));
    chatOf(client).messages = kept.map((message) => withText(message, texts[message.id]));
  },
  until: ({ client, ...wanted }) => until(client, wanted),
  cut: ({ client }) => open.get(client).proxy.cut(),
  cutAfter: ({ client, bytes }) => open.get(client).proxy.cutAfter(bytes),
  view: () => {},
  async close({ client }) {
    await chatOf(client).stop();
    open.get(client).proxy.close();
    open.delete(client);
  },
};

const withText = (message, text) => (text === undefined ? message : { ...message, parts: [{ type: "text", text }] });
const chatOf = (client) => open.get(client).chat;

function view(client) {
  if (!open.has(client)) return null;
  const { chat, errors, posts, proxy } = open.get(client);
  const error = chat.error?.message ?? null;
  return { status: chat.status, error, errors, messages: chat.messages, posts: posts.count, received: proxy.received };
}

/** Waits for a status, for so many messages, for so many characters of text and so many parts in the last one. */
async function until(client, { status, messages = 0, chars = 0, parts = 0 }) {
  const end = Date.now() + UNTIL_MS;
  const chat = chatOf(client);
  const met = () =>
    (status === undefined || chat.status === status) &&
    chat.messages.length >= messages &&
    (parts === 0 || chat.messages.at(-1)?.parts.length >= parts) &&
    (chars === 0 || textOf(chat.messages.at(-1)).length >= chars);
  while (!met()) {
    if (Date.now() > end) throw new Error(`not within ${UNTIL_MS} ms; it is ${JSON.stringify(view(client))}`);
    await new Promise((wake) => setTimeout(wake, 2));
  }
}

function textOf(message) {
  if (message?.role !== "assistant") return "";
  return message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** What the SDK's schema says of each chunk: null, or why it is refused. */
async function validate(chunks) {
  const schema = sdk.asSchema(sdk.uiMessageChunkSchema);
  const results = await Promise.all(chunks.map((chunk) => schema.validate(chunk)));
  return results.map((result) => (result.success ? null : String(result.error)));
}

async function answer({ id, command, ...rest }) {
  try {
    if (command === "validate") return { id, result: await validate(rest.chunks) };
    await commands[command](rest);
    return { id, result: view(rest.client) };
  } catch (error) {
    return { id, failed: String(error?.stack ?? error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  answer(JSON.parse(line)).then((told) => process.stdout.write(`${JSON.stringify(told)}\n`));
}
process.exit(0);
