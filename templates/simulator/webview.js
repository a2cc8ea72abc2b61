// The web view: a page under WeChat's title bar, with its share sheet, and what the page's JS-SDK asks
// of the phone. The page speaks by messages; nothing in them is believed beyond its form.

import { byId, button, call, el, webAddress } from "./dom.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { helpButton } from "./glossary.js";
import * as sheet from "./sheet.js";
import { on, state } from "./state.js";

const view = byId("webview");
// A page that has not said by then whether it may be framed is shown as it is.
const PATIENCE_MS = 1500;
const NO_FULL = "sim_full=; path=/; samesite=lax; max-age=0";
// What a page may hide, and what stays whatever it hides ("基本类").
const BASE = new Set(["refresh", "openWithSafari"]);
let frame = null;
let page = fresh("");
let entry = "";
let depth = 0;
let length = 0;
let lastOauth = 0;
let opener = null;

function fresh(url) {
  return { url, title: "", origin: null, cards: {}, hidden: new Set(), hasOptions: true };
}

function host(url) {
  try {
    return new URL(url).host;
  } catch {
    return url;
  }
}

// ---- opening and closing ----

// `way` is how the fan came here: from the "chat", the "menu", or an "address" from elsewhere.
export async function openWeb(url, way) {
  const address = webAddress(url);
  if (!address) return;
  entry = address;
  // The consent page knows by it that he comes from the account itself: a follower is not asked then.
  document.cookie = "sim_from=" + way + "; path=/; samesite=lax" + (way === "address" ? "; max-age=0" : "");
  document.cookie = NO_FULL;
  if (view.hidden) opener = document.activeElement;
  view.hidden = false;
  for (const part of byId("phone").children) if (part !== view) part.inert = true;
  byId("web-full").hidden = true;
  byId("web-note").hidden = true;
  if (frame) frame.remove();
  frame = null;
  page = fresh(address);
  writeHead();
  byId("web-back").focus();
  const opened = page;
  lastOauth = await newestOauth();
  if (opened !== page || view.hidden) return;

  const { pathname, hash } = new URL(address);
  if (pathname.endsWith("/connect/oauth2/authorize") && hash !== "#wechat_redirect") {
    note(t("web.fragment"), [helpButton("oauth:fragment")]);
    return;
  }
  const answer = await Promise.race([
    call("GET", "/frame?url=" + encodeURIComponent(address)).catch(() => null),
    new Promise((resolve) => { setTimeout(resolve, PATIENCE_MS); }),
  ]);
  if (opened !== page || view.hidden) return;
  if (answer && !answer.framable) {
    note(t("web.refused"), [el("p", { text: t("web.refused.cure", location.origin) }), el("code", { text: answer.why }), newTab(address)]);
  } else if (answer && answer.status === null) {
    note(t("web.unreachable"), [el("code", { text: answer.error }), button(t("web.retry"), () => openWeb(address, way)), newTab(address)]);
  } else load(address);
}

function load(address) {
  byId("web-note").hidden = true;
  if (frame) frame.remove();
  frame = el("iframe", { src: address, title: host(address), allow: "clipboard-write" });
  length = history.length;
  depth = 0;
  frame.addEventListener("load", () => {
    // Only what grew the history can be gone back over.
    if (history.length > length) depth += history.length - length;
    length = history.length;
    try {
      // The simulator's own pages; of others only their script tells.
      const { href } = frame.contentWindow.location;
      if (href !== "about:blank") page = fresh(href);
    } catch {
      // From a page of ours to the site that had sent here.
      if (page.url.startsWith(location.origin + "/")) page = fresh(entry);
    }
    writeHead();
  });
  byId("web-page").replaceChildren(frame);
}

function note(words, nodes) {
  if (frame) frame.remove();
  frame = null;
  byId("web-note").replaceChildren(el("p", { class: "note-head", text: words }), ...nodes);
  byId("web-note").hidden = false;
}

const newTab = (address) => el("a", { class: "button", href: address, target: "_blank", rel: "noopener noreferrer", text: t("web.newtab") });

function close() {
  if (view.hidden) return;
  if (frame) frame.remove();
  frame = null;
  view.hidden = true;
  document.cookie = "sim_from=; path=/; samesite=lax; max-age=0";
  document.cookie = NO_FULL;
  for (const part of byId("phone").children) part.inert = false;
  (opener && opener.isConnected && opener.offsetParent ? opener : byId("browse")).focus();
}

