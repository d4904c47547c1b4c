// Many clients of event streams in one process: a JSON command a line on stdin, `{client, open, url, names}` or
// `{client, close}`; what each of them tells, a line each, on stdout. Decides nothing: what is right is said by the tests.

import { createInterface } from "node:readline";
import { clients } from "./event_clients.mjs";

const closers = new Map();

function open({ client, open: kind, url, names }) {
  const say = (told) => closers.has(client) && process.stdout.write(`${JSON.stringify({ client, ...told })}\n`);
  closers.set(client, () => {});
  const close = clients[kind](url, names, {
    tell: (event) => say({ event }),
    fail: (failure) => say({ failure }),
    end: (ending) => say({ ending }),
  });
  closers.set(client, close);
}

function close({ client }) {
  const closer = closers.get(client);
  closers.delete(client);
  closer();
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  (command.open ? open : close)(command);
}
process.exit(0);
