// @ts-check
/** Who shares the chat: a button that says how many look at it, a dialog to add and remove people, and who is typing. */

import { byId, el, icon } from "./dom.js";

/** @typedef {import("../chat/people.js").People} People */
/** @typedef {import("../chat/people.js").Role} Role */

/** What each role may do, in words. @type {[Role, string][]} */
const ROLES = [
  ["viewer", "may read"],
  ["approver", "may answer what is asked"],
  ["editor", "may write"],
  ["owner", "may do everything"],
];

export class PeopleView {
  #opener = byId("open-people", HTMLButtonElement);
  #count = byId("people-count", HTMLElement);
  #typing = byId("typing", HTMLElement);
  #dialog = byId("people", HTMLDialogElement);
  #list = byId("people-list", HTMLElement);
  #form = byId("add-person", HTMLFormElement);
  #name = byId("person-name", HTMLInputElement);
  #role = byId("person-role", HTMLSelectElement);
  #trouble = byId("people-trouble", HTMLElement);
  #change;
  #shown = "";

  /** @param {(sub: string, role: Role | null) => Promise<boolean>} change */
  constructor(change) {
    this.#change = change;
    this.#role.append(...options("editor"));
    this.#opener.addEventListener("click", () => this.#dialog.showModal());
    this.#dialog.querySelector("[data-close]")?.addEventListener("click", () => this.#dialog.close());
    this.#form.addEventListener("submit", (event) => void this.#add(event));
  }

  /**
   * @param {People} people
   * @param {string} own the name of who reads
   */
  render(people, own) {
    const { members, present, trouble } = people;
    const typing = people.typing(own);
    const mayManage = people.may(own, "manage");
    const shown = JSON.stringify([members, [...present], trouble, typing, own]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#opener.hidden = members.length === 0;
    const here = members.filter(({ sub }) => sub !== own && present.has(sub)).length;
    const label = members.length < 2 ? "Share this chat" : `${members.length} people${here ? `, ${here} more here now` : ""}`;
    this.#opener.setAttribute("aria-label", label);
    this.#opener.title = label;
    this.#opener.classList.toggle("someone", here > 0);
    this.#count.textContent = members.length < 2 ? "" : String(members.length);
    this.#typing.textContent = typingWords(typing);
    this.#form.hidden = !mayManage;
    this.#trouble.textContent = trouble;
    const held = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.keep;
    this.#list.replaceChildren(...members.map((member) => this.#row(member, own, present.has(member.sub), mayManage)));
    if (held) this.#list.querySelector(`[data-keep="${CSS.escape(held)}"]`)?.focus();
  }

  /**
   * @param {import("../chat/people.js").Member} member
   * @param {string} own
   * @param {boolean} isHere
   * @param {boolean} mayManage
   */
  #row({ sub, role }, own, isHere, mayManage) {
    const name = sub === own ? `${sub} (you)` : sub;
    const select = el("select", { "aria-label": `What ${sub} may do`, "data-keep": `role ${sub}`, change: () => void this.#change(sub, /** @type {Role} */ (select.value)) }, ...options(role));
    const leave = sub === own ? "Leave this chat" : `Remove ${sub}`;
    const remove = { type: "button", class: "icon-only", "aria-label": leave, title: leave, "data-keep": `remove ${sub}`, click: () => void this.#change(sub, null) };
    return el(
      "li",
      {},
      el("span", { class: "person", dir: "auto" }, name, isHere && el("span", { class: "here" }, "here now")),
      mayManage ? select : el("span", { class: "role" }, wordsOf(role)),
      (mayManage || sub === own) && el("button", remove, icon("close")),
    );
  }

  /** @param {SubmitEvent} event */
  async #add(event) {
    event.preventDefault();
    const sub = this.#name.value.trim();
    if (sub && (await this.#change(sub, /** @type {Role} */ (this.#role.value)))) this.#name.value = "";
    this.#name.focus();
  }
}

/** @param {Role} chosen */
const options = (chosen) => ROLES.map(([role, words]) => el("option", { value: role, selected: role === chosen }, words));

/** @param {Role} role */
const wordsOf = (role) => ROLES.find(([one]) => one === role)?.[1] ?? role;

/** @param {string[]} subs */
function typingWords(subs) {
  if (subs.length === 0) return "";
  if (subs.length > 2) return `${subs.length} people are typing…`;
  return `${subs.join(" and ")} ${subs.length === 1 ? "is" : "are"} typing…`;
}
