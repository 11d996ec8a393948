// @ts-check
// The details of a run, some runs side by side, and what the keys do. Part of monitor.js.

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
  ["in the output", "n N next and previous find in all of the log, f follow, w wrap, g G first and last line"],
];

/**
 * All that is known of a run: what details.py gives, and its status in words for a comparison.
 *
 * @typedef {{ run: string, title: string, message: string, status?: string, facts: [string, string][],
 *   asked: [string, string][], script: string, said: string, copy: [string, string][] }} About
 */
/** @typedef {(text: string) => void} Say */

/** @param {string} label @param {string} text @param {Say} said */
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

/** @param {About} run @param {Say} said */
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

/** Several runs side by side: first in what they differ. @param {About[]} runs */
function comparisonOf(runs) {
  const facts = runs.map((run) => new Map([["status", run.status ?? ""], ...run.facts, ...run.asked]));
  const names = [...new Set(facts.flatMap((one) => [...one.keys()]))].filter((name) => name !== "run id" && name !== "output");
  const differs = (/** @type {string} */ name) => new Set(facts.map((one) => one.get(name) ?? "")).size > 1;
  const line = (/** @type {string} */ name) => h("tr", {}, h("th", { scope: "row" }, name), ...facts.map((one) => h("td", {}, one.get(name) ?? "")));
  const same = names.filter((name) => !differs(name));
  return h("div", { class: "compare", tabindex: 0, role: "region", "aria-label": "Comparison" },
    h("table", {},
      h("thead", {}, h("tr", {}, h("td", {}), ...runs.map((run) => h("th", { scope: "col" }, run.title)))),
      h("tbody", {}, ...names.filter(differs).map(line))),
    same.length ? h("details", {}, h("summary", {}, `the same in all: ${same.join(", ")}`),
      h("table", {}, h("tbody", {}, ...same.map(line)))) : null);
}