// The page begins again, and from now on it gets no snapshot: whoever it asks is asked for real.
function fullService() {
  document.cookie = "sim_full=1; path=/; samesite=lax";
  byId("web-full").hidden = true;
  page = fresh(entry);
  load(entry);
  writeHead();
}

function back() {
  if (depth <= 0) return close();
  depth -= 1;
  history.back();
}

function writeHead() {
  byId("web-title").textContent = page.title || host(page.url);
  byId("web-host").textContent = page.title ? host(page.url) : "";
  byId("web-more").hidden = !page.hasOptions;
}

export async function browse() {
  const last = state.account && state.account.callback_url ? new URL("/", state.account.callback_url).href : "http://127.0.0.1:3000/";
  const asked = await sheet.ask(t("web.open"), [
    { name: "url", label: t("web.address"), value: page.url || last },
    { name: "from", label: t("web.from"), kind: "select", value: "chat", options: [["chat", t("web.from.chat")], ["address", t("web.from.address")]] },
  ]);
  if (!asked) return;
  const url = /^https?:\/\//i.test(asked.url) ? asked.url : "http://" + asked.url;
  openWeb(url, asked.from);
}

// ---- the share sheet ----

function cardFor(item) {
  return page.cards[item] || { title: page.title || host(page.url), desc: page.url, link: page.url, imgUrl: "", isDefault: true };
}

function preview(item) {
  const card = cardFor(item);
  const source = webAddress(card.imgUrl);
  const plain = el("span", { class: "thumb", "aria-hidden": "true" }, icon("link"));
  const image = source ? el("img", { class: "thumb", src: source, alt: "" }) : plain;
  image.addEventListener("error", () => image.replaceWith(plain));
  return el("figure", { class: "card-preview" },
    el("figcaption", { text: t("web." + (item === "timeline" ? "timeline" : "friend")) }),
    el("div", { class: "linkcard" }, el("strong", { text: card.title }),
      el("span", { class: "beside" }, el("small", { text: item === "timeline" ? "" : card.desc }), image)),
    el("small", { class: "link-text", text: card.link }));
}

async function share(item) {
  const card = cardFor(item);
  send({ type: "share", item });
  const name = { appMessage: "sendAppMessage", timeline: "shareTimeline", qq: "shareQQ" }[item];
  await fetch("/sdk/share", { method: "POST", body: JSON.stringify({ ...card, call: name, page: page.url }) }).catch(() => {});
}

async function options() {
  const items = [
    ["friend", "share:appMessage", () => share("appMessage")],
    ["timeline", "share:timeline", () => share("timeline")],
    ["qq", "share:qq", () => share("qq")],
    ["copy", "copyUrl", () => navigator.clipboard ? navigator.clipboard.writeText(page.url).catch(() => {}) : null],
    ["refresh", "refresh", refresh],
    ["newtab", "openWithSafari", () => window.open(page.url, "_blank", "noopener")],
  ].filter(([, name]) => !page.hidden.has(name));
  const isDefault = cardFor("appMessage").isDefault && cardFor("timeline").isDefault;
  const chosen = await sheet.open(t("web.provider", host(page.url)), (done) => el("div", {},
    el("p", { class: "lead", text: t(isDefault ? "web.card.default" : "web.card") }),
    el("div", { class: "previews" },
      !page.hidden.has("share:appMessage") && preview("appMessage"),
      !page.hidden.has("share:timeline") && preview("timeline")),
    el("div", { class: "choices" }, items.map(([name, , run]) => {
      const press = button("", () => done({ name, run }), { id: "share-" + name });
      press.append(el("span", { class: "sign" }, icon(name)), t("web." + name));
      return press;
    }))));
  byId("web-more").focus();
  if (chosen) {
    await chosen.run();
    if (chosen.name === "friend" || chosen.name === "timeline") toast(t("web.shared." + chosen.name));
    if (chosen.name === "copy") toast(t("copied"));
  }
}

function refresh() {
  if (page.origin) send({ type: "reload" });
  else if (frame) frame.src = page.url;
}

function toast(words) {
  const node = el("p", { class: "toast", role: "status", text: words });
  view.append(node);
  setTimeout(() => node.remove(), 1800);
}

// ---- what the page says ----

function send(message) {
  if (frame && page.origin) frame.contentWindow.postMessage({ sim: 1, ...message }, page.origin);
}

const text = (value) => typeof value === "string" ? value.slice(0, 4096) : "";
const texts = (value) => Array.isArray(value) ? value.map(text).filter(Boolean).slice(0, 50) : [];
const bare = (name) => name.replace(/^menuItem:/, "");

