// @ts-check
/** What the events lane says while nothing has been heard: what would appear here, and how to make it. */

import { isPattern } from "../events/topics.js";
import { MarkdownView } from "../markdown/dom.js";
import { el } from "./dom.js";

/**
 * @param {import("../events/following.js").Following} following
 * @param {boolean} signedIn
 */
export function quietEvents({ topics, asked, isOver }, signedIn) {
  if (topics.length === 0 || isOver) return el("div");
  const own = asked.length === 0;
  return el(
    "div",
    { class: "welcome" },
    el("h2", {}, "Nothing yet"),
    el("p", {}, "What is published to ", ...named(topics), " appears here at once", own && ", and so does every answer of your chats that begins or ends", "."),
    el("p", {}, "Reload, lose the network or come back later: what happened meanwhile is caught up, or you are told what is missing."),
    example(topics.find((topic) => !isPattern(topic)) ?? `${topics[0].slice(0, -1)}a`, signedIn),
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
