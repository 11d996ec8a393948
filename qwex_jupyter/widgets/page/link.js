// @ts-check
// The kernel's side. It tells of changes (`changes`) by number; whoever missed one asks for the
// whole. What a person wants goes back as a numbered wish that the kernel acknowledges at once: no
// acknowledgement means that the kernel is busy. Part of monitor.js.

const BUSY_AFTER = 1500; // milliseconds

/** @typedef {{ kind: string } & Record<string, any>} Wish */
/** @typedef {(wish: Wish) => number} Ask The number of the wish; 0 where no kernel is. */

/** Wishes to the kernel, and whether it takes them. */
class Link {
  /**
   * @param {Model} model
   * @param {(message: any) => void} onMessage
   * @param {(state: string) => void} onState
   * @param {() => number} seen The number of the last change that is known.
   */
  constructor(model, onMessage, onState, seen) {
    this.seen = seen;
    this.onMessage = onMessage;
    this.onState = onState;
    this.state = "live"; // or "busy", "gone", "returning"
    this.number = 0;
    /** @type {Map<number, ReturnType<typeof setTimeout>>} */
    this.waiting = new Map();
    this.model = model;
    this.listener = (/** @type {any} */ message) => this.take(message);
    this.liveness = () => this.greet();
    this.connect(model);
  }

  /** @param {Model} model */
  connect(model) {
    this.model = model;
    model.on("msg:custom", this.listener);
    model.on("comm_live_update", this.liveness);
  }

  disconnect() {
    this.waiting.forEach((timer) => clearTimeout(timer));
    this.waiting.clear();
    try {
      this.model.off("msg:custom", this.listener);
      this.model.off("comm_live_update", this.liveness);
    } catch { /* a model that is gone */ }
  }

  greet() {
    this.ask({ kind: "hello", seen: this.seen() });
  }

  /** @param {string} state */
  set(state) {
    if (state !== this.state) {
      this.state = state;
      this.onState(state);
    }
  }

  /** Sends a wish. @type {Ask} */
  ask(wish) {
    const number = ++this.number;
    try {
      this.model.send({ ...wish, number });
    } catch {
      this.waiting.forEach((timer) => clearTimeout(timer));
      this.waiting.clear();
      this.set("gone");
      return 0;
    }
    if (this.state === "gone") this.set("live");
    if (wish.kind !== "bye") {
      this.waiting.set(number, setTimeout(() => this.state === "live" && this.set("busy"), BUSY_AFTER));
    }
    return number;
  }

  /** @param {any} message */
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
