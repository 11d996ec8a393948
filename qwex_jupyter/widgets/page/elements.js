// @ts-check
// Elements, and values as text: what all parts of a page use. Part of monitor.js and of card.js.

/**
 * The kernel's side of a widget, of what Jupyter gives a page the part that is used here.
 *
 * @typedef {object} Model
 * @property {(name: string) => any} get
 * @property {(event: string, listener: (message: any) => void) => void} on
 * @property {(event: string, listener: (message: any) => void) => void} off
 * @property {(wish: object) => void} send
 * @property {any} widget_manager
 */

// Jupyter's own keys (x cuts the cell!) are off only on the very element that has the focus.
const OWN_KEYS = "data-lm-suppress-shortcuts";

/**
 * An element; texts among its children become text nodes.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} attributes Those named `on...` are listeners.
 * @param {...(Node | string | null)} children
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  if (["button", "input", "summary"].includes(tag) || "tabindex" in attributes) {
    element.setAttribute(OWN_KEYS, "true");
  }
  for (const child of children) if (child != null) element.append(child);
  return element;
}

/** @param {string} text @param {Record<string, any>} attributes */
const button = (text, attributes) => h("button", { type: "button", ...attributes }, text);
/** @param {number} count @param {string} word */
const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

/** @param {Element | null} element @param {string} text */
function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

/** What `clock` of units.py says. @param {number | null} value */
function clock(value, live = false) {
  if (value == null) return "";
  if (!live && value < 59.95) {
    if (Number.isInteger(value)) return value ? `${value}s` : "<1s";
    if (value < 0.1) return `${Math.floor(value * 1000 + 0.5)}ms`;
    return `${(Math.floor(value * 10 + 0.5) / 10).toFixed(1)}s`;
  }
  const whole = Math.floor(live ? value : value + 0.05);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

/** What `minutes` of progress.py says. @param {number} seconds */
function minutes(seconds) {
  const whole = Math.floor(seconds);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const rest = Math.floor(whole / 60) % 60;
  return `${hours ? `${hours}:${two(rest)}` : rest}:${two(whole % 60)}`;
}

/** What is left of what will be done then, behind what is said of it; "" where that isn't known. @param {number | null} until @param {number} now */
function leftOf(until, now) {
  const left = (until ?? 0) - now;
  return left >= 1 ? ` · ${minutes(left)} left` : "";
}

/** Tells a screen reader how far something is: once for each tenth of it. */
class Spoken {
  constructor() {
    this.element = h("div", { class: "qwex-spoken", role: "status" });
    this.of = "";
    this.tenth = 0;
  }

  /** @param {string} of What it is of. @param {number | null} done Of 100; null for not known. @param {string} text */
  take(of, done, text) {
    const tenth = Math.floor((done ?? 0) / 10);
    const more = tenth > (this.of === of ? this.tenth : 0);
    this.of = of;
    this.tenth = tenth;
    if (more) setText(this.element, text);
  }
}

/** @param {number | null} value @param {number} now */
function moment(value, now) {
  if (value == null) return "";
  const date = new Date(1000 * value);
  const age = now - value;
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (age < 43200) return time;
  if (age < 300 * 86400) return `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
  return date.toLocaleDateString();
}

/** What `moment` of format.py says: local, and true elsewhere. @param {number | null} value */
function exact(value) {
  if (value == null) return "";
  const ahead = -new Date(1000 * value).getTimezoneOffset(); // minutes
  const local = new Date(1000 * value + 60_000 * ahead).toISOString().slice(0, 19).replace("T", " ");
  const [hours, minutes] = [Math.floor(Math.abs(ahead) / 60), Math.abs(ahead) % 60];
  const zone = `${ahead < 0 ? "-" : "+"}${hours}${minutes ? `:${String(minutes).padStart(2, "0")}` : ""}`;
  return `${local} UTC${ahead ? zone : ""}`;
}
/** @param {number} count */
const bytes = (count) => {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024) return `${Number(count.toPrecision(3))} ${unit}`;
    count /= 1024;
  }
  return `${Number(count.toPrecision(3))} TiB`;
};

