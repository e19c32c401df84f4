// The page: a question on the left, its answer on the right.

import { AnswerView } from "./answer.js";
import { chrome } from "./chrome.js";
import { $, announce, h, put, save, saved } from "./dom.js";
import { Files } from "./files.js";
import { GivenHost } from "./given.js";
import { HostField } from "./hosts.js";
import { asCommand, asCurl, asPython, download, elementsCsv, asPng } from "./keep.js";
import { readLimits } from "./limits.js";
import { manyTable } from "./many.js";
import { PeriodicTable } from "./periodic.js";
import { ask } from "./service.js";
import { formulaText } from "./units.js";

const HISTORY = "defectnet-history";
const KEPT_RUNS = 20;
const PART = 32; // samples of one request of many

let model = null;
let knownElements = [];
let crystals = [];
let results = null; // of many samples
let view = null;
let unit = saved("defectnet-unit", "THz");
let round = 0;

const files = new Files($("files"), changed);
const host = new HostField(hostChosen);
const periodic = new PeriodicTable($("periodic"), changed);

const given = new GivenHost((ready) => {
  host.committed = null; // the same formula may now have one crystal more
  host.set(ready.formula);
});

const radio = (name) => document.querySelector(`input[name=${name}]:checked`)?.value ?? "";
const check = (name, value) => {
  const input = document.querySelector(`input[name=${name}][value="${value}"]`);
  if (input) input.checked = true;
};
const readable = (one) => one.spectra.filter((read) => !read.error);

// ── the question ──────────────────────────────────────────────────────────────────────────────────────────────────────

function missing() {
  if (files.reading) return "The files are still being read.";
  if (!files.samples.length) return "Add a spectrum first.";
  if (!files.samples.some((one) => readable(one).length)) return "No file could be read yet: see what it says above.";
  const named = files.samples.every((one) => readable(one).every((read) => read.host));
  if (!host.formula && !named) return "Say which crystal it is: its formula, without dopants.";
  if (radio("reference") === "file" && !files.reference) return "Choose the file of the pristine reference, or another kind of reference.";
  if (radio("reference") === "file" && files.reference && !readable(files.reference).length) return "The reference could not be read: see what it says above.";
  if (radio("elements") === "some" && !periodic.chosen.size) return "Choose at least one element, or weigh them all.";
  return "";
}

function changed() {
  const count = files.samples.reduce((sum, one) => sum + Math.max(readable(one).length, 1), 0);
  const problem = missing();
  $("ask").disabled = Boolean(problem);
  $("ask").textContent = count > 1 ? `Read ${count} spectra` : "Read the spectrum";
  $("missing").textContent = problem;
  if (files.reference && radio("reference") !== "file" && !changed.had) check("reference", "file");
  if (!files.reference && changed.had && radio("reference") === "file") check("reference", "none");
  changed.had = Boolean(files.reference);
  $("crystals").hidden = radio("reference") !== "computed";
  $("table-place").hidden = radio("elements") !== "some";
  $("chosen").textContent = periodic.chosen.size ? [...periodic.chosen].join(", ") : "none yet";
  const kinds = new Set(files.samples.flatMap((one) => readable(one).map((read) => read.kind)).filter(Boolean));
  $("kind-note").textContent = radio("kind") === "vibrational" && kinds.has("neutron") ? "A file says that it is weighted by neutron cross-sections, but will be read as a plain density of states." : kinds.size > 1 ? "The files are of different kinds." : "";
  if (!changed.kind && kinds.size === 1) check("kind", [...kinds][0]);
}

async function hostChosen(formula) {
  const mine = (hostChosen.asked = (hostChosen.asked ?? 0) + 1);
  $("host-problem").textContent = "";
  host.input.removeAttribute("aria-invalid");
  crystals = [];
  try {
    const table = await ask("GET", `v1/elements${formula ? `?host=${encodeURIComponent(formula)}` : ""}`);
    if (mine !== hostChosen.asked) return;
    knownElements = table.elements;
    periodic.show(table.elements);
    if (table.host) {
      const { hosts, prepares } = await ask("GET", `v1/hosts?formula=${encodeURIComponent(table.host)}`);
      if (mine !== hostChosen.asked) return;
      $("give").hidden = !prepares;
      crystals = hosts.filter((one) => one.formula === table.host && one.reference);
    }
  } catch (error) {
    if (mine !== hostChosen.asked) return;
    $("host-problem").textContent = error.message;
    host.input.setAttribute("aria-invalid", "true");
  }
  drawCrystals(formula);
  changed();
}

