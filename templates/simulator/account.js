// The account's settings, as its console has them, with the 提交 button that checks the callback URL.

import { call, el } from "./dom.js";
import { advice } from "./glossary.js";
import { t } from "./i18n.js";
import { on, refreshSettings, state } from "./state.js";

const CHOICES = { mode: ["plain", "compatible", "safe"], kind: ["service", "subscription", "unverified", "sandbox"], limits: ["real", "relaxed"] };
const LISTS = ["oauth_domains", "js_domains", "ip_whitelist"];
const ORDER = ["callback_url", "token", "encoding_aes_key", "mode", "appid", "appsecret", "original_id", "kind", "limits", ...LISTS];

function input(name, value) {
  const id = "account-" + name;
  if (CHOICES[name]) {
    const node = el("select", { id, name }, CHOICES[name].map((word) => el("option", { value: word, text: t("account." + name + "." + word) })));
    node.value = value;
    return node;
  }
  if (LISTS.includes(name)) {
    const node = el("textarea", { id, name, rows: Math.max(2, value.length), spellcheck: "false" });
    node.value = value.join("\n");
    return node;
  }
  return el("input", { id, name, value: value ?? "", spellcheck: "false" });
}

const read = (name, node) => LISTS.includes(name) ? node.value.split("\n").map((line) => line.trim()).filter(Boolean) : node.value.trim();

function write(panel) {
  const names = ORDER.filter((name) => name in state.account);
  const inputs = names.map((name) => [name, input(name, state.account[name])]);
  const said = el("div", { class: "said", role: "status", id: "account-said" });
  const submit = async (event) => {
    event.preventDefault();
    said.replaceChildren(el("p", { class: "soft", text: t("account.checking") }));
    const patch = {};
    for (const [name, node] of inputs) {
      const value = read(name, node);
      if (JSON.stringify(value) !== JSON.stringify(state.account[name] ?? "")) patch[name] = value;
    }
    try {
      panel.isSaving = true;
      await call("PUT", "/account", patch);
      await refreshSettings();
      said.replaceChildren(...await verify());
    } catch (why) {
      said.replaceChildren(el("p", { class: "bad", text: t("account.refused", why.message) }));
    } finally {
      panel.isSaving = false;
    }
  };
  panel.replaceChildren(
    el("p", { class: "lead", text: t("account.lead") }),
    el("form", { class: "settings wide", onsubmit: submit, autocomplete: "off" },
      inputs.map(([name, node]) => el("label", { class: LISTS.includes(name) || name === "callback_url" ? "whole" : "" }, el("span", { text: t("account." + name) }), node)),
      el("div", { class: "buttons" }, el("button", { type: "submit", id: "account-save", text: t("account.save") })),
      said));
}

async function verify() {
  if (!state.account.callback_url) return [el("p", { text: t("account.saved.only") })];
  const verdict = await call("POST", "/verify");
  if (verdict.ok) return [el("p", { class: "good", text: t("account.saved") })];
  return [
    el("p", { class: "bad", text: t("account.unverified", verdict.error) }),
    verdict.topic && advice("push:" + verdict.topic),
    verdict.body && el("pre", { text: verdict.body }),
  ].filter(Boolean);
}

export const tab = {
  id: "account",
  start(panel) {
    if (state.account) write(panel);
    on("account", () => { if (!panel.isSaving) write(panel); });
    on("language", () => write(panel));
  },
};
