// The monitor's page: one module, no dependency. Everything that comes from a run (names,
// commands, messages, output) goes into the page as text, never as markup.
//
// The kernel tells of changes (`changes`) by number; whoever missed one asks for the whole.
// What a person wants goes back as a numbered wish that the kernel acknowledges at once: no
// acknowledgement means that the kernel is busy.

const STATUSES = {
  PENDING: ["○", "pending"],
  RUNNING: ["◐", "running"],
  SUCCEEDED: ["✓", "succeeded"],
  FAILED: ["✗", "failed"],
  CANCELLED: ["⊘", "cancelled"],
  LOST: ["?", "lost"],
};
const ORDER = Object.keys(STATUSES);
const isLive = (row) => row.status === "PENDING" || row.status === "RUNNING";

// Name, what a person reads above it, and what it sorts by (null comes last).
const COLUMNS = [
  { name: "run", title: "run", key: (row) => row.run },
  { name: "status", title: "status", key: (row) => ORDER.indexOf(row.status) },
  { name: "name", title: "name", key: (row) => row.name || null },
  { name: "runner", title: "runner", key: (row) => row.runner || null },
  { name: "image", title: "image", key: (row) => row.image || null },
  // What waits for its start is newer than all that has started.
  {
    name: "started",
    title: "started",
    key: (row) => (row.status === "PENDING" ? 1e12 : 0) + (row.started ?? row.created ?? 0),
  },
  { name: "time", title: "time", key: (row, now) => seconds(row, now) },
  { name: "exit", title: "exit", key: (row) => row.exit },
  { name: "command", title: "command", key: (row) => row.command || null },
];
const SEARCHED = ["run", "status", "reason", "name", "runner", "image", "command", "notebook",
  "labels", "message", "exit"];

const ROW = 28; // pixels
const AROUND = 6; // rows that are made above and below those in sight
const BUSY_AFTER = 1500; // milliseconds
const LINES_KEPT = 2000;

const KEYS = [
  ["↑ ↓, j k", "move; with Shift, or Space, select several"],
  ["PgUp PgDn Home End", "move far"],
  ["Enter", "details and output; again: into the output"],
  ["/", "filter: words, or status:failed runner:docker name:… (in the output: find)"],
  ["c", "cancel"],
  ["r", "rerun"],
  ["Delete", "delete"],
  ["v", "compare those that are selected"],
  ["Esc", "back"],
  ["in the output", "n N next and previous find, f follow, w wrap, g G first and last line"],
];

// -- small things ---------------------------------------------------------------------------

/** An element; texts among its children become text nodes. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  // Jupyter's own keys (x cuts the cell!) are off only on the very element that has the focus.
  if (["button", "input", "summary"].includes(tag) || "tabindex" in attributes) {
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

const button = (text, attributes) => h("button", { type: "button", ...attributes }, text);
const many = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function seconds(row, now) {
  if (row.took != null) return row.took;
  return isLive(row) && row.started != null ? Math.max(0, now - row.started) : null;
}

function clock(value, ticking = false) {
  if (value == null) return "";
  if (!ticking && value < 60) return value >= 0.1 ? `${value.toFixed(1)}s` : `${Math.round(value * 1000)}ms`;
  const whole = Math.floor(value);
  if (whole >= 360000) return `${Math.floor(whole / 86400)}d ${Math.floor(whole / 3600) % 24}h`;
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

function moment(value, now) {
  if (value == null) return "";
  const date = new Date(1000 * value);
  const age = now - value;
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
  if (age < 43200) return time;
  if (age < 300 * 86400) return `${date.toLocaleDateString([], { month: "short", day: "numeric" })} ${time}`;
  return date.toLocaleDateString();
}

const utc = (value) => (value == null ? "" : `${new Date(1000 * value).toISOString().slice(0, 19).replace("T", " ")} UTC`);
const bytes = (count) => {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (count < 1024) return `${Number(count.toPrecision(3))} ${unit}`;
    count /= 1024;
  }
  return `${Number(count.toPrecision(3))} TiB`;
};

// -- colours of output: the rules of terminal.py ---------------------------------------------

const SGR = /\x1b\[([0-9:;]{0,200})m/g;

function styleOf(marks) {
  const css = {};
  const classes = [];
  for (const [what, property] of [["colour", "color"], ["ground", "backgroundColor"]]) {
    const value = marks[what];
    if (typeof value === "number") classes.push(`${what === "colour" ? "c" : "b"}${value}`);
    else if (value) css[property] = value;
  }
  if (marks.set.has(1)) css.fontWeight = "bold";
  if (marks.set.has(2)) css.opacity = "0.7";
  if (marks.set.has(3)) css.fontStyle = "italic";
  const lines = [marks.set.has(4) && "underline", marks.set.has(9) && "line-through"].filter(Boolean);
  if (lines.length) css.textDecoration = lines.join(" ");
  return [css, classes];
}

function extended(numbers) {
  const kind = numbers.shift();
  if (kind === 2 && numbers.length >= 3) {
    const [r, g, b] = numbers.splice(0, 3).map((value) => Math.min(value, 255));
    return `rgb(${r}, ${g}, ${b})`;
  }
  if (kind !== 5 || !numbers.length) return null;
  let number = Math.min(numbers.shift(), 255);
  if (number < 16) return number;
  if (number > 231) return `rgb(${Array(3).fill(8 + 10 * (number - 232)).join(", ")})`;
  const steps = [0, 95, 135, 175, 215, 255];
  number -= 16;
  return `rgb(${steps[Math.floor(number / 36)]}, ${steps[Math.floor(number / 6) % 6]}, ${steps[number % 6]})`;
}

function applyCodes(marks, codes) {
  const numbers = codes ? codes.split(/[;:]/).map((code) => Number(code || 0)) : [0];
  while (numbers.length) {
    const code = numbers.shift();
    if (code === 0) Object.assign(marks, { colour: null, ground: null, set: new Set() });
    else if ([1, 2, 3, 4, 9].includes(code)) marks.set.add(code);
    else if (code === 22) [1, 2].forEach((mark) => marks.set.delete(mark));
    else if ([23, 24, 29].includes(code)) marks.set.delete(code - 20);
    else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) marks.colour = code < 40 ? code - 30 : code - 82;
    else if ((code >= 40 && code <= 47) || (code >= 100 && code <= 107)) marks.ground = code < 50 ? code - 40 : code - 92;
    else if (code === 39) marks.colour = null;
    else if (code === 49) marks.ground = null;
    else if (code === 38) marks.colour = extended(numbers);
    else if (code === 48) marks.ground = extended(numbers);
  }
}

/** A line of output as an element; colours go on from the line before, as in a terminal. */
function lineOf(text, marks) {
  const line = h("div", { class: "line" });
  const put = (part) => {
    if (!part) return;
    const [css, classes] = styleOf(marks);
    if (!classes.length && !Object.keys(css).length) line.append(part);
    else {
      const span = h("span", classes.length ? { class: classes.join(" ") } : {}, part);
      Object.assign(span.style, css);
      line.append(span);
    }
  };
  let at = 0;
  for (const found of text.matchAll(SGR)) {
    put(text.slice(at, found.index));
    applyCodes(marks, found[1]);
    at = found.index + found[0].length;
  }
  put(text.slice(at));
  if (!line.firstChild) line.append("\n"); // an empty line has its height
  return line;
}

