// How the phone shows a message: one bubble for each type, in and out.

import { button, el, webAddress } from "./dom.js";
import { has, t, time } from "./i18n.js";
import { icon } from "./icons.js";
import { state } from "./state.js";

// What a tap does; the phone sets it.
export const taps = { open: () => {}, say: () => {}, why: () => {}, picture: () => {} };

// A media file by its id; the simulator knows where it is kept.
const mediaUrl = (mediaId) => mediaId ? "/_sim/media?media_id=" + encodeURIComponent(mediaId) : null;

export function bubble(entry) {
  const message = entry.message || {};
  if (entry.from === "system") return line(entry, message);
  const isFan = entry.from === "fan";
  const content = isFan ? fromFan(message, entry) : fromAccount(message, entry);
  const node = el("div", { class: "bubble " + (isFan ? "me" : "account") + (content.flat ? " flat" : "") }, content.nodes);
  return el("div", { class: "row " + (isFan ? "mine" : "theirs") },
    isFan ? face() : el("span", { class: "face account-face", "aria-hidden": "true", text: "公" }), node);
}

function face() {
  const fan = state.fans.find((one) => one.openid === state.openid);
  const source = fan && webAddress(fan.headimgurl);
  const letter = el("span", { class: "face", "aria-hidden": "true", text: fan ? [...fan.nickname][0] : "" });
  if (!source) return letter;
  const image = el("img", { class: "face", src: source, alt: "", width: 36, height: 36 });
  image.addEventListener("error", () => image.replaceWith(letter));
  return image;
}

// Grey words in the middle: events, and what the phone says when the account failed.
function line(entry, message) {
  if (message.MsgType === "event") {
    const words = has("event." + message.Event) ? t("event." + message.Event) : "[" + message.Event + "]";
    const key = message.EventKey && !["subscribe", "unsubscribe"].includes(message.Event) ? " · " + message.EventKey : "";
    return el("p", { class: "line" }, words + key);
  }
  return el("p", { class: "line failed" }, entry.shown + " ",
    button(t("why"), () => taps.why(), { class: "link" }));
}

const plain = (...nodes) => ({ nodes });
const flat = (...nodes) => ({ nodes, flat: true });

function fromFan(message, entry) {
  switch (message.MsgType) {
    case "text": return plain(message.Content || "");
    case "image": return flat(picture(message.PicUrl || mediaUrl(message.MediaId)));
    case "voice": return plain(voice(message.MediaId, seconds(message), message.Recognition));
    case "video":
    case "shortvideo": return flat(video(message.MediaId, t("kind." + message.MsgType)));
    case "location": return flat(place(message.Label, message.Location_X, message.Location_Y));
    case "link": return flat(card(message.Title, message.Description, message.Url, null));
    case "file": return flat(card(message.Title, t("kind.file") + " · " + (message.Description || ""), null, null, "file"));
    default: return plain(entry.shown);
  }
}

function fromAccount(message, entry) {
  const custom = message.custom || message.mass || {};
  const member = (passive, active) => passive !== undefined ? passive : custom[active];
  switch (message.MsgType) {
    case "text": return plain(...linked(member(message.Content, "content") || ""));
    case "image": return flat(picture(mediaUrl((message.Image || {}).MediaId || custom.media_id)));
    case "voice": return plain(voice((message.Voice || {}).MediaId || custom.media_id, 3));
    case "video": {
      const video_ = message.Video || {};
      return flat(video(video_.MediaId || custom.media_id, video_.Title || custom.title || t("kind.video"), video_.Description || custom.description));
    }
    case "music": {
      const music = message.Music || {};
      return flat(song(music.Title || custom.title, music.Description || custom.description,
        music.HQMusicUrl || music.MusicUrl || custom.hqmusicurl || custom.musicurl));
    }
    case "news": return flat(news(message.Articles || custom.articles || []));
    case "msgmenu": return plain(choices(custom));
    case "template":
    case "notice": return flat(form(message.MsgType, message.template || message.notice || {}, entry.shown));
    case "miniprogrampage": return flat(card(custom.title, t("kind.miniprogrampage"), null, mediaUrl(custom.thumb_media_id), "program"));
    default: {
      const kind = "kind." + message.MsgType;
      return has(kind) ? flat(card(entry.shown, t(kind), null, null, "article")) : plain(entry.shown);
    }
  }
}

// ---- texts ----

