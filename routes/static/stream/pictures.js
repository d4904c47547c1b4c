// @ts-check
/**
 * Where the pictures of a message are: in its files, in the text, or among a provider's own fields. Pure.
 *
 * A picture inside of the message may be shown at once. One at an address is a request to a host that the model has
 * chosen, with words of the conversation in it perhaps: nothing may ask for it before the reader does.
 */

/** @typedef {import("./message.js").Part} Part */

const EMBEDDED = /^data:image\/(?:png|jpeg|gif|webp|avif);base64,/i;
const MAX_PICTURES = 32;

/** @param {string} address */
export const isEmbedded = (address) => EMBEDDED.test(address);

/**
 * The address of a picture as a browser would open it; null when it may not be opened from here.
 * @param {string} address
 */
export function pictureAddress(address) {
  if (isEmbedded(address)) return address;
  try {
    const url = new URL(address);
    return ["http:", "https:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/**
 * The addresses of the pictures that a part has, beside those that its text names.
 * @param {Part} part
 * @returns {string[]}
 */
export function picturesOf(part) {
  if (part.type === "file") return /^image\//i.test(part.mediaType ?? "") ? usable([part.url]) : [];
  const fields = part.type === "data-provider" ? part.data : part.providerMetadata;
  if (typeof fields !== "object" || fields === null) return [];
  return usable(Object.values(fields).flatMap((own) => [own?.images, own?.image]).flat());
}

/** @param {unknown[]} values */
function usable(values) {
  const addresses = values.slice(0, MAX_PICTURES).map((value) => pictureAddress(addressIn(value)));
  return addresses.filter((address) => address !== null);
}

/**
 * The address in any of the forms that providers give it.
 * @param {any} value
 * @returns {string}
 */
function addressIn(value) {
  if (typeof value === "string") return value;
  if (typeof value?.b64_json === "string") return `data:image/png;base64,${value.b64_json}`;
  const inner = value?.image_url ?? value?.url;
  return typeof inner === "string" ? inner : typeof inner?.url === "string" ? inner.url : "";
}

/**
 * What a provider has said of a part so far, with what it says now; its pictures add up.
 * @param {Record<string, any> | undefined} before
 * @param {Record<string, any>} added
 */
export function withProviderFields(before, added) {
  const joined = { ...before };
  for (const [provider, fields] of Object.entries(added)) {
    const earlier = joined[provider];
    const images = [earlier?.images ?? [], fields?.images ?? []].flat();
    joined[provider] = { ...earlier, ...fields, ...(images.length > 0 && { images }) };
  }
  return joined;
}
