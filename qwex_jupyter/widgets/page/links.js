// @ts-check
// Web addresses in a run's output, by the rules of display/links.py. Part of monitor.js.

const CANDIDATE = /https?:\/\/[^\x00-\x20\x7f-\xa0<>"`|\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff]+/gi;
const HOST = /^https?:\/\/(?:[a-z0-9][a-z0-9_.-]*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?/i;
const AFTER = ".,;:!?'*_~。，、；：？！）】」』》”’";
/** @type {Record<string, string>} */
const OPENING = { ")": "(", "]": "[", "}": "{" };
const LONGEST = 2000;

/** The address that a word begins with, without what stands behind it; "" for none. @param {string} candidate */
function addressOf(candidate) {
  if (candidate.includes("…") || candidate.length > LONGEST) return ""; // it was cut
  const count = (/** @type {string} */ one) => address.split(one).length;
  let address = candidate;
  for (;;) {
    const last = address.slice(-1);
    const opening = OPENING[last];
    if (!last || !(opening ? count(last) > count(opening) : AFTER.includes(last))) break;
    address = address.slice(0, -1);
  }
  const host = address.match(HOST)?.[0];
  if (!host) return "";
  const rest = address.slice(host.length);
  if (!rest || "/?#".includes(rest[0])) return address;
  return ",;'*()[]{}!".includes(rest[0]) && !rest.includes("@") ? host : "";
}

/** Where the addresses of a text begin and end. @param {string} text @returns {[number, number][]} */
function addressesIn(text) {
  if (!text.includes("://")) return []; // which is quickly known
  /** @type {[number, number][]} */
  const found = [];
  for (const { 0: candidate, index = 0 } of text.matchAll(CANDIDATE)) {
    if (index && /[A-Za-z0-9_+.-]/.test(text[index - 1])) continue;
    const address = addressOf(candidate);
    if (address) found.push([index, index + address.length]);
  }
  return found;
}

/**
 * Pieces of a line, each with its look, by the address that they are part of; "" for none.
 *
 * @template Look
 * @param {[string, Look][]} pieces
 * @returns {[string, [string, Look][]][]}
 */
function linked(pieces) {
  const whole = pieces.map(([text]) => text).join("");
  const addresses = addressesIn(whole);
  if (!addresses.length) return [["", pieces]];
  const rest = [...pieces];
  const taken = (/** @type {number} */ count) => {
    /** @type {[string, Look][]} */
    const found = [];
    while (count > 0) {
      const [text, look] = rest[0];
      found.push([text.slice(0, count), look]);
      if (text.length > count) rest[0] = [text.slice(count), look];
      else rest.shift();
      count -= Math.min(count, text.length);
    }
    return found;
  };
  let at = 0;
  /** @type {[string, [string, Look][]][]} */
  const parts = [];
  for (const [begin, end] of addresses) {
    parts.push(["", taken(begin - at)], [whole.slice(begin, end), taken(end - begin)]);
    at = end;
  }
  return [...parts, ["", rest]];
}

/** @param {string} address */
const linkTo = (address) => h("a", {
  href: address, target: "_blank", rel: "noopener noreferrer", [OWN_KEYS]: "true",
});
