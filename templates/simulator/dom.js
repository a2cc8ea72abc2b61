// Elements and calls. What others wrote goes into the page as text only.

export const byId = (id) => document.getElementById(id);

// el("p", {class: "x", onclick: f}, "text", child, …): null and false among the children are left out.
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "text") node.textContent = value;
    else if (value === true) node.setAttribute(key, "");
    else node.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

export function button(text, onclick, attributes = {}) {
  return el("button", { type: "button", onclick, ...attributes }, text);
}

export async function call(method, path, body) {
  const answer = await fetch("/_sim" + path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(json.error || "HTTP " + answer.status);
    error.status = answer.status;
    throw error;
  }
  return json;
}

// The address, where it is one of the web; else null.
export function webAddress(text) {
  try {
    const url = new URL(text);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

// Writes a list anew where it changed. Items that stay the same stay in place, open and focused.
export function fill(list, entries, toItem) {
  const old = list.shown || new Map();
  const shown = new Map();
  const items = entries.map((entry) => {
    const text = JSON.stringify(entry);
    // A delivery keeps its place in the list when it comes to its end.
    const key = entry.run ? "run " + entry.run : entry.running ? "run " + entry.id : entry.id;
    const before = old.get(key);
    let item = before && before.text === text ? before.item : null;
    if (!item) {
      item = toItem(entry);
      const fold = before && before.item.querySelector(":scope > details");
      if (fold && fold.open) item.querySelector(":scope > details").open = true;
    }
    shown.set(key, { text, item });
    return item;
  });
  list.shown = shown;
  const isSame = items.length === list.children.length && items.every((item, at) => list.children[at] === item);
  if (isSame) return;
  const focused = document.activeElement;
  items.forEach((item, at) => {
    if (list.children[at] !== item) list.insertBefore(item, list.children[at] || null);
  });
  while (list.children.length > items.length) list.lastElementChild.remove();
  if (focused && list.contains(focused)) focused.focus({ preventScroll: true });
}

// Forgets what stands in a list, so that it is written anew, in another language for instance.
export function forget(list) {
  list.shown = undefined;
  list.replaceChildren();
}
