// Curves over a frequency axis that the panels of one picture share: hover, zoom, switch of units, curves on and off.

import { h, s, put } from "./dom.js";
import { AXIS, inUnit, short, THZ_PER, LABEL } from "./units.js";

const MARGIN = { left: 62, right: 14, top: 8, bottom: 6 };
const AXIS_HEIGHT = 38;
const GAP = 14;
const LEAST_DRAG_PX = 6;

function niceStep(range, count) {
  const rough = range / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((m) => m * power).find((step) => step >= rough) ?? rough;
}

function ticks(low, high, count) {
  const step = niceStep(high - low, count);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) found.push(k * step);
  return found;
}

function nearest(x, value) {
  let low = 0;
  let high = x.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle;
    else high = middle;
  }
  return value - x[low] < x[high] - value ? low : high;
}

// panels: [{name, label, height, zero, curves: [{name, label, style, x, y, low, high, steps}]}], x in THz, y per THz.
export class Plot {
  constructor(place, { panels, unit, title, summary }) {
    this.panels = panels.filter((panel) => panel.curves.length);
    this.unit = unit;
    this.title = title;
    this.hidden = new Set();
    this.chosen = null;
    const tops = this.panels.flatMap((panel) => panel.curves.map((curve) => this.#top(curve)));
    this.whole = [0, Math.max(...tops, 1)];
    this.range = this.whole;
    this.picture = s("svg", { class: "plot-picture", "aria-hidden": "true", focusable: "false" });
    this.readout = h("p", { class: "readout", "aria-hidden": "true" });
    this.stage = h(
      "div",
      { class: "plot-stage", tabindex: "0", role: "group", "aria-label": `${title}. ${summary} Keys: plus and minus zoom, arrows move, 0 shows all.` },
      this.picture,
    );
    this.legend = h("div", { class: "legend", role: "group", "aria-label": "Curves shown" });
    const tools = h(
      "div",
      { class: "plot-tools" },
      h("button", { type: "button", class: "quiet", onclick: () => this.zoom(0.5), "aria-label": "Zoom in" }, "+"),
      h("button", { type: "button", class: "quiet", onclick: () => this.zoom(2), "aria-label": "Zoom out" }, "−"),
      h("button", { type: "button", class: "quiet", onclick: () => this.show(this.whole) }, "All"),
    );
    put(place, h("div", { class: "plot-head" }, this.legend, tools), this.stage, this.readout);
    this.#listen();
    this.#drawLegend();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.stage);
    this.draw();
  }

  #top(curve) {
    const most = curve.y.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
    let last = curve.y.length - 1;
    while (last > 0 && Math.abs(curve.y[last]) < 0.004 * most) last -= 1;
    return curve.x[Math.min(last, curve.x.length - 1)] * 1.06;
  }

  setUnit(unit) {
    this.unit = unit;
    this.draw();
  }

  // One curve in front of the others; null for none.
  choose(name) {
    this.chosen = name;
    this.draw();
  }

  show([low, high]) {
    const width = Math.min(Math.max(high - low, 0.02 * this.whole[1]), this.whole[1] - this.whole[0]);
    const start = Math.min(Math.max(low, this.whole[0]), this.whole[1] - width);
    this.range = [start, start + width];
    this.draw();
  }

  zoom(factor) {
    const [low, high] = this.range;
    const middle = (low + high) / 2;
    this.show([middle - ((high - low) * factor) / 2, middle + ((high - low) * factor) / 2]);
  }

  move(share) {
    const [low, high] = this.range;
    this.show([low + share * (high - low), high + share * (high - low)]);
  }

  #listen() {
    let from = null;
    const at = (event) => this.#thzAt(event.clientX - this.picture.getBoundingClientRect().left);
    this.stage.addEventListener("keydown", (event) => {
      const actions = { "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), ArrowLeft: () => this.move(-0.2), ArrowRight: () => this.move(0.2), 0: () => this.show(this.whole), Escape: () => this.show(this.whole) };
      if (event.ctrlKey || event.metaKey || event.altKey || !actions[event.key]) return;
      event.preventDefault();
      actions[event.key]();
    });
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      from = { thz: at(event), x: event.clientX };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      this.#hover(at(event), from?.thz ?? null);
    });
    this.stage.addEventListener("pointerup", (event) => {
      if (from && Math.abs(event.clientX - from.x) > LEAST_DRAG_PX) this.show([Math.min(from.thz, at(event)), Math.max(from.thz, at(event))]);
      from = null;
      this.#hover(null, null);
    });
    this.stage.addEventListener("pointercancel", () => (from = null));
    this.stage.addEventListener("pointerleave", () => this.#hover(null, null));
    this.stage.addEventListener("dblclick", () => this.show(this.whole));
  }

