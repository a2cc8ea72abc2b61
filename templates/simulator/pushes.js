// Pushes: what was delivered, each try with its answer, why it failed, and what was said after the tries.

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

const duration = (ms) => ms < 1000 ? ms + " ms" : t("seconds", (ms / 1000).toFixed(1));
const isSent = (message) => message.errcode === 0;

// What the tries came to.
function answered(push) {
  if (push.answered) return t("pushes.answered", push.answered.delivery, duration(push.answered.after_ms));
  const { attempts, failure } = push;
  const isLate = (attempt) => attempt.topic === "timeout";
  if (attempts.length > 1 && (failure ? attempts.every(isLate) : true)) return t("pushes.unanswered");
  const last = attempts.at(-1);
  return attempts.map((attempt) => attempt.status || "✕").join(" · ") + (last ? " · " + last.ms + " ms" : "");
}

// What the account said to the fan when they were over.
function afterwards(push) {
  const sent = push.customer_service.filter(isSent);
  if (sent.length > 1) return t("pushes.customs", sent.length, duration(sent[0].after_ms));
  if (sent.length) return t("pushes.custom", duration(sent[0].after_ms));
  const refused = push.customer_service.at(-1);
  return refused && t("pushes.customrefused", refused.errcode ?? "?");
}

function outcome(push) {
  if (push.running) return [t("pushes.running"), "soft"];
  const after = push.takes_reply && afterwards(push);
  const mood = push.failure || (after && !push.customer_service.some(isSent)) ? "bad" : "good";
  return [after ? t("pushes.both", answered(push), after) : answered(push), mood];
}

function attempt(one, at) {
  const words = one.error || "HTTP " + one.status;
  return el("div", { class: "attempt" },
    el("h4", {}, t("pushes.attempt", at + 1), " ",
      one.at && el("time", { text: time(one.at) }),
      el("span", { class: one.topic ? "bad" : "good", text: " " + words + " · " + one.ms + " ms " }),
      one.answer && el("span", { class: "soft", text: "· " + t("pushes.answer." + one.answer) }),
      one.topic && helpButton("push:" + one.topic)),
    block(t("pushes.sent"), one.url && "POST " + one.url + "\n\n" + laidOut(one.request_body)),
    one.status > 0 && block(t("pushes.got"), laidOut(one.body) || t("none")));
}

function custom(one) {
  return el("div", { class: "attempt" },
    el("h4", {}, t("pushes.customhead"), " ", el("time", { text: time(one.at) }),
      el("span", { class: isSent(one) ? "good" : "bad", text: " " + t("pushes.later", duration(one.after_ms)) + (isSent(one) ? " " : " · " + (one.errcode ?? "?") + " ") }),
      !isSent(one) && helpButton(one.errcode)),
    el("p", { class: "facts", text: one.shown }));
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
    push.customer_service.map(custom),
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
