// The platform's clock, to be moved.

import { button, byId, call, el } from "./dom.js";
import { dateTime, span, t } from "./i18n.js";
import { on, refreshSettings, state } from "./state.js";

const JUMPS = [["5m", 300], ["1h", 3600], ["2h", 7200], ["1d", 86400], ["3d", 3 * 86400], ["30d", 30 * 86400]];

async function jump(seconds) {
  await call("POST", "/clock", { advance_s: seconds });
  refreshSettings();
}

function write(panel) {
  panel.replaceChildren(
    el("p", { class: "lead", text: t("clock.lead") }),
    el("p", { class: "now" }, el("span", { class: "soft", text: t("clock.now") }), el("strong", { id: "clock-now" }), el("span", { id: "clock-ahead", class: "soft" })),
    el("div", { class: "jumps" }, JUMPS.map(([name, seconds]) => {
      const press = button("", () => jump(seconds), { id: "jump-" + name, class: "quiet" });
      press.append(el("strong", { text: t("clock." + name) }), el("small", { text: t("clock." + name + ".what") }));
      return press;
    })),
    button(t("clock.back"), () => jump(-state.clock.advanced_s), { class: "quiet", id: "clock-back" }));
  show();
}

function show() {
  if (!byId("clock-now") || !state.clock) return;
  const { now, advanced_s: ahead } = state.clock;
  byId("clock-now").textContent = dateTime(now * 1000);
  byId("clock-ahead").textContent = ahead ? t("clock.ahead", span(ahead)) : t("clock.real");
  byId("clock-back").hidden = !ahead;
}

export const tab = {
  id: "clock",
  start(panel) {
    write(panel);
    on("clock", show);
    on("language", () => write(panel));
    setInterval(() => {
      if (panel.hidden || !state.clock) return;
      state.clock.now = Math.floor(Date.now() / 1000) + state.clock.advanced_s;
      show();
    }, 1000);
  },
};
