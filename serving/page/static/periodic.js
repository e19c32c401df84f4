// The periodic table: what may be in the crystal, by clicking. What the prior does not expect is grey, not forbidden.

import { h, put } from "./dom.js";

const LANTHANIDES = [57, 71];
const ACTINIDES = [89, 103];

function cell(element) {
  const { number, group, period } = element;
  if (number >= LANTHANIDES[0] && number <= LANTHANIDES[1]) return [9, 4 + number - LANTHANIDES[0]];
  if (number >= ACTINIDES[0] && number <= ACTINIDES[1]) return [10, 4 + number - ACTINIDES[0]];
  return [period, group];
}

function words(element) {
  if (element.in_host) return "part of the host";
  if (!element.known) return "the model never saw it as a dopant";
  if (!element.expected) return "a chemist would not expect it in this host";
  const share = element.share > 0 ? `, ${(100 * element.share).toFixed(element.share < 0.01 ? 1 : 0)} % of what is expected` : "";
  return element.replaces ? `on the site of ${element.replaces}${share}` : "";
}

export class PeriodicTable {
  constructor(place, whenChanged) {
    this.place = place;
    this.chosen = new Set();
    this.whenChanged = whenChanged;
  }

  show(elements) {
    this.elements = elements;
    for (const element of elements) if (element.in_host) this.chosen.delete(element.symbol);
    this.buttons = new Map();
    const grid = h("div", { class: "periodic", role: "group", "aria-label": "Periodic table: elements that may be in the crystal" });
    for (const element of elements) {
      const [row, column] = cell(element);
      const kind = element.in_host ? "own" : !element.known ? "unknown" : element.expected ? "expected" : "unexpected";
      const hint = words(element);
      const button = h(
        "button",
        {
          type: "button",
          class: `element ${kind}`,
          title: hint ? `${element.symbol}: ${hint}` : element.symbol,
          "aria-label": hint ? `${element.symbol}, ${hint}` : element.symbol,
          "aria-pressed": String(this.chosen.has(element.symbol)),
          disabled: element.in_host,
          onclick: () => this.toggle(element.symbol),
          onkeydown: (event) => this.#arrow(event, element),
        },
        element.symbol,
      );
      button.style.gridRow = String(row);
      button.style.gridColumn = String(column);
      this.buttons.set(element.symbol, button);
      grid.append(button);
    }
    put(this.place, h("div", { class: "periodic-frame", tabindex: "-1" }, grid));
  }

  toggle(symbol) {
    if (!this.chosen.delete(symbol)) this.chosen.add(symbol);
    this.buttons.get(symbol)?.setAttribute("aria-pressed", String(this.chosen.has(symbol)));
    this.whenChanged();
  }

  set(symbols) {
    this.chosen = new Set(symbols);
    for (const [symbol, button] of this.buttons ?? []) button.setAttribute("aria-pressed", String(this.chosen.has(symbol)));
    this.whenChanged();
  }

  // The likeliest of the prior, as a beginning.
  expected(most = 12) {
    const likely = (this.elements ?? []).filter((e) => e.expected && e.known && !e.in_host && e.share > 0);
    return likely.sort((a, b) => b.share - a.share).slice(0, most).map((e) => e.symbol);
  }

  #arrow(event, element) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    let [row, column] = cell(element);
    for (let tries = 0; tries < 20; tries += 1) {
      [row, column] = [row + step[0], column + step[1]];
      const next = this.elements.find((other) => {
        const [r, c] = cell(other);
        return r === row && c === column && !other.in_host;
      });
      if (next) {
        this.buttons.get(next.symbol).focus();
        return;
      }
    }
  }
}