  #thzAt(px) {
    const inner = this.width - MARGIN.left - MARGIN.right;
    const share = Math.min(Math.max((px - MARGIN.left) / inner, 0), 1);
    return this.range[0] + share * (this.range[1] - this.range[0]);
  }

  #x(thz) {
    const inner = this.width - MARGIN.left - MARGIN.right;
    return MARGIN.left + ((thz - this.range[0]) / (this.range[1] - this.range[0])) * inner;
  }

  #hover(thz, from) {
    this.cursor?.remove();
    if (thz === null) {
      this.readout.textContent = "";
      return;
    }
    const x = this.#x(thz);
    this.cursor = s("g", {}, s("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: this.height - AXIS_HEIGHT }));
    if (from !== null) this.cursor.append(s("rect", { class: "brush", x: Math.min(x, this.#x(from)), width: Math.abs(x - this.#x(from)), y: 0, height: this.height - AXIS_HEIGHT }));
    this.picture.append(this.cursor);
    const seen = this.panels.flatMap((panel) => panel.curves.filter((curve) => !this.hidden.has(curve.name)));
    const values = seen.map((curve) => {
      const index = Math.min(nearest(curve.x, thz), curve.y.length - 1);
      return `${curve.label} ${short(curve.y[index] * THZ_PER[this.unit])}`;
    });
    this.readout.textContent = `${short(inUnit(thz, this.unit), 4)} ${LABEL[this.unit]}: ${values.join(", ")}`;
  }

  #drawLegend() {
    const curves = this.panels.flatMap((panel) => panel.curves).filter((curve) => !curve.always);
    const known = new Map(curves.map((curve) => [curve.name, curve]));
    put(
      this.legend,
      [...known.values()].map((curve) =>
        h(
          "button",
          {
            type: "button",
            class: "key",
            "aria-pressed": String(!this.hidden.has(curve.name)),
            onclick: (event) => {
              if (!this.hidden.delete(curve.name)) this.hidden.add(curve.name);
              event.currentTarget.setAttribute("aria-pressed", String(!this.hidden.has(curve.name)));
              this.draw();
            },
          },
          s("svg", { width: 22, height: 10, "aria-hidden": "true" }, s("line", { class: `curve ${curve.style}`, x1: 1, x2: 21, y1: 5, y2: 5 })),
          curve.label,
        ),
      ),
    );
  }

  draw() {
    this.width = Math.max(this.stage.clientWidth, 240);
    this.height = this.panels.reduce((sum, panel) => sum + panel.height + GAP, 0) - GAP + AXIS_HEIGHT;
    this.picture.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.picture.setAttribute("width", this.width);
    this.picture.setAttribute("height", this.height);
    this.picture.replaceChildren();
    let top = 0;
    for (const panel of this.panels) {
      this.#panel(panel, top);
      top += panel.height + GAP;
    }
    this.#axis(top - GAP);
  }

  #panel(panel, top) {
    const curves = panel.curves.filter((curve) => !this.hidden.has(curve.name));
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    const [low, high] = this.#limits(curves, panel);
    const inner = panel.height - MARGIN.top - MARGIN.bottom;
    const y = (value) => top + MARGIN.top + (1 - (value - low) / (high - low)) * inner;
    const right = this.width - MARGIN.right;
    const group = s("g", {}, s("clipPath", { id: clip }, s("rect", { x: MARGIN.left, y: top, width: right - MARGIN.left, height: panel.height })));
    for (const tick of ticks(low, high, Math.max(2, Math.round(panel.height / 45)))) {
      group.append(s("line", { class: tick === 0 ? "zero" : "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) }));
      group.append(s("text", { class: "tick", x: MARGIN.left - 7, y: y(tick) + 4, "text-anchor": "end" }, short(tick * (panel.plain ? 1 : THZ_PER[this.unit]))));
    }
    group.append(s("text", { class: "label", transform: `translate(13 ${top + panel.height / 2}) rotate(-90)`, "text-anchor": "middle" }, panel.label));
    const drawn = s("g", { "clip-path": `url(#${clip})` });
    const order = [...curves].sort((a, b) => (a.name === this.chosen) - (b.name === this.chosen));
    for (const curve of order) drawn.append(...this.#curve(curve, y));
    group.append(drawn);
    this.picture.append(group);
  }

  #limits(curves, panel) {
    let low = panel.zero ? 0 : Infinity;
    let high = panel.zero ? 0 : -Infinity;
    for (const curve of curves) {
      curve.x.forEach((x, k) => {
        if (x < this.range[0] || x > this.range[1] || k >= curve.y.length) return;
        low = Math.min(low, curve.low?.[k] ?? curve.y[k]);
        high = Math.max(high, curve.high?.[k] ?? curve.y[k]);
      });
    }
    if (!(high > low)) [low, high] = [Math.min(low, 0) - 1e-6, Math.max(high, 0) + 1e-6];
    if (!Number.isFinite(low + high)) return [0, 1];
    const room = 0.06 * (high - low);
    return [low < 0 ? low - room : low, high + room];
  }

  #curve(curve, y) {
    const dim = this.chosen && this.chosen !== curve.name && curve.element ? " dim" : "";
    const points = curve.x.slice(0, curve.y.length).map((x, k) => [this.#x(x), y(curve.y[k])]);
    const path = (pairs) => pairs.map(([px, py], k) => `${k ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    const made = [];
    if (curve.low) {
      const upper = curve.x.map((x, k) => [this.#x(x), y(curve.high[k])]);
      const lower = curve.x.map((x, k) => [this.#x(x), y(curve.low[k])]).reverse();
      made.push(s("path", { class: `band ${curve.style}`, d: `${path(upper)}L${path(lower).slice(1)}Z` }));
    }
    if (curve.filled) {
      const base = y(0).toFixed(1);
      made.push(s("path", { class: `area ${curve.style}${dim}`, d: `${path(points)}L${points.at(-1)[0].toFixed(1)} ${base}L${points[0][0].toFixed(1)} ${base}Z` }));
    }
    made.push(s("path", { class: `curve ${curve.style}${dim}${this.chosen === curve.name ? " front" : ""}`, d: path(points) }));
    return made;
  }

  #axis(bottom) {
    const right = this.width - MARGIN.right;
    this.picture.append(s("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
    const [low, high] = this.range.map((thz) => inUnit(thz, this.unit));
    for (const tick of ticks(low, high, Math.round((right - MARGIN.left) / 80))) {
      const x = this.#x(tick * THZ_PER[this.unit]);
      this.picture.append(s("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
      this.picture.append(s("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, short(tick, 6)));
    }
    this.picture.append(s("text", { class: "label", x: (MARGIN.left + right) / 2, y: bottom + 34, "text-anchor": "middle" }, AXIS[this.unit]));
  }
}
