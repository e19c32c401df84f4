// One answer: what speaks against it first, then the verdict, the elements, the curves, and how it was made.

import { framed, h, s } from "./dom.js";
import { HESITATION } from "./limits.js";
import { Plot } from "./plot.js";
import { formulaText, percent, probability, LABEL, inUnit, short } from "./units.js";

const TRUST = { none: "No answer", doubt: "Doubtful", care: "Read with care", plain: "Answer" };
const COLOURS = 6;

const share = (value) => `${Math.round(100 * value)} %`;

export function verdict(answer) {
  const { prediction, said } = answer;
  return h(
    "div",
    { class: `verdict ${said.trust}` },
    h("p", { class: "trust" }, TRUST[said.trust]),
    h("p", { class: "sentence", id: "sentence" }, said.sentence),
    said.trust === "care" || prediction.warnings.length ? h("ul", { class: "warnings", "aria-label": "Warnings" }, [...(said.trust === "care" ? said.doubts : []), ...prediction.warnings].map((warning) => h("li", {}, warning))) : null,
  );
}

function bar(element, most) {
  const x = (value) => (100 * Math.min(value, most)) / most;
  return s(
    "svg",
    { class: `interval ${element.present ? "" : "absent"}`, viewBox: "0 0 100 12", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "range", x: x(element.low), width: Math.max(x(element.high) - x(element.low), 0.8), y: 3, height: 6 }),
    s("rect", { class: "value", x: Math.max(x(element.concentration) - 0.7, 0), width: 1.4, y: 0, height: 12 }),
  );
}

export class AnswerView {
  constructor(place, answer, asked, { unit, actions, whenUnit }) {
    this.answer = answer;
    this.asked = asked;
    this.unit = unit;
    this.plots = [];
    this.chosen = null;
    const { prediction } = answer;
    place.replaceChildren(verdict(answer));
    if (prediction.error === null) {
      place.append(this.#elements(), this.#explained(), this.#unitSwitch(whenUnit));
      this.#curves(place);
      place.append(...this.#alternatives());
    }
    place.append(actions, this.#made());
  }

  #elements() {
    const all = this.answer.prediction.elements;
    const worth = all.filter((one) => one.present || one.probability >= HESITATION);
    const rest = all.filter((one) => !worth.includes(one));
    const most = Math.max(...worth.map((one) => one.high), 0.01) * 1.05;
    const sources = Object.fromEntries((this.answer.prediction.fit?.sources ?? []).map((one) => [one.element, one.source]));
    const row = (one) =>
      h(
        "tr",
        { class: one.present ? "present" : "absent" },
        h("th", { scope: "row" }, h("button", { type: "button", class: "pick", "aria-pressed": "false", "data-element": one.element, onclick: () => this.choose(one.element) }, one.element)),
        h("td", {}, one.present ? "found" : "not found"),
        h("td", { class: "number" }, percent(one.concentration), h("span", { class: "range" }, ` ${percent(one.low)}–${percent(one.high)}`)),
        h("td", { class: "wide" }, bar(one, most)),
        h("td", { class: "number" }, probability(one.probability)),
        h("td", { class: "wide hint" }, sources[one.element] ?? "–"),
      );
    const head = h("tr", {}, [["Element"], ["Verdict"], ["at.%, 90 % interval", "number"], ["", "wide"], ["Probability", "number"], ["Response from", "wide"]].map(([name, kind]) => (name ? h("th", { scope: "col", class: kind }, name) : h("td", { class: kind }))));
    const table = h("table", { id: "elements" }, h("caption", {}, "Shares of all atoms, if the element is present. Choose an element to see where it speaks."), h("thead", {}, head), h("tbody", {}, worth.map(row)));
    return h(
      "section",
      { "aria-label": "Elements" },
      h("h3", {}, "Elements"),
      worth.length ? framed("Table of elements", table) : h("p", {}, "Nothing was found, and nothing came near it."),
      rest.length
        ? h("details", {}, h("summary", {}, `${rest.length} more were weighed and are unlikely`), h("p", { class: "hint" }, rest.map((one) => `${one.element} ${probability(one.probability)}`).join(", ")))
        : null,
    );
  }

  #explained() {
    const fit = this.answer.prediction.fit;
    const reference = this.asked.body.reference;
    let words = "";
    const found = this.answer.prediction.elements.some((one) => one.present);
    if (fit && !found) words = `The change, ${share(fit.moved)} of the modes, was compared with the responses of the host; whatever it holds, none of the elements was found in it.`;
    else if (fit) words = `The responses of the elements found explain ${share(fit.explained)} of the measured change; ${share(Math.max(0, 1 - fit.explained))} is left.`;
    else if (!reference) words = "Without a pristine reference there is no measured change to compare the answer with: nothing has checked it.";
    else words = "No response of this host to these elements was used: the answer is not checked against the measured change.";
    return h("p", { id: "explained", class: fit ? "" : "care-note" }, words);
  }

  #unitSwitch(whenUnit) {
    const choices = Object.keys(LABEL).map((unit) =>
      h("button", { type: "button", "aria-pressed": String(unit === this.unit), "data-unit": unit, onclick: () => (this.setUnit(unit), whenUnit(unit)) }, LABEL[unit]),
    );
    this.units = h("div", { class: "switch", role: "group", "aria-label": "Unit of the axis" }, choices);
    return this.units;
  }

