// @ts-check
// A live card: the last of the parts that are joined to one module, which depends on nothing else.
// The card comes as the HTML that a saved notebook gets too, so that both look the same: it is made,
// and all that comes from a run escaped, in one room of the kernel (render.py). What is added here
// goes into the page as text.
//
// The kernel tells what changed and, now and then, what time it is; in between the clock goes on
// here. A wish is numbered, and acknowledged at once by a kernel that isn't busy.

const BUSY_AFTER = 1500; // milliseconds
// A kernel that said nothing for so long may be gone: the clock waits for it. Seconds.
const SILENT_AFTER = 15;

/** By which the card that a model stands in for is found in the page. @param {Pick<Model, "get">} model */
const placeOf = (model) => String(model.get("place")).replace(/\W/g, "");

/** @typedef {{ html: string, state: string, title: string, since: number, now: number, ask: boolean }} Shown */

class LiveCard {
  /** @param {Model} model @param {HTMLElement} el */
  constructor(model, el) {
    this.model = model;
    this.number = 0;
    /** @type {Map<number, ReturnType<typeof setTimeout>>} */
    this.waiting = new Map();
    this.state = "";
    this.title = "";
    this.since = 0;
    this.now = 0; // when the kernel was last heard, by its own clock
    this.confirm = false; // whether a person is asked before it is cancelled
    this.asked = false; // whether it was cancelled here
    this.skew = -Infinity; // seconds by which the kernel's clock is ahead of the page's
    this.card = h("div", { class: "card jp-RenderedHTMLCommon" });
    this.cancel = button("Cancel", { onclick: () => this.want() });
    this.question = h("div", { class: "question", role: "alertdialog", onkeydown: (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") this.unask();
    } });
    this.note = h("div", { class: "note", role: "status" });
    this.spoken = new Spoken();
    this.root = h("div", { class: "qwex-live", role: "group" },
      h("div", { class: "row" }, this.card, this.cancel), this.question, this.note, this.spoken.element);
    this.question.hidden = true;
    this.hide = h("style");
    el.append(this.hide, this.root);
    this.listener = (/** @type {any} */ message) => this.take(message);
    this.liveness = () => this.greet();
    model.on("msg:custom", this.listener);
    model.on("comm_live_update", this.liveness);
    this.show(model.get("snapshot"));
    this.stand(true);
    this.greet();
    this.timer = setInterval(() => this.tick(), 1000);
  }

  dispose() {
    clearInterval(this.timer);
    this.waiting.forEach((timer) => clearTimeout(timer));
    try {
      this.model.off("msg:custom", this.listener);
      this.model.off("comm_live_update", this.liveness);
    } catch { /* a model that is gone */ }
  }

  /** Stands in for the other card, or lets that be seen again: of a kernel that is gone it tells as of when. @param {boolean} yes */
  stand(yes) {
    const place = `.qwex-card-${placeOf(this.model)}`;
    this.root.hidden = !yes;
    // The second takes away the room around it too; a browser that doesn't know it drops only that.
    setText(this.hide, yes
      ? `${place} { display: none } .jp-OutputArea-child:has(${place}) { display: none }` : "");
  }

  // -- the kernel's side

  greet() {
    if (this.ask("hello")) this.stand(true);
    // An end stays true without a kernel.
    else if (this.state !== "ended") this.stand(false);
  }

  /** Sends a wish; false where no kernel is. @param {string} kind */
  ask(kind) {
    const number = ++this.number;
    try {
      this.model.send({ kind, number });
    } catch {
      this.waiting.forEach((timer) => clearTimeout(timer));
      this.waiting.clear();
      return false;
    }
    if (kind === "cancel") {
      this.waiting.set(number, setTimeout(() => this.say(
        "The kernel is busy: this waits until its cell has ended. Interrupt the kernel to stop that cell first.", true), BUSY_AFTER));
    }
    return true;
  }

  /** @param {any} message */
  take(message) {
    /** @type {Record<string, () => void>} */
    const kinds = {
      ack: () => {
        if (!this.waiting.has(message.number)) return;
        clearTimeout(this.waiting.get(message.number));
        this.waiting.delete(message.number);
        this.say("asked to stop");
      },
      card: () => this.show(message),
      tick: () => {
        this.heard(message.now);
        setText(this.card.querySelector(".qwex-as-of"), message.as_of);
      },
      did: () => {
        if (!message.failed) return;
        this.asked = false;
        this.say(message.failed, true);
        this.sayCancel();
      },
    };
    kinds[message.kind]?.();
  }

  /** @param {number} now */
  heard(now) {
    this.now = now;
    // The message that was least long on its way tells it best.
    this.skew = Math.max(this.skew, now - Date.now() / 1000);
  }

  // -- what is shown

  /** @param {Shown} message */
  show(message) {
    this.state = message.state;
    this.title = message.title;
    this.since = message.since;
    this.confirm = message.ask;
    this.paint(message.html);
    this.root.setAttribute("aria-label", this.title);
    this.heard(message.now);
    this.root.classList.remove("silent");
    this.sayCancel();
    const bar = this.card.querySelector(".qwex-bar");
    const left = this.card.querySelector(".qwex-left")?.textContent ?? "";
    if (bar) this.spoken.take("", Number(bar.getAttribute("aria-valuenow")), `${bar.getAttribute("aria-valuetext")}${left}`);
    if (this.state === "live") return;
    this.unask();
    if (this.state === "ended") {
      this.say("");
      clearInterval(this.timer);
    }
  }

