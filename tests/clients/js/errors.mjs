// Asks each client for one answer of each model, whole and streamed, at each base, and prints what it raised as one
// JSON object: `node errors.mjs '{"bases": ["http://127.0.0.1:8001/v1"], "models": ["e400"]}'`. Decides nothing: what is
// right is said by the tests.
//
// OpenAI's SDKs may repeat a request twice, but at the first base. The others may not: they repeat by status alone, whatever they are told.

import { ChatOpenAI } from "@langchain/openai";
import * as ai5 from "ai5";
import * as ai6 from "ai6";
import * as ai7 from "ai7";
import OpenAI7 from "openai";
import { createOpenAI as provider5 } from "openai-provider5";
import { createOpenAI as provider6 } from "openai-provider6";
import { createOpenAI as provider7 } from "openai-provider7";
import OpenAI5 from "openai5";
import OpenAI6 from "openai6";

const { bases, models } = JSON.parse(process.argv[2]);
const messages = [{ role: "user", content: "T=4 I=0" }];

function sdk(OpenAI, baseURL) {
  const client = new OpenAI({ baseURL, apiKey: "local", maxRetries: baseURL === bases[0] ? 0 : 2 });
  const ask = (model, stream) => client.chat.completions.create({ model, messages, stream });
  return { whole: (model) => ask(model, false), streamed: async (model) => drained(await ask(model, true)) };
}

function aiSdk({ generateText, streamText }, createOpenAI, baseURL) {
  const provider = createOpenAI({ baseURL, apiKey: "local" });
  const asked = (model) => ({ model: provider.chat(model), messages, maxRetries: 0 });
  return {
    whole: (model) => generateText(asked(model)),
    streamed: async (model) => {
      for await (const part of streamText({ ...asked(model), onError: () => {} }).fullStream) {
        if (part.type === "error") throw part.error;
      }
    },
  };
}

function langchain(baseURL) {
  const options = { apiKey: "local", maxRetries: 0, useResponsesApi: false, configuration: { baseURL } };
  const chain = (model) => new ChatOpenAI({ model, ...options });
  return {
    whole: (model) => chain(model).invoke("T=4 I=0"),
    streamed: async (model) => drained(await chain(model).stream("T=4 I=0")),
  };
}

async function drained(stream) {
  for await (const _ of stream);
}

const told = (error) => ({
  error: error.constructor.name,
  name: error.name ?? null,
  status: error.status ?? error.statusCode ?? null,
  code: error.code ?? error.data?.error?.code ?? null,
  type: error.type ?? error.data?.error?.type ?? null,
  param: error.param ?? error.data?.error?.param ?? null,
  message: String(error.message ?? JSON.stringify(error)),
  retryable: error.isRetryable ?? null,
});

const clients = (base) => ({
  openai5: sdk(OpenAI5, base),
  openai6: sdk(OpenAI6, base),
  openai7: sdk(OpenAI7, base),
  ai5: aiSdk(ai5, provider5, base),
  ai6: aiSdk(ai6, provider6, base),
  ai7: aiSdk(ai7, provider7, base),
  langchain: langchain(base),
});

async function raisedAt(base) {
  const raised = {};
  for (const [name, client] of Object.entries(clients(base))) {
    for (const way of ["whole", "streamed"]) {
      for (const model of models) raised[`${name} ${way} ${model}`] = await client[way](model).then(() => null, told);
    }
  }
  return raised;
}

const raised = [];
for (const base of bases) raised.push(await raisedAt(base));
process.stdout.write(JSON.stringify(raised));
