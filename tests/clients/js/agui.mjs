// Runs threads with AG-UI's own client, each question once: `node agui.mjs http://127.0.0.1:8001 key`; prints what it
// got as one JSON object. Decides nothing.

import { HttpAgent } from "@ag-ui/client";

const [url, key] = process.argv.slice(2);
console.error = () => {}; // it logs what it also raises
console.warn = () => {};
process.on("unhandledRejection", () => {}); // of a cut it also rejects a promise that nobody can have
const get_weather = { name: "get_weather", description: "The weather.", parameters: { type: "object", properties: {} } };

let threads = 0;
const open = (content, more = {}) => {
  const threadId = `agui-${++threads}`;
  const initialMessages = [{ id: "u1", role: "user", content }];
  return new HttpAgent({ url: `${url}/agui`, threadId, initialMessages, headers: { authorization: `Bearer ${key}` }, ...more });
};

const watch = (agent) => {
  const seen = { types: [], errors: [], last: null };
  agent.subscribe({
    onEvent({ event }) {
      seen.types.push(event.type);
      if (event.type === "RUN_FINISHED") seen.last = event;
    },
    onRunErrorEvent: ({ event }) => void seen.errors.push({ message: event.message, code: event.code }),
  });
  return seen;
};

const told = (error) => ({ error: error.message, status: error.status ?? null });

const run = async (agent, model, more = {}) => {
  const seen = watch(agent);
  const failure = await agent.runAgent({ forwardedProps: { model }, ...more }).then(() => null, told);
  return { ...seen, failure, messages: agent.messages };
};

// Lets so many whole events of an answer through, once, and keeps the newest id. The cut comes when the client has taken
// them in, for what it has read and not yet taken in it drops at an error.
const cutting = (events) => {
  const kept = { id: "", seen: 0, onEvent: () => void kept.seen++ };
  const wanted = events;
  kept.fetch = async (address, init) => {
    const answer = await fetch(address, init);
    if (events === 0) return answer;
    let left = events;
    events = 0;
    const reader = answer.body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const cut = new ReadableStream(
      {
        async pull(controller) {
          if (left-- === 0) {
            do await new Promise((resolve) => setTimeout(resolve, 1));
            while (kept.seen < wanted);
            return controller.error(new TypeError("terminated"));
          }
          let end;
          while ((end = text.indexOf("\n\n")) < 0) text += decoder.decode((await reader.read()).value, { stream: true });
          const event = text.slice(0, end + 2);
          text = text.slice(end + 2);
          kept.id = /^id: (.*)$/m.exec(event)?.[1] ?? kept.id;
          controller.enqueue(new TextEncoder().encode(event));
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(cut, { status: answer.status, headers: answer.headers });
  };
  return kept;
};

const questions = {
  plain: () => run(open("T=20 I=0"), "ok"),
  reasoning: () => run(open("T=20 I=0"), "reasoning"),
  uncut: () => run(open("T=20 I=20"), "tools-2", { tools: [get_weather] }),
  failed: () => run(open("T=20 I=0"), "cut"),
  refused: () => run(open("T=20 I=0"), "e429"),
  stranger: () => run(open("T=20 I=0", { headers: { authorization: "Bearer nobody" } }), "ok"),
  aborted: async () => {
    const agent = open("hi");
    agent.subscribe({ onRunStartedEvent: () => void setTimeout(() => agent.abortRun()) });
    return run(agent, "slow", { forwardedProps: { model: "slow", onDisconnect: "cancel" } });
  },
  tools: async () => {
    const agent = open("T=20 I=0");
    const first = await run(agent, "tools-2", { tools: [get_weather] });
    const calls = agent.messages.flatMap((message) => message.toolCalls ?? []);
    for (const call of calls) {
      agent.addMessage({ id: `result-${call.id}`, role: "tool", toolCallId: call.id, content: '{"sky":"grey"}' });
    }
    const second = await run(agent, "tools-2", { tools: [get_weather] });
    return { calls, types: first.types, failure: first.failure ?? second.failure, messages: agent.messages };
  },
  interrupt: async () => {
    const agent = open("T=20 I=0");
    const first = await run(agent, "asks");
    const asked = agent.pendingInterrupts;
    const resume = asked.map(({ id }) => ({ interruptId: id, status: "resolved", payload: { approved: true } }));
    const second = await run(agent, "asks", { resume });
    return { asked, outcome: first.last?.outcome, failure: first.failure ?? second.failure, messages: agent.messages };
  },
};

// Cut after so many events, the same run is asked for again: with the newest id, and without any.
for (const [model, cuts] of [["ok", [1, 2, 3, 7, 12]], ["reasoning", [4]], ["tools-2", [2, 3, 4]]]) {
  for (const [events, withId] of cuts.flatMap((events) => [[events, true], [events, false]])) {
    questions[`${model} ${events} ${withId ? "resumed" : "again"}`] = async () => {
      const connection = cutting(events);
      const agent = open("T=20 I=20", { fetch: connection.fetch });
      agent.subscribe({ onEvent: connection.onEvent });
      const more = { runId: `run-${threads}`, tools: [get_weather] };
      const first = await run(agent, model, more);
      if (withId) agent.headers = { ...agent.headers, "last-event-id": connection.id };
      const second = await run(agent, model, more);
      return { cut: first.failure, failure: second.failure, messages: agent.messages };
    };
  }
}

const answers = {};
for (const [name, question] of Object.entries(questions)) answers[name] = await question().catch(told);
process.stdout.write(JSON.stringify(answers));
