// @ts-check
/** Topics as a person writes them, as an address holds them and as a request names them. None: one's own topic. Pure. */

const ADDRESS = "#/events";

/**
 * @param {string} text names and patterns, separated by spaces or commas
 * @returns {string[]} each once
 */
export function topicsOf(text) {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean))];
}

/**
 * The same topics are the same stream, in whichever order they are written.
 * @param {string[]} topics
 */
export const streamOf = (topics) => topics.toSorted().join(" ");

/** @param {string[]} topics */
export const queryOf = (topics) => topics.map((topic) => `topic=${encode(topic)}`).join("&");

/**
 * What stands in the page's address while these topics are followed.
 * @param {string[]} topics
 */
export const addressOf = (topics) => (topics.length > 0 ? `${ADDRESS}?${queryOf(topics)}` : ADDRESS);

/**
 * @param {string} address the part from `#` on
 * @returns {string[] | null} null when it is not one of this lane
 */
export function topicsIn(address) {
  const at = address.indexOf("?");
  if ((at < 0 ? address : address.slice(0, at)) !== ADDRESS) return null;
  return at < 0 ? [] : topicsOf(new URLSearchParams(address.slice(at + 1)).getAll("topic").join(" "));
}

/**
 * Whether a topic is among those that are followed.
 * @param {string[]} followed names and patterns, whose last segment is `*`
 * @param {string} topic
 */
export function covers(followed, topic) {
  return followed.some((one) => one === topic || (one.endsWith("*") && topic.startsWith(one.slice(0, -1))));
}

/** @param {string} topic */
export const isPattern = (topic) => topic.endsWith("*");

const GATEWAYS = /^(?:user|audio|presence|chat|run|usage|ticket)\//;

/**
 * The topics to which one may publish: all but patterns, and what only the gateway writes.
 * @param {string[]} topics
 */
export const openTopics = (topics) => topics.filter((topic) => !isPattern(topic) && !GATEWAYS.test(topic));

/** @param {string} topic */
const encode = (topic) => encodeURIComponent(topic).replaceAll("%2F", "/").replaceAll("%3A", ":");
