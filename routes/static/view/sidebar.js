// @ts-check
/** The caller's chats, newest first, by day; on a phone a drawer over the conversation. */

import { byId, el, icon, isComposing } from "./dom.js";

/** @typedef {import("../api.js").ChatSummary} ChatSummary */

const DAY_MS = 86_400_000;
const NARROW = matchMedia("(max-width: 52rem)");

export class Sidebar {
  #list = byId("chats", HTMLElement);
  #more = byId("more", HTMLButtonElement);
  #aside = byId("sidebar", HTMLElement);
  #opener = byId("open-sidebar", HTMLButtonElement);
  #stage = byId("stage", HTMLElement);
  #scrim = byId("scrim", HTMLElement);
  #remove;
  #shown = "";

  /** @param {{remove(chat: ChatSummary): void, more(): void}} commands */
  constructor(commands) {
    this.#remove = commands.remove;
    this.#more.addEventListener("click", () => commands.more());
    this.#opener.addEventListener("click", () => this.#toggle(true));
    byId("close-sidebar", HTMLButtonElement).addEventListener("click", () => this.#toggle(false));
    this.#scrim.addEventListener("click", () => this.#toggle(false));
    this.#aside.addEventListener("keydown", (event) => event.key === "Escape" && !isComposing(event) && this.#toggle(false));
    this.#aside.addEventListener("click", (event) => {
      if (event.target instanceof Element && event.target.closest("a")) this.#toggle(false);
    });
    NARROW.addEventListener("change", () => this.#toggle(false));
    this.#toggle(false);
  }

  /**
   * @param {ChatSummary[]} chats
   * @param {string} current
   * @param {boolean} more whether there are older ones
   */
  render(chats, current, more) {
    this.#more.hidden = !more;
    const shown = JSON.stringify([chats, current, new Date().toDateString()]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    const focused = document.activeElement?.closest("[data-chat]")?.getAttribute("data-chat");
    this.#list.replaceChildren(...this.#groups(chats, current));
    /** @type {HTMLElement | null} */
    const again = focused ? this.#list.querySelector(`[data-chat="${CSS.escape(focused)}"] a`) : null;
    again?.focus();
  }

  /**
   * @param {ChatSummary[]} chats
   * @param {string} current
   */
  #groups(chats, current) {
    if (chats.length === 0) return [el("p", { class: "none" }, "Your chats will be listed here.")];
    /** @type {Map<string, HTMLElement[]>} */
    const groups = new Map();
    for (const chat of chats) {
      const day = dayOf(chat.updatedAt);
      groups.set(day, [...(groups.get(day) ?? []), this.#row(chat, chat.id === current)]);
    }
    return [...groups].flatMap(([day, rows]) => [el("h3", {}, day), el("ul", {}, ...rows)]);
  }

  /**
   * @param {ChatSummary} chat
   * @param {boolean} current
   */
  #row(chat, current) {
    const attributes = { dir: "auto", href: `#/c/${encodeURIComponent(chat.id)}`, title: chat.title, "aria-current": current && "page" };
    const remove = { type: "button", class: "icon-only", "aria-label": `Delete “${chat.title}”`, title: "Delete" };
    return el(
      "li",
      { "data-chat": chat.id },
      el("a", attributes, chat.title),
      (chat.role ?? "owner") === "owner" && el("button", { ...remove, click: () => this.#remove(chat) }, icon("trash")),
    );
  }

  /** @param {boolean} open only means something while the sidebar is a drawer */
  #toggle(open) {
    const drawer = NARROW.matches;
    const held = this.#aside.contains(document.activeElement);
    this.#aside.inert = drawer && !open;
    this.#stage.inert = drawer && open;
    this.#scrim.hidden = !(drawer && open);
    this.#aside.classList.toggle("open", drawer && open);
    this.#opener.setAttribute("aria-expanded", String(drawer && open));
    if (drawer && open) byId("close-sidebar", HTMLButtonElement).focus();
    else if (drawer && held) this.#opener.focus();
  }
}

/** @param {number} atMs */
function dayOf(atMs) {
  const today = new Date().setHours(0, 0, 0, 0);
  if (atMs >= today) return "Today";
  if (atMs >= today - DAY_MS) return "Yesterday";
  if (atMs >= today - 7 * DAY_MS) return "Last seven days";
  return new Date(atMs).toLocaleDateString("en", { month: "long", year: "numeric" });
}