  setUnit(unit) {
    this.unit = unit;
    for (const button of this.units.children) button.setAttribute("aria-pressed", String(button.dataset.unit === unit));
    for (const plot of this.plots) plot.setUnit(unit);
    this.#say();
  }

  #curves(place) {
    const { spectra, curves, spoke } = this.answer;
    if (!spectra) return;
    const panels = [];
    const density = { name: "density", label: "Density of states", height: 190, zero: true, curves: [] };
    if (spectra.reference) density.curves.push({ name: "reference", label: "pristine reference", style: "reference", x: spectra.reference.frequency_thz, y: spectra.reference.dos });
    density.curves.push({ name: "sample", label: "sample", style: "sample", x: spectra.sample.frequency_thz, y: spectra.sample.dos, ...this.#errors(spectra.sample) });
    if (curves) {
      const change = { name: "change", label: "Change", height: 210, zero: true, curves: [] };
      change.curves.push({ name: "measured", label: "measured change", style: "measured", filled: true, x: curves.frequency_thz, y: curves.measured });
      const names = Object.keys(curves.each);
      names.forEach((name, k) => change.curves.push({ name: `each:${name}`, element: name, label: name, style: `each-${k % COLOURS}`, x: curves.frequency_thz, y: curves.each[name] }));
      if (names.length) change.curves.push({ name: "fitted", label: "fitted sum", style: "fitted", x: curves.frequency_thz, y: curves.frequency_thz.map((_, bin) => names.reduce((sum, name) => sum + curves.each[name][bin], 0)) });
      panels.push(change);
      if (curves.residual) panels.push({ name: "residual", label: "Residual", height: 90, zero: true, curves: [{ name: "residual", label: "residual", style: "residual", filled: true, x: curves.frequency_thz, y: curves.residual }] });
    }
    panels.push(density);
    this.spokePlace = h("p", { id: "speaks", class: "hint", "aria-live": "polite" });
    const main = h("figure", { class: "plot", id: "plot" });
    place.append(
      h("section", { "aria-label": "Curves" }, h("h3", {}, curves ? "Measured change of the spectrum" : "Spectrum"), curves ? null : h("p", { class: "care-note" }, "Give a pristine reference to see what changed."), main, this.spokePlace),
    );
    const plot = new Plot(main, { panels, unit: this.unit, title: "Curves of this answer", summary: this.#summary() });
    this.plots = [plot];
    this.plot = plot;
    this.spoke = spoke;
    this.spokeFigure = h("figure", { class: "plot", id: "spoke", hidden: true });
    main.after(this.spokeFigure);
  }

  #errors(drawn) {
    const error = this.asked.body.uncertainty;
    if (!error || error.length !== drawn.dos.length || error.some((value) => value === null)) return {};
    const scale = Math.max(...drawn.dos) / Math.max(...this.asked.body.dos);
    return { low: drawn.dos.map((value, k) => value - scale * error[k]), high: drawn.dos.map((value, k) => value + scale * error[k]) };
  }

  #summary() {
    const curves = this.answer.curves;
    if (!curves) return "The sample's density of states.";
    const place = (pick) => short(inUnit(curves.frequency_thz[curves.measured.indexOf(pick(...curves.measured))], this.unit));
    return `The largest rise lies at ${place(Math.max)}, the largest fall at ${place(Math.min)} ${LABEL[this.unit]}.`;
  }

  choose(element) {
    this.chosen = this.chosen === element ? null : element;
    for (const button of document.querySelectorAll("#elements .pick")) button.setAttribute("aria-pressed", String(button.dataset.element === this.chosen));
    this.plot?.choose(this.chosen && `each:${this.chosen}`);
    this.#say();
    const figure = this.spokeFigure;
    if (!figure) return;
    this.plots = [this.plot];
    figure.hidden = !(this.chosen && this.spoke?.elements[this.chosen]);
    if (figure.hidden) return;
    const [edges, values] = [this.spoke.edges_thz, this.spoke.elements[this.chosen]];
    const x = edges.slice(0, -1).flatMap((edge, k) => [edge, edges[k + 1]]);
    const panels = [{ name: "spoke", label: "Log-odds", plain: true, height: 110, zero: true, curves: [{ name: "spoke", label: `spoke for ${this.chosen}`, style: "each-0", filled: true, x, y: values.flatMap((value) => [value, value]) }] }];
    this.plots.push(new Plot(figure, { panels, unit: this.unit, title: `Where the spectrum spoke for ${this.chosen}`, summary: "Above zero a window spoke for the element, below against it." }));
  }

  #say() {
    if (!this.spokePlace) return;
    const values = this.spoke?.elements[this.chosen];
    if (!this.chosen || !values) {
      this.spokePlace.textContent = this.chosen ? `What spoke for ${this.chosen} was not computed: it was not among the first four.` : "";
      return;
    }
    const strongest = values.indexOf(Math.max(...values));
    const [low, high] = [this.spoke.edges_thz[strongest], this.spoke.edges_thz[strongest + 1]].map((thz) => short(inUnit(thz, this.unit)));
    this.spokePlace.textContent = values[strongest] > 0 ? `${this.chosen} speaks most between ${low} and ${high} ${LABEL[this.unit]}: made pristine there, its log-odds fall by ${short(values[strongest], 2)}.` : `No single part of the spectrum speaks for ${this.chosen}.`;
  }

