// The host: a formula with completion from the crystals that the service knows.

import { $, h, put } from "./dom.js";
import { ask } from "./service.js";
import { formulaText } from "./units.js";

const PAUSE_MS = 160;

export class HostField {
  constructor(whenChosen) {
    this.input = $("host");
    this.list = $("host-list");
    this.whenChosen = whenChosen;
    this.options = [];
    this.active = -1;
    this.asked = 0;
    this.input.addEventListener("input", () => this.#later());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.input.addEventListener("blur", () => setTimeout(() => this.#close(), 150));
    this.input.addEventListener("change", () => this.commit());
  }

  get formula() {
    return this.input.value.trim();
  }

  set(formula) {
    this.input.value = formula;
    this.commit();
  }

  commit() {
    this.#close();
    if (this.formula !== this.committed) {
      this.committed = this.formula;
      this.whenChosen(this.formula);
    }
  }

  #later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#complete(), PAUSE_MS);
  }

  async #complete() {
    const mine = ++this.asked;
    if (!this.formula) return this.#close();
    try {
      const { hosts } = await ask("GET", `v1/hosts?formula=${encodeURIComponent(this.formula)}`);
      if (mine !== this.asked || document.activeElement !== this.input) return;
      const formulas = new Map();
      for (const host of hosts) formulas.set(host.formula, [...(formulas.get(host.formula) ?? []), host]);
      this.options = [...formulas].slice(0, 12);
      this.#open();
    } catch {
      this.#close(); // the formula can be typed without it
    }
  }

  #open() {
    this.active = -1;
    put(
      this.list,
      this.options.map(([formula, hosts], k) =>
        h(
          "li",
          { role: "option", id: `host-option-${k}`, "aria-selected": "false", onpointerdown: (event) => (event.preventDefault(), this.#take(k)) },
          h("span", {}, formulaText(formula)),
          h("span", { class: "hint" }, hosts.length > 1 ? `${hosts.length} crystals` : hosts[0].description),
        ),
      ),
    );
    this.list.hidden = !this.options.length;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
  }

  #close() {
    clearTimeout(this.timer);
    this.asked += 1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  #take(k) {
    this.input.value = this.options[k][0];
    this.commit();
  }

  #key(event) {
    const open = !this.list.hidden;
    if (event.key === "Enter") {
      event.preventDefault();
      if (open && this.active >= 0) this.#take(this.active);
      else this.commit();
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      this.#close();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && open) {
      event.preventDefault();
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.active = (this.active + step + this.options.length) % this.options.length;
      [...this.list.children].forEach((item, k) => item.setAttribute("aria-selected", String(k === this.active)));
      this.input.setAttribute("aria-activedescendant", `host-option-${this.active}`);
      this.list.children[this.active].scrollIntoView({ block: "nearest" });
    }
  }
}