function drawCrystals(formula) {
  const computed = document.querySelector("input[name=reference][value=computed]");
  computed.disabled = !crystals.length;
  if (!crystals.length && computed.checked) check("reference", files.reference ? "file" : "none");
  $("computed-note").textContent = crystals.length ? "" : formula ? `(none is known for ${formulaText(formula)})` : "(name the host first)";
  put(
    $("crystals"),
    crystals.map((one, k) => h("label", {}, h("input", { type: "radio", name: "crystal", value: one.host_id, checked: k === 0 }), ` ${one.description}`)),
    h("p", { class: "care-note" }, "A computed reference is not your crystal: where the two differ, elements can be found that are not there."),
  );
}

// The file's bytes as JSON can carry them.
const encoded = (file) =>
  new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error(`${file.name} can no longer be read; give it again.`));
    reader.readAsDataURL(file);
  });

async function chosenReference() {
  const mode = radio("reference");
  if (mode === "computed") {
    const id = radio("crystal") || crystals[0].host_id;
    return { sent: { host_id: id }, name: id, elsewhere: crystals.find((one) => one.host_id === id)?.packaged === true };
  }
  if (mode !== "file") return null;
  return { sent: { name: files.reference.name, content: await encoded(files.reference.file) }, name: files.reference.name, elsewhere: true };
}

// A file of one spectrum: the service makes the question of it and of the reference, as the command line does.
async function questionOfFile(one, reference, wishes) {
  const about = { file: one.name, reference: reference?.name ?? "", notes: [] };
  if (!readable(one).length) return { about, problem: one.error || one.spectra[0]?.error || "it was not read" };
  const sent = { file: { name: one.name, content: await encoded(one.file) }, host: host.formula, ...wishes };
  // Whoever presses a unit has seen what the file says.
  if (one.unit) Object.assign(sent, { unit: one.unit, override_unit: true });
  if (reference) sent.reference = reference.sent;
  const own = given.idFor(host.formula);
  if (own) sent.host_id = own;
  try {
    const { spectrum, notes } = await ask("POST", "v1/question", { json: sent });
    about.notes = notes;
    const again = { file: one.name, unit: one.unit, override: Boolean(one.spectra[0].unit_overruled), host: host.formula, reference: reference?.name ?? "", candidates: wishes.candidates ?? null, kind: wishes.kind ?? "", prior: wishes.prior !== false };
    return { about, body: spectrum, again: own || (reference && !reference.elsewhere) ? null : again };
  } catch (error) {
    return { about, problem: error.message };
  }
}

// A table brings each row's own host and reference.
function questionsOfTable(one, wishes) {
  return one.spectra.map((read) => {
    const about = { file: `${one.name}: ${read.id}`, reference: read.reference ? "in the table" : "", notes: [] };
    if (read.error) return { about, problem: read.error };
    const body = { id: read.id, host: read.host || host.formula, unit: "THz", frequency: read.frequency, dos: read.dos, kind: read.kind ?? "vibrational", ...wishes };
    if (read.reference) body.reference = { unit: "THz", ...read.reference };
    if (read.uncertainty) body.uncertainty = read.uncertainty;
    if (!body.candidates && read.candidates) body.candidates = read.candidates;
    if (read.prior === false) body.prior = false;
    const own = read.host_id ?? given.idFor(body.host);
    if (own) body.host_id = own;
    if (read.reference_kind) body.reference_kind = read.reference_kind;
    return { about, body, again: null };
  });
}

async function questions() {
  const wishes = {};
  if (radio("elements") === "some") wishes.candidates = [...periodic.chosen];
  if (!$("prior").checked) wishes.prior = false;
  if (changed.kind) wishes.kind = radio("kind"); // said by hand; else the files say it
  const reference = await chosenReference();
  const made = [];
  for (const one of files.samples) {
    if (one.spectra.length > 1 || one.spectra[0]?.host) made.push(...questionsOfTable(one, wishes));
    else made.push(await questionOfFile(one, reference, wishes));
  }
  return made;
}

// ── the answer ────────────────────────────────────────────────────────────────────────────────────────────────────────

function noAnswer(asked, text) {
  return { prediction: { sample_id: asked.about.file, host: "", elements: [], ood_score: null, warnings: [], model_name: "", model_version: "", error: text }, said: { sentence: `No answer: ${text}`, trust: "none", doubts: [] }, spectra: null, curves: null, spoke: null };
}

// What the service does not know of how the question was put belongs to the warnings, as on the command line.
function withNote(answer, asked) {
  const notes = asked.about.notes.filter((note) => !answer.prediction.warnings.includes(note));
  if (notes.length && answer.prediction.error === null) {
    answer.prediction.warnings.push(...notes);
    if (answer.said.trust === "plain") answer.said.trust = "care";
  }
  return answer;
}

