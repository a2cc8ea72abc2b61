// The JS-SDK: each config with its checks, the string that should have been signed beside the one that
// was, the cards that pages set, and what each call answered.

import { el } from "./dom.js";
import { block, listTab, row } from "./entries.js";
import { advice } from "./glossary.js";
import { t } from "./i18n.js";

const CHECKS = ["appid", "domain", "signature", "rights"];
const FAILS = { "invalid appid": "appid", "invalid url domain": "domain", "invalid signature": "signature", "permission denied": "rights" };

const reason = (errMsg) => errMsg.slice(errMsg.indexOf(":") + 1);

function checks(outcome) {
  const failed = CHECKS.indexOf(FAILS[outcome]);
  return el("ol", { class: "checks" }, CHECKS.map((name, at) => {
    const mood = failed < 0 || at < failed ? "good" : at === failed ? "bad" : "soft";
    const sign = { good: "✓", bad: "✕", soft: "–" }[mood];
    return el("li", { class: mood }, el("span", { "aria-hidden": "true", text: sign + " " }), t("jssdk.check." + name));
  }));
}

// Two strings, the first letter that differs marked in both.
function compare(one, other) {
  let at = 0;
  while (at < one.length && at < other.length && one[at] === other[at]) at += 1;
  const marked = (text) => el("pre", { tabindex: "0" }, text.slice(0, at), at < text.length && el("mark", { text: text.slice(at, at + 1) }), text.slice(at + 1));
  return [marked(one), marked(other)];
}

function config(entry) {
  const outcome = reason(entry.errMsg);
  const nodes = [checks(outcome), outcome !== "ok" && advice("jssdk:" + outcome)];
  if (outcome === "invalid signature" && entry.signed) {
    const [should, was] = compare(entry.string1, entry.signed);
    nodes.push(el("div", { class: "block" }, el("p", { class: "block-head", text: t("jssdk.should") }), should,
      el("p", { class: "block-head", text: t("jssdk.signed") }), was));
  } else {
    nodes.push(block(t("jssdk.should"), entry.string1));
    if (outcome === "invalid signature") nodes.push(el("p", { class: "soft", text: t("jssdk.unknown") }));
  }
  nodes.push(block(t("jssdk.expected"), entry.expected_signature), block(t("jssdk.given"), String(entry.config.signature ?? "")),
    block("wx.config", JSON.stringify(entry.config, null, 2)));
  return nodes.filter(Boolean);
}

function card(entry) {
  const { title, desc, link, imgUrl } = entry.card;
  return [block(t("jssdk.card"), [title, desc, link, imgUrl].filter(Boolean).join("\n"))].filter(Boolean);
}

export const tab = listTab({
  id: "jssdk",
  path: "/jssdk?limit=100",
  toItem(entry) {
    if (entry.call === "config") {
      const isOk = entry.errMsg === "config:ok";
      return row({ at: entry.at, what: "wx.config", aside: entry.config.url, outcome: reason(entry.errMsg), mood: isOk ? "good" : "bad", inside: () => config(entry) });
    }
    if (entry.card) {
      return row({ at: entry.at, what: entry.call, aside: entry.card.title, outcome: "ok", mood: "good", inside: () => card(entry) });
    }
    const outcome = reason(entry.errMsg);
    return row({ at: entry.at, what: entry.call, aside: entry.page, outcome, mood: outcome === "ok" || outcome === "cancel" ? "good" : "bad",
      inside: () => [el("p", {}, el("code", { text: entry.errMsg })), advice("jssdk:" + outcome)].filter(Boolean) });
  },
});