const HEARD = {
  page(message, origin) {
    const url = webAddress(message.url);
    if (!url || new URL(url).origin !== origin) return;
    // A new document; a mere change of the fragment keeps what the page has set.
    if (url.split("#")[0] !== page.url.split("#")[0] || !page.origin) page = fresh(url);
    Object.assign(page, { url, origin, title: text(message.title) });
    writeHead();
  },
  card(message) {
    const card = message.card || {};
    page.cards[text(message.item)] = { title: text(card.title), desc: text(card.desc), link: text(card.link), imgUrl: text(card.imgUrl) };
  },
  menu(message) {
    for (const name of texts(message.hide)) page.hidden.add(bare(name));
    for (const name of texts(message.show)) page.hidden.delete(bare(name));
    if (message.hideAll) ["share:appMessage", "share:timeline", "share:qq", "copyUrl", "openWithSafari"].filter((name) => !BASE.has(name)).forEach((name) => page.hidden.add(name));
    if (message.showAll) page.hidden.clear();
    if (typeof message.options === "boolean") page.hasOptions = message.options;
    writeHead();
  },
  bye() {
    page = fresh(page.url);
    writeHead();
  },
  close,
  preview(message) {
    const urls = texts(message.urls).map(webAddress).filter(Boolean);
    const current = webAddress(text(message.current)) || urls[0];
    if (current) sheet.open(t("kind.image"), () => el("div", { class: "gallery" }, [current, ...urls.filter((url) => url !== current)].map((src) => el("img", { class: "large", src, alt: "" }))));
  },
  place(message) {
    const { name, address, latitude, longitude } = message.place || {};
    sheet.open(text(name) || t("kind.location"), () => el("div", { class: "place" },
      el("strong", { text: text(address) }), el("small", { text: Number(latitude) + ", " + Number(longitude) }),
      el("span", { class: "map", "aria-hidden": "true" }, icon("location"))));
  },
  open(message) {
    if (webAddress(text(message.url))) openWeb(message.url, "address");
    else toast(text(message.url));
  },
  async ask(message) {
    const parameters = message.parameters && typeof message.parameters === "object" ? message.parameters : {};
    const asker = ASKED[message.name];
    const answer = asker ? await asker(parameters) : { outcome: "function not exist" };
    send({ type: "answer", id: message.id, answer });
  },
};

const ASKED = {
  async chooseImage() {
    const asked = await sheet.ask(t("js.image"), [{ name: "file", label: t("image.file"), kind: "file", accept: "image/png,image/jpeg,image/gif" }]);
    if (!asked) return { outcome: "cancel" };
    return { outcome: "ok", files: asked.file ? [asked.file] : [] };
  },
  async getLocation() {
    const isAllowed = await sheet.confirm(t("js.location"), t("js.allow"));
    return isAllowed ? { outcome: "ok", latitude: 23.1291, longitude: 113.2644, speed: 0, accuracy: 30 } : { outcome: "cancel" };
  },
  async scanQRCode() {
    const asked = await sheet.ask(t("act.scan"), [{ name: "scanned", label: t("js.scan"), value: "https://example.com/" }]);
    return asked ? { outcome: "ok", resultStr: asked.scanned } : { outcome: "cancel" };
  },
};

window.addEventListener("message", (event) => {
  const message = event.data;
  if (!frame || event.source !== frame.contentWindow || !message || message.sim !== 1) return;
  const isFromPage = message.type === "page" || event.origin === page.origin;
  if (isFromPage && Object.hasOwn(HEARD, message.type)) HEARD[message.type](message, event.origin);
});

// ---- snapshot pages ----

async function newestOauth() {
  const list = await call("GET", "/oauth?limit=1").catch(() => []);
  return list.length ? list[0].id : 0;
}

// A page that was opened as a snapshot gets the bar that leads to the real consent.
async function lookForSnapshot() {
  if (view.hidden) return;
  const list = await call("GET", "/oauth?limit=1").catch(() => []);
  const newest = list[0];
  if (!newest || newest.id <= lastOauth) return;
  lastOauth = newest.id;
  byId("web-full").hidden = newest.outcome !== "snapshot";
}

export function start() {
  byId("web-back").addEventListener("click", back);
  byId("web-close").addEventListener("click", close);
  byId("web-more").addEventListener("click", options);
  byId("full-service").addEventListener("click", fullService);
  view.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  on("fan", close);
  on("reset", close);
  on("language", writeHead);
  on("revision", (topics) => { if (topics.has("oauth")) lookForSnapshot(); });
}
