// The inspector: tabs beside the phone. A tab is written when it is looked at, and follows from then on.

import { byId, button, el } from "./dom.js";
import { t } from "./i18n.js";
import { on } from "./state.js";
import * as account from "./account.js";
import * as clock from "./clock.js";
import * as faults from "./faults.js";
import * as glossary from "./glossary.js";
import * as jssdk from "./jssdk.js";
import * as oauth from "./oauth.js";
import * as pushes from "./pushes.js";
import * as requests from "./requests.js";
import * as tokens from "./tokens.js";

const tabs = [pushes, requests, jssdk, oauth, tokens, faults, clock, account, glossary].map((part) => part.tab);
let selected = null;

function panelOf(tab) {
  return byId("panel-" + tab.id);
}

export function select(id, { detail, focus } = {}) {
  const tab = tabs.find((one) => one.id === id) || tabs[0];
  selected = tab;
  for (const one of tabs) {
    const isSelected = one === tab;
    const head = byId("tab-" + one.id);
    head.setAttribute("aria-selected", String(isSelected));
    head.tabIndex = isSelected ? 0 : -1;
    panelOf(one).hidden = !isSelected;
  }
  const head = byId("tab-" + tab.id);
  head.classList.remove("unseen");
  if (focus) head.focus();
  head.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (!tab.isStarted) {
    tab.isStarted = true;
    tab.start(panelOf(tab));
  }
  if (tab.refresh) tab.refresh(panelOf(tab));
  if (tab.show) tab.show(panelOf(tab), detail);
}

// The arrow keys go round, Home and End to the ends.
function step(event) {
  const at = tabs.findIndex((tab) => "tab-" + tab.id === event.target.id);
  if (at < 0) return;
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  go(tabs[(next + tabs.length) % tabs.length].id, true);
}

function go(id, focus) {
  history.replaceState(null, "", "#" + id);
  select(id, { focus });
}

function follow() {
  const [id, detail] = location.hash.slice(1).split("/");
  if (id) select(id, { detail: detail && decodeURIComponent(detail) });
}

export function start() {
  byId("tabs").replaceChildren(...tabs.map((tab) => button(t("tab." + tab.id), () => go(tab.id, true), {
    role: "tab", id: "tab-" + tab.id, "aria-controls": "panel-" + tab.id, "data-t": "tab." + tab.id,
  })));
  byId("panels").replaceChildren(...tabs.map((tab) => el("section", {
    role: "tabpanel", id: "panel-" + tab.id, "aria-labelledby": "tab-" + tab.id, tabindex: "0", hidden: true,
  })));
  byId("tabs").addEventListener("keydown", step);
  window.addEventListener("hashchange", follow);
  if (location.hash.length > 1) follow();
  else select(tabs[0].id);
  on("why", () => {
    go("pushes", true);
    const newest = byId("pushes").querySelector("details");
    if (newest) newest.open = true;
  });
  on("revision", (topics) => {
    for (const tab of tabs) {
      if (!tab.topics || !tab.topics.some((topic) => topics.has(topic))) continue;
      if (tab === selected) tab.refresh(panelOf(tab));
      else if (tab.isNews && tab.isStarted !== undefined) byId("tab-" + tab.id).classList.add("unseen");
    }
  });
}
