// The one dialog: a sheet over the phone that asks for something or shows something.

import { byId, button, el } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";

const sheet = byId("sheet");
let settle = null;

// Opens the sheet with this content; what `done` is given comes back, or null when it is closed.
export function open(title, build) {
  finish(null);
  return new Promise((resolve) => {
    settle = resolve;
    const heading = el("h2", { id: "sheet-title", text: title });
    const close = button(icon("close"), () => finish(null), { class: "round", "aria-label": t("close") });
    sheet.replaceChildren(el("div", { class: "sheet-head" }, heading, close), build(finish));
    place();
    sheet.showModal();
    const first = sheet.querySelector("[autofocus], input, select, textarea, .choices button");
    if (first) first.focus();
  });
}

function finish(value) {
  if (!settle) return;
  const resolve = settle;
  settle = null;
  if (sheet.open) sheet.close();
  resolve(value);
}

// A form: fields {name, label, value, kind: text | number | textarea | select | checkbox | file, options}.
export function ask(title, fields, { ok = t("ok"), lead, more } = {}) {
  return open(title, (done) => {
    const inputs = fields.map((field) => [field, input(field)]);
    const rows = inputs.map(([field, node]) => field.kind === "checkbox"
      ? el("label", { class: "check" }, node, field.label)
      : el("label", {}, el("span", { text: field.label }), node));
    const submit = (event) => {
      event.preventDefault();
      done(Object.fromEntries(inputs.map(([field, node]) => [field.name, valueOf(field, node)])));
    };
    return el("form", { class: "sheet-form", onsubmit: submit, autocomplete: "off" },
      lead && el("p", { class: "lead", text: lead }),
      more && more(done),
      rows,
      el("div", { class: "buttons" },
        button(t("cancel"), () => done(null), { class: "quiet" }),
        el("button", { type: "submit", text: ok })));
  });
}

// A question with two answers.
export function confirm(text, ok) {
  return open(text, (done) => el("div", { class: "buttons" },
    button(t("cancel"), () => done(false), { class: "quiet" }),
    button(ok || t("ok"), () => done(true), { autofocus: true })));
}

function input(field) {
  const { kind = "text", name, value = "", options, placeholder } = field;
  if (kind === "select") {
    const node = el("select", { name }, options.map(([word, label]) => el("option", { value: word, text: label })));
    node.value = value;
    return node;
  }
  if (kind === "textarea") {
    const node = el("textarea", { name, rows: "3", placeholder, spellcheck: "false" });
    node.value = value;
    return node;
  }
  const node = el("input", { name, type: kind, placeholder, step: kind === "number" ? "any" : undefined, accept: field.accept });
  if (kind === "checkbox") node.checked = Boolean(value);
  else if (kind !== "file") node.value = value;
  return node;
}

function valueOf(field, node) {
  if (field.kind === "checkbox") return node.checked;
  if (field.kind === "file") return node.files[0] || null;
  if (field.kind === "number") return Number(node.value);
  return node.value;
}

// Over the phone, as if it belonged to it.
function place() {
  const phone = byId("phone").getBoundingClientRect();
  const visible = phone.bottom > 120 && phone.top < window.innerHeight - 120;
  const left = visible ? phone.left : 0;
  const width = visible ? phone.width : Math.min(window.innerWidth, 480);
  sheet.style.left = left + "px";
  sheet.style.width = width + "px";
  sheet.style.bottom = Math.max(0, visible ? window.innerHeight - phone.bottom : 0) + "px";
}

sheet.addEventListener("close", () => finish(null));
sheet.addEventListener("click", (event) => {
  if (event.target === sheet) finish(null);
});
window.addEventListener("resize", () => { if (sheet.open) place(); });
