// @ts-check
/** A call of a tool: what it is at, what it was called with and answered, who allowed it; and what is asked about it. */

import { decisionWords, namesOf } from "../chat/decisions.js";
import { AskView } from "./ask.js";
import { bounded } from "./bounded.js";
import { el, icon } from "./dom.js";

/** @typedef {import("../stream/message.js").Part} Part */
/** @typedef {import("../chat/asks.js").OpenAsk} OpenAsk */
/** @typedef {import("../chat/asks.js").Ask} Ask */
/** @typedef {import("../chat/asks.js").Given} Given */
/** @typedef {{asks: OpenAsk[], approvals: Part[], sub: string, isRunning: boolean}} AboutCalls
 *   what is known of a message's calls beside its parts; `approvals` are its `data-approval` parts */

/** What a call is at, in words, by what it looks like. @type {Record<string, [string, string]>} */
const STATES = {
  "input-streaming": ["running", "being called…"],
  "input-available": ["called", "called"],
  "approval-requested": ["waiting", "waits for an answer"],
  "approval-responded": ["called", "answered"],
  "output-available": ["done", "done"],
  "output-error": ["failed", "failed"],
  "output-denied": ["denied", "not allowed"],
};
const RUNNING = ["running", "running…"];

export class ToolView {
  #name = el("strong");
  #server = el("span", { class: "tool-server" });
  #state = el("span", { class: "tool-state" });
  #input = bounded("What it was called with");
  #output = bounded("What it answered");
  #bar = el("progress");
  #done = el("span");
  #progress = el("p", { class: "tool-progress", hidden: true }, this.#bar, this.#done);
  #decisions = el("div", { class: "tool-decisions" });
  #summary = el("summary", {}, icon("tool"), el("span", { class: "tool-name" }, this.#name, this.#server), this.#state, icon("chevron"));
  #details = el("details", {}, this.#summary, this.#input.element, this.#output.element);
  /** @type {AskView | null} */
  #ask = null;
  #answer;
  element = el("div", { class: "tool", role: "group" }, this.#details, this.#progress, this.#decisions);

  /** @param {(ask: Ask, given: Given) => void} answer */
  constructor(answer) {
    this.#answer = answer;
  }

  /**
   * @param {Part} part
   * @param {boolean} _growing
   * @param {AboutCalls} about
   */
  update(part, _growing, about) {
    const name = part.toolName ?? part.type.slice("tool-".length);
    const [own, server] = namesOf(name);
    const [look, words] = this.#stateOf(part, about);
    this.#name.textContent = own;
    this.#server.textContent = server;
    this.#state.textContent = words;
    this.element.setAttribute("aria-label", `Call of ${own}`);
    this.element.dataset.state = look;
    this.#input.update(part.inputText ?? part.input);
    this.#output.update(part.errorText ?? part.output);
    this.#showProgress(look === "running" ? part.progress : null);
    this.#showDecisions(part, about);
    this.#showAsk(about.asks.find(({ ask }) => ask.toolCallId === part.toolCallId) ?? null);
  }

  /**
   * @param {Part} part
   * @param {AboutCalls} about
   */
  #stateOf(part, { isRunning, asks }) {
    if (asks.some(({ ask }) => ask.toolCallId === part.toolCallId)) return STATES["approval-requested"];
    const isMade = part.state === "input-available" ? part.providerExecuted : part.approval?.approved;
    const isOpen = part.state === "input-available" || part.state === "approval-responded" || part.state === "approval-requested";
    return isRunning && isOpen && isMade ? RUNNING : (STATES[part.state] ?? ["", ""]);
  }

  /** @param {{progress?: unknown, total?: unknown, message?: unknown} | null | undefined} said */
  #showProgress(said) {
    this.#progress.hidden = !said;
    if (!said) return;
    const { progress, total, message } = said;
    const isKnown = typeof total === "number" && total > 0 && typeof progress === "number";
    if (isKnown) {
      this.#bar.max = total;
      this.#bar.value = progress;
    } else this.#bar.removeAttribute("value");
    const words = typeof message === "string" ? message.slice(0, 200) : isKnown ? `${progress} of ${total}` : "";
    this.#done.textContent = words;
    this.#bar.setAttribute("aria-label", words || "Progress");
  }

  /**
   * @param {Part} part
   * @param {AboutCalls} about
   */
  #showDecisions(part, { approvals, sub }) {
    const told = approvals.filter(({ data }) => data?.toolCallId === part.toolCallId).map(({ data }) => data);
    const known = told.length > 0 || typeof part.approval?.approved !== "boolean" ? told : [{ state: part.approval.approved ? "approved" : "denied", reason: part.approval.reason }];
    const words = known.map((data) => decisionWords(data, sub, Date.now())).filter(Boolean);
    if (words.join("\n") !== this.#decisions.dataset.words) {
      this.#decisions.dataset.words = words.join("\n");
      this.#decisions.replaceChildren(...words.map((line) => el("p", { dir: "auto" }, line)));
    }
    const note = told.at(-1)?.note;
    this.#noteOfAsk = typeof note === "string" ? note : "";
  }

  #noteOfAsk = "";

  /** @param {OpenAsk | null} open */
  #showAsk(open) {
    if (this.#ask && this.#ask.ask.approvalId !== open?.ask.approvalId) {
      const held = this.#ask.element.contains(document.activeElement);
      this.#ask.element.remove();
      this.#ask = null;
      if (held && !open) this.#summary.focus();
    }
    if (!open) return;
    if (!this.#ask) {
      this.#ask = new AskView(open.ask, this.#noteOfAsk, this.#answer);
      this.element.append(this.#ask.element);
    }
    this.#ask.update(open);
  }
}
