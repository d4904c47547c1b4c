// @ts-check
/** The caller's chats as the gateway lists them. */

/** @typedef {import("../api.js").ChatSummary} ChatSummary */

export class ChatList {
  /** @type {ChatSummary[]} */
  chats = [];
  /** @type {string | null} */
  #cursor = null;
  #loading = false;
  #again = false;
  #api;
  #changed;

  /**
   * @param {import("../api.js").Api} api
   * @param {() => void} changed
   */
  constructor(api, changed) {
    this.#api = api;
    this.#changed = changed;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  /** @param {string} id */
  titleOf(id) {
    return this.chats.find((chat) => chat.id === id)?.title;
  }

  /**
   * Reads the newest; older ones that were read before stay.
   * @param {boolean} [quiet] do not ask for a key
   */
  async load(quiet = true) {
    this.#again = this.#loading;
    if (this.#loading) return;
    this.#loading = true;
    try {
      const page = await this.#api.chats(null, quiet);
      const newest = new Set(page.chats.map((chat) => chat.id));
      const oldest = page.chats.at(-1)?.updatedAt ?? 0;
      const older = page.cursor === null ? [] : this.chats.filter((chat) => !newest.has(chat.id) && chat.updatedAt < oldest);
      this.chats = [...page.chats, ...older];
      if (older.length === 0) this.#cursor = page.cursor;
    } catch {
      // The list stays as it was; it is read again with the next change.
    } finally {
      this.#loading = false;
    }
    this.#changed();
    if (this.#again) await this.load();
  }

  async more() {
    try {
      const page = await this.#api.chats(this.#cursor, false);
      const known = new Set(this.chats.map((chat) => chat.id));
      this.chats = [...this.chats, ...page.chats.filter((chat) => !known.has(chat.id))];
      this.#cursor = page.cursor;
    } catch {
      // The button is still there.
    }
    this.#changed();
  }

  /**
   * @param {string} id
   * @returns {Promise<boolean>}
   */
  async remove(id) {
    try {
      await this.#api.remove(id);
    } catch (error) {
      if (!(error instanceof Error && "status" in error && error.status === 404)) return false;
    }
    this.chats = this.chats.filter((chat) => chat.id !== id);
    this.#changed();
    return true;
  }
}
