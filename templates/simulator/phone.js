// The phone: who holds it, the chat with the account, and what a person can do there.

import { byId, button, call, el, webAddress } from "./dom.js";
import { bubble, taps, timeLine } from "./bubbles.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { check } from "./live.js";
import { menuAgain } from "./menu.js";
import * as sheet from "./sheet.js";
import { choose, emit, fan, on, refreshSettings, state } from "./state.js";
import { browse, openWeb } from "./webview.js";

const QUIET_MS = 5 * 60 * 1000;
const chat = byId("chat");
let lastId = 0;
let lastAt = 0;
let isFetching = false;
let isStale = false;

// ---- the chat ----

// Stays at the end, whatever grows, until somebody scrolls up.
let isPinned = true;
const toEnd = () => { if (isPinned) chat.scrollTop = chat.scrollHeight; };

function show(node) {
  chat.querySelector(".nothing")?.remove();
  chat.append(node);
  for (const image of node.querySelectorAll("img")) image.addEventListener("load", toEnd);
  toEnd();
}

function clear() {
  chat.replaceChildren(el("p", { class: "line nothing", text: t("phone.empty") }));
  lastId = 0;
  lastAt = 0;
  isPinned = true;
}

// One at a time; who asks meanwhile gets one more round.
async function refreshChat() {
  isStale = true;
  if (isFetching) return;
  isFetching = true;
  try {
    while (isStale && state.openid) {
      isStale = false;
      const openid = state.openid;
      const { messages } = await call("GET", "/chat?openid=" + encodeURIComponent(openid) + "&after=" + lastId);
      if (openid !== state.openid) continue;
      for (const entry of messages) {
        if (entry.id <= lastId) continue;
        lastId = entry.id;
        if (entry.at - lastAt > QUIET_MS) show(timeLine(entry.at));
        lastAt = entry.at;
        show(bubble(entry));
      }
    }
  } catch {
    // The next round asks again.
  } finally {
    isFetching = false;
  }
}

// The fan acts. The page does not wait: the backend may take its fifteen seconds.
async function act(members, path = "/send") {
  const delivery = call("POST", path, { openid: state.openid, ...members });
  check();
  try {
    const answer = await delivery;
    check();
    return answer;
  } catch (why) {
    show(el("p", { class: "line failed", text: why.message }));
    return null;
  }
}

const say = (Content, id) => act({ MsgType: "text", Content, ...(id && { bizmsgmenuid: Number(id) || id }) });

// ---- what else a person can send ----

