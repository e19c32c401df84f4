// A host that the user gives: a file, a job with its progress, and then a crystal like any other.

import { $, announce, h, put } from "./dom.js";
import { ask } from "./service.js";
import { formulaText } from "./units.js";

const EVERY_MS = 1500;

export class GivenHost {
  constructor(whenReady) {
    this.whenReady = whenReady;
    this.round = 0;
    this.ready = null;
    $("structure").addEventListener("change", (event) => {
      const [file] = event.target.files;
      event.target.value = "";
      if (file) this.give(file);
    });
  }

  // The id of the crystal whose responses are wanted for this formula; null for the best of those that are known.
  idFor(formula) {
    return this.ready?.formula === formula && $("use-given")?.checked ? this.ready.host_id : null;
  }

  async give(file) {
    const mine = ++this.round;
    this.ready = null;
    const place = $("given");
    put(place, h("p", { class: "hint" }, `Sending ${file.name} …`));
    try {
      let host = await ask("POST", `v1/hosts?${new URLSearchParams({ name: file.name })}`, { bytes: file });
      while (mine === this.round && (host.state === "pending" || host.state === "running")) {
        const words = `${file.name}: ${host.step}`;
        put(place, h("p", { class: "hint" }, `${words}. It takes minutes; the page may be closed meanwhile.`), h("progress", { max: host.steps, value: host.done, "aria-label": `${words}, step ${host.done} of ${host.steps}` }));
        await new Promise((done) => setTimeout(done, EVERY_MS));
        host = await ask("GET", `v1/hosts/${host.host_id}`);
      }
      if (mine !== this.round) return;
      if (host.state !== "ready") throw new Error(host.error ?? `${file.name} was stopped; give it again.`);
      const use = h("input", { type: "checkbox", id: "use-given", checked: true });
      put(
        place,
        h("p", { class: "good" }, `${file.name} is ${formulaText(host.formula)} and ready (${host.host_id}).`),
        h("label", { class: "line" }, use, " compare with the responses of this crystal"),
      );
      this.ready = host;
      announce(`${file.name} is ready.`);
      this.whenReady(host);
    } catch (error) {
      if (mine === this.round) put(place, h("p", { class: "error" }, error.message));
    }
  }
}
