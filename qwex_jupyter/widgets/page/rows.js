// @ts-check
// The rows: what is known of each run, which of them are shown, and in which order. Part of
// monitor.js.

/**
 * What is known of a run: the fields of rows.py, and what the page makes of them.
 *
 * @typedef {object} Row
 * @property {string} run
 * @property {string} status
 * @property {string} reason
 * @property {string} cause
 * @property {string} name
 * @property {string} runner
 * @property {string} image
 * @property {number | null} created Seconds since the epoch, as all times.
 * @property {number | null} started
 * @property {number | null} took
 * @property {number | null} exit
 * @property {string} command
 * @property {string} notebook
 * @property {string} labels
 * @property {string} message
 * @property {string} progress
 * @property {number | null} seen
 * @property {number | null} done Of 100, how much its program or its backend says is done.
 * @property {string} doing What that is.
 * @property {number | null} until When it will be done.
 * @property {number | null} usual Seconds that it takes as a rule.
 * @property {string} handle
 * @property {string} text What a filter looks at.
 * @property {number} version
 */
/** @typedef {Record<string, any[] | { of: any[], at: number[] }>} Packed Rows, field by field. */
/**
 * What the kernel tells; each kind has some of these.
 *
 * @typedef {{ kind: string, number: number, now: number, counts: Record<string, number>,
 *   total: number, before: string, rows: Packed, changed?: [string, Partial<Row>][],
 *   gone?: string[] }} Told
 */

/** @type {Record<string, string[]>} */
const STATUSES = {
  PENDING: ["○", "pending"],
  RUNNING: ["◐", "running"],
  SUCCEEDED: ["✓", "succeeded"],
  FAILED: ["✗", "failed"],
  CANCELLED: ["⊘", "cancelled"],
  LOST: ["?", "lost"],
};
const ORDER = Object.keys(STATUSES);
/** @param {Row} row */
const isLive = (row) => row.status === "PENDING" || row.status === "RUNNING";

/** How far its program says that it is, and with what. @param {Row} row */
const farOf = (row) => (row.done == null ? "" : `${row.doing} ${row.progress}`.trim());

/** How long it took, or has run until now; null for not at all. @param {Row} row @param {number} now */
function seconds(row, now) {
  if (row.took != null) return row.took;
  return isLive(row) && row.started != null ? Math.max(0, now - row.started) : null;
}

// Name, what a person reads above it, and what it sorts by (null comes last).
/** @type {{ name: string, title: string, key: (row: Row, now: number) => string | number | null }[]} */
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
/** @type {(keyof Row)[]} */
const SEARCHED = ["run", "status", "reason", "cause", "name", "runner", "image", "command", "notebook",
  "labels", "message", "exit"];

/** Field by field as it came, to one object for each row. @param {Packed} packed @returns {Row[]} */
function unpack(packed) {
  /** @type {Record<string, any[]>} */
  const columns = {};
  for (const [field, values] of Object.entries(packed)) {
    if (Array.isArray(values)) columns[field] = values;
    else columns[field] = values.at.length ? values.at.map((at) => values.of[at]) : values.of;
  }
  return (columns.run ?? []).map((_, number) => {
    /** @type {Record<string, any>} */
    const row = {};
    for (const [field, values] of Object.entries(columns)) row[field] = values.length === 1 ? values[0] : values[number];
    return /** @type {Row} */ (row);
  });
}

/** All rows that are known, in an order, and those of them that pass the filter. */
class Rows {
  constructor() {
    /** @type {Map<string, Row>} */
    this.all = new Map();
    /** @type {Record<string, number>} */
    this.counts = {};
    this.total = 0;
    this.before = "";
    this.number = -1;
    this.sort = { column: "started", down: true };
    /** @type {Set<string>} */
    this.statuses = new Set();
    /** @type {Row[]} */
    this.shown = [];
    this.images = false; // whether any has one
    this.runner = ""; // that of all of them
    /** @type {Row[] | null} */
    this._ordered = null;
    /** @type {[keyof Row | null, string][]} */
    this._words = [];
    this.version = 0;
    /** @type {number | null} */
    this.skew = null; // seconds by which the kernel's clock is ahead of the page's
  }

  get now() {
    return Date.now() / 1000 + (this.skew ?? 0);
  }

  /** @param {Told} message */
  state(message) {
    this.number = message.number;
    this.counts = message.counts;
    this.total = message.total;
    // The message that was least long on its way tells it best.
    if (message.now) this.skew = Math.max(this.skew ?? -Infinity, message.now - Date.now() / 1000);
  }

  /** @param {Told} message */
  whole(message) {
    this.all.clear();
    this.before = message.before;
    this.state(message);
    this.add(message.rows);
  }

  /** @param {Packed} packed */
  add(packed) {
    for (const row of unpack(packed)) this.put(row);
    this._ordered = null;
  }

  /** @param {Row} row */
  put(row) {
    row.handle = row.run.slice(row.run.lastIndexOf("-") + 1);
    row.text = SEARCHED.map((field) => row[field] ?? "").join("\n").toLowerCase();
    // Never the same twice, as what is in the page is known by it also after a new whole.
    row.version = ++this.version;
    this.all.set(row.run, row);
  }

  /** False when a message in between was missed. @param {Told} message */
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

  /** @param {string} text */
  find(text) {
    // Quotes hold words together: "seed 4", name:"my run".
    this._words = (text.toLowerCase().match(/(?:[^\s"]|"[^"]*"?)+/g) ?? []).map((word) => {
      const [, name, value] = word.match(/^(\w+):(.+)$/) ?? [];
      const field = SEARCHED.find((one) => one === name);
      return [field ?? null, (field ? value : word).replaceAll('"', "")];
    });
  }

  get filtered() {
    return this._words.length > 0 || this.statuses.size > 0;
  }

  /** @param {Row} row */
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
      const key = (COLUMNS.find(({ name }) => name === column) ?? COLUMNS[0]).key;
      const keyed = [...this.all.values()].map((row) => ({ key: key(row, now), row }));
      const sign = down ? -1 : 1;
      keyed.sort(({ key: a, row: one }, { key: b, row: two }) => {
        if (a !== b) {
          if (a === null) return 1;
          if (b === null) return -1;
          return a < b ? -sign : sign;
        }
        return one.run < two.run ? 1 : -1; // newest first among equals
      });
      this._ordered = keyed.map(({ row }) => row);
      this.images = this._ordered.some((row) => Boolean(row.image));
      const first = this._ordered[0]?.runner ?? "";
      this.runner = this._ordered.every((row) => row.runner === first) ? first : "";
    }
    this.shown = this.filtered ? this._ordered.filter((row) => this._passes(row)) : this._ordered;
  }

  /** @param {string} column */
  order(column) {
    const down = this.sort.column === column ? !this.sort.down : ["started", "time", "run"].includes(column);
    this.sort = { column, down };
    this._ordered = null;
  }
}
