// @ts-check
/** The console page: which lane and which chat is open, who is told what, and when the gateway is asked again. */

import { Api } from "./api.js";
import { AudioLane } from "./audio/lane.js";
import { Chat } from "./chat/chat.js";
import { noticeWords } from "./chat/decisions.js";
import { ChatList } from "./chat/list.js";
import { newId } from "./chat/messages.js";
import { Notices } from "./chat/notices.js";
import { EventsLane } from "./events/lane.js";
import { addressOf, streamOf, topicsIn } from "./events/topics.js";
import { pause } from "./pause.js";
import { AudioView } from "./view/audio.js";
import { Composer } from "./view/composer.js";
import { ConversationView } from "./view/conversation.js";
import { copyText } from "./view/copy.js";
import { askForKey, confirmDelete } from "./view/dialogs.js";
import { byId } from "./view/dom.js";
import { EventsView } from "./view/events.js";
import { showLane } from "./view/lanes.js";
import { PeopleView } from "./view/people.js";
import { Publisher } from "./view/publisher.js";
import { QueueView } from "./view/queue.js";
import { Follower } from "./view/scroll.js";
import { Sidebar } from "./view/sidebar.js";
import { Status } from "./view/status.js";
import { fitViewport } from "./view/viewport.js";
import { textOf, titleOf } from "./stream/message.js";

const LOOK_MS = 3000;
/** Of so many looks one is taken where all that happens to messages is told: nobody is told that a chat is gone. */
const SELDOM = 10;

const api = new Api(askForKey);
const tabs = new BroadcastChannel("trilane");
const log = byId("log", HTMLElement);
const title = byId("title", HTMLElement);
const signOut = byId("sign-out", HTMLButtonElement);
const status = new Status();
const follower = new Follower(byId("scroller", HTMLElement), log, byId("jump", HTMLButtonElement));
const list = new ChatList(api, draw);
const composer = new Composer({
  send,
  steer: (text, at) => chat.queue.steer(text, at),
  type: () => void chat.people.type(),
  edit: (id, text) => chat.edit(id, text),
  stop: () => void chat.stop(),
});
const queue = new QueueView({ remove: (id) => void chat.queue.remove(id), resume: () => void chat.queue.resume() });
const sidebar = new Sidebar({ remove: (summary) => void remove(summary), more: () => void list.more() });
const conversation = new ConversationView(log, {
  send,
  regenerate: () => chat.regenerate(),
  edit: (message) => composer.beginEdit(message.id, textOf(message)),
  copy: (text, button) => void copyText(text, button),
  reload: () => void chat.load(),
  answer: (ask, given) => void chat.asks.answer(ask, given),
});
const notices = new Notices({ api, pause, heard, changed: draw, missed: look });
const people = new PeopleView((sub, role) => chat.people.change(sub, role));

const lane = new EventsLane({ api, pause, changed: draw });
const events = new EventsView({
  follow,
  earlier: () => lane.fromEarliest(),
  clear: () => lane.clear(),
  copy: (text, button) => void copyText(text, button),
  signedIn: () => api.signedIn,
  announce: (text) => status.announce(text),
});
const publisher = new Publisher((publication) => api.publish(publication), () => events.toEnd());

const audio = new AudioLane({ api, pause, changed: () => dictation.later() });
const dictation = new AudioView(audio, {
  copy: (text, button) => void copyText(text, button),
  toChat,
});

const AUDIO = "#/audio";
/** What is told of who looks and who types, and kept nowhere. */
const EPHEMERAL = new Set(["here", "join", "leave", "typing"]);

let drawing = false;
let looks = 0;
let chat = newChat(newId());
/** @type {import("./view/lanes.js").LaneName} */
let shown = "chat";
/** Where the way back to the chat lane leads. */
let chatAddress = "#/";

/** @param {string} id */
function newChat(id) {
  return new Chat(id, {
    api,
    pause,
    changed: draw,
    announce: (text, urgent) => status.announce(text, urgent),
    touched: (touched) => {
      tabs.postMessage(touched);
      void list.load();
    },
  });
}

/** Draws what changed, once for each frame however many chunks came. A tab that nobody sees draws nothing. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    conversation.render(chat, notices.sub);
    const { busy, stopping, link, reachable } = chat;
    const held = chat.status === "loading" || (busy && !chat.steerable);
    const mayStop = chat.people.mayStop(notices.sub, chat.asker);
    composer.update({ busy, stopping, mayStop, held, blocked: chat.status === "missing", closed: chat.people.whyClosed(notices.sub) });
    queue.render(chat.queue.waiting, busy, chat.asks.isOpen, notices.sub, chat.people.may(notices.sub, "send"));
    people.render(chat.people, notices.sub);
    listen();
    status.render({ busy, stopping, link, reachable, begun: !!chat.answer?.parts.length });
    sidebar.render(list.chats, shown === "chat" ? chat.id : "", list.hasMore);
    signOut.hidden = !api.signedIn;
    if (shown === "events") drawEvents();
    else if (shown === "audio") entitle("Dictation", "Audio · Trilane");
    else drawTitle();
  });
}

function drawTitle() {
  const first = chat.messages[0];
  const name = list.titleOf(chat.id) ?? ((first && titleOf(first)) || "New chat");
  entitle(name, first ? `${name} · Trilane` : "Trilane");
}

function drawEvents() {
  const { following } = lane;
  events.render(following);
  if (following.phase === "live") publisher.follow(following.topics);
  entitle(following.topics.join(", ") || "Your own topic", "Events · Trilane");
}

/**
 * @param {string} name
 * @param {string} tab
 */
