// @ts-check
/** A picture: shown at once when the message holds it, else offered by a button that names the host it would come from. */

import { isEmbedded } from "../stream/pictures.js";
import { el, icon } from "./dom.js";

/** Addresses that the reader has asked for in this tab: an answer that grows is drawn again and again. */
const requested = new Set();

/**
 * @param {string} address one that `pictureAddress` has returned
 * @param {string} alt
 * @returns {HTMLElement}
 */
export function pictureNode(address, alt) {
  if (isEmbedded(address)) return el("img", { class: "picture", src: address, alt });
  if (requested.has(address)) return loaded(address, alt);
  const { host } = new URL(address);
  const offer = el(
    "button",
    { type: "button", class: "picture-offer", title: address, click: () => show(offer, address, alt) },
    icon("picture"),
    el(
      "span",
      { class: "picture-words" },
      el("span", { dir: "auto" }, alt || "Picture"),
      el("span", { class: "picture-host" }, `Show from ${host}`),
    ),
  );
  return offer;
}

/**
 * @param {HTMLElement} offer
 * @param {string} address
 * @param {string} alt
 */
function show(offer, address, alt) {
  requested.add(address);
  const picture = loaded(address, alt);
  offer.replaceWith(picture);
  picture.focus();
}

/**
 * @param {string} address
 * @param {string} alt
 */
function loaded(address, alt) {
  const image = el("img", { class: "picture", alt, referrerpolicy: "no-referrer" });
  const link = el("a", { class: "picture-link", href: address, target: "_blank", rel: "noopener noreferrer" }, image);
  image.addEventListener("error", () => link.replaceChildren(`${alt || "The picture"} could not be loaded from ${new URL(address).host}`));
  image.src = address;
  return link;
}
