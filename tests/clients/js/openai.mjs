// Asks OpenAI's own JavaScript SDK each question once: `node openai.mjs http://127.0.0.1:8001`; prints what it got as
// one JSON object. Decides nothing: what is right is said by the tests.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.argv[2]}/v1`, apiKey: "local", maxRetries: 0 });
const ask = (model, more) => ({ model, messages: [{ role: "user", content: "T=20 I=200" }], ...more });
const whole = (model, more) => client.chat.completions.create(ask(model, more));

async function streamed(model, more) {
  const chunks = [];
  try {
    for await (const chunk of await client.chat.completions.create(ask(model, { stream: true, ...more }))) {
      chunks.push(chunk);
    }
    return { chunks };
  } catch (error) {
    return { chunks, ...told(error) };
  }
}

const told = (error) => ({
  error: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  message: error.message,
  retryAfter: error.headers?.get("retry-after") ?? null,
});

const questions = {
  whole: () => whole("ok"),
  streamed: () => streamed("ok", { stream_options: { include_usage: true } }),
  assembled: () => client.chat.completions.stream(ask("tools-2")).finalChatCompletion(),
  reasoning: () => streamed("reasoning"),
  cut: () => whole("cut"),
  cutStream: () => streamed("cut"),
  limited: () => whole("e429"),
  limitedStream: () => streamed("e429"),
  models: async () => (await client.models.list()).data.map((model) => model.id),
};

const answers = {};
for (const [name, question] of Object.entries(questions)) answers[name] = await question().catch(told);
process.stdout.write(JSON.stringify(answers));