  #alternatives() {
    const found = this.answer.prediction.fit?.alternatives ?? [];
    if (!found.length) return [];
    const parts = (one) => one.elements.map((element, k) => [element, one.concentrations[k]]);
    return [
      h(
        "section",
        { "aria-label": "Next-best sets" },
        h("h3", {}, "Next-best sets of elements"),
        h("ol", { id: "alternatives" }, found.map((one) => h("li", {}, `${parts(one).map(([e, c]) => (`${e} ${percent(c)} at.%`)).join(", ") || "nothing"}: explains ${share(one.explained)}`))),
      ),
    ];
  }

  #made() {
    const { prediction } = this.answer;
    const { body, about } = this.asked;
    const facts = [
      ["sample", about.file],
      ["host", formulaText(prediction.host) + (body.host_id ? ` (${body.host_id})` : "")],
      ["kind of spectrum", body.kind === "neutron" ? "neutron-weighted" : "vibrational"],
      ["responses of", prediction.fit ? prediction.fit.host_id : "no known crystal"],
      ["pristine reference", (about.reference || "none") + (body.reference_kind === "computed" ? " (computed)" : "")],
      ["candidates", body.candidates ? body.candidates.join(", ") : "every element that the model knows"],
      ["chemical prior", body.prior === false ? "not used" : "used"],
      ["unlike the training spectra", prediction.ood_score === null ? "not known" : `${prediction.ood_score.toFixed(2)} (0 like them, 1 unlike any)`],
      ["model", `${prediction.model_name} ${prediction.model_version}`],
    ];
    return h("details", { class: "made" }, h("summary", {}, "How this answer was made"), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
  }
}
