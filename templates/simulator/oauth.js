// Web OAuth: what came of each visit to the consent page.

import { el } from "./dom.js";
import { block, listTab, row } from "./entries.js";
import { advice } from "./glossary.js";
import { t } from "./i18n.js";
import { state } from "./state.js";

const MOODS = { error: "bad", refused: "soft", fault: "bad" };

// Why there was no page to ask on.
function why(entry) {
  if (entry.outcome === "snapshot") return "snapshot";
  if (entry.outcome !== "silent") return null;
  return entry.scope === "snsapi_base" ? "base" : "follower";
}

function inside(entry) {
  const fan = state.fans.find((one) => one.openid === entry.openid);
  const query = [...new URLSearchParams(entry.query)].map(([name, value]) => name + "=" + value).join("\n");
  return [
    entry.topic && advice("oauth:" + entry.topic),
    why(entry) && el("p", { text: t("oauth.why." + why(entry)) }),
    entry.openid && el("p", { class: "facts soft", text: (fan ? fan.nickname + " " : "") + entry.openid }),
    block(t("oauth.query"), query),
    entry.code && block("code", entry.code),
  ].filter(Boolean);
}

export const tab = listTab({
  id: "oauth",
  path: "/oauth?limit=60",
  toItem: (entry) => row({
    at: entry.at,
    what: t("oauth." + entry.outcome),
    aside: entry.words || entry.redirect_uri || "",
    outcome: entry.errcode ? String(entry.errcode) : entry.scope || "",
    mood: MOODS[entry.outcome] || "good",
    inside: () => inside(entry),
  }),
});
