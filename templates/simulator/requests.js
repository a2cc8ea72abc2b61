// API calls of the backend: request, answer, and what an error means.

import { el } from "./dom.js";
import { block, laidOut, listTab, row } from "./entries.js";
import { advice } from "./glossary.js";
import { t } from "./i18n.js";

let path = "";
let onlyFailed = false;

const isGood = (request) => request.status === 200 && (request.errcode === 0 || request.errcode === null);

function outcome(request) {
  if (request.status !== 200) return "HTTP " + request.status;
  return request.errcode === 0 ? "ok" : request.errcode === null ? "200" : String(request.errcode);
}

function inside(request) {
  const query = Object.entries(request.query).map(([name, value]) => name + "=" + value).join("\n");
  return [
    !isGood(request) && request.errcode !== null && advice(request.errcode),
    block(t("requests.query"), query),
    block(t("requests.body"), laidOut(request.request_body)),
    block(t("requests.answer"), laidOut(request.response_body) || t("none")),
  ].filter(Boolean);
}

function tools(again) {
  const text = el("input", { type: "search", value: path, id: "requests-filter", placeholder: "/cgi-bin/…", spellcheck: "false" });
  const failed = el("input", { type: "checkbox", id: "requests-failed" });
  failed.checked = onlyFailed;
  text.addEventListener("input", () => { path = text.value.trim(); again(); });
  failed.addEventListener("change", () => { onlyFailed = failed.checked; again(); });
  return el("div", { class: "tools" },
    el("label", { class: "filter" }, el("span", { text: t("requests.filter") }), text),
    el("label", { class: "check" }, failed, t("requests.failed")));
}

export const tab = listTab({
  id: "requests",
  path: "/requests?limit=200",
  tools,
  keep: (request) => request.path.includes(path) && !(onlyFailed && isGood(request)),
  toItem: (request) => row({
    at: request.at,
    what: request.method + " " + request.path,
    aside: "",
    outcome: outcome(request) + " · " + request.ms + " ms",
    mood: isGood(request) ? "good" : "bad",
    inside: () => inside(request),
  }),
});
