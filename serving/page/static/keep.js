// What can be taken along: commands that ask the same, files, and this browser's own history.

import { h, s } from "./dom.js";
import { token } from "./service.js";

const quoted = (text) => (/^[\w./@:+,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);
const python = (value) => (value === null ? "None" : typeof value === "boolean" ? (value ? "True" : "False") : JSON.stringify(value));
const here = () => new URL(".", location.href).href.replace(/\/$/, "");

// asked: {file, unit, override (of the unit that the file says), reference (a file's name or an id), host, candidates, kind, prior}
export function asCommand(asked, model) {
  const parts = ["defectnet predict", quoted(asked.file), "--host", quoted(asked.host)];
  if (asked.unit) parts.push("--unit", asked.unit, ...(asked.override ? ["--override-unit"] : []));
  if (asked.reference) parts.push("--reference", quoted(asked.reference));
  if (asked.candidates) parts.push("--candidates", asked.candidates.join(","));
  if (asked.kind) parts.push("--kind", asked.kind);
  if (!asked.prior) parts.push("--no-prior");
  if (model?.run_id) parts.push("--model", `models:/${model.name}/${model.version}`);
  return parts.join(" ");
}

export function asPython(asked) {
  const options = [["unit", asked.unit || null], ["override_unit", asked.override || null], ["reference", asked.reference || null], ["candidates", asked.candidates], ["kind", asked.kind || null]];
  const given = options.filter(([, value]) => value !== null).map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
  const known = token() ? `, token=os.environ["DEFECTNET_TOKEN"]` : "";
  return [
    ...(known ? ["import os", ""] : []),
    "from defectnet import Client, read_query",
    "",
    `asked = read_query(\n    ${python(asked.file)},\n    ${python(asked.host)},\n${given}${asked.prior ? "" : "    prior=False,\n"})`,
    `with Client(${python(here())}${known}) as client:`,
    "    (answer,) = client.predict([asked.query])",
    "print(answer)",
    "",
  ].join("\n");
}

export function asCurl(body) {
  const known = token() ? ` -H "Authorization: Bearer $DEFECTNET_TOKEN"` : "";
  return `curl -sS ${quoted(`${here()}/v1/predict`)} -H 'Content-Type: application/json'${known} --data-binary @- <<'END'\n${JSON.stringify(body)}\nEND\n`;
}

export function download(name, content, type) {
  const blob = content instanceof Blob ? content : new Blob([content], { type });
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const field = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  // A cell that begins like a formula would be run by a spreadsheet.
  const plain = /^[=+@\t]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
};

export const asCsv = (rows) => `${rows.map((row) => row.map(field).join(",")).join("\n")}\n`;

export function elementsCsv(answers) {
  const rows = [["sample", "host", "trust", "element", "present", "probability", "at_percent", "low_at_percent", "high_at_percent", "warnings", "error"]];
  for (const { prediction: p, said } of answers) {
    const beside = [p.warnings.join("; "), p.error ?? ""];
    if (!p.elements.length) rows.push([p.sample_id, p.host, said.trust, "", "", "", "", "", "", ...beside]);
    for (const e of p.elements) rows.push([p.sample_id, p.host, said.trust, e.element, e.present, e.probability, 100 * e.concentration, 100 * e.low, 100 * e.high, ...beside]);
  }
  return asCsv(rows);
}

// The picture as it is on the screen, with its verdict above it: a picture without its doubts would be calmer than they.
export async function asPng(picture, lines, scale = 2) {
  const [width, drawn] = [Number(picture.getAttribute("width")), Number(picture.getAttribute("height"))];
  const perLine = Math.floor((width - 24) / 7.4);
  const wrapped = lines.flatMap((line) => line.match(new RegExp(`.{1,${perLine}}(?:\\s|$)|\\S+`, "g")) ?? []);
  const head = 16 + 18 * wrapped.length;
  const copy = picture.cloneNode(true);
  const [from, to] = [[picture, ...picture.querySelectorAll("*")], [copy, ...copy.querySelectorAll("*")]];
  const names = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity", "font-size", "font-family"];
  from.forEach((node, k) => {
    const style = getComputedStyle(node);
    for (const name of names) to[k].setAttribute(name, style.getPropertyValue(name));
    to[k].removeAttribute("class");
  });
  const ink = getComputedStyle(document.body);
  copy.setAttribute("y", head);
  const whole = s("svg", { xmlns: "http://www.w3.org/2000/svg", width, height: head + drawn, viewBox: `0 0 ${width} ${head + drawn}` });
  whole.append(s("rect", { width, height: head + drawn, fill: ink.backgroundColor }));
  wrapped.forEach((line, k) => whole.append(s("text", { x: 12, y: 20 + 18 * k, fill: ink.color, "font-size": 14, "font-family": "sans-serif" }, line)));
  whole.append(copy);
  const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(whole)], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = h("canvas", { width: Math.round(scale * width), height: Math.round(scale * (head + drawn)) });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.drawImage(image, 0, 0, width, head + drawn);
    return await new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("no picture"))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}