function entitle(name, tab) {
  if (title.textContent !== name) title.textContent = name;
  if (document.title !== tab) document.title = tab;
}

/** @param {string} text */
function send(text) {
  chat.send(text);
  composer.keepFor(chat.id);
  chatAddress = hashOf(chat.id);
  if (location.hash !== chatAddress) history.pushState(null, "", chatAddress);
  follower.toEnd();
}

/** @param {string} id */
const hashOf = (id) => `#/c/${encodeURIComponent(id)}`;

/** @param {string[]} asked */
function follow(asked) {
  const topics = topicsIn(location.hash);
  if (topics && streamOf(topics) === streamOf(asked)) lane.show(asked);
  else location.hash = addressOf(asked);
}

/** @param {string} text that was dictated */
function toChat(text) {
  history.pushState(null, "", chatAddress);
  route();
  composer.add(text);
}

function route() {
  const topics = topicsIn(location.hash);
  shown = topics ? "events" : location.hash === AUDIO ? "audio" : "chat";
  if (shown === "chat") chatAddress = location.hash || "#/";
  showLane(shown, chatAddress);
  dictation.show(shown === "audio");
  if (topics) {
    lane.show(topics);
    publisher.fit();
  } else lane.hide();
  if (shown === "chat") routeChat();
  listen();
  draw();
}

/** A tab that nobody sees, or that shows another lane, is told nothing. */
function listen() {
  notices.follow(shown === "chat" && document.visibilityState === "visible", chat.people.topics);
}

/** @param {import("./chat/notices.js").Notice} notice */
function heard({ name, data }) {
  const { sharedId } = chat.people;
  if (EPHEMERAL.has(name)) {
    if (data.topic === undefined || data.topic === `chat/${sharedId}`) chat.people.heard(name, data);
    return;
  }
  const isThis = data.chatId === chat.id || (sharedId !== "" && data.sharedId === sharedId);
  if (!isThis || !chat.stored) return;
  if (name === "chat-message") chat.people.stoppedTyping(data.author);
  if (name === "approval-answered" && !chat.asks.isSending(data.approvalId)) status.announce(noticeWords(data, notices.sub));
  void chat.noticed();
}

function routeChat() {
  const found = /^#\/c\/([^/]+)$/.exec(location.hash);
  const id = found ? decodeURIComponent(found[1]) : "";
  if (id && id === chat.id) return;
  chat.close();
  chat = newChat(id || newId());
  composer.open(id);
  if (id) void chat.load();
  follower.toEnd();
  if (matchMedia("(hover: hover)").matches) composer.focus();
}

/** @param {import("./api.js").ChatSummary} summary */
async function remove(summary) {
  if (!(await confirmDelete(summary.title))) return;
  if (!(await list.remove(summary.id))) {
    status.announce("The chat could not be deleted.", true);
    return;
  }
  tabs.postMessage(summary.id);
  if (summary.id !== chat.id) return;
  if (shown === "chat") location.hash = "#/";
  else showLane(shown, (chatAddress = "#/"));
}

/** Not all that happens is told, nor everywhere: the page looks now and then, and seldom where it is told the most. */
function lookAgain() {
  looks += 1;
  if (!notices.isLive || looks % SELDOM === 0) look();
}

function look() {
  if (document.visibilityState === "visible" && shown === "chat" && chat.stored && (!chat.busy || chat.steerable)) void chat.refresh();
}

tabs.addEventListener("message", ({ data }) => {
  void list.load();
  if (data === chat.id) look();
});
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  const code = button?.closest(".code")?.querySelector("code")?.textContent;
  if (button instanceof HTMLElement && code) void copyText(code, button);
});
document.addEventListener("visibilitychange", () => {
  listen();
  if (document.visibilityState !== "visible") return;
  look();
  void list.load();
});
byId("skip", HTMLAnchorElement).addEventListener("click", (event) => {
  event.preventDefault();
  ({ chat: composer, events: publisher, audio: dictation })[shown].focus();
});
signOut.addEventListener("click", () => {
  api.signOut();
  lane.forget();
  audio.forget();
  location.reload();
});
addEventListener("online", draw);
addEventListener("offline", draw);
addEventListener("hashchange", route);
addEventListener("pageshow", listen);
setInterval(lookAgain, LOOK_MS);

byId("new-chat", HTMLAnchorElement).addEventListener("click", () => composer.focus());

fitViewport();
route();
void list.load(false);
draw();
