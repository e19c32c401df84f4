// The interface as /openapi.json describes it, with a way to try each route; no file of anybody else's.

import { chrome } from "./chrome.js";
import { $, framed, h, put } from "./dom.js";
import { ask } from "./service.js";

let schemas = {};

const nameOf = (ref) => ref.split("/").at(-1);

function typeOf(schema) {
  if (!schema || schema === true) return "anything";
  if (schema.$ref) return h("a", { href: `#schema-${nameOf(schema.$ref)}` }, nameOf(schema.$ref));
  if (schema.anyOf) return schema.anyOf.map((one, k) => [k ? " or " : "", typeOf(one)]);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return ["list of ", typeOf(schema.items)];
  if (schema.type === "object" && schema.additionalProperties) return ["object of ", typeOf(schema.additionalProperties)];
  return schema.type ?? "anything";
}

function exampleOf(schema) {
  const whole = schema?.$ref ? schemas[nameOf(schema.$ref)] : schema;
  return whole?.examples?.[0] ?? null;
}

function rows(list) {
  return h("table", {}, h("tbody", {}, list.map(([name, what, words]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, what), h("td", { class: "hint" }, words ?? "")))));
}

function tryIt(method, path, route) {
  const parameters = route.parameters ?? [];
  const content = route.requestBody?.content ?? {};
  const json = content["application/json"];
  const id = `${method}-${path}`.replace(/\W+/g, "-");
  const fields = parameters.map((one) => [one, h("input", { type: "text", id: `${id}-${one.name}`, autocomplete: "off" })]);
  const body = json ? h("textarea", { id: `${id}-body`, rows: 8, spellcheck: "false", value: JSON.stringify(exampleOf(json.schema) ?? {}, null, 1) }) : null;
  const file = !json && Object.keys(content).length ? h("input", { type: "file", id: `${id}-file` }) : null;
  const out = h("pre", { hidden: true, tabindex: "0", "aria-label": "Answer" });
  const send = async () => {
    let place = path;
    const query = new URLSearchParams();
    for (const [one, input] of fields) {
      if (one.in === "path") place = place.replace(`{${one.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(one.name, input.value);
    }
    try {
      const options = body ? { json: JSON.parse(body.value) } : file ? { bytes: file.files[0] ?? new Blob() } : {};
      const text = await ask(method.toUpperCase(), `.${place}${query.size ? `?${query}` : ""}`, { ...options, as: "text" });
      try {
        out.textContent = JSON.stringify(JSON.parse(text), null, 1).slice(0, 40000);
      } catch {
        out.textContent = text.slice(0, 40000) || "done";
      }
    } catch (error) {
      out.textContent = error.message;
    }
    out.hidden = false;
  };
  return h(
    "details",
    {},
    h("summary", {}, "Try it"),
    fields.map(([one, input]) => h("p", {}, h("label", { for: input.id }, one.name), input)),
    body ? h("p", {}, h("label", { for: body.id }, "Body"), body) : null,
    file ? h("p", {}, h("label", { for: file.id }, "File"), file) : null,
    h("button", { type: "button", onclick: send }, "Send"),
    out,
  );
}

function route(method, path, one) {
  const answers = Object.entries(one.responses ?? {}).map(([status, answer]) => [status, typeOf(Object.values(answer.content ?? {})[0]?.schema), answer.description]);
  const body = Object.entries(one.requestBody?.content ?? {}).map(([kind, value]) => [kind, typeOf(value.schema)]);
  return h(
    "article",
    { class: "route", "data-words": `${method} ${path} ${one.summary ?? ""}`.toLowerCase() },
    h("h3", {}, h("span", { class: "method" }, method.toUpperCase()), h("code", {}, path)),
    h("p", {}, one.summary ?? ""),
    h(
      "details",
      {},
      h("summary", {}, "What it takes and gives"),
      one.parameters?.length ? [h("h4", {}, "Parameters"), rows(one.parameters.map((p) => [p.name, typeOf(p.schema), p.required ? "required" : ""]))] : null,
      body.length ? [h("h4", {}, "Body"), rows(body)] : null,
      h("h4", {}, "Answers"),
      rows(answers),
    ),
    tryIt(method, path, one),
  );
}

function schema(name, one) {
  const fields = Object.entries(one.properties ?? {}).map(([field, value]) => [field, typeOf(value), `${value.description ?? ""}${one.required?.includes(field) ? " (required)" : ""}`]);
  const example = one.examples?.[0];
  return h("article", { class: "route", id: `schema-${name}` }, h("h3", {}, name), h("p", {}, one.description ?? ""), fields.length ? framed(`Fields of ${name}`, rows(fields)) : null, example ? h("details", {}, h("summary", {}, "Example"), h("pre", { tabindex: "0" }, JSON.stringify(example, null, 1))) : null);
}

async function begin() {
  const document = await ask("GET", "openapi.json");
  schemas = document.components?.schemas ?? {};
  $("title").textContent = `${document.info.title} ${document.info.version}: the interface`;
  $("description").textContent = document.info.description ?? "";
  put($("routes"), Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, one]) => route(method, path, one))));
  put($("schemas"), Object.entries(schemas).map(([name, one]) => schema(name, one)));
}

chrome();
$("filter").addEventListener("input", () => {
  const words = $("filter").value.toLowerCase();
  for (const one of $("routes").children) one.hidden = !one.dataset.words.includes(words);
});
begin().catch((error) => put($("routes"), h("p", { class: "error", role: "alert" }, error.message)));
