// Asks `/v1/responses` through OpenAI's own JavaScript SDK, and through the AI SDK's default OpenAI provider in each
// version, each question once: `node responses.mjs http://127.0.0.1:8001`; prints what each got as one JSON object.
// Decides nothing: what is right is said by the tests.

import * as ai5 from "ai5";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import OpenAI from "openai";
import { createOpenAI as provider5 } from "openai-provider5";
import { createOpenAI as provider6 } from "openai-provider6";
import { createOpenAI as provider7 } from "openai-provider7";
import { z } from "zod";

const baseURL = `${process.argv[2]}/v1`;
const prompt = "T=20 I=200";
const weather = { description: "The weather", inputSchema: z.object({ city: z.string(), day: z.number() }) };

const told = (error) => ({
  error: error.name ?? error.constructor.name,
  status: error.status ?? error.statusCode ?? null,
  code: error.code ?? error.data?.error?.code ?? null,
  message: String(error.message ?? JSON.stringify(error)),
});

function sdk() {
  const client = new OpenAI({ baseURL, apiKey: "local", maxRetries: 0 });
  const read = async (stream) => {
    const events = [];
    try {
      for await (const event of await stream) events.push(event);
      return { events };
    } catch (error) {
      return { events, ...told(error) };
    }
  };
  const streamed = (model, more) => read(client.responses.create({ model, input: prompt, stream: true, ...more }));
  return {
    whole: () => client.responses.create({ model: "ok", input: prompt }),
    streamed: () => streamed("ok"),
    assembled: () => client.responses.stream({ model: "tools-2", input: prompt }).finalResponse(),
    cut: () => streamed("cut"),
    limited: () => streamed("e429"),
    resumed: async () => {
      const { events } = await streamed("ok", { background: true });
      const again = await read(client.responses.retrieve(events[0].response.id, { stream: true, starting_after: 3 }));
      return { rest: events.slice(4), again: again.events };
    },
  };
}

function aiSdk({ generateText, streamText, generateObject, stepCountIs, tool }, createOpenAI) {
  const provider = createOpenAI({ baseURL, apiKey: "local" });
  const ask = (model, more) => ({ model: provider(model), prompt, maxRetries: 0, ...more });
  const streamed = async (model, more) => {
    const parts = [];
    for await (const part of streamText({ ...ask(model, more), onError: () => {} }).fullStream) parts.push(part);
    const error = parts.find((part) => part.type === "error");
    return {
      text: parts.filter((part) => part.type === "text-delta").map((part) => part.text).join(""),
      reasoning: parts.filter((part) => part.type === "reasoning-delta").map((part) => part.text).join(""),
      calls: parts.filter((part) => part.type === "tool-call").map((part) => part.input),
      results: parts.filter((part) => part.type === "tool-result").map((part) => part.output),
      finish: parts.filter((part) => part.type === "finish").map((part) => [part.finishReason, part.totalUsage]),
      ...(error ? { error: told(error.error) } : {}),
    };
  };
  const tools = { get_weather: tool({ ...weather, execute: async ({ city }) => `sun in ${city}` }) };
  const summary = { providerOptions: { openai: { reasoningSummary: "auto", forceReasoning: true } } };
  return {
    whole: async () => (({ text, finishReason, usage }) => ({ text, finishReason, usage }))(await generateText(ask("ok"))),
    streamed: () => streamed("ok"),
    tools: () => streamed("tools-2", { tools, stopWhen: stepCountIs(2) }),
    wholeTools: async () => {
      const { text, steps } = await generateText(ask("tools", { tools, stopWhen: stepCountIs(2) }));
      return { text, steps: steps.length };
    },
    unstored: () => streamed("tools", { tools, stopWhen: stepCountIs(2), providerOptions: { openai: { store: false } } }),
    reasoning: () => streamed("o3", summary),
    length: () => streamed("finish-length"),
    object: async () => (await generateObject(ask("json-object", { schema: weather.inputSchema }))).object,
    cut: () => streamed("cut"),
    limited: () => generateText(ask("e429")),
    tooLong: () => generateText(ask("e400")),
  };
}

const clients = {
  openai: sdk(),
  ai5: aiSdk(ai5, provider5),
  ai6: aiSdk(ai6, provider6),
  ai7: aiSdk(ai7, provider7),
};
const answers = {};
for (const [client, questions] of Object.entries(clients)) {
  answers[client] = {};
  for (const [name, question] of Object.entries(questions)) answers[client][name] = await question().catch(told);
}
process.stdout.write(JSON.stringify(answers));
