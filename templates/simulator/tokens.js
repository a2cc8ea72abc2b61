// Tokens and tickets, alive and dead, by the platform's clock.

import { call, el } from "./dom.js";
import { span, t } from "./i18n.js";
import { on } from "./state.js";

const KINDS = ["classic", "stable", "jsapi", "wx_card"];

function line(token, now) {
  const words = token.alive ? t("tokens.alive", span(token.dies_at - now)) : t("tokens.dead");
  return el("li", { class: token.alive ? "alive" : "dead" },
    el("code", { text: token.value, tabindex: "0" }),
    el("span", { class: token.alive ? "good" : "soft", text: words }));
}

export const tab = {
  id: "tokens",
  topics: ["requests", "settings"],
  start(panel) {
    on("language", () => tab.refresh(panel));
  },
  async refresh(panel) {
    const tokens = await call("GET", "/tokens").catch(() => null);
    if (!tokens) return;
    const lists = KINDS.filter((kind) => tokens[kind].length).map((kind) => el("section", { class: "tokens" },
      el("h3", { text: t("tokens." + kind) }),
      el("ul", {}, tokens[kind].slice(0, 20).map((token) => line(token, tokens.now)))));
    panel.replaceChildren(el("p", { class: "lead", text: t("tokens.lead") }), ...lists);
    if (!lists.length) panel.append(el("p", { class: "empty shown", text: t("tokens.none") }));
  },
};