// -- rows -----------------------------------------------------------------------------------

/** Field by field as it came, to one object for each row. */
function unpack(packed) {
  const columns = Object.entries(packed).map(([field, values]) =>
    Array.isArray(values) ? [field, values]
      : [field, values.at.length ? values.at.map((at) => values.of[at]) : values.of]);
  const ids = columns.find(([field]) => field === "run")?.[1] ?? [];
  return ids.map((_, number) => {
    const row = {};
    for (const [field, values] of columns) row[field] = values.length === 1 ? values[0] : values[number];
    return row;
  });
}

/** All rows that are known, in an order, and those of them that pass the filter. */
class Rows {
  constructor() {
    this.all = new Map();
    this.counts = {};
    this.total = 0;
    this.before = "";
    this.number = -1;
    this.sort = { column: "started", down: true };
    this.statuses = new Set();
    this.shown = [];
    this._ordered = null;
    this._words = [];
    this.version = 0;
    this.skew = null; // seconds by which the kernel's clock is ahead of the page's
  }

  get now() {
    return Date.now() / 1000 + (this.skew ?? 0);
  }

  state(message) {
    this.number = message.number;
    this.counts = message.counts;
    this.total = message.total;
    // The message that was least long on its way tells it best.
    if (message.now) this.skew = Math.max(this.skew ?? -Infinity, message.now - Date.now() / 1000);
  }

  whole(message) {
    this.all.clear();
    this.before = message.before;
    this.state(message);
    this.add(message.rows);
  }

  add(packed) {
    for (const row of unpack(packed)) this.put(row);
    this._ordered = null;
  }

  put(row) {
    row.handle = row.run.slice(row.run.lastIndexOf("-") + 1);
    row.text = SEARCHED.map((field) => row[field] ?? "").join("\n").toLowerCase();
    // Never the same twice, as what is in the page is known by it also after a new whole.
    row.version = ++this.version;
    this.all.set(row.run, row);
  }

  /** False when a message in between was missed. */
  change(message) {
    if (message.number !== this.number + 1) return message.number <= this.number;
    this.state(message);
    for (const run of message.gone ?? []) this.all.delete(run);
    if (message.rows) this.add(message.rows);
    for (const [run, fields] of message.changed ?? []) {
      const row = this.all.get(run);
      if (row) this.put({ ...row, ...fields });
    }
    this._ordered = null;
    return true;
  }

  find(text) {
    // Quotes hold words together: "seed 4", name:"my run".
    this._words = (text.toLowerCase().match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []).map((word) => {
      const [, field, value] = word.match(/^(\w+):(.+)$/) ?? [];
      const [where, what] = SEARCHED.includes(field) ? [field, value] : [null, word];
      return [where, what.replaceAll('"', "")];
    });
  }

  get filtered() {
    return this._words.length > 0 || this.statuses.size > 0;
  }

  _passes(row) {
    if (this.statuses.size && !this.statuses.has(row.status)) return false;
    return this._words.every(([field, word]) =>
      field ? String(row[field] ?? "").toLowerCase().includes(word) : row.text.includes(word));
  }

  /** Puts into `shown` what passes, in order. */
  arrange() {
    if (!this._ordered) {
      const { column, down } = this.sort;
      const now = this.now;
      const key = COLUMNS.find(({ name }) => name === column).key;
      const keyed = [...this.all.values()].map((row) => [key(row, now), row]);
      const sign = down ? -1 : 1;
      keyed.sort(([a, one], [b, two]) => {
        if (a !== b) {
          if (a === null) return 1;
          if (b === null) return -1;
          return a < b ? -sign : sign;
        }
        return one.run < two.run ? 1 : -1; // newest first among equals
      });
      this._ordered = keyed.map(([, row]) => row);
      this.images = this._ordered.some((row) => row.image);
    }
    this.shown = this.filtered ? this._ordered.filter((row) => this._passes(row)) : this._ordered;
  }

  order(column) {
    const down = this.sort.column === column ? !this.sort.down : ["started", "time", "run"].includes(column);
    this.sort = { column, down };
    this._ordered = null;
  }
}

// -- the kernel's side ------------------------------------------------------------------------

/** Wishes to the kernel, and whether it takes them. */
class Link {
  constructor(model, onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    this.state = "live"; // or "busy", "gone", "returning"
    this.number = 0;
    this.waiting = new Map();
    this.connect(model);
  }

  connect(model) {
    this.model = model;
    this.listener = (message) => this.take(message);
    this.liveness = () => this.greet();
    model.on("msg:custom", this.listener);
    model.on("comm_live_update", this.liveness);
  }

