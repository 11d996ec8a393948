// @ts-check
// A cell that is run again keeps its height until there is something new. A front end takes its
// outputs away before the kernel hears of it, so only the page can hold the room that they had: for
// cells with a card of ours, from the moment on when this is loaded. Part of card.js.

const CARD = "[class*=qwex-card-]";
// A run that hasn't ended by then shows less for good. Milliseconds.
const HELD_FOR = 10_000;
const HELD_LOOK = 50;

class Calm {
  constructor() {
    /** @type {WeakMap<Element, number>} The heights that cells with a card had when last drawn. */
    this.heights = new WeakMap();
    /** @type {Map<HTMLElement, number>} Those that are held, and since when. */
    this.held = new Map();
    this.sizes = new ResizeObserver((entries) => entries.forEach(({ target, borderBoxSize }) => {
      if (target.isConnected && target.querySelector(CARD)) this.heights.set(target, borderBoxSize[0].blockSize);
    }));
    this.changes = new MutationObserver((records) => this.changed(records));
    document.querySelectorAll(CARD).forEach((card) => this.watch(card));
    this.changes.observe(document.body, { childList: true, subtree: true });
  }

  /** @param {Element} card */
  watch(card) {
    const cell = card.closest(".jp-CodeCell");
    if (cell) this.sizes.observe(cell);
  }

  /** @param {MutationRecord[]} records */
  changed(records) {
    for (const { target, addedNodes, removedNodes } of records) {
      if (!(target instanceof HTMLElement)) continue;
      for (const node of addedNodes) {
        if (!(node instanceof HTMLElement)) continue;
        if (node.matches(CARD)) this.watch(node);
        else node.querySelectorAll(CARD).forEach((card) => this.watch(card));
      }
      if (removedNodes.length && target.classList.contains("jp-OutputArea") && !target.querySelector(".jp-OutputArea-child")) {
        this.hold(/** @type {HTMLElement | null} */ (target.closest(".jp-CodeCell")));
      }
    }
  }

  /** @param {HTMLElement | null} cell */
  hold(cell) {
    const height = cell && this.heights.get(cell);
    if (!cell || !height || this.held.has(cell)) return;
    this.held.set(cell, Date.now());
    cell.style.boxSizing = "border-box";
    cell.style.minHeight = `${height}px`;
    const timer = setInterval(() => {
      this.look(cell);
      if (!this.held.has(cell)) clearInterval(timer);
    }, HELD_LOOK);
  }

  /** Lets a cell be as high as it is, once there is something new. @param {HTMLElement} cell */
  look(cell) {
    const others = !cell.querySelector(CARD) && cell.querySelector(".jp-OutputArea-child");
    // A detached run lives on when its cell has ended, and may not have said anything by then.
    const silent = cell.querySelector(".qwex-clock") && !cell.querySelector(".qwex-log");
    // An error comes behind the card, so it isn't the card that says when all is there.
    const ended = !silent && !cell.querySelector(".jp-InputPrompt")?.textContent?.includes("*");
    if (!(others || ended || Date.now() - (this.held.get(cell) ?? 0) > HELD_FOR)) return;
    this.held.delete(cell);
    cell.style.minHeight = cell.style.boxSizing = "";
  }
}

// One for each page, whichever module comes first.
const calm = /** @type {{ qwexCalm?: Calm }} */ (globalThis);
calm.qwexCalm ??= new Calm();
