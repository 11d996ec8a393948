// @ts-check
// The pane of a run's output: its last lines, a part of its log, what is looked for. Part of monitor.js.

const LINES_KEPT = 2000;
const TYPED = 250; // milliseconds after which what is typed is looked for in the whole log
const AGAIN = 3000; // how often that is done anew while lines come

/** @typedef {[stream: string, offset: number, line: number | null]} Place A line of the log. */
/** @typedef {{ run: string, from: number, after: number, lines: string[], apart?: [number, number][], before: number, bytes: number, ended: boolean }} Newest What output.py sends. */
/** @typedef {{ run: string, stream: string, lines: string[], number: number | null, here: number, begin: number, end: number, size: number }} Part Lines around a place, see find.py. */
/** @typedef {{ run: string, text: string, count: number | null, places: Place[], part: number | null }} Finding */

class Output {
  /** @param {{ ask: Ask, back: () => void }} actions */
  constructor(actions) {
    this.actions = actions;
    this.run = "";
    this.first = 0; // the number of the line on top
    /** @type {Part | null} */
    this.part = null; // what it shows instead of the last lines
    this.following = true;
    this.unseen = 0;
    this.count = 0;
    this.before = 0;
    /** @type {HTMLElement[]} */
    this.matches = [];
    this.at = -1;
    /** @type {Marks[]} */
    this.marks = [];
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    /** @type {Place[]} */
    this.places = []; // the last lines of all that were found
    /** @type {number | null} */
    this.total = null; // how many were found; null for not known
    this.asked = false;
    this.askedAt = 0;
    this.again = AGAIN;
    /** @type {number | null} */
    this.cut = null; // the bytes of the log that were searched; null for all
    this.goes = false; // whether the last place is shown when it is known
    this.text = h("div", {
      class: "lines", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Output",
      onscroll: () => this.scrolled(), onkeydown: (/** @type {KeyboardEvent} */ event) => this.key(event),
    });
    this.search = h("input", {
      type: "search", placeholder: "find (/)", "aria-label": "Find in the output",
      oninput: () => this.find(this.search.value),
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
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
    this.open("");
  }

  /** @param {string} run */
  open(run) {
    this.run = run;
    this.search.value = "";
    setText(this.info, run ? "reading…" : "");
    this.restart();
  }

  /** Empties the pane for the last lines of its run. */
  restart() {
    this.first = 0;
    this.part = null;
    this.following = true;
    this.unseen = 0;
    this.count = 0;
    this.before = 0;
    this.matches = [];
    this.at = -1;
    this.marks = [];
    this.text.replaceChildren();
    this.forget();
    this.sayFound();
    this.sayFollow();
  }

  /** What was found in the whole log isn't known any more. */
  forget() {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.places = [];
    this.total = null;
    this.asked = false;
    this.again = AGAIN;
    this.cut = null;
    this.goes = false;
  }

  /** Whether all of the output is here. */
  get whole() {
    return !this.part && !this.before && !this.first;
  }

  /** @param {Newest} message */
  take(message) {
    if (message.run !== this.run) return;
    const count = message.from + message.lines.length;
    if (this.part) {
      this.unseen += Math.max(0, count - this.count);
      this.count = count;
      this.sayFollow();
      return;
    }
    const lines = this.text.children;
    const keep = Math.min(message.from, message.after);
    while (this.marks.length && this.first + this.marks.length > keep) {
      this.marks.pop();
      this.text.lastChild?.remove();
    }
    const fragment = document.createDocumentFragment();
    let marks = this.marks.at(-1) ?? noMarks();
    /** @type {(text: string, quiet?: boolean) => HTMLElement} */
    const put = (text, quiet = false) => {
      marks = { ...marks, set: new Set(marks.set) };
      const line = quiet ? h("div", { class: "line quiet" }, text) : lineOf(text, marks);
      this.marks.push(marks);
      fragment.append(line);
      return line;
    };
    const gap = message.from - keep;
    if (!this.marks.length) this.first = message.from;
    else if (gap > 0) {
      // One line tells of those that aren't here, and stands for the last of them.
      this.first += gap - 1;
      put(`… ${many(gap, "line")} not shown, all of them in the log`, true);
    }
    const made = message.lines.map((line) => put(line));
    message.apart?.forEach(([from, to]) => setApart(made.slice(from, to)));
    this.text.append(fragment);
    while (this.marks.length > LINES_KEPT) {
      this.marks.shift();
      lines[0].remove();
      this.first += 1;
    }
    this.count = count;
    this.before = message.before;
    const before = message.before ? `the last of ${bytes(message.bytes)}` : `${many(count, "line")} · ${bytes(message.bytes)}`;
    setText(this.info, count || message.before ? before : message.ended ? "no output" : "no output yet");
    if (this.following) this.bottom();
    else {
      this.unseen += message.lines.length;
      this.sayFollow();
    }
    if (this.search.value) this.find(this.search.value, false);
  }

  /** Shows a part of the log, and no longer what comes. @param {Part} message */
  takePart(message) {
    if (message.run !== this.run) return;
    this.part = message;
    this.following = false;
    /** @type {(text: string, offset: number, number: number | null) => HTMLElement} */
    const go = (text, offset, number) => h("div", { class: "quiet" }, button(text, {
      onclick: () => this.look([message.stream, offset, number]) }));
    const numberAt = (/** @type {number} */ place) => (message.number == null ? null : message.number + place);
    const marks = noMarks();
    const lines = message.lines.map((line) => lineOf(line, marks));
    if (message.stream === "stderr") setApart(lines);
    this.text.replaceChildren(
      ...(message.begin > 0 ? [go("↑ what was before", message.begin - 1, numberAt(-1))] : []), ...lines,
      ...(message.end < message.size ? [go("↓ what came then", message.end, numberAt(lines.length))] : []));
    const last = numberAt(lines.length - 1);
    const which = last == null ? `at ${bytes(message.begin)}` : `lines ${message.number?.toLocaleString("en")} to ${last.toLocaleString("en")}`;
    setText(this.info, `${message.stream}, ${which}, of ${bytes(message.size)}`);
    this.mark(this.search.value);
    const here = lines[message.here];
    this.at = this.matches.indexOf(here);
    here?.classList.add("here");
    if (message.begin === 0 && message.here === 0) this.text.scrollTop = 0;
    else this.scrollTo(here);
    this.sayFollow();
    this.sayFound();
  }

  /** Asks for the lines at a place of the log. @param {Place} place */
  look([stream, offset, line]) {
    return this.actions.ask({ kind: "lines", run: this.run, stream, offset, line });
  }

  /** To the first line there was. */
  top() {
    this.follow(false);
    if (!this.whole && this.look(["", 0, 1])) return;
    this.text.scrollTop = 0;
    if (!this.whole) setText(this.info, "the first of the lines that are here: no kernel knows those before");
  }

  /** @param {Finding} message */
  takeFound(message) {
    if (message.run !== this.run || message.text !== this.search.value) return;
    this.asked = false;
    this.again = Math.max(AGAIN, 10 * (Date.now() - this.askedAt)); // a long log less often
    this.places = message.places;
    this.total = message.count;
    this.cut = message.part;
    const last = this.places.at(-1);
    if (this.goes && last) this.look(last);
    this.goes = false;
    this.sayFound();
  }

  /** Has the whole log searched, soon, where not all of it is here. @param {number} after */
  seek(after) {
    if (this.timer || !this.search.value || this.whole) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.askedAt = Date.now();
      this.asked = Boolean(this.actions.ask({ kind: "find", run: this.run, text: this.search.value }));
      this.sayFound();
    }, after);
  }

