// Each client as its own documentation shows it. A client is `(url, names, { tell, fail, end })` and gives how to close
// it; it tells every event, what failed on the way, and why it gave up for good.

import { EventStreamContentType, fetchEventSource } from "@microsoft/fetch-event-source";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource as UndiciEventSource } from "undici7";
import { listen } from "./event_source.mjs";

// fetch-event-source is written for browsers: it looks at the tab and keeps its timers in the window.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

class FatalError extends Error {}
class RetriableError extends Error {}

function eventSourceClient(url, _names, { tell, end }) {
  const source = createEventSource({
    url,
    onMessage: ({ event, data, id }) => tell({ name: event ?? "message", data, id }),
    onDisconnect: () => queueMicrotask(() => source.readyState === "closed" && end("readyState is closed")),
  });
  return () => source.close();
}

function followByFetch(url, { tell, end }, more) {
  const controller = new AbortController();
  const onmessage = ({ event, data, id }) => tell({ name: event || "message", data, id });
  fetchEventSource(url, { signal: controller.signal, onmessage, ...more }).then(
    () => end("resolved"),
    (error) => end(`rejected: ${error.message}`),
  );
  return () => controller.abort();
}

/** With the handlers of its README, but that any parameter of the content type will do; `isOver`: what is for good. */
function followAsItsReadme(url, application, isOver) {
  return followByFetch(url, application, {
    async onopen(response) {
      if (isOver(response)) throw new FatalError(`status ${response.status}`);
      if (!response.headers.get("content-type")?.startsWith(EventStreamContentType)) throw new RetriableError();
    },
    onclose() {
      throw new RetriableError("the server has closed");
    },
    onerror(error) {
      if (error instanceof FatalError) throw error;
      application.fail(error.message);
    },
  });
}

const isClientError = ({ status }) => status >= 400 && status < 500 && status !== 429;

export const clients = {
  eventsource: (url, names, application) => listen(EventSource, url, names, application),
  undici: (url, names, application) => listen(UndiciEventSource, url, names, application),
  "eventsource-client": eventSourceClient,
  "fetch-event-source": (url, _names, application) =>
    followAsItsReadme(url, application, (response) => response.status === 204 || isClientError(response)),
  "fetch-event-source eager": (url, _names, application) => followAsItsReadme(url, application, isClientError),
  "fetch-event-source alone": (url, _names, application) => followByFetch(url, application, {}),
};
