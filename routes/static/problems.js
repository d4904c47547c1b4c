// @ts-check
/**
 * What went wrong, in a sentence for the person who asked. Pure.
 *
 * Two sources say it: problem documents (RFC 9457) before a stream begins, and the `error` chunk inside one, whose
 * `message-metadata` carries the same `code` and `retryable`.
 */

/** The title of problems that carry the code of a model's provider. */
const REFUSED_UPSTREAM = "The upstream refused the request";

/** A request that was refused, with what the gateway said about it. */
export class Problem extends Error {
  /** @param {{status: number, code?: string, title?: string, detail?: string, retryable?: boolean, requestId?: string, retryAfterMs?: number}} said */
  constructor(said) {
    super(said.detail || said.title || `HTTP status ${said.status}`);
    this.status = said.status;
    this.code = said.code ?? "";
    this.title = said.title ?? "";
    this.detail = said.detail ?? "";
    this.retryable = said.retryable ?? said.status >= 500;
    this.requestId = said.requestId ?? "";
    this.retryAfterMs = said.retryAfterMs ?? 0;
  }

  /** Whether the same request may well succeed a little later. */
  get isPassing() {
    return this.status >= 500 || this.status === 429 || this.status === 408;
  }

  /** Whether the model's side refused a request that the gateway itself had taken. */
  get isOfUpstream() {
    return this.code.startsWith("upstream") || this.title === REFUSED_UPSTREAM;
  }
}

/** By code; a code that begins like one of these counts as it. @type {Record<string, string>} */
const SENTENCES = {
  upstream_auth: "The model provider refused the gateway's key. Whoever runs the gateway must give it another one.",
  upstream_refused: "The model's provider refused this request.",
  upstream_bad_request: "The model's provider refused this request.",
  upstream_not_found: "The model's provider has no such model.",
  model_not_found: "No such model can be asked here.",
  context_length_exceeded: "This chat has grown longer than the model can take. Start a new one.",
  insufficient_quota: "The gateway's account at the model's provider has nothing left to spend.",
  billing: "The gateway's account at the model's provider has nothing left to spend.",
  upstream_rate: "The model is busy: its provider allows no more requests right now.",
  upstream_timeout: "The model took too long to answer.",
  upstream_cut: "The model stopped in the middle of this answer.",
  upstream_unreachable: "The model cannot be reached right now.",
  upstream: "The model could not finish this answer.",
  run_timeout: "The answer took longer than is allowed, so it was ended.",
  interrupted: "The server that wrote this answer went away.",
  draining: "The gateway is restarting.",
  overloaded: "The gateway is full right now.",
  log: "The gateway cannot store messages right now.",
  too_large: "This message is longer than the gateway takes.",
  too_many_messages: "This chat has grown too long to go on. Start a new one.",
  chat_not_found: "This chat does not exist.",
  forbidden: "This is not open to you.",
  bad_origin: "The gateway takes no requests from pages of this address.",
  token_expired: "Your sign-in has expired.",
  unauthorized: "You are not signed in.",
  topic_forbidden: "This topic is not open to you.",
  bad_topic: "This is no name of a topic: those are made of letters, digits and . _ : / -",
  too_many_topics: "These are more topics than one stream can follow.",
  bad_event: "This is no name of an event: those are made of letters, digits and . _ : -",
  reserved_event: "Only the gateway itself sends events of this name. Choose another.",
  gone: "This part of the history is no longer kept.",
  role_forbidden: "Your role in this chat does not allow this.",
  queue_full: "Too many messages wait already.",
  already_taken: "The answer has read it already.",
  conflict: "Another device changed this chat at the same moment.",
  internal: "Something went wrong in the gateway.",
};

/** @type {Record<number, string>} */
const BY_STATUS = {
  400: "The gateway did not understand this request.",
  401: SENTENCES.unauthorized,
  403: SENTENCES.forbidden,
  404: SENTENCES.chat_not_found,
  408: "The gateway waited too long for this request.",
  413: SENTENCES.too_large,
  429: "There were too many requests.",
  502: "The gateway cannot be reached right now.",
  503: SENTENCES.overloaded,
  504: SENTENCES.upstream_timeout,
};

/**
 * @param {Problem} problem
 * @returns {string}
 */
export function sentenceOf(problem) {
  const known = problem.status === 429 && problem.code.startsWith("upstream") ? SENTENCES.upstream_rate : byCode(problem.code);
  if (!known && problem.isOfUpstream) return SENTENCES.upstream_refused;
  return known ?? BY_STATUS[problem.status] ?? SENTENCES.internal;
}

/** @param {number} ms until the request may be made again */
export function whenAgain(ms) {
  return ms > 0 ? `Try again in ${span(ms)}.` : "You can try again now.";
}

/**
 * @param {{code?: string, emitted?: number}} metadata of the run that failed
 * @returns {string}
 */
export function runSentence(metadata) {
  const said = byCode(metadata.code ?? "") ?? SENTENCES.upstream;
  return metadata.emitted ? `${said} What arrived is kept above.` : said;
}

/**
 * @param {string} code
 * @returns {string | undefined} nothing when the code is not known
 */
export function byCode(code) {
  if (Object.hasOwn(SENTENCES, code)) return SENTENCES[code];
  const parts = code.split("_");
  while (parts.length > 1) {
    parts.pop();
    const shorter = parts.join("_");
    if (Object.hasOwn(SENTENCES, shorter)) return SENTENCES[shorter];
  }
  return undefined;
}

/** @param {number} ms */
function span(ms) {
  const seconds = Math.ceil(ms / 1000);
  if (seconds < 90) return seconds === 1 ? "a second" : `${seconds} seconds`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

/**
 * The problem that a refused response tells of.
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
export async function problemOf(response) {
  const retryAfterMs = retryAfter(response.headers.get("retry-after"), Date.now());
  const said = { status: response.status, retryAfterMs, requestId: response.headers.get("x-request-id") ?? "" };
  const isProblem = response.headers.get("content-type")?.includes("json");
  const document = isProblem ? await response.json().catch(() => ({})) : {};
  return new Problem({
    ...said,
    code: text(document.code),
    title: text(document.title),
    detail: text(document.detail),
    retryable: typeof document.retryable === "boolean" ? document.retryable : undefined,
    requestId: text(document.request_id) || said.requestId,
  });
}

/** @param {unknown} value */
const text = (value) => (typeof value === "string" ? value : "");

/**
 * Seconds, or a date, as HTTP has them; 0 when it says nothing.
 * @param {string | null} value
 * @param {number} nowMs
 */
export function retryAfter(value, nowMs) {
  if (!value) return 0;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value) * 1000;
  const date = Date.parse(value);
  return Number.isNaN(date) ? 0 : Math.max(0, date - nowMs);
}
