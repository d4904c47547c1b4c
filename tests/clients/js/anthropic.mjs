// Asks Anthropic's own JavaScript SDK, and the AI SDK's provider for it in three versions, each question once:
// `node anthropic.mjs http://127.0.0.1:8001`; prints what they got as one JSON object. Decides nothing.

import Anthropic from "@anthropic-ai/sdk";
import * as ai5 from "ai5";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import { createAnthropic as provider5 } from "anthropic-provider5";
import { createAnthropic as provider6 } from "anthropic-provider6";
import { createAnthropic as provider7 } from "anthropic-provider7";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false; // else some of them go to stdout
const url = process.argv[2];
const client = new Anthropic({ baseURL: url, apiKey: "local", maxRetries: 0 });
const prompt = "T=20 I=200";
const ask = (model, more) => ({ model, max_tokens: 100, messages: [{ role: "user", content: prompt }], ...more });

const told = (error) => ({ error: error.constructor.name, status: error.status ?? error.statusCode ?? null, message: error.message });

const questions = {
  whole: () => client.messages.create(ask("ok")),
  streamed: () => client.messages.stream(ask("reasoning")).finalMessage(),
  calls: () => client.messages.stream(ask("tools-2")).finalMessage(),
  cut: () => client.messages.create(ask("cut")),
  cutStream: () => client.messages.stream(ask("cut")).finalMessage(),
  limited: () => client.messages.create(ask("e429")),
  counted: () => client.messages.countTokens({ model: "ok", messages: ask("ok").messages }),
};

for (const [version, ai, provider] of [[5, ai5, provider5], [6, ai6, provider6], [7, ai7, provider7]]) {
  const model = (name) => provider({ baseURL: `${url}/v1`, apiKey: "local" })(name);
  const get_weather = ai.tool({
    inputSchema: z.object({ city: z.string(), day: z.number() }),
    execute: async ({ city, day }) => `rain in ${city} on day ${day}`,
  });
  const options = (name) => ({ model: model(name), prompt, maxRetries: 0 });
  questions[`generated${version}`] = async () => {
    const { text, usage, finishReason } = await ai.generateText(options("ok"));
    return { text, usage, finishReason };
  };
  questions[`streamed${version}`] = async () => {
    const stream = ai.streamText({ ...options("reasoning"), onError() {} });
    let text = "";
    for await (const piece of stream.textStream) text += piece;
    return { text, reasoning: await stream.reasoningText };
  };
  questions[`steps${version}`] = async () => {
    const stopWhen = ai.stepCountIs ? ai.stepCountIs(3) : ai.isStepCount(3);
    const { text, steps } = await ai.generateText({ ...options("tools"), tools: { get_weather }, stopWhen });
    return { text, results: steps.flatMap((step) => step.toolResults.map((result) => result.output)) };
  };
  questions[`cut${version}`] = async () => {
    const errors = [];
    const stream = ai.streamText({ ...options("cut"), onError: ({ error }) => errors.push(error) });
    let text = "";
    for await (const part of stream.fullStream) if (part.type === "text-delta") text += part.text;
    return { text, errors: errors.map((error) => error?.message ?? JSON.stringify(error)) };
  };
}

const answers = {};
for (const [name, question] of Object.entries(questions)) answers[name] = await question().catch(told);
process.stdout.write(JSON.stringify(answers));
