// @ts-check
/** What the events lane says while nothing has been heard: what would appear here, and how to make it. */

import { addressOf, isPattern, openTopics } from "../events/topics.js";
import { MarkdownView } from "../markdown/dom.js";
import { el } from "./dom.js";

const EXAMPLE = "demo";

/**
 * @param {import("../events/following.js").Following} following
 * @param {boolean} signedIn
 */
export function quietEvents({ topics, asked, isOver }, signedIn) {
  if (topics.length === 0 || isOver) return el("div");
  const isOwn = asked.length === 0;
  const open = openTopics(topics)[0] ?? (isOwn ? EXAMPLE : "");
  const pattern = topics.find(isPattern);
  const topic = open || (pattern && `${pattern.slice(0, -1)}a`);
  return el(
    "div",
    { class: "welcome" },
    el("h2", {}, "Nothing yet"),
    isOwn
      ? el("p", {}, "Every answer of your chats that begins or ends is told here at once.")
      : el("p", {}, "What is published to ", ...named(topics), " appears here at once."),
    el("p", {}, "Reload, lose the network or come back later: what happened meanwhile is caught up, or you are told what is missing."),
    isOwn && el("p", {}, "To publish, follow a topic of your choice, such as ", el("a", { href: addressOf([EXAMPLE]) }, EXAMPLE), ":"),
    topic ? example(topic, signedIn) : "",
  );
}

/** @param {string[]} topics */
const named = (topics) => topics.flatMap((topic, index) => [index > 0 && ", ", el("strong", {}, topic)]);

/**
 * @param {string} topic
 * @param {boolean} signedIn
 */
function example(topic, signedIn) {
  const key = signedIn ? ' -H "Authorization: Bearer $KEY"' : "";
  const view = new MarkdownView();
  const body = JSON.stringify({ topic, data: "Hello!" });
  view.update(`\`\`\`Shell\ncurl ${location.origin}/api/events${key} -d '${body}'\n\`\`\``, false);
  return view.element;
}