  disconnect() {
    this.waiting.forEach(clearTimeout);
    this.waiting.clear();
    try {
      this.model.off("msg:custom", this.listener);
      this.model.off("comm_live_update", this.liveness);
    } catch { /* a model that is gone */ }
  }

  greet() {
    this.ask({ kind: "hello", seen: this.seen?.() ?? -1 });
  }

  set(state) {
    if (state !== this.state) {
      this.state = state;
      this.onState(state);
    }
  }

  /** Sends a wish; false where no kernel is. */
  ask(wish) {
    const number = ++this.number;
    try {
      this.model.send({ ...wish, number });
    } catch {
      this.waiting.forEach(clearTimeout);
      this.waiting.clear();
      this.set("gone");
      return false;
    }
    if (this.state === "gone") this.set("live");
    if (wish.kind !== "bye") {
      this.waiting.set(number, setTimeout(() => this.state === "live" && this.set("busy"), BUSY_AFTER));
    }
    return number;
  }

  take(message) {
    if (message.kind === "ack") {
      clearTimeout(this.waiting.get(message.number));
      this.waiting.delete(message.number);
      if (this.state === "busy" && !this.waiting.size) this.set("live");
    } else this.onMessage(message);
  }

  /** After a restart: has the new kernel make a monitor, and goes on with that. */
  async comeBack() {
    const manager = this.model.widget_manager;
    const kernel = manager?.kernel;
    const code = this.model.get("again");
    if (!kernel?.requestExecute || !code) throw new Error("run the cell of the monitor again");
    this.set("returning");
    try {
      const future = kernel.requestExecute(
        { code: "", silent: true, store_history: false, user_expressions: { id: code } }, true);
      const reply = await future.done;
      const found = reply.content.user_expressions?.id;
      if (found?.status !== "ok") throw new Error(found?.evalue ?? "the kernel did not take it");
      const id = found.data["text/plain"].slice(1, -1);
      for (let tries = 0; tries < 100 && !manager.has_model(id); tries++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      const model = await manager.get_model(id);
      this.disconnect();
      this.connect(model);
      this.set("live");
      return model.get("snapshot");
    } catch (error) {
      this.set("gone");
      throw error;
    }
  }
}

// -- the table --------------------------------------------------------------------------------

class Grid {
  constructor(rows, actions) {
    this.rows = rows;
    this.actions = actions;
    this.id = `qwex-${Math.random().toString(36).slice(2, 8)}`;
    this.cursor = null; // the run that the keys are at
    this.anchor = null;
    this.picked = new Set();
    this.made = new Map();
    this.free = [];
    this.head = h("div", { role: "row", "aria-rowindex": 1, class: "head" });
    this.headers = COLUMNS.map(({ name, title }, index) => {
      const sort = button(title, { tabindex: -1, title: `sort by ${title}`, onclick: () => actions.order(name),
        onkeydown: (event) => this.headKey(event, index) });
      const header = h("div", { role: "columnheader", class: name, "aria-colindex": index + 1 }, sort);
      this.head.append(header);
      return header;
    });
    this.body = h("div", { role: "rowgroup", class: "body" });
    this.element = h("div", {
      role: "grid", tabindex: 0, class: "grid", "aria-label": "Runs", "aria-multiselectable": "true",
      "aria-colcount": COLUMNS.length,
      onscroll: () => this.paintSoon(), onkeydown: (event) => this.key(event),
      onclick: (event) => this.click(event),
      ondblclick: () => actions.open(true),
    }, h("div", { role: "rowgroup", class: "headgroup" }, this.head), this.body);
    this.sizes = new ResizeObserver(() => this.paintSoon());
    this.sizes.observe(this.element);
  }

  dispose() {
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
  }

  headKey(event, index) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const visible = this.headers.filter((header) => header.offsetParent);
    const at = visible.indexOf(this.headers[index]);
    visible[(at + step + visible.length) % visible.length].firstChild.focus();
  }

  index(run) {
    return this.rows.shown.findIndex((row) => row.run === run);
  }

  get page() {
    return Math.max(1, Math.floor(this.element.clientHeight / ROW) - 2);
  }

  /** The runs that an action is about. */
  get targets() {
    // Nothing happens to what a person doesn't see: a filter takes its runs out of the selection.
    const { shown } = this.rows;
    const picked = this.picked.size ? shown.filter((row) => this.picked.has(row.run)) : [];
    if (picked.length) return picked.map((row) => row.run);
    return this.cursor && this.index(this.cursor) >= 0 ? [this.cursor] : [];
  }

  move(to, { extend = false, keep = false } = {}) {
    const { shown } = this.rows;
    if (!shown.length) return;
    const index = Math.max(0, Math.min(to, shown.length - 1));
    this.cursor = shown[index].run;
    if (extend) {
      const from = Math.max(0, this.index(this.anchor ?? this.cursor));
      const [low, high] = from < index ? [from, index] : [index, from];
      this.picked = new Set(shown.slice(low, high + 1).map((row) => row.run));
    } else if (!keep) {
      this.anchor = this.cursor;
      this.picked = new Set([this.cursor]);
    }
    this.show(index);
    this.paint();
    this.actions.moved();
  }

