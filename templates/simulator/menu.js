// The account's menu bar, as the fan who holds the phone sees it.

import { byId, button, call, el } from "./dom.js";
import { t } from "./i18n.js";
import { check } from "./live.js";
import * as sheet from "./sheet.js";
import { emit, on, state } from "./state.js";
import { openWeb } from "./webview.js";

let buttons = [];
let wantsKeyboard = false;
let shown = "";

export async function menuAgain() {
  const openid = state.openid;
  if (!openid) return;
  let answer = null;
  try {
    answer = await call("GET", "/menu?openid=" + encodeURIComponent(openid));
  } catch {
    // No menu is what there is then.
  }
  if (openid !== state.openid) return;
  buttons = (answer && answer.button) || [];
  write();
}

function write() {
  const text = JSON.stringify([buttons, wantsKeyboard]);
  if (text === shown) return;
  shown = text;
  const isMenu = buttons.length > 0 && !wantsKeyboard;
  byId("menubar").hidden = !isMenu;
  byId("composer").hidden = isMenu;
  byId("to-menu").hidden = buttons.length === 0;
  byId("menu").replaceChildren(...buttons.map((one, at) => {
    const parts = one.sub_button && one.sub_button.length ? one.sub_button : null;
    if (!parts) return button(one.name, () => tap(one, at), { class: "menu-button" });
    const list = el("div", { class: "submenu", role: "menu", hidden: true },
      parts.map((part, below) => button(part.name, () => { close(); tap(part, [at, below]); }, { role: "menuitem" })));
    const head = button("≡ " + one.name, () => {
      const isOpen = !list.hidden;
      close();
      list.hidden = isOpen;
      head.setAttribute("aria-expanded", String(!isOpen));
      if (!isOpen) list.firstElementChild.focus();
    }, { class: "menu-button", "aria-haspopup": "menu", "aria-expanded": "false" });
    return el("div", { class: "menu-top" }, head, list);
  }));
}

function close() {
  for (const list of document.querySelectorAll(".submenu")) list.hidden = true;
  for (const head of document.querySelectorAll("#menu [aria-expanded]")) head.setAttribute("aria-expanded", "false");
}

// What the fan brings to a button that scans or picks a place.
async function brought({ type, name }) {
  if (type.startsWith("scancode")) {
    return sheet.ask(name, [{ name: "scan_result", label: t("scan.what"), value: "https://example.com/" }], { ok: t("act.scan") });
  }
  if (type === "location_select") {
    return sheet.ask(name, [
      { name: "label", label: t("location.label"), value: "广州塔" },
      { name: "latitude", label: t("location.x"), kind: "number", value: 23.106414 },
      { name: "longitude", label: t("location.y"), kind: "number", value: 113.324553 },
    ], { ok: t("phone.send") });
  }
  return {};
}

// `index` is the button's place: 1, or [1, 0] in a sub-menu.
async function tap(one, index) {
  const more = await brought(one);
  if (!more) return;
  const click = call("POST", "/click", { openid: state.openid, index, ...more });
  check();
  // The page opens at once, whatever the backend does with the event.
  if (one.type === "view") openWeb(one.url, "menu");
  try {
    await click;
  } catch (why) {
    emit("trouble", why.message);
  }
  check();
}

export function start() {
  byId("to-keyboard").addEventListener("click", () => { wantsKeyboard = true; write(); byId("message").focus(); });
  byId("to-menu").addEventListener("click", () => { wantsKeyboard = false; write(); byId("to-keyboard").focus(); });
  document.addEventListener("click", (event) => { if (!event.target.closest(".menu-top")) close(); });
  byId("menu").addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const head = event.target.closest(".menu-top")?.firstElementChild;
      close();
      if (head) head.focus();
      event.stopPropagation();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const list = event.target.closest(".submenu");
    if (step && list) {
      event.preventDefault();
      const items = [...list.children];
      items[(items.indexOf(event.target) + step + items.length) % items.length].focus();
    }
  });
  on("revision", (topics) => { if (topics.has("requests") || topics.has("settings")) menuAgain(); });
}
