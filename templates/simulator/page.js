// The simulator's page. What was said comes from /_sim and goes into the page as text only.
"use strict";

const POLL_MS = 1500;
const byId = (id) => document.getElementById(id);
const chat = byId("chat");
const fanSelect = byId("fan");
let lastId = 0;
let refreshing = false;
let isStale = false;

async function call(method, path, body) {
  const answer = await fetch("/_sim" + path, {
    method,
    headers: body === undefined ? {} : { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const json = await answer.json();
  if (!answer.ok) throw new Error(json.error || "status " + answer.status);
  return json;
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function isWebAddress(text) {
  return /^https?:\/\//i.test(text || "");
}

// ---- the chat ----

function newsBubble(articles) {
  const card = element("div", "bubble account card");
  for (const article of articles) {
    const link = element("a", "");
    const url = article.Url || article.url;
    const picture = article.PicUrl || article.picurl;
    if (isWebAddress(url)) {
      link.href = url;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
    }
    if (isWebAddress(picture)) {
      const image = element("img");
      image.src = picture;
      image.alt = "";
      image.addEventListener("error", () => image.remove());
      link.append(image);
    }
    link.append(element("strong", "", article.Title || article.title || ""));
    const description = article.Description || article.description;
    if (description) link.append(element("span", "", description));
    card.append(link);
  }
  return card;
}

function bubble(entry) {
  const message = entry.message || {};
  if (entry.from === "system") {
    const failed = message.MsgType !== "event";
    return element("p", failed ? "line failed" : "line", entry.shown);
  }
  const articles = message.Articles || (message.custom && message.custom.articles);
  if (entry.from === "account" && Array.isArray(articles)) return newsBubble(articles);
  return element("div", entry.from === "fan" ? "bubble me" : "bubble account", entry.shown);
}

function show(node) {
  const atEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 80;
  chat.append(node);
  if (atEnd) chat.scrollTop = chat.scrollHeight;
}

async function refreshChat() {
  const openid = fanSelect.value;
  if (!openid) return;
  const path = "/chat?openid=" + encodeURIComponent(openid) + "&after=" + lastId;
  const { messages } = await call("GET", path);
  if (openid !== fanSelect.value) return;
  for (const entry of messages) {
    if (entry.id <= lastId) continue;
    lastId = entry.id;
    show(bubble(entry));
  }
}

async function act(members) {
  const openid = fanSelect.value;
  const delivery = call("POST", "/send", { openid, ...members });
  refresh();
  try {
    await delivery;
  } catch (why) {
    show(element("p", "line failed", why.message));
  }
  await refreshFans();
  await refresh();
}

// ---- the inspector ----

function time(at) {
  return new Date(at).toLocaleTimeString("zh-CN", { hour12: false });
}

function row(at, what, outcome, isGood, details) {
  const item = element("li");
  const fold = element("details");
  const head = element("summary");
  const when = element("time", "", time(at));
  when.dateTime = new Date(at).toISOString();
  head.append(when, element("span", "what", what), element("span", "outcome " + (isGood ? "good" : "bad"), outcome));
  fold.append(head);
  for (const text of details) if (text) fold.append(element("pre", "", text));
  item.append(fold);
  return item;
}

// A list is written anew only when it changed, and what stood open stays open.
function fill(list, entries, toRow) {
  const keys = entries.map((entry) => JSON.stringify(entry));
  if (list.shownKeys && list.shownKeys.join() === keys.join()) return;
  const open = new Set();
  [...list.children].forEach((item, place) => {
    if (item.firstElementChild.open) open.add(list.shownKeys[place]);
  });
  list.shownKeys = keys;
  list.replaceChildren(...entries.map(toRow));
  keys.forEach((key, place) => {
    if (open.has(key)) list.children[place].firstElementChild.open = true;
  });
}

function pushRow(push) {
  const tries = push.attempts.map((attempt) => (attempt.status || "—") + " · " + attempt.ms + " ms");
  const name = (push.xml.match(/<(?:Event|MsgType)><!\[CDATA\[(?!event\])([^\]]*)/) || [])[1] || "";
  const answers = push.attempts.map((attempt, place) => `#${place + 1} ${attempt.error || attempt.body || "（空 empty）"}`);
  return row(push.at, name + " → " + (push.shown_to_user || "（无回复 nothing）"), tries.join("，"),
    !push.failure, [push.failure, push.xml, answers.join("\n")]);
}

function requestRow(request) {
  const outcome = request.status !== 200 ? "HTTP " + request.status : request.errcode === null ? "?" : request.errcode === 0 ? "ok" : String(request.errcode);
  const query = Object.entries(request.query).map(([name, value]) => name + "=" + value).join("\n");
  return row(request.at, request.method + " " + request.path, outcome + " · " + request.ms + " ms",
    request.status === 200 && request.errcode === 0, [query, request.request_body, request.response_body]);
}

function jssdkRow(entry) {
  if (entry.call === "config") {
    return row(entry.at, "wx.config " + (entry.config.url || ""), entry.errMsg, entry.errMsg === "config:ok", [
      "应签名 should be signed:\n" + entry.string1,
      "应得 expected: " + entry.expected_signature + "\n收到 given:    " + entry.config.signature,
    ]);
  }
  const { title, desc, link, imgUrl } = entry.card;
  return row(entry.at, entry.call + " → " + title, "ok", true, [[title, desc, link, imgUrl].join("\n")]);
}

// ---- who is here ----

async function refreshFans() {
  const fans = await call("GET", "/fans");
  const chosen = fanSelect.value;
  const names = fans.map((fan) => fan.openid + fan.nickname + fan.subscribe).join();
  if (names !== fanSelect.dataset.names) {
    fanSelect.dataset.names = names;
    fanSelect.replaceChildren(...fans.map((fan) => {
      const option = element("option", "", fan.nickname + (fan.subscribe ? "" : "（未关注）"));
      option.value = fan.openid;
      return option;
    }));
    if (fans.some((fan) => fan.openid === chosen)) fanSelect.value = chosen;
    else clearChat();
  }
  const fan = fans.find((one) => one.openid === fanSelect.value);
  byId("follow").disabled = !fan || fan.subscribe === 1;
  byId("unfollow").disabled = !fan || fan.subscribe === 0;
}

// Pages that the phone opens know by it who holds the phone.
function rememberFan() {
  document.cookie = "sim_fan=" + fanSelect.value + "; path=/; samesite=lax";
}

function clearChat() {
  chat.replaceChildren();
  lastId = 0;
}

async function refreshAccount() {
  const account = await call("GET", "/account");
  byId("account").textContent =
    account.appid + " · " + account.mode + " · " + (account.callback_url || "没有服务器地址 no callback_url");
}

// One at a time; who asks meanwhile gets one more round.
async function refresh() {
  isStale = true;
  if (refreshing) return;
  refreshing = true;
  try {
    while (isStale) {
      isStale = false;
      await refreshChat();
      fill(byId("pushes"), await call("GET", "/pushes?limit=30"), pushRow);
      fill(byId("requests"), await call("GET", "/requests?limit=50"), requestRow);
      fill(byId("jssdk"), await call("GET", "/jssdk?limit=30"), jssdkRow);
    }
  } finally {
    refreshing = false;
  }
}

async function poll() {
  try {
    await refreshAccount();
    await refreshFans();
    await refresh();
  } catch (why) {
    byId("account").textContent = "模拟器没有回答 no answer: " + why.message;
  }
  setTimeout(poll, POLL_MS);
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId("message");
  if (!input.value) return;
  act({ MsgType: "text", Content: input.value });
  input.value = "";
});
byId("follow").addEventListener("click", () => act({ MsgType: "event", Event: "subscribe", EventKey: "" }));
byId("unfollow").addEventListener("click", () => act({ MsgType: "event", Event: "unsubscribe", EventKey: "" }));
fanSelect.addEventListener("change", () => {
  clearChat();
  rememberFan();
  refreshFans();
  refresh();
});
poll();