  show(index) {
    const top = index * ROW;
    const room = this.element.clientHeight - ROW;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + ROW > this.element.scrollTop + room) this.element.scrollTop = top + ROW - room;
  }

  toggle(run) {
    if (!this.picked.delete(run)) this.picked.add(run);
    this.anchor = run;
    this.paint();
    this.actions.moved();
  }

  click(event) {
    const run = event.target.closest("[role=row][data-run]")?.dataset.run;
    if (!run) return;
    const index = this.index(run);
    if (event.shiftKey) this.move(index, { extend: true });
    else if (event.ctrlKey || event.metaKey) {
      this.cursor = run;
      this.toggle(run);
    } else {
      this.move(index);
      this.actions.open(false);
    }
  }

  key(event) {
    if (event.target !== this.element || event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key !== "a") return;
    const at = this.index(this.cursor);
    const extend = event.shiftKey;
    const go = (to) => this.move(to, { extend });
    const keys = {
      ArrowDown: () => go(at + 1), ArrowUp: () => go(at - 1), j: () => go(at + 1), k: () => go(at - 1),
      J: () => go(at + 1), K: () => go(at - 1),
      PageDown: () => go(at + this.page), PageUp: () => go(at - this.page),
      Home: () => go(0), End: () => go(this.rows.shown.length - 1),
      " ": () => this.cursor && this.toggle(this.cursor),
      Enter: () => this.actions.open(true),
      a: () => {
        if (!event.ctrlKey && !event.metaKey) return false;
        this.picked = new Set(this.rows.shown.map((row) => row.run));
        this.paint();
        this.actions.moved();
      },
    };
    const action = keys[event.key];
    if (!action || action() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }

  paintSoon() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    const { shown, sort } = this.rows;
    this.element.setAttribute("aria-rowcount", shown.length + 1);
    this.body.style.height = `${shown.length * ROW}px`;
    this.headers.forEach((header, number) => {
      const mine = COLUMNS[number].name === sort.column;
      if (mine) header.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
      header.firstChild.tabIndex = mine ? 0 : -1;
    });
    const height = this.element.clientHeight || 12 * ROW;
    const first = Math.max(0, Math.floor(this.element.scrollTop / ROW) - AROUND);
    const last = Math.min(shown.length, Math.ceil((this.element.scrollTop + height) / ROW) + AROUND);
    const wanted = shown.slice(first, last);
    const ids = new Set(wanted.map((row) => row.run));
    for (const [run, element] of this.made) {
      if (!ids.has(run)) {
        this.made.delete(run);
        element.remove();
        this.free.push(element);
      }
    }
    let before = null;
    wanted.forEach((row, number) => {
      let element = this.made.get(row.run);
      if (!element) {
        element = this.free.pop() ?? this.make();
        element.version = 0;
        this.made.set(row.run, element);
      }
      this.fill(element, row, first + number);
      // In the order in which they are read.
      const follows = before ? before.nextSibling : this.body.firstChild;
      if (follows !== element) this.body.insertBefore(element, follows);
      before = element;
    });
    const active = this.cursor && this.made.has(this.cursor) ? `${this.id}-${this.cursor}` : null;
    if (active) this.element.setAttribute("aria-activedescendant", active);
    else this.element.removeAttribute("aria-activedescendant");
  }

  make() {
    const cells = COLUMNS.map(({ name }, index) => h("div", { role: "gridcell", class: name, "aria-colindex": index + 1 }));
    const element = h("div", { role: "row" }, ...cells);
    element.cells = Object.fromEntries(COLUMNS.map(({ name }, index) => [name, cells[index]]));
    const { status } = element.cells;
    status.append(h("span", { class: "word" }), " ", h("span", { class: "quiet" }));
    return element;
  }

  fill(element, row, index) {
    const picked = this.picked.has(row.run);
    element.setAttribute("aria-selected", picked);
    element.classList.toggle("cursor", row.run === this.cursor);
    if (element.index !== index) {
      element.index = index;
      element.style.transform = `translateY(${index * ROW}px)`;
      element.setAttribute("aria-rowindex", index + 2);
    }
    if (element.version === row.version && element.dataset.run === row.run) return;
    element.version = row.version;
    element.dataset.run = row.run;
    element.id = `${this.id}-${row.run}`;
    const { cells } = element;
    const [glyph, word] = STATUSES[row.status] ?? ["?", row.status];
    setText(cells.run, row.handle);
    cells.run.title = row.run;
    const [state, why] = cells.status.querySelectorAll("span");
    state.className = `word ${row.status}`;
    setText(state, `${glyph} ${word}`);
    // That one says the same as its status.
    const reason = row.reason === "CancelledByUser" ? "" : row.reason;
    setText(why, [reason, row.progress].filter(Boolean).join(" "));
    cells.status.title = [row.reason, row.message].filter(Boolean).join(": ");
    for (const field of ["name", "runner", "image", "command"]) {
      setText(cells[field], row[field]);
      cells[field].title = row[field];
    }
    setText(cells.exit, row.exit == null ? "" : String(row.exit));
    const since = row.started ?? (row.status === "PENDING" ? null : row.created);
    setText(cells.started, moment(since, this.rows.now));
    cells.started.title = since == null ? `submitted ${utc(row.created)}` : utc(since);
    this.tick(element, row);
  }

  tick(element, row) {
    setText(element.cells.time, clock(seconds(row, this.rows.now), isLive(row)));
  }

  /** The clocks of what runs, once a second. */
  tickAll() {
    for (const [run, element] of this.made) {
      const row = this.rows.all.get(run);
      if (row && isLive(row)) this.tick(element, row);
    }
  }
}

// -- output -----------------------------------------------------------------------------------

