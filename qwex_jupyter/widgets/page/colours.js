// @ts-check
// The colours of a run's output, by the rules of display/colours.py. Part of monitor.js.

const SGR = /\x1b\[([0-9:;]{0,200})m/g;

/** @typedef {number | number[]} Colour The place in the palette, or red, green and blue. */
/** @typedef {{ colour: Colour | null, ground: Colour | null, set: Set<number> }} Marks */

const noMarks = () => /** @type {Marks} */ ({ colour: null, ground: null, set: new Set() });

// Of the grounds; text without one has the colours of the style sheet.
const PALETTE = ["6b7078", "d63d36", "2e9d4c", "a87f00", "1f7ad1", "a64bc4", "0e93a3", "82888f",
  "747a82", "ef5b54", "33a653", "b88b10", "4796e3", "bd6bd8", "1ca0b0", "8f959d"]
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
/** @param {Colour} colour */
const partsOf = (colour) => (typeof colour === "number" ? PALETTE[colour] : colour);
/** @param {number[]} parts */
const rgb = (parts) => `rgb(${parts.join(", ")})`;

/** @param {number[]} parts */
function light(parts) {
  const [r, g, b] = parts.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** @param {number[] | null} colour @param {number[]} ground */
function readable(colour, ground) {
  const shade = light(ground);
  const end = shade < 0.179 ? [255, 255, 255] : [0, 0, 0];
  for (let step = 0; colour !== null && step < 10; step++) {
    const mixed = colour.map((part, at) => Math.floor(part + ((end[at] - part) * step) / 10));
    const [low, high] = [light(mixed), shade].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) >= 4.5) return mixed;
  }
  return end;
}

const [DARKEST, LIGHTEST, STEPS] = [0.178, 0.1833, 256];
/** @type {Map<string, string>} */
const onPages = new Map(); // of colours that programs mix themselves

/** A colour, or the nearest to it that can be read on a page that may be light or dark. @param {number[]} colour */
function onAPage(colour) {
  const key = colour.join();
  const known = onPages.get(key);
  if (known) return known;
  const dark = light(colour) < DARKEST;
  const mixed = (/** @type {number} */ step) =>
    colour.map((part) => Math.floor(part + (((dark ? 255 : 0) - part) * step) / STEPS));
  let [low, high] = [0, STEPS];
  while (low < high) {
    const middle = (low + high) >> 1;
    const shade = light(mixed(middle));
    if (dark ? shade >= DARKEST : shade <= LIGHTEST) high = middle;
    else low = middle + 1;
  }
  const made = `color-mix(in srgb, ${rgb(mixed(low))} var(--q-share), currentcolor)`;
  if (onPages.size > 2000) onPages.clear();
  onPages.set(key, made);
  return made;
}

/** @param {Marks} marks @returns {[Partial<CSSStyleDeclaration>, string[]]} */
function styleOf(marks) {
  /** @type {Partial<CSSStyleDeclaration>} */
  const css = {};
  /** @type {string[]} */
  const classes = [];
  let { colour, ground } = marks;
  if (marks.set.has(7)) [colour, ground] = [ground, colour ?? 0];
  if (ground != null) {
    // A ground brings its own colour along, on a light page as on a dark one.
    css.backgroundColor = rgb(partsOf(ground));
    css.color = rgb(readable(colour == null ? null : partsOf(colour), partsOf(ground)));
  } else if (typeof colour === "number") classes.push(`c${colour}`);
  else if (colour) css.color = onAPage(colour);
  if (marks.set.has(1)) css.fontWeight = "bold";
  if (marks.set.has(2) && ground == null && colour == null) css.opacity = "0.7";
  if (marks.set.has(3)) css.fontStyle = "italic";
  const lines = [marks.set.has(4) && "underline", marks.set.has(9) && "line-through"].filter(Boolean);
  if (lines.length) css.textDecoration = lines.join(" ");
  return [css, classes];
}

/** The colour of 38;5;N or 38;2;R;G;B; takes its numbers off the list. @param {number[]} numbers */
function extended(numbers) {
  const kind = numbers.shift();
  if (kind === 2 && numbers.length >= 3) {
    return numbers.splice(0, 3).map((value) => Math.min(value, 255));
  }
  if (kind !== 5 || !numbers.length) return null;
  let number = Math.min(numbers.shift() ?? 0, 255);
  if (number < 16) return number;
  if (number > 231) return Array(3).fill(8 + 10 * (number - 232));
  const steps = [0, 95, 135, 175, 215, 255];
  number -= 16;
  return [steps[Math.floor(number / 36)], steps[Math.floor(number / 6) % 6], steps[number % 6]];
}

/** @param {Marks} marks @param {string} codes */
function applyCodes(marks, codes) {
  const numbers = codes ? codes.split(/[;:]/).map((code) => Number(code || 0)) : [0];
  while (numbers.length) {
    const code = numbers.shift() ?? 0;
    if (code === 0) Object.assign(marks, noMarks());
    else if ([1, 2, 3, 4, 7, 9].includes(code)) marks.set.add(code);
    else if (code === 22) [1, 2].forEach((mark) => marks.set.delete(mark));
    else if ([23, 24, 27, 29].includes(code)) marks.set.delete(code - 20);
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) marks.colour = code < 40 ? code - 30 : code - 82;
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) marks.ground = code < 50 ? code - 40 : code - 92;
    else if (code === 39) marks.colour = null;
    else if (code === 49) marks.ground = null;
    else if (code === 38) marks.colour = extended(numbers);
    else if (code === 48) marks.ground = extended(numbers);
  }
}

/**
 * A line of output as an element; colours go on from the line before, as in a terminal.
 *
 * @param {string} text
 * @param {Marks} marks
 */
function lineOf(text, marks) {
  /** @type {[string, ReturnType<typeof styleOf>][]} */
  const pieces = [];
  let at = 0;
  for (const found of text.matchAll(SGR)) {
    pieces.push([text.slice(at, found.index), styleOf(marks)]);
    applyCodes(marks, found[1]);
    at = found.index + found[0].length;
  }
  pieces.push([text.slice(at), styleOf(marks)]);
  const line = h("div", { class: "line" });
  for (const [address, inner] of linked(pieces)) { // an address may change its colour on the way
    const link = address ? linkTo(address) : line;
    inner.forEach(([part, look]) => part && link.append(spanOf(part, look)));
    if (address) line.append(link);
  }
  if (!line.firstChild) line.append("\n"); // an empty line has its height
  return line;
}

/** @param {string} text @param {ReturnType<typeof styleOf>} look */
function spanOf(text, [css, classes]) {
  if (!classes.length && !Object.keys(css).length) return text;
  const span = h("span", classes.length ? { class: classes.join(" ") } : {}, text);
  Object.assign(span.style, css);
  return span;
}

/** Marks lines that follow each other as those of stderr, and names them. @param {HTMLElement[]} lines */
function setApart(lines) {
  lines.forEach((line) => Object.assign(line, { className: `${line.className} apart`, title: "stderr" }));
  lines[0]?.setAttribute("role", "group"); // said once
}
