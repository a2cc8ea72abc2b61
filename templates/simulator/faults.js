// Faults to switch on: the next calls of one path fail in the chosen way.

import { button, call, el } from "./dom.js";
import { helpButton } from "./glossary.js";
import { t } from "./i18n.js";
import { on } from "./state.js";

const HTML = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
// What is common: name, the words, the members of the fault.
const COMMON = [
  ["busy", () => "-1 · " + t("faults.busy"), { errcode: -1 }],
  ["stale", () => "40001 · " + t("faults.stale"), { errcode: 40001 }],
  ["expired", () => "42001 · " + t("faults.expired"), { errcode: 42001 }],
  ["quota", () => "45009 · " + t("faults.quota"), { errcode: 45009 }],
  ["minute", () => "45011 · " + t("faults.minute"), { errcode: 45011 }],
  ["rights", () => "48001 · " + t("faults.rights"), { errcode: 48001 }],
  ["500", () => t("faults.500"), { status: 500, body: "Internal Server Error" }],
  ["502", () => t("faults.502"), { status: 502, body: HTML }],
  ["slow", () => t("faults.slow", 3), { delay_ms: 3000 }],
  ["html", () => t("faults.html"), { body: HTML }],
  ["custom", () => t("faults.custom"), null],
];
const PAGES = ["/connect/oauth2/authorize", "/open/js/jweixin-1.6.0.js"];

let paths = [];

function describe(fault) {
  const parts = [];
  if (fault.errcode !== undefined) parts.push("errcode " + fault.errcode);
  if (fault.status !== undefined) parts.push("HTTP " + fault.status);
  if (fault.delay_ms) parts.push(t("faults.slow", fault.delay_ms / 1000));
  if (fault.body && fault.status === undefined && fault.errcode === undefined) parts.push(t("faults.html"));
  return parts.join(" · ");
}

function write(panel) {
  const known = el("datalist", { id: "fault-paths" }, paths.map((value) => el("option", { value })));
  const path = el("input", { id: "fault-path", name: "path", list: "fault-paths", value: "/cgi-bin/user/info/batchget", required: true, spellcheck: "false" });
  const kind = el("select", { id: "fault-kind", name: "kind" }, COMMON.map(([name, words]) => el("option", { value: name, text: words() })));
  const code = el("input", { id: "fault-code", name: "code", type: "number", value: "40003" });
  const codeLabel = el("label", { hidden: true }, el("span", { text: t("faults.code") }), code);
  kind.addEventListener("change", () => { codeLabel.hidden = kind.value !== "custom"; });
  const times = el("input", { id: "fault-times", name: "times", type: "number", min: "1", value: "1" });
  const trouble = el("p", { class: "bad", role: "alert" });
  const add = async (event) => {
    event.preventDefault();
    const [, , members] = COMMON.find(([name]) => name === kind.value);
    try {
      await call("POST", "/faults", { path: path.value.trim(), times: Number(times.value), ...(members || { errcode: Number(code.value) }) });
      trouble.textContent = "";
      refresh(panel);
    } catch (why) {
      trouble.textContent = why.message;
    }
  };
  panel.replaceChildren(
    el("p", { class: "lead", text: t("faults.lead") }),
    el("form", { class: "settings", onsubmit: add, autocomplete: "off" },
      el("label", {}, el("span", { text: t("faults.path") }), path, known),
      el("label", {}, el("span", { text: t("faults.kind") }), kind),
      codeLabel,
      el("label", { class: "short" }, el("span", { text: t("faults.times") }), times),
      el("div", { class: "buttons" }, el("button", { type: "submit", id: "fault-add", text: t("faults.add") })),
      trouble),
    el("div", { id: "fault-list" }));
}

async function refresh() {
  const list = document.getElementById("fault-list");
  if (!list) return;
  const faults = await call("GET", "/faults").catch(() => []);
  if (!faults.length) return list.replaceChildren(el("p", { class: "soft", text: t("faults.none") }));
  list.replaceChildren(
    el("h3", { text: t("faults.on") }),
    el("ul", { class: "lines" }, faults.map((fault) => el("li", {}, el("code", { text: fault.path }), " ",
      el("span", { class: "bad", text: describe(fault) }), " ",
      el("span", { class: "soft", text: t("faults.left", fault.times) }), " ", helpButton(fault.errcode)))),
    button(t("faults.clear"), async () => { await call("DELETE", "/faults"); refresh(); }, { class: "quiet", id: "fault-clear" }));
}

export const tab = {
  id: "faults",
  topics: ["requests", "settings", "oauth"],
  async start(panel) {
    write(panel);
    on("language", () => { write(panel); refresh(); });
    const endpoints = await call("GET", "/endpoints").catch(() => []);
    paths = [...endpoints.map((endpoint) => endpoint.path), ...PAGES];
    document.getElementById("fault-paths").replaceChildren(...paths.map((value) => el("option", { value })));
  },
  refresh,
};
