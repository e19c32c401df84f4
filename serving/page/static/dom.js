// Elements of the page are made here alone, from text: nothing that a file or the service says can become markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "files" || name === "disabled") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const h = (tag, properties, ...children) => filled(document.createElement(tag), properties, children);
export const s = (tag, properties, ...children) => filled(document.createElementNS(SVG, tag), properties, children);
export const $ = (id) => document.getElementById(id);
export const put = (place, ...children) => filled((place.replaceChildren(), place), {}, children);

// A table that may be wider than the window: it can be scrolled with the keyboard too.
export const framed = (name, table) => h("div", { class: "table-frame", tabindex: "0", role: "region", "aria-label": name }, table);

// Said to screen readers, without taking the focus away.
export function announce(words) {
  $("said").textContent = words;
}

export function saved(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function save(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false; // full, or switched off: the page works without it
  }
}