  bottom() {
    this.text.scrollTop = this.text.scrollHeight;
  }

  scrolled() {
    if (this.part) return;
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    const there = scrollTop + clientHeight >= scrollHeight - 4;
    if (there !== this.following) {
      this.following = there;
      if (there) this.unseen = 0;
      this.sayFollow();
    }
  }

  /** @param {boolean} yes */
  follow(yes) {
    if (yes && this.part) {
      const { places, total, cut } = this;
      this.restart(); // and begins anew with the last lines
      Object.assign(this, { places, total, cut });
      this.actions.ask({ kind: "output", run: this.run });
      return;
    }
    this.following = yes;
    if (yes) {
      this.unseen = 0;
      this.bottom();
    }
    this.sayFollow();
  }

  sayFollow() {
    this.followButton.setAttribute("aria-pressed", String(this.following));
    this.more.hidden = this.following || !(this.unseen || this.part);
    setText(this.more, this.unseen ? `↓ ${many(this.unseen, "new line")}` : "↓ the last lines");
  }

  wrap() {
    const cut = this.text.classList.toggle("cut");
    this.wrapButton.setAttribute("aria-pressed", String(!cut));
  }

  /** @param {string} text */
  find(text, jump = true) {
    const here = this.matches[this.at];
    this.mark(text);
    if (jump) {
      this.forget();
      this.at = this.matches.length; // the newest is looked at first
      this.next(-1);
      this.goes = !this.matches.length; // where the whole log has it, if these lines don't
      this.seek(TYPED);
    } else {
      // Lines came and went, and the one that is looked at is the same, if it is there.
      this.at = this.matches.indexOf(here);
      this.matches[this.at]?.classList.add("here");
      this.seek(this.again);
    }
    this.sayFound();
  }

