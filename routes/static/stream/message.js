// @ts-check
/**
 * Chunks of the UI Message Stream, folded into one message. Pure.
 *
 * A run is replayed from its `start` to whoever comes late, so `start` begins the message anew: on what it continued,
 * if it continued an answer, and on nothing otherwise. Chunk types that this page does not know are left out.
 */

import { picturesOf, withProviderFields } from "./pictures.js";

/** @typedef {{type: string, [field: string]: any}} Chunk */
/** @typedef {{type: string, [field: string]: any}} Part */
/** @typedef {{id: string, role: "user" | "assistant" | "system", parts: Part[], metadata?: any}} UIMessage */

/**
 * @typedef {object} RunState
 * @property {UIMessage} message
 * @property {"streaming" | "finish" | "error" | "abort"} status
 * @property {string} finishReason
 * @property {string} errorText
 */

export class MessageFold {
  /** @type {Map<string, Part>} text and reasoning parts that are open */
  #open = new Map();
  /** @type {Map<string, Part>} */
  #tools = new Map();
  /** @type {Map<string, string>} tool input so far, as text */
  #toolInput = new Map();
  /** @type {UIMessage[]} */
  #known;
  /** @type {RunState} */
  state;

  /**
   * @param {string} id the message's id, until `start` says it
   * @param {UIMessage[]} [known] messages that a run could continue
   */
  constructor(id, known = []) {
    this.#known = known;
    this.state = this.#begun(id);
  }

  /**
   * @param {Chunk} chunk
   * @returns {boolean} whether the message's id or the run's status changed
   */
  push(chunk) {
    switch (chunk.type) {
      case "start":
        this.#start(chunk);
        return true;
      case "text-start":
      case "reasoning-start":
        this.#openPart(chunk);
        return false;
      case "text-delta":
      case "reasoning-delta":
        (this.#open.get(chunk.id) ?? this.#openPart(chunk)).text += chunk.delta;
        if (chunk.providerMetadata) this.#provider(chunk);
        return false;
      case "text-end":
      case "reasoning-end":
        if (chunk.providerMetadata) this.#provider(chunk);
        this.#closePart(chunk.id);
        return false;
      case "message-metadata":
        this.#metadata(chunk.messageMetadata);
        return false;
      case "finish":
      case "error":
      case "abort":
        this.#end(chunk);
        return true;
      case "source-url":
      case "source-document":
      case "file":
      case "data-provider":
        this.state.message.parts.push({ ...chunk });
        return false;
      case "data-approval":
      case "data-steer":
        this.#replace(chunk);
        return false;
      case "data-progress":
        this.#progress(chunk);
        return false;
      default:
        if (chunk.type.startsWith("tool-")) this.#tool(chunk);
        return false;
    }
  }

  /** @param {Chunk} chunk */
  #start(chunk) {
    this.state = this.#begun(chunk.messageId ?? this.state.message.id);
    this.#metadata(chunk.messageMetadata);
  }

