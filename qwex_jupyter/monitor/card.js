// A live card: one module, no dependency. The card comes as the HTML that a saved notebook gets
// too, so that both look the same: it is made, and all that comes from a run escaped, in one room
// of the kernel (render.py). What is added here goes into the page as text.
//
// The kernel tells what changed and, now and then, what time it is; in between the clock goes on
// here. A wish is numbered, and acknowledged at once by a kernel that isn't busy.

const BUSY_AFTER = 1500; // milliseconds
// A kernel that said nothing for so long may be gone: the clock waits for it. Seconds.
const SILENT_AFTER = 15;

/** An element; texts among its children become text nodes. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// Jupyter's own keys (x cuts the cell!) are off only on the very element that has the focus.
const OWN_KEYS = "data-lm-suppress-shortcuts";
const button = (text, onclick) => h("button", { type: "button", [OWN_KEYS]: "true", onclick }, text);

function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

function ticking(seconds) {
  const whole = Math.floor(Math.max(0, seconds));
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
}

class LiveCard {
  constructor(model, el) {
    this.model = model;
    this.number = 0;
    this.waiting = new Map();
    this.skew = -Infinity; // seconds by which the kernel's clock is ahead of the page's
    this.card = h("div", { class: "card jp-RenderedHTMLCommon" });
    this.cancel = button("Cancel", () => this.want());
    this.question = h("div", { class: "question", role: "alertdialog", onkeydown: (event) => {
      if (event.key === "Escape") this.unask();
    } });
    this.note = h("div", { class: "note", role: "status" });
    this.root = h("div", { class: "qwex-live", role: "group" },
      h("div", { class: "row" }, this.card, this.cancel), this.question, this.note);
    this.question.hidden = true;
    this.hide = h("style");
    el.append(this.hide, this.root);
    this.listener = (message) => this.take(message);
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
    this.waiting.forEach(clearTimeout);
    try {
      this.model.off("msg:custom", this.listener);
      this.model.off("comm_live_update", this.liveness);
    } catch { /* a model that is gone */ }
  }

  /** Stands in for the other card, or lets that be seen again: of a kernel that is gone it tells as of when. */
  stand(yes) {
    const place = `.qwex-card-${String(this.model.get("place")).replace(/\W/g, "")}`;
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

  /** Sends a wish; false where no kernel is. */
  ask(kind) {
    const number = ++this.number;
    try {
      this.model.send({ kind, number });
    } catch {
      this.waiting.forEach(clearTimeout);
      this.waiting.clear();
      return false;
    }
    if (kind === "cancel") {
      this.waiting.set(number, setTimeout(() => this.say(
        "The kernel is busy: this waits until its cell has ended. Press ■ (I, I) to stop that cell first.", true), BUSY_AFTER));
    }
    return true;
  }

  take(message) {
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

  heard(now) {
    this.now = now;
    // The message that was least long on its way tells it best.
    this.skew = Math.max(this.skew, now - Date.now() / 1000);
  }

  // -- what is shown

  show(message) {
    this.state = message.state;
    this.title = message.title;
    this.since = message.since;
    this.confirm = message.ask;
    this.card.innerHTML = message.html;
    this.card.querySelectorAll("summary").forEach((summary) => summary.setAttribute(OWN_KEYS, "true"));
    this.root.setAttribute("aria-label", this.title);
    this.heard(message.now);
    this.sayCancel();
    if (this.state === "live") return;
    this.unask();
    if (this.state === "ended") {
      this.say("");
      clearInterval(this.timer);
    }
  }

  tick() {
    // A connection that was lost for a moment comes back without a word.
    if (this.root.hidden) this.greet();
    const now = Math.min(Date.now() / 1000 + this.skew, this.now + SILENT_AFTER);
    setText(this.card.querySelector(".qwex-clock"), ticking(now - this.since));
  }

  say(text, warns = false) {
    this.note.classList.toggle("warn", warns);
    setText(this.note, text);
  }

  sayCancel() {
    const stopping = this.asked || this.state === "stopping";
    this.cancel.hidden = this.state === "ended";
    // Not `disabled`, which would take the focus, and the title, from who has just pressed it.
    this.cancel.setAttribute("aria-disabled", stopping);
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
    const yes = button("Cancel it", () => { this.unask(); this.stop(); });
    this.question.replaceChildren(h("span", {}, words), yes, button("Keep running", () => this.unask()));
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

// A factory, as `initialize` and `render` get different proxies of one model.
export default () => {
  let views = 0;
  return {
    render({ model, el }) {
      const card = new LiveCard(model, el);
      views += 1;
      return () => {
        views -= 1;
        if (!views) card.ask("bye");
        card.dispose();
      };
    },
  };
};