class Output {
  constructor(actions) {
    this.actions = actions;
    this.text = h("div", {
      class: "lines", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Output",
      onscroll: () => this.scrolled(), onkeydown: (event) => this.key(event),
    });
    this.search = h("input", {
      type: "search", placeholder: "find (/)", "aria-label": "Find in the output",
      oninput: () => this.find(this.search.value),
      onkeydown: (event) => {
        if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
        else if (event.key === "Escape") {
          if (this.search.value) this.find((this.search.value = ""));
          this.text.focus();
        } else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    this.found = h("span", { class: "quiet", role: "status" });
    this.followButton = button("follow", { "aria-pressed": "true", title: "stay at the newest line (f)",
      onclick: () => this.follow(!this.following) });
    this.wrapButton = button("wrap", { "aria-pressed": "true", title: "wrap long lines (w)",
      onclick: () => this.wrap() });
    this.info = h("span", { class: "quiet info" });
    this.more = button("", { class: "more", hidden: true, onclick: () => this.follow(true) });
    this.element = h("div", { class: "output" },
      h("div", { class: "bar" }, this.info, this.search, this.found, this.followButton, this.wrapButton),
      h("div", { class: "paper" }, this.text, this.more));
    this.open(null);
  }

  open(run) {
    this.run = run;
    this.first = 0; // the number of the line on top
    this.following = true;
    this.unseen = 0;
    this.matches = [];
    this.at = -1;
    this.text.replaceChildren();
    this.marks = [];
    this.search.value = "";
    setText(this.found, "");
    setText(this.info, run ? "reading…" : "");
    this.sayFollow();
  }

  take(message) {
    if (message.run !== this.run) return;
    const lines = this.text.children;
    const keep = Math.min(message.from, message.after);
    while (this.marks.length && this.first + this.marks.length > keep) {
      this.marks.pop();
      this.text.lastChild.remove();
    }
    const fragment = document.createDocumentFragment();
    let marks = this.marks.at(-1) ?? { colour: null, ground: null, set: new Set() };
    const put = (text, quiet) => {
      marks = { ...marks, set: new Set(marks.set) };
      const line = quiet ? h("div", { class: "line quiet" }, text) : lineOf(text, marks);
      this.marks.push(marks);
      fragment.append(line);
    };
    const gap = message.from - keep;
    if (!this.marks.length) this.first = message.from;
    else if (gap > 0) {
      // One line tells of those that aren't here, and stands for the last of them.
      this.first += gap - 1;
      put(`… ${many(gap, "line")} not shown, all of them in the log`, true);
    }
    message.lines.forEach((line) => put(line, false));
    this.text.append(fragment);
    while (this.marks.length > LINES_KEPT) {
      this.marks.shift();
      lines[0].remove();
      this.first += 1;
    }
    const count = message.from + message.lines.length;
    const before = message.before ? `the last of ${bytes(message.bytes)}` : `${many(count, "line")} · ${bytes(message.bytes)}`;
    setText(this.info, count || message.before ? before : message.ended ? "no output" : "no output yet");
    if (this.following) this.bottom();
    else {
      this.unseen += message.lines.length;
      this.sayFollow();
    }
    if (this.search.value) this.find(this.search.value, false);
  }

  bottom() {
    this.text.scrollTop = this.text.scrollHeight;
  }

  scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    const there = scrollTop + clientHeight >= scrollHeight - 4;
    if (there !== this.following) {
      this.following = there;
      if (there) this.unseen = 0;
      this.sayFollow();
    }
  }

  follow(yes) {
    this.following = yes;
    if (yes) {
      this.unseen = 0;
      this.bottom();
    }
    this.sayFollow();
  }

  sayFollow() {
    this.followButton.setAttribute("aria-pressed", this.following);
    this.more.hidden = this.following || !this.unseen;
    setText(this.more, `↓ ${many(this.unseen, "new line")}`);
  }

  wrap() {
    const cut = this.text.classList.toggle("cut");
    this.wrapButton.setAttribute("aria-pressed", !cut);
  }

  find(text, jump = true) {
    const wanted = text.toLowerCase();
    const here = this.matches[this.at];
    this.text.querySelectorAll(".hit").forEach((line) => line.classList.remove("hit", "here"));
    this.matches = wanted ? [...this.text.children].filter((line) => line.textContent.toLowerCase().includes(wanted)) : [];
    this.matches.forEach((line) => line.classList.add("hit"));
    if (jump) {
      this.at = this.matches.length; // the newest is looked at first
      this.next(-1);
    } else {
      // Lines came and went, and the one that is looked at is the same, if it is there.
      this.at = this.matches.indexOf(here);
      this.matches[this.at]?.classList.add("here");
    }
    this.sayFound();
  }

  next(step) {
    if (!this.matches.length) return;
    this.matches[this.at]?.classList.remove("here");
    if (this.at < 0 && step < 0) this.at = 0;
    this.at = (this.at + step + this.matches.length) % this.matches.length;
    const line = this.matches[this.at];
    line.classList.add("here");
    this.follow(false);
    this.text.scrollTop = line.offsetTop - this.text.offsetTop - this.text.clientHeight / 2;
    this.sayFound();
  }

  sayFound() {
    const count = this.matches.length;
    const place = !count ? "nothing" : this.at < 0 ? `${count} found` : `${this.at + 1} of ${count}`;
    setText(this.found, this.search.value ? place : "");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      "/": () => this.search.focus(),
      n: () => this.next(1),
      N: () => this.next(-1),
      f: () => this.follow(!this.following),
      w: () => this.wrap(),
      g: () => { this.follow(false); this.text.scrollTop = 0; },
      G: () => this.follow(true),
      Escape: () => this.actions.back(),
    };
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }
}

// -- details ----------------------------------------------------------------------------------

function copyButton(label, text, said) {
  return button(label, {
    title: text.length > 300 ? `${text.slice(0, 299)}…` : text,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        // Not everywhere a page may; the old way works from a click.
        const area = h("textarea", { class: "away" });
        area.value = text;
        document.body.append(area);
        area.select();
        document.execCommand("copy");
        area.remove();
      }
      said(`copied the ${label}`);
    },
  });
}