// Text in which `<a href="…">words</a>` and bare addresses are links. Everything else stays text.
function linked(text) {
  const nodes = [];
  const pattern = /<a\s([^>]*)>([\s\S]*?)<\/a>|(https?:\/\/[^\s<>"'，。；！？、）】]+)/gi;
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    nodes.push(text.slice(at, found.index));
    at = found.index + found[0].length;
    const [whole, attributes, words, bare] = found;
    if (bare) nodes.push(link(bare, bare) || whole);
    else {
      const href = attributes.match(/(?:^|\s)href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/i);
      const address = href && (href[1] ?? href[2] ?? href[3]).replaceAll("&amp;", "&");
      const menu = address && address.match(/^weixin:\/\/bizmsgmenu\?(.*)$/);
      if (menu) nodes.push(menuLink(words, new URLSearchParams(menu[1])));
      else nodes.push(address && link(address, words) || (/data-miniprogram-/.test(attributes) ? el("span", { class: "mini" }, icon("program"), words) : whole));
    }
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}

function link(address, words) {
  const href = webAddress(address);
  if (!href) return null;
  return el("a", { href, onclick: (event) => { event.preventDefault(); taps.open(href); } }, words);
}

function menuLink(words, parameters) {
  return button(words, () => taps.say(parameters.get("msgmenucontent") || words, parameters.get("msgmenuid")), { class: "link" });
}

function choices({ head_content: head, list = [], tail_content: tail }) {
  return el("div", { class: "msgmenu" }, head && el("p", {}, ...linked(head)),
    list.map((item) => button(item.content, () => taps.say(item.content, item.id), { class: "link" })),
    tail && el("p", {}, ...linked(tail)));
}

// ---- media ----

function picture(source) {
  const missing = el("span", { class: "missing" }, icon("image"), t("kind.image"));
  if (!source) return missing;
  const image = el("img", { src: source, alt: t("kind.image"), class: "picture" });
  image.addEventListener("error", () => tap.replaceWith(missing));
  const tap = button("", () => taps.picture(source), { class: "bare", "aria-label": t("kind.image") });
  tap.append(image);
  return tap;
}

function seconds(message) {
  const given = Number(message.Seconds || 0);
  return given > 0 ? given : 3;
}

function voice(mediaId, length, words) {
  const source = mediaUrl(mediaId);
  const bar = button("", () => {
    if (source) new Audio(source).play().catch(() => {});
  }, { class: "voice bare", "aria-label": t("kind.voice") + " " + length + "″" });
  bar.append(waves(), el("span", { text: length + "″" }));
  bar.style.width = Math.min(11, 3.6 + length * 0.22) + "rem";
  return words ? el("span", {}, bar, el("span", { class: "words", text: words })) : bar;
}

function waves() {
  return el("span", { class: "waves", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
}

function video(mediaId, title, description) {
  return el("div", { class: "film" },
    button(icon("play"), () => { const source = mediaUrl(mediaId); if (source) taps.open(new URL(source, location.href).href, true); },
      { class: "play", "aria-label": t("kind.video") + " " + title }),
    el("span", { class: "caption" }, title, description && el("small", { text: description })));
}

function song(title, description, url) {
  const href = webAddress(url || "");
  return el("div", { class: "song" },
    button(icon("music"), () => { if (href) taps.open(href); }, { class: "play", "aria-label": t("kind.music"), disabled: !href }),
    el("span", { class: "caption" }, title || t("kind.music"), description && el("small", { text: description })));
}

function place(label, latitude, longitude) {
  return el("div", { class: "place" }, el("strong", { text: label || t("kind.location") }),
    el("small", { text: [latitude, longitude].join(", ") }), el("span", { class: "map", "aria-hidden": "true" }, icon("location")));
}

// ---- cards ----

function card(title, description, url, image, sign) {
  const href = webAddress(url || "");
  const nodes = [
    el("strong", { text: title || "" }),
    el("span", { class: "beside" }, el("small", { text: description || "" }), thumb(image, sign || "link")),
  ];
  if (!href) return el("div", { class: "linkcard" }, nodes);
  return el("a", { class: "linkcard", href, onclick: (event) => { event.preventDefault(); taps.open(href); } }, nodes);
}

function thumb(source, sign) {
  const plain = el("span", { class: "thumb", "aria-hidden": "true" }, icon(sign));
  if (!source) return plain;
  const image = el("img", { class: "thumb", src: source, alt: "" });
  image.addEventListener("error", () => image.replaceWith(plain));
  return image;
}

function news(articles) {
  return el("div", { class: "news" }, articles.map((article, at) => {
    const href = webAddress(article.Url || article.url || "");
    const source = webAddress(article.PicUrl || article.picurl || "");
    const description = article.Description || article.description;
    const isFirst = at === 0;
    const image = source && el("img", { src: source, alt: "" });
    if (image) image.addEventListener("error", () => image.remove());
    const nodes = [image, el("strong", { text: article.Title || article.title || "" }),
      isFirst && description && el("span", { text: description })];
    const name = isFirst ? "lead-article" : "article";
    return href
      ? el("a", { class: name, href, onclick: (event) => { event.preventDefault(); taps.open(href); } }, nodes)
      : el("div", { class: name }, nodes);
  }));
}

// A template message: its filled text, line by line, and where it leads.
function form(kind, body, shown) {
  const [title, ...lines] = shown.split("\n");
  const href = webAddress(body.url || body.page || "");
  const nodes = [
    el("strong", { text: title || t(kind === "notice" ? "kind.subscribe" : "kind.template") }),
    lines.map((text) => {
      const found = text.match(/^([^:：]{1,12})[:：]\s*(.*)$/);
      return found
        ? el("span", { class: "pair" }, el("small", { text: found[1] }), el("span", { text: found[2] }))
        : el("span", { class: "pair", text });
    }),
    href && el("span", { class: "further", text: t("details") + " ›" }),
  ];
  return href
    ? el("a", { class: "template", href, onclick: (event) => { event.preventDefault(); taps.open(href); } }, nodes)
    : el("div", { class: "template" }, nodes);
}

export function timeLine(at) {
  return el("p", { class: "line when" }, el("time", { datetime: new Date(at).toISOString(), text: time(at) }));
}
