// @ts-check
/** Where an event is published. Ctrl or Cmd with Enter publishes; what was refused stays, with the reason below it. */

import { newId } from "../chat/messages.js";
import { noteOfFailure } from "../chat/endings.js";
import { written } from "../events/json.js";
import { covers, openTopics } from "../events/topics.js";
import { Problem } from "../problems.js";
import { byId, el, isComposing } from "./dom.js";

/** @typedef {import("../api.js").Published} Published */

const DRAFT = "trilane.publish";
const IS_MAC = /Mac|iPhone|iPad/.test(navigator.platform);

export class Publisher {
  #form = byId("publisher", HTMLFormElement);
  #topic = byId("publish-topic", HTMLInputElement);
  #event = byId("publish-event", HTMLInputElement);
  #data = byId("publish-data", HTMLTextAreaElement);
  #send = byId("publish-send", HTMLButtonElement);
  #hint = byId("publish-hint", HTMLElement);
  #said = byId("publish-said", HTMLElement);
  #publish;
  #published;
  /** @type {string[]} */
  #followed = [];
  #busy = false;
  /** Under which the gateway knows this event, however often it is sent. */
  #key = "";

  /**
   * @param {(publication: string) => Promise<Published>} publish
   * @param {() => void} published
   */
  constructor(publish, published) {
    this.#publish = publish;
    this.#published = published;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    this.#form.addEventListener("input", () => this.#changed());
    this.#data.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || isComposing(event)) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#data.value = sessionStorage.getItem(DRAFT) ?? "";
    this.#changed();
  }

  focus() {
    this.#data.focus();
  }

  /** @param {string[]} topics that are followed: the first of them is where one publishes, unless one says otherwise */
  follow(topics) {
    if (topics.join() === this.#followed.join()) return;
    const before = defaultOf(this.#followed);
    this.#followed = topics;
    if (this.#topic.value === before) this.#topic.value = defaultOf(topics);
  }

  #changed() {
    this.#key = "";
    for (const field of [this.#topic, this.#event]) field.removeAttribute("aria-invalid");
    const { value } = this.#data;
    sessionStorage.setItem(DRAFT, value);
    const data = written(value);
    const keys = [el("kbd", {}, IS_MAC ? "⌘" : "Ctrl"), " ", el("kbd", {}, "Enter"), " publishes"];
    this.#hint.replaceChildren(...keys, data ? ` it as ${data.what}` : "");
    this.#say(data?.isBroken ? "This is not valid JSON: it goes out as text." : "");
    this.#send.disabled = data === null;
    this.fit();
  }

  async #submit() {
    const typed = this.#data.value;
    const data = written(typed);
    if (!data || this.#busy) return;
    this.#key ||= newId();
    const named = { topic: this.#topic.value.trim(), event: this.#event.value.trim() || undefined, idempotencyKey: this.#key };
    this.#busy = true;
    this.#say("");
    try {
      this.#done(await this.#publish(`${JSON.stringify(named).slice(0, -1)},"data":${data.raw}}`), typed);
    } catch (error) {
      this.#complain(error);
    } finally {
      this.#busy = false;
    }
  }

  /**
   * @param {Published} published
   * @param {string} typed what was written when it was sent: whoever has typed on meanwhile keeps that
   */
  #done({ topic, offset, duplicate }, typed) {
    if (this.#data.value === typed) this.#data.value = "";
    this.#changed();
    const elsewhere = covers(this.#followed, topic) ? "" : " It is not among the topics that are followed here.";
    this.#say(`${duplicate ? "It was published before" : "Published"}: number ${offset} of ${topic}.${elsewhere}`);
    this.#published();
  }

  /** @param {string} text */
  #say(text) {
    this.#said.className = "publish-said";
    if (this.#said.textContent !== text) this.#said.textContent = text;
  }

  /** @param {unknown} error */
  #complain(error) {
    const { text, detail } = noteOfFailure(error);
    this.#said.className = "publish-said trouble";
    this.#said.replaceChildren(text, detail ? el("small", {}, detail) : "");
    const code = error instanceof Problem ? error.code : "";
    const field = code.endsWith("_event") ? this.#event : code.includes("topic") ? this.#topic : null;
    field?.setAttribute("aria-invalid", "true");
    field?.focus();
  }

  /** Grows with its text, up to the limit that the style sheet sets; call it when it comes into view. */
  fit() {
    this.#data.style.height = "auto";
    this.#data.style.height = `${this.#data.scrollHeight}px`;
  }
}

/** @param {string[]} topics */
const defaultOf = (topics) => openTopics(topics)[0] ?? "";