function detailsOf(run, said) {
  const facts = h("dl", {}, ...run.facts.concat(run.asked.filter(([name]) => !["command", "script"].includes(name)))
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  const parts = [h("summary", {}, "details"), facts];
  if (run.script) parts.push(h("div", { class: "quiet" }, "script"), h("pre", { tabindex: 0, "aria-label": "Script" }, run.script));
  if (run.said) parts.push(h("div", { class: "quiet" }, "the backend's own words"), h("pre", { tabindex: 0, "aria-label": "The backend's own words" }, run.said));
  return [
    h("div", { class: "bar" }, h("span", { class: "quiet" }, "copy"), ...run.copy.map(([label, text]) => copyButton(label, text, said))),
    h("details", {}, ...parts),
  ];
}

/** Several runs side by side: first in what they differ. */
function comparisonOf(runs) {
  const facts = runs.map((run) => new Map([["status", run.status], ...run.facts, ...run.asked]));
  const names = [...new Set(facts.flatMap((one) => [...one.keys()]))].filter((name) => name !== "run id" && name !== "output");
  const differs = (name) => new Set(facts.map((one) => one.get(name) ?? "")).size > 1;
  const line = (name) => h("tr", {}, h("th", { scope: "row" }, name), ...facts.map((one) => h("td", {}, one.get(name) ?? "")));
  const same = names.filter((name) => !differs(name));
  return h("div", { class: "compare", tabindex: 0, role: "region", "aria-label": "Comparison" },
    h("table", {},
      h("thead", {}, h("tr", {}, h("td", {}), ...runs.map((run) => h("th", { scope: "col" }, run.title)))),
      h("tbody", {}, ...names.filter(differs).map(line))),
    same.length ? h("details", {}, h("summary", {}, `the same in all: ${same.join(", ")}`),
      h("table", {}, h("tbody", {}, ...same.map(line)))) : null);
}

// -- all of it --------------------------------------------------------------------------------

class Monitor {
  constructor(model, el) {
    this.rows = new Rows();
    this.link = new Link(model, (message) => this.take(message), () => this.sayState());
    this.link.seen = () => this.rows.number;
    this.grid = new Grid(this.rows, {
      order: (column) => { this.rows.order(column); this.refresh(); },
      moved: () => this.moved(),
      open: (deeper) => this.open(deeper),
    });
    this.output = new Output({ back: () => this.grid.element.focus() });
    this.build(el);
    this.rows.whole(model.get("snapshot"));
    this.refresh();
    this.link.greet();
    this.fetch();
    this.timer = setInterval(() => {
      // Of a kernel that is gone is shown what was known then.
      if (!document.hidden && this.link.state !== "gone") this.grid.tickAll();
    }, 1000);
  }

  build(el) {
    this.filter = h("input", {
      type: "search", class: "filter", "aria-label": "Filter runs",
      placeholder: "filter (/)", title: "words of any column; or status:failed runner:docker name:…",
      oninput: () => { this.rows.find(this.filter.value); this.refresh(); },
      onkeydown: (event) => {
        if (event.key === "Escape") this.clearFilter();
        else if (event.key === "ArrowDown" || event.key === "Enter") {
          this.grid.element.focus();
          if (this.grid.index(this.grid.cursor) < 0) this.grid.move(0);
        } else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    this.chips = ORDER.map((status) => {
      const [glyph, word] = STATUSES[status];
      return button("", {
        class: `chip ${status}`, "aria-pressed": "false", "data-status": status, "data-word": `${glyph} ${word}`,
        onclick: () => {
          const { statuses } = this.rows;
          if (!statuses.delete(status)) statuses.add(status);
          this.refresh();
        },
      });
    });
    this.count = h("span", { class: "count quiet", role: "status" });
    const act = (text, verb) => button(text, { "data-verb": verb, onclick: () => this.want(verb) });
    this.verbs = [act("Cancel", "cancel"), act("Rerun", "rerun"), act("Delete", "delete"), act("Compare", "compare")];
    this.help = button("?", { "aria-label": "Keys", title: "keys (?)", "aria-expanded": "false", onclick: () => this.sayKeys() });
    this.banner = h("div", { class: "banner", role: "alert", hidden: true });
    this.question = h("div", { class: "banner question", role: "alertdialog", "aria-label": "Are you sure?", hidden: true,
      onkeydown: (event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        event.preventDefault();
        this.unask();
      } });
    this.note = h("div", { class: "note", role: "status" });
    this.empty = h("div", { class: "empty", hidden: true });
    this.keys = h("dl", { class: "keys", hidden: true }, ...KEYS.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
    this.title = h("div", { class: "title" });
    this.why = h("div", { class: "why" });
    this.details = h("div", { class: "details" });
    this.pane = h("section", { class: "pane", hidden: true, "aria-label": "Run" },
      h("div", { class: "bar" }, this.title, button("×", { class: "close", "aria-label": "Close", title: "close (Esc)", onclick: () => this.shut() })),
      this.why, this.details, this.output.element);
    this.root = h("div", { class: "qwex-monitor", role: "region", "aria-label": "Run monitor", onkeydown: (event) => this.key(event) },
      h("div", { class: "bar tools" }, this.filter,
        h("div", { class: "chips", role: "group", "aria-label": "Only these statuses" }, ...this.chips), this.count,
        h("div", { class: "verbs", role: "group", "aria-label": "With the selected runs" }, ...this.verbs, this.help)),
      this.keys, this.banner, this.question, this.grid.element, this.empty, this.note, this.pane);
    // The table that stands in for this where no kernel is.
    const place = String(this.link.model.get("place") ?? "").replace(/\W/g, "");
    const hide = h("style", {});
    hide.textContent = `.qwex-table-${place} { display: none }`;
    el.append(hide, this.root);
  }

  dispose() {
    clearInterval(this.timer);
    clearTimeout(this.soon);
    clearTimeout(this.noteTimer);
    this.grid.dispose();
    this.link.disconnect();
  }

  // -- from the kernel

  take(message) {
    const kinds = {
      changes: () => {
        if (!this.rows.change(message)) this.link.greet();
        this.refresh();
        this.sayTitle();
      },
      whole: () => { this.rows.whole(message); this.refresh(); this.sayTitle(); this.fetch(); },
      more: () => {
        // A whole that came in between begins further up.
        if (this.fetching === this.rows.before) this.rows.before = message.before;
        this.fetching = null;
        this.rows.add(message.rows);
        this.refresh();
        this.fetch();
      },
      about: () => message.number === this.asked && this.show(message.runs),
      output: () => this.output.take(message),
      did: () => this.did(message),
    };
    kinds[message.kind]?.();
  }

  /** Asks for the older rows, bit by bit, when the page has time. */
  fetch() {
    if (!this.rows.before || this.fetching) return;
    this.fetching = this.rows.before;
    const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 50));
    idle(() => {
      this.fetching = this.rows.before;
      if (!this.fetching) return;
      if (!this.link.ask({ kind: "more", before: this.fetching })) this.fetching = null;
    }, { timeout: 1000 });
  }

  refresh() {
    this.rows.arrange();
    const { shown, total, counts, all } = this.rows;
    this.root.classList.toggle("imageless", !this.rows.images); // its room is the command's
    for (const run of this.grid.picked) if (!all.has(run)) this.grid.picked.delete(run);
    this.grid.paint();
    this.chips.forEach((chip) => {
      const { status, word } = chip.dataset;
      setText(chip, `${word} ${(counts[status] ?? 0).toLocaleString("en")}`);
      chip.setAttribute("aria-pressed", this.rows.statuses.has(status));
      chip.hidden = !counts[status] && !this.rows.statuses.has(status);
    });
    const loading = all.size < total ? `, loading ${all.size.toLocaleString("en")}` : "";
    const number = total.toLocaleString("en");
    setText(this.count, (this.rows.filtered ? `${shown.length.toLocaleString("en")} of ${number}` : many(total, "run")) + loading);
    this.empty.hidden = shown.length > 0;
    this.grid.element.hidden = !shown.length && !total;
    if (!shown.length) this.sayEmpty(total);
    this.sayVerbs();
    this.seek();
  }

  sayEmpty(total) {
    if (total) {
      const clear = button("clear the filter (Esc)", { onclick: () => this.clearFilter() });
      this.empty.replaceChildren(`0 of ${many(total, "run")} — `, clear);
    } else {
      this.empty.replaceChildren("No runs yet. Start one: write ", h("code", {}, "%%qwex"), " above the code of a cell, or ",
        h("code", {}, "%%qwex --image=python:3.12 python"), " to run it in a container.");
    }
  }

  clearFilter() {
    this.filter.value = "";
    this.rows.find("");
    this.rows.statuses.clear();
    this.refresh();
    this.grid.element.focus();
  }

  // -- what can be done

  sayVerbs() {
    const targets = this.grid.targets.map((run) => this.rows.all.get(run));
    const live = targets.filter(isLive).length;
    const gone = this.link.state === "gone" || this.link.state === "returning";
    const cannot = {
      cancel: !live && "nothing selected is still running",
      rerun: !targets.length && "select a run first",
      delete: (!targets.length && "select a run first") || (live > 0 && "what still runs can't be deleted: cancel it first"),
      compare: (targets.length < 2 && "select two runs or more (Space, Shift or Ctrl)") || (targets.length > 6 && "six runs at the most"),
    };
    for (const verb of this.verbs) {
      const name = verb.dataset.verb;
      const why = gone ? "no kernel" : cannot[name];
      verb.disabled = Boolean(why);
      const key = { cancel: "c", rerun: "r", delete: "Delete", compare: "v" }[name];
      verb.title = why || `${name} ${targets.length > 1 ? many(targets.length, "run") : targets[0]?.name || targets[0]?.handle} (${key})`;
    }
  }

  want(verb) {
    const button = this.verbs.find((one) => one.dataset.verb === verb);
    if (button.disabled) return this.say(button.title);
    const targets = this.grid.targets.map((run) => this.rows.all.get(run));
    if (verb === "compare") return this.compare();
    const runs = verb === "cancel" ? targets.filter(isLive) : targets;
    const one = runs[0];
    const what = runs.length === 1 ? (one.name ? `${one.name} (${one.handle})` : one.handle) : many(runs.length, "run");
    const hurts = verb === "delete" || runs.length > 1 || (verb === "cancel" && one.runner === "k8s");
    if (!hurts) return this.do(verb, runs);
    const words = {
      cancel: [`Cancel ${what}?`, "Cancel them", "Keep running"],
      rerun: [`Run ${what} again?`, "Run again", "Don't"],
      delete: [`Delete ${what}, with output and record?`, "Delete", "Keep"],
    }[verb];
    if (verb === "cancel" && runs.length === 1) words[1] = "Cancel it";
    const yes = button2(words[1], () => { this.unask(); this.do(verb, runs); });
    const no = button2(words[2], () => this.unask());
    this.question.replaceChildren(h("span", {}, words[0]), yes, no);
    this.question.setAttribute("aria-label", words[0]);
    this.question.hidden = false;
    yes.focus();
  }

  unask() {
    this.question.hidden = true;
    this.grid.element.focus();
  }

  do(verb, runs) {
    const doing = { cancel: "cancelling", rerun: "starting again", delete: "deleting" }[verb];
    if (this.link.ask({ kind: "do", verb, runs: runs.map((row) => row.run) })) this.say(`${doing} ${runs.length === 1 ? runs[0].handle : many(runs.length, "run")}…`, 0);
  }

  did({ verb, failed, made }) {
    if (failed.length) return this.say(failed.map(([run, why]) => `${run.slice(run.lastIndexOf("-") + 1)}: ${why}`).join(" "), 0);
    this.say({ cancel: "asked to stop", rerun: `started ${made.map((run) => run.slice(run.lastIndexOf("-") + 1)).join(", ")}`, delete: "deleted" }[verb]);
    if (verb !== "rerun" || !made.length) return undefined;
    // The new one is what is of interest now, as soon as the table shows it.
    this.wanted = made[0];
    return this.seek();
  }

  /** Selects the run that is waited for, unless its person went on to something else. */
  seek() {
    if (!this.wanted) return;
    if (this.output.element.contains(document.activeElement)) this.wanted = null;
    const index = this.grid.index(this.wanted);
    if (index < 0) return;
    this.grid.move(index);
    if (!this.pane.hidden) this.open(false);
  }

  /** What was done, in words; for some seconds, or until something else is said. */
  say(text, milliseconds = 6000) {
    clearTimeout(this.noteTimer);
    setText(this.note, text);
    if (milliseconds) this.noteTimer = setTimeout(() => setText(this.note, ""), milliseconds);
  }

  sayState() {
    const { state } = this.link;
    this.root.classList.toggle("gone", state === "gone" || state === "returning");
    this.banner.hidden = state === "live";
    this.banner.dataset.state = state;
    if (state === "busy") {
      this.banner.replaceChildren("The kernel is busy: this waits until its cell has ended. Press ■ (I, I) to stop that cell first.");
    } else if (state === "gone") {
      this.banner.replaceChildren("The kernel was restarted or has ended; this is what was known then. ",
        button2("Bring it back (Enter)", () => this.comeBack()));
    } else if (state === "returning") this.banner.replaceChildren("Asking the new kernel…");
    this.sayVerbs();
  }

  async comeBack() {
    try {
      this.rows.whole(await this.link.comeBack());
      this.fetching = null;
      this.refresh();
      this.fetch();
      this.link.greet();
      this.grid.element.focus();
      if (!this.pane.hidden) this.open(false);
    } catch (error) {
      this.banner.replaceChildren(`It could not be brought back (${error.message}): run the cell of the monitor again.`);
    }
  }

  // -- one run

  moved() {
    this.wanted = null;
    this.sayVerbs();
    if (this.pane.hidden) return;
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.open(false), 150);
  }

  /** Shows the run at the cursor; `deeper` takes the keys along into what is open already. */
  open(deeper) {
    if (this.link.state === "gone") {
      if (deeper) this.comeBack();
      return;
    }
    const run = this.grid.cursor;
    if (!run) return;
    if (deeper && !this.pane.hidden && this.pane.dataset.run === run) {
      this.output.text.focus();
      return;
    }
    clearTimeout(this.soon);
    this.pane.hidden = false;
    this.output.element.hidden = false;
    if (this.pane.dataset.run !== run) {
      this.pane.dataset.run = run;
      this.details.replaceChildren();
      this.output.open(run);
      this.link.ask({ kind: "output", run });
    }
    this.sayTitle();
    this.asked = this.link.ask({ kind: "about", runs: [run] });
  }

  compare() {
    this.pane.hidden = false;
    this.pane.dataset.run = "";
    this.output.element.hidden = true;
    this.output.open(null);
    this.link.ask({ kind: "output", run: "" });
    this.why.replaceChildren();
    this.details.replaceChildren();
    this.title.replaceChildren(h("b", {}, "Comparison"));
    this.asked = this.link.ask({ kind: "about", runs: this.grid.targets });
  }

  show(runs) {
    if (!runs.length) return this.details.replaceChildren("It was deleted.");
    if (this.pane.dataset.run) {
      const open = this.details.querySelector("details")?.open;
      this.details.replaceChildren(...detailsOf(runs[0], (text) => this.say(text)));
      this.details.querySelector("details").open = Boolean(open);
      return undefined;
    }
    for (const run of runs) run.status = STATUSES[this.rows.all.get(run.run)?.status]?.join(" ") ?? "";
    this.details.replaceChildren(comparisonOf(runs));
    this.details.firstChild.focus();
    return undefined;
  }

  /** What the run is and why, from its row: that is known without asking. */
  sayTitle() {
    const row = this.rows.all.get(this.pane.dataset.run);
    if (this.pane.hidden || !row) return;
    const key = `${row.run} ${row.version}`;
    if (this.titled === key) return;
    const before = this.titled?.split(" ")[0] === row.run;
    this.titled = key;
    const [glyph, word] = STATUSES[row.status];
    const exit = row.exit == null ? "" : ` · exit ${row.exit}`;
    this.title.replaceChildren(h("span", { class: `word ${row.status}` }, `${glyph} ${word}`), " ",
      h("b", {}, row.name || row.handle), " ", h("code", {}, row.command.length > 90 ? `${row.command.slice(0, 89)}…` : row.command), " ",
      h("span", { class: "quiet" }, [row.runner, row.image, row.name && row.handle].filter(Boolean).join(" · ") + exit));
    const seen = row.seen ? ` Last seen ${utc(row.seen)}.` : "";
    this.why.replaceChildren();
    if (row.message || row.reason) {
      this.why.append(h("b", { class: row.status }, row.reason ? `${row.reason}: ` : ""), row.message + seen);
    }
    if (before && !isLive(row)) this.asked = this.link.ask({ kind: "about", runs: [row.run] });
  }

  shut() {
    this.pane.hidden = true;
    this.pane.dataset.run = "";
    this.titled = null;
    this.output.open(null);
    this.link.ask({ kind: "output", run: "" });
    this.grid.element.focus();
  }

  sayKeys() {
    this.keys.hidden = !this.keys.hidden;
    this.help.setAttribute("aria-expanded", !this.keys.hidden);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const inGrid = event.target === this.grid.element;
    const keys = {
      "/": () => this.filter.focus(),
      "?": () => this.sayKeys(),
      Escape: () => {
        if (!this.keys.hidden) this.sayKeys();
        else if (!this.pane.hidden) this.shut();
        else if (this.rows.filtered) this.clearFilter();
        else return false;
        return true;
      },
      ...(inGrid && {
        c: () => this.want("cancel"),
        r: () => this.want("rerun"),
        v: () => this.want("compare"),
        Delete: () => this.want("delete"),
      }),
    };
    if (!keys[event.key] || keys[event.key]() === false) return;
    event.preventDefault();
    event.stopPropagation();
  }
}

const button2 = (text, onclick) => button(text, { onclick });

// A factory, as `initialize` and `render` get different proxies of one model.
export default () => {
  let views = 0;
  return {
    render({ model, el }) {
      const monitor = new Monitor(model, el);
      views += 1;
      return () => {
        views -= 1;
        if (!views) monitor.link.ask({ kind: "bye" });
        monitor.dispose();
      };
    },
  };
};
