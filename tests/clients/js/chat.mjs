// The AI SDK's `Chat` without a framework, and how its network failures are worded in a browser.

class State {
  status = "ready";
  error = undefined;

  constructor(messages) {
    this.messages = messages;
  }

  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };

  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };

  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };

  snapshot = (value) => structuredClone(value);
}

/** A chat of this version of the SDK; `errors` keeps what a user interface would have shown, `posts` counts. */
export function openChat(sdk, { chatId, url, messages = [], body, ui, asChromium = false, lastOnly = false }) {
  const errors = [];
  const posts = { count: 0 };
  const fetchAs = asChromium ? fetchAsChromium : fetch;
  const chat = new (class extends sdk.AbstractChat {})({
    id: chatId,
    state: new State(messages),
    transport: new sdk.DefaultChatTransport({
      api: `${url}/api/chat`,
      body,
      ...(ui && atVersion(url, ui)),
      fetch: (input, init) => {
        posts.count += init?.method === "POST";
        return fetchAs(input, init);
      },
      ...(lastOnly && { prepareSendMessagesRequest: onlyTheLast }),
    }),
    sendAutomaticallyWhen: (shown) =>
      sdk.lastAssistantMessageIsCompleteWithToolCalls(shown) ||
      sdk.lastAssistantMessageIsCompleteWithApprovalResponses?.(shown),
    onError: (error) => errors.push(`${error.name}: ${error.message}`),
  });
  return { chat, errors, posts };
}

/** Addresses that say which version of the SDK reads. */
function atVersion(url, ui) {
  return {
    api: `${url}/api/chat?ui=${ui}`,
    prepareReconnectToStreamRequest: ({ id }) => ({ api: `${url}/api/chat/${id}/stream?ui=${ui}` }),
  };
}

// As the SDK's guide to chats that the server keeps has it.
function onlyTheLast({ id, messages, trigger, messageId, body }) {
  return { body: { ...body, id, message: messages.at(-1), trigger, messageId } };
}

// The SDK tells a lost connection from other errors by the words that browsers use; Node's are others.
async function fetchAsChromium(input, init) {
  const response = await fetch(input, init).catch((error) => {
    throw worded(error, "Failed to fetch");
  });
  if (!response.body) return response;
  const reader = response.body.getReader();
  const body = new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(worded(error, "network error"));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
  return new Response(body, response);
}

function worded(error, message) {
  return error.name === "AbortError" ? error : new TypeError(message, { cause: error });
}