  /** The card anew, as the reader has it: folded or not, as large, and where it was scrolled to. @param {string} html */
  paint(html) {
    const fold = /** @type {HTMLDetailsElement | null} */ (this.card.querySelector("details"));
    const log = /** @type {HTMLElement | null} */ (this.card.querySelector(".qwex-log"));
    // Counted from its end: who hasn't scrolled up follows the newest line.
    const [place, height] = [log?.scrollTop ?? 0, log?.style.height ?? ""];
    const resized = height.endsWith("px"); // by the reader
    this.card.innerHTML = html;
    this.card.querySelectorAll("summary, a").forEach((one) => one.setAttribute(OWN_KEYS, "true"));
    const next = /** @type {HTMLElement | null} */ (this.card.querySelector(".qwex-log"));
    if (next && resized) Object.assign(next.style, { height, resize: "vertical", maxHeight: "" });
    if (next && place) next.scrollTop = place;
    const folds = this.card.querySelector("details");
    if (fold && folds) folds.open = fold.open;
  }

  tick() {
    // A connection that was lost for a moment comes back without a word.
    if (this.root.hidden) this.greet();
    const now = Math.min(Date.now() / 1000 + this.skew, this.now + SILENT_AFTER);
    // Only then is it old, and worth a word as of when it is.
    this.root.classList.toggle("silent", now >= this.now + SILENT_AFTER);
    const gone = Math.max(0, now - this.since);
    setText(this.card.querySelector(".qwex-clock"), clock(gone, true));
    const left = /** @type {HTMLElement | null} */ (this.card.querySelector(".qwex-left"));
    setText(left, leftOf(Number(left?.dataset.until), now));
    const usual = /** @type {HTMLElement | null} */ (this.card.querySelector(".qwex-usual"));
    if (usual) usual.style.width = `${Math.min(100, 100 * gone / Number(usual.dataset.seconds))}%`;
  }

  /** @param {string} text */
  say(text, warns = false) {
    this.note.classList.toggle("warn", warns);
    setText(this.note, text);
  }

  sayCancel() {
    const stopping = this.asked || this.state === "stopping";
    this.cancel.hidden = this.state === "ended";
    // Not `disabled`, which would take the focus, and the title, from who has just pressed it.
    this.cancel.setAttribute("aria-disabled", String(stopping));
    this.cancel.title = stopping ? "it is stopping" : `cancel ${this.title}`;
    this.cancel.setAttribute("aria-label", `Cancel ${this.title}`);
  }

  // -- what can be done

  want() {
    if (this.asked || this.state !== "live" || !this.question.hidden) return;
    if (!this.confirm) {
      this.stop();
      return;
    }
    const words = `Cancel ${this.title}?`;
    const yes = button("Cancel it", { onclick: () => { this.unask(); this.stop(); } });
    this.question.replaceChildren(h("span", {}, words), yes, button("Keep running", { onclick: () => this.unask() }));
    this.question.setAttribute("aria-label", words);
    this.question.hidden = false;
    yes.focus();
  }

  unask() {
    const mine = this.question.contains(document.activeElement);
    this.question.hidden = true;
    if (mine) this.cancel.focus();
  }

  stop() {
    this.say("cancelling…");
    this.asked = this.ask("cancel");
    if (!this.asked) this.greet();
    this.sayCancel();
  }
}

// The places whose cards are live in this page, each with what shows it: one table for all modules.
const room = /** @type {{ qwexLiveCards?: Map<string, LiveCard | Found> }} */ (globalThis);
const shown = (room.qwexLiveCards ??= new Map());

/**
 * Puts a live card beside the one that it stands in for, where no view of a widget is: a page that
 * was loaded anew while the kernel is busy gets its widgets back when the cell has ended.
 */
class Found {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {LiveCard | undefined} */
    this.card = undefined;
    /** @type {Element | null} */
    this.still = null;
    /** @type {HTMLElement | undefined} */
    this.el = undefined;
    this.place = placeOf(model);
    this.timer = setInterval(() => this.look(), 500);
    this.look();
  }

  look() {
    if (this.card && this.still?.isConnected && shown.get(this.place) === this) return;
    this.leave();
    this.still = document.querySelector(`.qwex-card-${this.place}`);
    if (!this.still || shown.has(this.place)) return;
    shown.set(this.place, this);
    // As the output that it stands in for, in the column of outputs.
    const inner = h("div", { class: "jp-OutputArea-output" });
    this.el = h("div", { class: "jp-OutputArea-child qwex-found" },
      h("div", { class: "jp-OutputPrompt jp-OutputArea-prompt" }), inner);
    (this.still.closest(".jp-OutputArea-child") ?? this.still).after(this.el);
    this.card = new LiveCard(this.model, inner);
  }

  leave() {
    if (shown.get(this.place) === this) shown.delete(this.place);
    this.card?.dispose();
    this.el?.remove();
    this.card = undefined;
  }

  dispose() {
    clearInterval(this.timer);
    this.leave();
  }
}

// A factory, as `initialize` and `render` get different proxies of one model.
export default () => {
  let views = 0;
  return {
    /** @param {{ model: Model }} given */
    initialize({ model }) {
      if (!model.get("finds")) return undefined;
      const found = new Found(model);
      return () => found.dispose();
    },
    /** @param {{ model: Model, el: HTMLElement }} given */
    render({ model, el }) {
      const place = placeOf(model);
      // What found the card by itself goes at once: one run is shown once.
      const found = shown.get(place);
      if (found && "leave" in found) found.leave();
      const card = new LiveCard(model, el);
      views += 1;
      shown.set(place, card);
      return () => {
        views -= 1;
        if (shown.get(place) === card) shown.delete(place);
        if (!views) card.ask("bye");
        card.dispose();
      };
    },
  };
};
