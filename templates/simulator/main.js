// Starts the page: words, phone, inspector, and the line to the simulator.

import { byId, call, el } from "./dom.js";
import * as glossary from "./glossary.js";
import { start as startIcons } from "./icons.js";
import { start as startWords, t } from "./i18n.js";
import * as inspector from "./inspector.js";
import * as live from "./live.js";
import * as menu from "./menu.js";
import * as phone from "./phone.js";
import * as sheet from "./sheet.js";
import { on, refreshSettings, state } from "./state.js";
import * as webview from "./webview.js";

let liveness = "connecting";

function writeHead() {
  const account = state.account;
  byId("live").dataset.state = liveness;
  byId("live-text").textContent = t("live." + liveness);
  if (!account) return;
  byId("account-line").textContent = [account.appid, t("account.mode." + account.mode), account.callback_url || t("no.callback")].join(" · ");
}

on("account", writeHead);
on("language", writeHead);
on("live", (name) => {
  if (name === liveness) return;
  liveness = name;
  writeHead();
});
on("reset", () => {
  // Nobody of before is there any more.
  state.openid = "";
  state.fans = [];
  refreshSettings().catch(() => {});
});
on("trouble", (words) => byId("chat").append(el("p", { class: "line failed", text: words })));
byId("reset").addEventListener("click", async () => {
  if (await sheet.confirm(t("reset.ask"), t("reset"))) {
    await call("POST", "/reset");
    live.check();
  }
});

startIcons();
startWords();
phone.start();
menu.start();
webview.start();
await Promise.all([refreshSettings(), glossary.load()]).catch(() => {
  liveness = "lost";
});
writeHead();
inspector.start();
live.follow();
