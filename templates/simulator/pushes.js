// Pushes: what was delivered, each try with its answer, and why it failed.

import { el } from "./dom.js";
import { block, laidOut, listTab, row } from "./entries.js";
import { advice, helpButton } from "./glossary.js";
import { t, time } from "./i18n.js";
import { state } from "./state.js";

function name(push) {
  const message = push.message || {};
  return message.MsgType === "event" ? "event · " + message.Event : message.MsgType || "";
}

function gist(push) {
  const message = push.message || {};
  return message.Content || message.EventKey || message.Title || message.Label || "";
}

function outcome(push) {
  if (push.running) return [t("pushes.running"), "soft"];
  const tries = push.attempts.map((attempt) => attempt.status || "✕").join(" · ");
  const last = push.attempts.at(-1);
  return [tries + (last ? " · " + last.ms + " ms" : ""), push.failure ? "bad" : "good"];
}

function attempt(one, at) {
  const words = one.error || "HTTP " + one.status;
  return el("div", { class: "attempt" },
    el("h4", {}, t("pushes.attempt", at + 1), " ",
      one.at && el("time", { text: time(one.at) }),
      el("span", { class: one.topic ? "bad" : "good", text: " " + words + " · " + one.ms + " ms " }),
      one.topic && helpButton("push:" + one.topic)),
    block(t("pushes.sent"), one.url && "POST " + one.url + "\n\n" + laidOut(one.request_body)),
    one.status > 0 && block(t("pushes.got"), laidOut(one.body) || t("none")));
}

function inside(push) {
  const fan = state.fans.find((one) => one.openid === push.openid);
  return [
    el("p", { class: "facts" }, el("span", { class: "soft", text: (fan ? fan.nickname + " " : "") + push.openid })),
    push.failure && el("div", { class: "failure" }, push.failure_topic && advice("push:" + push.failure_topic),
      el("p", { class: "soft" }, el("code", { text: push.failure }))),
    el("p", { class: "facts" }, el("span", { class: "soft", text: t("pushes.shown") }), push.shown_to_user || t("pushes.nothing")),
    block(t("pushes.clear"), laidOut(push.xml)),
    push.reply_xml && block(t("pushes.replyclear"), laidOut(push.reply_xml)),
    push.attempts.map(attempt),
  ].flat().filter(Boolean);
}

export const tab = listTab({
  id: "pushes",
  path: "/pushes?limit=60&under_way=1",
  toItem(push) {
    const [words, mood] = outcome(push);
    const said = push.shown_to_user ? " → " + push.shown_to_user : "";
    return row({ at: push.at, what: name(push), aside: gist(push) + said, outcome: words, mood, inside: () => inside(push) });
  },
});
