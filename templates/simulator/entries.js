// What the lists of the inspector have in common: lines that open, texts to read and to copy.

import { byId, button, call, el, fill, forget } from "./dom.js";
import { t, time } from "./i18n.js";
import { on } from "./state.js";

// A tab that shows a list of /_sim: {id, topic, path, toItem, tools?, keep?}.
export function listTab({ id, path, toItem, tools, keep = () => true }) {
  const tab = {
    id,
    topics: [id],
    isNews: true,
    start(panel) {
      const list = el("ol", { id, class: "entries" });
      const build = () => panel.replaceChildren(...[
        el("p", { class: "lead", text: t(id + ".lead") }),
        tools && tools(() => tab.refresh(panel)),
        list,
        el("p", { class: "empty", text: t(id + ".none") }),
      ].filter(Boolean));
      build();
      on("language", () => { forget(list); build(); tab.refresh(panel); });
      on("reset", () => forget(list));
    },
    async refresh(panel) {
      if (tab.isBusy) {
        tab.isStale = true;
        return;
      }
      tab.isBusy = true;
      try {
        const entries = await call("GET", path);
        fill(byId(id), entries.filter(keep), toItem);
        panel.classList.toggle("is-empty", byId(id).children.length === 0);
      } catch {
        // The next round asks again.
      } finally {
        tab.isBusy = false;
        if (tab.isStale) {
          tab.isStale = false;
          tab.refresh(panel);
        }
      }
    },
  };
  return tab;
}

// One line that opens. Its inside is written when it is first looked at.
export function row({ at, what, aside, outcome, mood, inside }) {
  const fold = el("details", {},
    el("summary", {},
      el("time", { datetime: new Date(at).toISOString(), text: time(at) }),
      el("span", { class: "what" }, what, aside && el("small", { text: aside })),
      el("span", { class: "outcome " + mood, text: outcome })));
  fold.addEventListener("toggle", () => {
    if (fold.open && fold.children.length === 1) fold.append(el("div", { class: "inside" }, inside()));
  });
  return el("li", {}, fold);
}

// A text under a heading, with a button that copies it.
export function block(title, text, className = "") {
  if (text === undefined || text === null || text === "") return null;
  const copy = button(t("copy"), async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = t("copied");
      setTimeout(() => { copy.textContent = t("copy"); }, 1500);
    } catch {
      // Pages without a secure origin may not; the text can be selected.
    }
  }, { class: "copy" });
  return el("div", { class: "block " + className },
    el("p", { class: "block-head" }, el("span", { text: title }), copy),
    el("pre", { tabindex: "0", text }));
}

// JSON or XML, laid out so that it can be read; anything else as it is.
export function laidOut(text) {
  const trimmed = (text || "").trim();
  if (trimmed.startsWith("{") || trimmed.startsWith("[")) {
    try {
      // Numbers past 2^53 would change on the way: such texts stay as they are.
      if (!/[^"\d]\d{16,}/.test(trimmed)) return JSON.stringify(JSON.parse(trimmed), null, 2);
    } catch {
      return text;
    }
  }
  if (/^<xml[\s>]/.test(trimmed)) return xml(trimmed);
  return text;
}

function xml(text) {
  const read = new DOMParser().parseFromString(text, "text/xml");
  if (read.querySelector("parsererror")) return text;
  const lines = [];
  const write = (node, indent) => {
    if (node.children.length) {
      lines.push(indent + "<" + node.nodeName + ">");
      for (const child of node.children) write(child, indent + "  ");
      lines.push(indent + "</" + node.nodeName + ">");
    } else {
      const inside = [...node.childNodes].map((child) => child.nodeType === Node.CDATA_SECTION_NODE ? "<![CDATA[" + child.data + "]]>" : child.data);
      lines.push(indent + "<" + node.nodeName + ">" + inside.join("") + "</" + node.nodeName + ">");
    }
  };
  write(read.documentElement, "");
  return lines.join("\n");
}
