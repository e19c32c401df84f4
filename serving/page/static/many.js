// Many samples: one row each, with limits. A row opens its whole answer.

import { h } from "./dom.js";
import { judge } from "./limits.js";
import { percent } from "./units.js";

const TRUST = { none: "no answer", doubt: "doubtful", care: "read with care", plain: "" };
const MARK = { pass: "✓ pass", fail: "✗ fail", undecided: "? undecided", "": "" };

export function manyTable(results, limits, known, whenOpened) {
  const counts = { pass: 0, fail: 0, undecided: 0 };
  const rows = results.map((result) => {
    const { answer, asked } = result;
    const { verdict, why } = judge(answer, limits, asked.body?.candidates ?? null, known);
    if (verdict) counts[verdict] += 1;
    const found = answer.prediction.elements.filter((one) => one.present);
    const words = answer.prediction.error ?? (found.length ? found.map((one) => `${one.element} ${percent(one.concentration)} (${percent(one.low)}–${percent(one.high)})`).join(", ") : "nothing found");
    return h(
      "tr",
      { class: `${answer.said.trust} ${verdict}` },
      h("th", { scope: "row" }, asked.body ? h("button", { type: "button", class: "link", onclick: () => whenOpened(result) }, asked.about.file) : asked.about.file),
      h("td", {}, words, answer.said.trust === "plain" ? null : h("span", { class: `tag ${answer.said.trust}`, title: [...answer.said.doubts, ...answer.prediction.warnings].join("; ") }, TRUST[answer.said.trust])),
      Object.keys(limits).length ? h("td", { class: `judged ${verdict}` }, MARK[verdict], why ? h("span", { class: "hint" }, ` ${why}`) : null) : null,
    );
  });
  const head = ["Sample", "Found, at.% (90 % interval)", ...(Object.keys(limits).length ? ["Limits"] : [])];
  return { table: h("table", { id: "many" }, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, rows)), counts };
}