  /**
   * @param {string} id
   * @returns {RunState} the beginning of this message: what is known of it, when it is continued
   */
  #begun(id) {
    const continued = this.#known.find((message) => message.id === id && message.role === "assistant");
    const parts = (continued?.parts ?? []).map((part) => ({ ...part }));
    this.#open.clear();
    this.#toolInput.clear();
    this.#tools = new Map(parts.filter((part) => part.toolCallId).map((part) => [part.toolCallId, part]));
    return {
      message: { id, role: "assistant", parts, metadata: { ...continued?.metadata } },
      status: "streaming",
      finishReason: "",
      errorText: "",
    };
  }

  /** @param {Chunk} chunk data that takes the place of what had its type and id before */
  #replace(chunk) {
    const { parts } = this.state.message;
    const at = parts.findIndex((part) => part.type === chunk.type && part.id === chunk.id);
    if (at < 0) parts.push({ ...chunk });
    else parts[at] = { ...chunk };
  }

  /** @param {Chunk} chunk how far the call is that has its id */
  #progress(chunk) {
    const part = this.#tools.get(chunk.id);
    if (part) part.progress = chunk.data;
  }

  /**
   * @param {Chunk} chunk
   * @returns {Part}
   */
  #openPart(chunk) {
    const part = { type: chunk.type.split("-")[0], text: "", state: "streaming" };
    this.state.message.parts.push(part);
    this.#open.set(chunk.id, part);
    if (chunk.providerMetadata) this.#provider(chunk);
    return part;
  }

  /** @param {Chunk} chunk with fields that its provider has added */
  #provider(chunk) {
    const part = this.#open.get(chunk.id);
    if (part) part.providerMetadata = withProviderFields(part.providerMetadata, chunk.providerMetadata);
  }

  /** @param {string} id */
  #closePart(id) {
    const part = this.#open.get(id);
    if (part) part.state = "done";
    this.#open.delete(id);
  }

  /** @param {any} added */
  #metadata(added) {
    if (added && typeof added === "object") Object.assign(this.state.message.metadata, added);
  }

  /** @param {Chunk} chunk */
  #end(chunk) {
    for (const id of [...this.#open.keys()]) this.#closePart(id);
    this.#metadata(chunk.messageMetadata);
    this.state.status = /** @type {RunState["status"]} */ (chunk.type);
    this.state.finishReason = chunk.finishReason ?? "";
    this.state.errorText = chunk.errorText ?? "";
  }

  /** @param {Chunk} chunk */
  #tool(chunk) {
    const part = this.#tools.get(chunk.toolCallId) ?? this.#newTool(chunk);
    switch (chunk.type) {
      case "tool-input-start":
        break;
      case "tool-input-delta": {
        const text = (this.#toolInput.get(chunk.toolCallId) ?? "") + chunk.inputTextDelta;
        this.#toolInput.set(chunk.toolCallId, text);
        part.inputText = text;
        break;
      }
      case "tool-input-available":
        Object.assign(part, { state: "input-available", input: chunk.input });
        delete part.inputText;
        break;
      case "tool-output-available":
        Object.assign(part, { state: "output-available", output: chunk.output });
        delete part.progress;
        break;
      case "tool-input-error":
      case "tool-output-error":
        Object.assign(part, { state: "output-error", errorText: chunk.errorText });
        delete part.progress;
        break;
      case "tool-approval-request":
        Object.assign(part, { state: "approval-requested", approval: { id: chunk.approvalId } });
        break;
      case "tool-output-denied":
        part.state = "output-denied";
        break;
    }
  }

  /**
   * @param {Chunk} chunk
   * @returns {Part}
   */
  #newTool(chunk) {
    const name = chunk.toolName ?? "unknown";
    /** @type {Part} */
    const part = { type: chunk.dynamic ? "dynamic-tool" : `tool-${name}`, toolCallId: chunk.toolCallId, state: "input-streaming", input: undefined };
    if (chunk.dynamic) part.toolName = name;
    if (chunk.providerExecuted) part.providerExecuted = true;
    this.state.message.parts.push(part);
    this.#tools.set(chunk.toolCallId, part);
    return part;
  }
}

/**
 * What a person would copy of a message.
 * @param {UIMessage} message
 */
export function textOf(message) {
  return message.parts
    .filter((part) => part.type === "text")
    .map((part) => part.text)
    .join("\n\n")
    .trim();
}

const TITLE_CHARS = 80;

/**
 * The beginning of what a message says, on one line, to call its chat by until the gateway says its title.
 * @param {UIMessage} message
 */
export function titleOf(message) {
  const text = textOf(message).slice(0, 10 * TITLE_CHARS).trim().replace(/\s+/g, " ");
  if (text.length <= TITLE_CHARS) return text;
  let title = "";
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (title.length + segment.length >= TITLE_CHARS) break;
    title += segment;
  }
  const atWord = title.lastIndexOf(" ");
  const cutsWord = text[title.length] !== " " && atWord >= TITLE_CHARS / 2;
  return `${(cutsWord ? title.slice(0, atWord) : title).trimEnd()}…`;
}

/**
 * Whether there is anything to see in it.
 * @param {UIMessage} message
 */
export function isEmpty(message) {
  return !message.parts.some((part) => part.text || part.toolCallId || part.url || part.sourceId || picturesOf(part).length > 0);
}