const random = (length) => [...crypto.getRandomValues(new Uint8Array(length))].map((byte) => "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[byte % 64]).join("");

// A picture drawn here, for whoever has none at hand.
function draw() {
  const canvas = el("canvas", { width: 480, height: 360 });
  const pen = canvas.getContext("2d");
  const hue = Math.floor(Math.random() * 360);
  const sky = pen.createLinearGradient(0, 0, 0, 360);
  sky.addColorStop(0, `hsl(${hue} 70% 80%)`);
  sky.addColorStop(1, `hsl(${(hue + 40) % 360} 70% 92%)`);
  pen.fillStyle = sky;
  pen.fillRect(0, 0, 480, 360);
  pen.fillStyle = `hsl(${(hue + 180) % 360} 80% 70%)`;
  pen.beginPath();
  pen.arc(360, 100, 44, 0, 7);
  pen.fill();
  for (const [at, light] of [[210, 55], [260, 42], [310, 30]]) {
    pen.fillStyle = `hsl(${(hue + 100) % 360} 30% ${light}%)`;
    pen.beginPath();
    pen.moveTo(0, 360);
    for (let x = 0; x <= 480; x += 20) pen.lineTo(x, at + 34 * Math.sin((x + at * 3 + hue) / (30 + at / 6)));
    pen.lineTo(480, 360);
    pen.fill();
  }
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

async function upload(type, file) {
  const answer = await fetch("/_sim/media?type=" + type, { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error);
  return json;
}

const ACTIONS = {
  async image() {
    const asked = await sheet.ask(t("act.image"), [{ name: "file", label: t("image.file"), kind: "file", accept: "image/png,image/jpeg,image/gif" }], { ok: t("phone.send") });
    if (!asked) return;
    try {
      const { media_id: MediaId, url: PicUrl } = await upload("image", asked.file || await draw());
      await act({ MsgType: "image", PicUrl, MediaId });
    } catch (why) {
      show(el("p", { class: "line failed", text: why.message }));
    }
  },
  async voice() {
    const asked = await sheet.ask(t("act.voice"), [
      { name: "seconds", label: t("voice.seconds"), kind: "number", value: 3 },
      { name: "words", label: t("voice.words") },
    ], { ok: t("phone.send") });
    if (!asked) return;
    const recognised = asked.words ? { Recognition: asked.words } : {};
    await act({ MsgType: "voice", MediaId: random(64), MediaId16K: random(64), Format: "amr", ...recognised });
  },
  async video() {
    await act({ MsgType: "video", MediaId: random(64), ThumbMediaId: random(64) });
  },
  async location() {
    const asked = await sheet.ask(t("act.location"), [
      { name: "Label", label: t("location.label"), value: "广州塔" },
      { name: "Location_X", label: t("location.x"), kind: "number", value: 23.106414 },
      { name: "Location_Y", label: t("location.y"), kind: "number", value: 113.324553 },
    ], { ok: t("phone.send") });
    if (asked) await act({ MsgType: "location", Scale: 16, ...asked });
  },
  async link() {
    const asked = await sheet.ask(t("act.link"), [
      { name: "Title", label: t("link.title"), value: "微信公众平台" },
      { name: "Description", label: t("link.description"), value: "开发文档" },
      { name: "Url", label: t("link.url"), value: "https://developers.weixin.qq.com/" },
    ], { ok: t("phone.send") });
    if (asked) await act({ MsgType: "link", ...asked });
  },
  async scan() {
    const codes = await call("GET", "/qrcodes").catch(() => []);
    const asked = await sheet.ask(t("act.scan"), [{ name: "scanned", label: t("scan.what"), value: "" }], {
      ok: t("act.scan"),
      more: (done) => el("div", { class: "codes" }, el("p", { class: "lead", text: codes.length ? t("scan.codes") : t("scan.none") }),
        codes.map((code) => button(String(code.scene), () => done({ scanned: code.ticket }), { class: "quiet" }))),
    });
    if (!asked || !asked.scanned) return;
    const known = codes.find((code) => code.ticket === asked.scanned || String(code.scene) === asked.scanned);
    if (known) await act({ ticket: known.ticket }, "/scan");
    else if (webAddress(asked.scanned)) openWeb(asked.scanned, "address");
    else show(el("p", { class: "line", text: asked.scanned }));
  },
  async event() {
    const asked = await sheet.ask(t("act.event"), [
      { name: "Event", label: t("event.name"), value: "LOCATION" },
      { name: "members", label: t("event.members"), kind: "textarea", value: "{\"Latitude\": 23.1291, \"Longitude\": 113.2644, \"Precision\": 30}" },
    ], { ok: t("phone.send") });
    if (!asked) return;
    try {
      await act({ MsgType: "event", Event: asked.Event, ...JSON.parse(asked.members || "{}") });
    } catch (why) {
      show(el("p", { class: "line failed", text: why.message }));
    }
  },
};

function writeActions() {
  byId("actions").replaceChildren(...Object.keys(ACTIONS).map((name) => {
    const press = button("", () => {
      toggleActions(false);
      // Where the focus goes back to when the sheet closes.
      byId("more").focus();
      ACTIONS[name]();
    }, { id: "act-" + name });
    press.append(el("span", { class: "sign" }, icon(name)), t("act." + name));
    return press;
  }));
}

function toggleActions(isOpen) {
  byId("actions").hidden = !isOpen;
  byId("more").setAttribute("aria-expanded", String(isOpen));
}

// ---- who holds the phone ----

function writeFans() {
  const select = byId("fan");
  const options = state.fans.map((one) => [one.openid, one.nickname + (one.subscribe ? "" : "（" + t("not.following") + "）")]);
  const text = JSON.stringify(options);
  if (select.dataset.shown !== text) {
    select.dataset.shown = text;
    select.replaceChildren(...options.map(([value, label]) => el("option", { value, text: label })));
  }
  select.value = state.openid;
  const holder = fan();
  byId("follow").disabled = !holder || holder.subscribe === 1;
  byId("unfollow").disabled = !holder || holder.subscribe === 0;
  const isTyping = holder && state.clock && holder.typing_until > state.clock.now;
  byId("title").textContent = isTyping ? t("phone.typing") : t("account.name");
}

async function addFan() {
  const asked = await sheet.ask(t("fan.add"), [
    { name: "nickname", label: t("fan.nickname"), value: "" },
    { name: "openid", label: t("fan.openid"), value: "" },
    { name: "subscribe", label: t("fan.subscribe"), kind: "checkbox", value: true },
    { name: "snapshot", label: t("fan.snapshot"), kind: "checkbox", value: false },
  ]);
  if (!asked) return;
  const members = { subscribe: asked.subscribe, snapshot: asked.snapshot };
  if (asked.nickname) members.nickname = asked.nickname;
  if (asked.openid) members.openid = asked.openid;
  try {
    const added = await call("POST", "/fans", members);
    await refreshSettings();
    choose(added.openid);
  } catch (why) {
    show(el("p", { class: "line failed", text: why.message }));
  }
}

export function start() {
  clear();
  writeActions();
  taps.open = (url, isFile) => isFile ? window.open(url, "_blank", "noopener") : openWeb(url, "chat");
  taps.say = say;
  taps.why = () => emit("why");
  taps.picture = (source) => sheet.open(t("kind.image"), () => el("img", { class: "large", src: source, alt: "" }));

  chat.addEventListener("scroll", () => {
    isPinned = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 80;
  });
  new ResizeObserver(toEnd).observe(chat);
  byId("composer").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = byId("message");
    if (!input.value) return;
    say(input.value);
    input.value = "";
  });
  byId("more").addEventListener("click", () => toggleActions(byId("actions").hidden));
  byId("phone").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("actions").hidden) {
      toggleActions(false);
      byId("more").focus();
    }
  });
  const follow = async (Event) => { await act({ MsgType: "event", Event, EventKey: "" }); await refreshSettings(); };
  byId("follow").addEventListener("click", () => follow("subscribe"));
  byId("unfollow").addEventListener("click", () => follow("unsubscribe"));
  byId("browse").addEventListener("click", browse);
  byId("add-fan").addEventListener("click", addFan);
  byId("fan").addEventListener("change", () => choose(byId("fan").value));

  on("fans", writeFans);
  on("clock", writeFans);
  on("fan", () => { clear(); writeFans(); refreshChat(); menuAgain(); });
  on("reset", () => { clear(); menuAgain(); });
  on("language", () => {
    byId("fan").dataset.shown = "";
    writeActions();
    writeFans();
    clear();
    refreshChat();
  });
  on("revision", (topics) => {
    if (topics.has("chat")) refreshChat();
    if (topics.has("settings") || topics.has("chat") || topics.has("requests")) refreshSettings().catch(() => {});
  });
}