async function run() {
  const mine = ++round;
  $("ask").disabled = true;
  $("ask").setAttribute("aria-busy", "true");
  announce("Asking the service.");
  try {
    const asked = await questions();
    if (asked.length === 1 && asked[0].problem) throw new Error(asked[0].problem);
    if (asked.length === 1) await runOne(asked[0], mine);
    else await runMany(asked, mine);
  } catch (error) {
    if (mine === round) showProblem(error.message);
  } finally {
    $("ask").removeAttribute("aria-busy");
    changed();
  }
}

function showProblem(text) {
  put($("answer"), h("div", { class: "verdict none", role: "alert" }, h("p", { class: "trust" }, "No answer"), h("p", { class: "sentence", id: "sentence" }, text)));
  reveal();
}

function reveal() {
  $("answer-section").hidden = false;
  if (matchMedia("(max-width: 60rem)").matches) $("answer-section").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

async function runOne(asked, mine) {
  const { answers } = await ask("POST", "v1/study", { json: { spectra: [asked.body] } });
  if (mine !== round) return;
  results = null;
  const answer = withNote(answers[0], asked);
  showOne(answer, asked);
  remember(answer, asked);
}

function showOne(answer, asked) {
  const back = results ? h("button", { type: "button", class: "quiet", onclick: showMany }, "← all samples") : null;
  const place = h("div", {});
  put($("answer"), back, place);
  view = new AnswerView(place, answer, asked, { unit, actions: actions(answer, asked), whenUnit: (next) => save("defectnet-unit", (unit = next)) });
  reveal();
  announce(answer.said.sentence);
}

async function runMany(asked, mine) {
  const answers = new Map();
  const good = asked.filter((one) => one.body);
  for (const one of asked) if (!one.body) answers.set(one, noAnswer(one, one.problem));
  for (let start = 0; start < good.length; start += PART) {
    const part = good.slice(start, start + PART);
    announce(`${start} of ${good.length} samples answered.`);
    $("ask").textContent = `${start} of ${good.length} …`;
    try {
      const answer = await ask("POST", "v1/study", { json: { spectra: part.map((one) => one.body) } });
      part.forEach((one, k) => answers.set(one, withNote(answer.answers[k], one)));
    } catch (error) {
      for (const one of part) answers.set(one, noAnswer(one, error.message));
    }
    if (mine !== round) return;
  }
  results = asked.map((one) => ({ asked: one, answer: answers.get(one) }));
  showMany();
  announce(`${good.length} samples answered.`);
}

function showMany() {
  const text = saved("defectnet-limits", "");
  const input = h("input", { id: "limits", type: "text", value: text, placeholder: "Ge 2, Sn 0.5", autocomplete: "off", "aria-describedby": "limits-note", oninput: () => draw() });
  const note = h("p", { id: "limits-note", class: "hint" });
  const place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All samples" });
  const known = new Set(knownElements.filter((one) => one.known).map((one) => one.symbol));
  const draw = () => {
    const limits = readLimits(input.value);
    input.setAttribute("aria-invalid", String(limits === null));
    if (limits === null) {
      note.textContent = "Write an element and its limit in at.%, such as Ge 2, Sn 0.5.";
      return;
    }
    save("defectnet-limits", input.value);
    const { table, counts } = manyTable(results, limits, known, openOne);
    put(place, table);
    note.textContent = Object.keys(limits).length ? `${counts.pass} pass, ${counts.fail} fail, ${counts.undecided} undecided: where the interval reaches over the limit, or the answer is doubted, nothing is decided.` : "With limits each sample passes, fails, or is undecided.";
  };
  put(
    $("answer"),
    h("h3", {}, `${results.length} samples`),
    h("label", { for: "limits" }, "Limits, at.% of all atoms"),
    input,
    note,
    place,
    h(
      "div",
      { class: "actions" },
      h("button", { type: "button", onclick: () => download("defectnet.csv", elementsCsv(results.map((one) => one.answer)), "text/csv") }, "CSV"),
      h("button", { type: "button", onclick: () => download("defectnet.json", JSON.stringify(results.map((one) => one.answer.prediction), null, 1), "application/json") }, "JSON"),
    ),
  );
  draw();
  reveal();
}

async function openOne(result) {
  try {
    const { answers } = await ask("POST", "v1/study", { json: { spectra: [result.asked.body] } });
    showOne(withNote(answers[0], result.asked), result.asked);
  } catch (error) {
    announce(error.message);
    showOne(result.answer, result.asked);
  }
}

function actions(answer, asked) {
  const name = (asked.about.file || "sample").replace(/\.[^.]*$/, "").replace(/[^\w.-]+/g, "_");
  const said = h("span", { class: "hint", role: "status" });
  const copy = async (what, text) => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied.`;
      shown.hidden = true;
    } catch {
      said.textContent = "The browser does not let the page copy; take it from here:";
      shown.hidden = false;
    }
    shown.value = text;
  };
  const shown = h("textarea", { readonly: true, rows: 4, "aria-label": "Text to copy", id: "copied", hidden: true });
  const button = (words, action, disabled = false) => h("button", { type: "button", disabled, onclick: action }, words);
  const report = async () => {
    try {
      download(`${name}.html`, await ask("POST", "v1/report", { json: { spectra: [asked.body], source: asked.about.file }, as: "blob" }), "text/html");
    } catch (error) {
      said.textContent = error.message;
    }
  };
  const png = async () => download(`${name}.png`, await asPng(view.plot.picture, [answer.said.sentence, ...answer.prediction.warnings]));
  const failed = answer.prediction.error !== null;
  return h(
    "section",
    { class: "actions", "aria-label": "Take it along" },
    h("h3", {}, "Take it along"),
    h("p", {}, "Copy as: ", asked.again ? [button("command line", () => copy("The command", asCommand(asked.again, model))), button("Python", () => copy("The Python", asPython(asked.again)))] : null, button("curl", () => copy("The command", asCurl({ spectra: [asked.body] })))),
    h("p", {}, "Download: ", button("report", report, failed), button("JSON", () => download(`${name}.json`, JSON.stringify(answer.prediction, null, 1), "application/json")), button("CSV", () => download(`${name}.csv`, elementsCsv([answer]), "text/csv")), button("PNG", png, failed)),
    said,
    shown,
  );
}

// ── history ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function remember(answer, asked) {
  const runs = saved(HISTORY, []);
  runs.unshift({ at: new Date().toISOString(), sentence: answer.said.sentence, trust: answer.said.trust, asked });
  while (runs.length > KEPT_RUNS || (!save(HISTORY, runs) && runs.length)) runs.pop();
  drawHistory();
}

function drawHistory() {
  const runs = saved(HISTORY, []);
  $("history").hidden = !runs.length;
  put(
    $("runs"),
    runs.map((one) =>
      h("li", {}, h("button", { type: "button", class: "link", onclick: () => runOne(one.asked, ++round).catch((error) => showProblem(error.message)) }, `${formulaText(one.asked.body.host)} · ${one.asked.about.file}`), h("span", { class: "hint" }, ` ${new Date(one.at).toLocaleString()}: ${one.sentence}`)),
    ),
  );
}

// ── wiring ────────────────────────────────────────────────────────────────────────────────────────────────────────────

async function example() {
  const names = ["Si.csv", "Si-pristine.csv"];
  const got = await Promise.all(names.map(async (name) => new File([await (await fetch(`page/${name}`)).blob()], name)));
  files.clear();
  files.add(got);
  host.set("Si");
}

function dropping() {
  const zone = $("drop");
  const over = (event) => {
    event.preventDefault();
    zone.classList.add("over");
  };
  for (const name of ["dragenter", "dragover"]) document.addEventListener(name, over);
  document.addEventListener("dragleave", (event) => event.relatedTarget || zone.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (event.dataTransfer.files.length) files.add(event.dataTransfer.files);
  });
  $("browse").addEventListener("change", (event) => {
    files.add(event.target.files);
    event.target.value = "";
  });
}

async function begin() {
  await hostChosen(host.formula);
  if (!host.formula) $("give").hidden = !(await ask("GET", "v1/hosts?formula=-")).prepares;
  try {
    model = await ask("GET", "v1/model");
    $("model").textContent = `${model.name} ${model.version}`;
    put($("model-problem"), model.problem ?? "");
    $("model-problem").hidden = !model.problem;
  } catch (error) {
    $("model").textContent = error.message;
  }
}

chrome(begin);
dropping();
for (const input of document.querySelectorAll("input[type=radio], #prior")) input.addEventListener("change", (event) => {
  if (event.target.name === "kind") changed.kind = true;
  changed();
});
$("question").addEventListener("submit", (event) => {
  event.preventDefault();
  host.commit();
  if (!missing()) run();
});
$("example").addEventListener("click", () => example().catch((error) => announce(error.message)));
$("take-expected").addEventListener("click", () => periodic.set(periodic.expected()));
$("take-none").addEventListener("click", () => periodic.set([]));
$("forget").addEventListener("click", () => {
  save(HISTORY, []);
  drawHistory();
});
drawHistory();
changed();
begin();
