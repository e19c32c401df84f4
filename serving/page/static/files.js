// The files of a question: each is read by the service at once, says what was understood, and can be mended by hand.

import { announce, h } from "./dom.js";
import { ask } from "./service.js";
import { LABEL, inUnit, short } from "./units.js";

const AT_ONCE = 4;
const REFERENCE_NAME = /(pristine|undoped|reference|(^|[^a-z])ref([^a-z]|$)|pure)/i;
const SHOWN = 8;
const OPEN = 2; // files whose facts are shown without a click

let counter = 0;

export class Files {
  constructor(place, whenChanged) {
    this.place = place;
    this.whenChanged = whenChanged;
    this.all = [];
    this.running = 0;
    this.waiting = [];
  }

  get samples() {
    return this.all.filter((one) => one.role === "sample");
  }

  get reference() {
    return this.all.find((one) => one.role === "reference") ?? null;
  }

  get reading() {
    return this.running + this.waiting.length > 0;
  }

  add(files) {
    const fresh = [...files].map((file) => ({ id: ++counter, file, name: file.name, unit: "", state: "waiting", spectra: [], error: "", role: "sample", guessed: false }));
    // A name that says so, and a sample beside it: then it is the reference.
    if (fresh.length + this.all.length > 1 && !this.reference) {
      const named = fresh.filter((one) => REFERENCE_NAME.test(one.name));
      if (named.length === 1) Object.assign(named[0], { role: "reference", guessed: true });
    }
    this.all.push(...fresh);
    for (const one of fresh) this.#queue(one);
    this.changed();
  }

  remove(one) {
    this.all = this.all.filter((other) => other !== one);
    this.changed();
  }

  clear() {
    this.all = [];
    this.waiting = [];
    this.changed();
  }

  changed() {
    this.draw();
    this.whenChanged();
  }

  #queue(one) {
    if (!this.waiting.includes(one)) this.waiting.push(one);
    this.#next();
  }

  async #next() {
    if (this.running >= AT_ONCE || !this.waiting.length) return;
    const one = this.waiting.shift();
    this.running += 1;
    const unit = one.unit;
    one.state = "reading";
    try {
      const query = new URLSearchParams({ name: one.name, ...(unit ? { unit, override_unit: true } : {}) });
      const answer = await ask("POST", `v1/read?${query}`, { bytes: one.file });
      if (unit === one.unit) Object.assign(one, { state: "read", spectra: answer.spectra, error: "" });
    } catch (error) {
      // What was understood before stays, where the mending made it worse.
      if (unit === one.unit) Object.assign(one, { state: one.spectra.length ? "read" : "wrong", error: error.message });
      announce(`${one.name}: ${error.message}`);
    }
    this.running -= 1;
    this.changed();
    this.#next();
  }

  mend(one, unit) {
    one.unit = unit;
    one.error = "";
    this.#queue(one);
    this.changed();
  }

  setRole(one, role) {
    if (role === "reference") for (const other of this.all) if (other.role === "reference") other.role = "sample";
    one.role = role;
    one.guessed = false;
    this.changed();
  }

  draw() {
    const shown = this.all.length > SHOWN ? this.all.filter((one) => one.error || one.role === "reference").slice(0, SHOWN) : this.all;
    const rest = this.all.length - shown.length;
    this.place.replaceChildren(...shown.map((one) => this.#card(one)));
    if (rest > 0) this.place.append(h("li", { class: "card" }, h("p", {}, `${rest} more files, all read or waiting. They are answered together in one table.`)));
    this.place.hidden = !this.all.length;
  }

  #card(one) {
    const wrong = one.error && !one.spectra.length;
    return h(
      "li",
      { class: `card ${wrong ? "wrong" : ""}`, "data-file": one.name },
      h(
        "div",
        { class: "card-head" },
        h("strong", {}, one.name),
        this.#role(one),
        h("button", { type: "button", class: "quiet", "aria-label": `Remove ${one.name}`, onclick: () => this.remove(one) }, "×"),
      ),
      one.state === "waiting" || one.state === "reading" ? h("p", { class: "hint" }, "reading …") : null,
      one.error ? h("p", { class: "error", role: "alert" }, one.error) : null,
      one.guessed ? h("p", { class: "hint" }, "Taken as the reference, because its name says so.") : null,
      one.spectra.length ? this.#understood(one) : null,
      one.state === "read" || wrong ? this.#units(one) : null,
    );
  }

  #role(one) {
    const select = h(
      "select",
      { "aria-label": `What ${one.name} is`, onchange: (event) => this.setRole(one, event.target.value) },
      h("option", { value: "sample" }, "sample"),
      h("option", { value: "reference" }, "pristine reference"),
    );
    select.value = one.role;
    return select;
  }

  #understood(one) {
    if (one.spectra.length > 1) return h("p", {}, `${one.spectra[0].format}: ${one.spectra.length} spectra.`);
    const [read] = one.spectra;
    if (read.error) return h("p", { class: "error" }, read.error);
    const unit = one.unit || (LABEL[read.unit_in_file] ? read.unit_in_file : "THz");
    const ends = [read.frequency[0], read.frequency.at(-1)].map((thz) => short(inUnit(thz, unit), 4));
    const errors = read.uncertainty ? read.uncertainty.filter((value) => value !== null).length : 0;
    const said = one.unit ? " (as you said)" : read.unit_said_by ? ` (as says ${read.unit_said_by})` : "";
    const facts = [
      ["format", read.format],
      ["axis", `${ends[0]} to ${ends[1]} ${LABEL[unit]}${said}`],
      ["points", `${read.frequency.length}${errors ? `, ${errors} with an error bar` : ", no error bars"}`],
      ["kind", read.kind ?? "not said"],
      ...(read.broadening ? [["smoothed", read.broadening]] : []),
      ["modes", `${short(read.modes)} above zero (3 an atom, where it is scaled so)`],
      ["top", `${short(inUnit(read.top_thz, unit))} ${LABEL[unit]}`],
    ];
    const words = `${read.format}, ${ends[0]} to ${ends[1]} ${LABEL[unit]}, ${read.frequency.length} points${read.kind ? `, ${read.kind}` : ""}`;
    return [
      h("details", { open: this.all.length <= OPEN }, h("summary", {}, words), h("dl", { class: "facts" }, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]))),
      read.notes.map((note) => h("p", { class: "hint" }, note)),
    ];
  }

  #units(one) {
    const button = (unit) => h("button", { type: "button", class: "quiet", "aria-pressed": String(one.unit === unit), onclick: () => this.mend(one, one.unit === unit ? "" : unit) }, LABEL[unit]);
    return h("div", { class: "mend", role: "group", "aria-label": `Unit of the axis of ${one.name}` }, h("span", { class: "hint" }, one.spectra.length ? "The axis is in another unit:" : "The axis is in:"), Object.keys(LABEL).map(button));
  }
}
