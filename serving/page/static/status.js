// What an operator looks at: which model answers where, what was promoted, what waits, what is under way.

import { chrome } from "./chrome.js";
import { $, framed, h, put } from "./dom.js";
import { ask } from "./service.js";

const EVERY_MS = 5000;

function table(name, head, rows, nothing) {
  return [
    h("h2", {}, name),
    rows.length
      ? framed(name, h("table", {}, h("thead", {}, h("tr", {}, head.map((one) => h("th", { scope: "col" }, one)))), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, k) => (k ? h("td", {}, cell ?? "–") : h("th", { scope: "row" }, cell))))))))
      : h("p", { class: "hint" }, nothing),
  ];
}

const date = (text) => (text ? new Date(text).toLocaleString() : "–");
const figure = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const progress = (done, all, name) => (all ? h("progress", { max: all, value: done, "aria-label": `${name}: ${done} of ${all}` }) : "–");

function show(status) {
  const { replicas, requests, promotions, batches, hosts, not_known: unknown } = status;
  put(
    $("status"),
    unknown.map((words) => h("p", { class: "care-note" }, words)),
    table("Processes that hold the model", ["Process", "Version", "Loaded", "Problem"], replicas.map((one) => [one.process, one.version, date(one.loaded_at), one.problem ?? "none"]), "None answers."),
    table(
      "Requests",
      ["Route", "Answered", "Refused", "Failed", "Mean time (ms)"],
      requests.routes.map((one) => [one.route, one.answered, one.refused, one.failed, figure(1000 * one.mean_s, 1)]),
      "None yet.",
    ),
    h("p", {}, `${requests.in_progress} under way; spectra answered: ${requests.spectra}, of them ${requests.unlike} unlike the training spectra and ${requests.errors} without an answer.`),
    table("Promotions", ["Version", "When", "By", "From", "Gate", "Reason"], promotions.map((one) => [one.version, date(one.at), one.by, one.former, one.gate, one.reason]), "None is kept in the registry."),
    table("Batches", ["Batch", "State", "Rows", "", "Asked by"], batches.map((one) => [one.id, one.state, `${one.rows_done} of ${one.rows ?? "?"}`, progress(one.rows_done, one.rows, one.id), one.owner]), "None."),
    table("Hosts being prepared", ["Host", "State", "Step", "", "Asked by"], hosts.map((one) => [one.formula || one.name, one.state, one.step, progress(one.done, one.steps, one.name), one.owner]), "None."),
  );
  $("when").textContent = `As of ${new Date().toLocaleTimeString()}; looked at every ${EVERY_MS / 1000} s.`;
}

async function look() {
  try {
    show(await ask("GET", "v1/status"));
  } catch (error) {
    put($("status"), h("p", { class: "error", role: "alert" }, error.message));
  }
  setTimeout(look, EVERY_MS);
}

chrome();
look();