  /** The lines that are here. */
  get lines() {
    return /** @type {HTMLElement[]} */ ([...this.text.querySelectorAll(".line")]);
  }

  /** Marks the lines that are here and have a text. @param {string} text */
  mark(text) {
    const wanted = text.toLowerCase();
    const { lines } = this;
    lines.forEach((line) => line.classList.remove("hit", "here"));
    this.matches = wanted ? lines.filter((line) => line.textContent?.toLowerCase().includes(wanted)) : [];
    this.matches.forEach((line) => line.classList.add("hit"));
  }

  /** Which of all places the first of the matches here is: the last lines have the last ones. */
  get base() {
    const { part, places } = this;
    if (!part) return Math.max(0, places.length - this.matches.length);
    const first = places.findIndex(([stream, offset]) => stream === part.stream && offset >= part.begin && offset < part.end);
    return Math.max(0, first);
  }

  /** Which of all places a line of a part is, by its number; -1 where that isn't known. @param {HTMLElement} line */
  placeOf(line) {
    const { stream = "", number = null } = this.part ?? {};
    if (number == null) return -1;
    const wanted = number + this.lines.indexOf(line);
    return this.places.findIndex((place) => place[0] === stream && place[2] === wanted);
  }

  /** @param {number} step */
  next(step) {
    const known = this.places.length;
    if (known > this.matches.length || (known && this.part)) {
      const { base } = this;
      const from = this.at < 0 && !this.matches.length ? base + (step < 0 ? 0 : -1) : base + this.at;
      const to = (from + step + known) % known;
      if (to >= base && to < base + this.matches.length) this.show(to - base);
      else this.look(this.places[to]);
      return;
    }
    if (!this.matches.length) return;
    if (this.at < 0 && step < 0) this.at = 0;
    this.show((this.at + step + this.matches.length) % this.matches.length);
  }

  /** @param {number} at */
  show(at) {
    this.text.querySelectorAll(".here").forEach((line) => line.classList.remove("here"));
    this.at = at;
    const line = this.matches[at];
    line.classList.add("here");
    this.follow(false);
    this.scrollTo(line);
    this.sayFound();
  }

  /** @param {HTMLElement | undefined} line */
  scrollTo(line) {
    if (line) this.text.scrollTop = line.offsetTop - this.text.offsetTop - this.text.clientHeight / 2;
  }

  sayFound() {
    setText(this.found, this.search.value ? this.foundText() : "");
  }

  foundText() {
    const number = (/** @type {number | null} */ value) => value?.toLocaleString("en") ?? "";
    const here = this.matches.length;
    const near = !here ? "nothing" : this.at < 0 ? `${number(here)} found` : `${number(this.at + 1)} of ${number(here)}`;
    if (this.whole) return near;
    if (this.total == null) {
      const looking = this.timer || this.asked;
      if (looking && here) return near; // and soon how many there are in all
      return `${near} in these lines; ${looking ? "looking through all of the log…" : "the others can't be looked through now"}`;
    }
    const where = this.cut ? `the last ${bytes(this.cut)} of the log` : "all of the log";
    if (!this.total) return `nothing in ${where}`;
    // The last lines come from both streams: which of all places theirs are isn't known.
    const place = this.part && this.at >= 0 ? this.placeOf(this.matches[this.at]) : -1;
    if (place < 0) return `${near} in these lines, ${number(this.total)} in ${where}`;
    const [stream, , line] = this.places[place];
    return `${number(this.total - this.places.length + place + 1)} of ${number(this.total)} in ${where}: ${stream} line ${number(line)}`;
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {Record<string, () => void>} */
    const keys = {
      "/": () => this.search.focus(),
      n: () => this.next(1),
      N: () => this.next(-1),
      f: () => this.follow(!this.following),
      w: () => this.wrap(),
      g: () => this.top(),
      G: () => this.follow(true),
      Escape: () => this.actions.back(),
    };
    if (!keys[event.key]) return;
    keys[event.key]();
    event.preventDefault();
    event.stopPropagation();
  }
}

