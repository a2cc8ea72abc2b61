// What errors mean and what to do: a panel, and the links that lead there from everywhere.

import { byId, call, el } from "./dom.js";
import { pick, t } from "./i18n.js";
import { on } from "./state.js";

let entries = [];
const byCode = new Map();

export async function load() {
  entries = await call("GET", "/glossary");
  for (const entry of entries) byCode.set(entry.id, entry);
}

export const known = (id) => byCode.get(String(id));

// A link that leads to an entry. Without one there is nothing.
export function helpButton(id, words) {
  if (!known(id)) return null;
  return el("a", { class: "help", href: "#help/" + encodeURIComponent(id) }, words || t("help"));
}

// What an error means and what to do, right where it happened.
export function advice(id) {
  const entry = known(id);
  if (!entry) return null;
  return el("div", { class: "advice" },
    el("p", {}, el("strong", { text: pick(entry.meaning) })),
    el("p", {}, pick(entry.cure) + " ", helpButton(id)));
}

function item(entry) {
  return el("li", { id: "entry-" + entry.id, tabindex: "-1" },
    el("p", { class: "entry-head" }, el("code", { text: entry.id }), el("strong", { text: pick(entry.meaning) })),
    entry.errmsg && el("p", { class: "entry-text", lang: "en", text: entry.errmsg }),
    el("p", { class: "entry-cure" }, el("span", { class: "soft", text: t("help.what") }), pick(entry.cure)));
}

function write(panel, wanted) {
  const search = el("input", { type: "search", id: "help-search", value: wanted || "", spellcheck: "false" });
  const list = el("ul", { class: "glossary", id: "glossary" });
  const filter = () => {
    const words = search.value.trim().toLowerCase();
    const found = entries.filter((entry) => {
      const { meaning, cure } = entry;
      return [entry.id, entry.errmsg || "", meaning.zh, meaning.en, cure.zh, cure.en].some((text) => text.toLowerCase().includes(words));
    });
    // The very code first.
    found.sort((one, other) => (other.id === words) - (one.id === words));
    list.replaceChildren(...found.map(item));
    if (!found.length) list.append(el("li", { class: "empty", text: t("help.nothing") }));
  };
  search.addEventListener("input", filter);
  filter();
  panel.replaceChildren(el("p", { class: "lead", text: t("help.lead") }),
    el("label", { class: "filter" }, el("span", { text: t("help.search") }), search), list);
}

export const tab = {
  id: "help",
  start(panel) {
    write(panel);
    on("language", () => write(panel, byId("help-search").value));
  },
  // `#help/40001` shows this entry.
  show(panel, id) {
    if (!id) return;
    write(panel, id);
    byId("glossary").firstElementChild?.focus();
  },
};
