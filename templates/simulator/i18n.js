// The page's words, Chinese and English, and the switch between them.

import { byId } from "./dom.js";
import { emit } from "./state.js";

const WORDS = {
  "title": ["微信模拟器", "WeChat simulator"],
  "reset": ["重置", "Reset"],
  "reset.ask": ["全部回到开始时的样子？聊天、令牌、记录都会清空。", "Put everything back to the start? Chats, tokens and records are lost."],
  "inspector": ["检查器", "Inspector"],
  "ok": ["确定", "OK"],
  "cancel": ["取消", "Cancel"],
  "close": ["关闭", "Close"],
  "why": ["为什么？", "Why?"],
  "help": ["说明", "Explain"],
  "copy": ["复制", "Copy"],
  "copied": ["已复制", "Copied"],
  "none": ["（空）", "(empty)"],
  "live.live": ["实时", "Live"],
  "live.polling": ["轮询", "Polling"],
  "live.lost": ["模拟器没有应答", "No answer from the simulator"],
  "live.connecting": ["连接中", "Connecting"],
  "account.name": ["公众号", "Official Account"],
  "no.callback": ["没有服务器地址", "no callback URL"],

  "phone.you": ["你是", "You are"],
  "phone.chat": ["聊天", "Chat"],
  "phone.keyboard": ["键盘", "Keyboard"],
  "phone.menu": ["公众号菜单", "Menu of the account"],
  "phone.message": ["消息", "Message"],
  "phone.placeholder": ["发消息", "Message"],
  "phone.more": ["更多", "More"],
  "phone.send": ["发送", "Send"],
  "phone.follow": ["关注", "Follow"],
  "phone.unfollow": ["取消关注", "Unfollow"],
  "phone.browse": ["打开网页", "Open a page"],
  "phone.empty": ["还没有消息。发一句话试试。", "Nothing yet. Say something."],
  "phone.typing": ["对方正在输入…", "typing…"],
  "not.following": ["未关注", "not following"],

  "fan.add": ["添加粉丝", "Add a fan"],
  "fan.nickname": ["昵称", "Name"],
  "fan.openid": ["openid（可不填）", "openid (may be empty)"],
  "fan.snapshot": ["以快照页打开网页（虚拟 openid）", "Opens pages as a snapshot (virtual openid)"],
  "fan.subscribe": ["已关注", "Follows the account"],

  "act.image": ["图片", "Picture"],
  "act.voice": ["语音", "Voice"],
  "act.video": ["视频", "Video"],
  "act.location": ["位置", "Location"],
  "act.link": ["链接", "Link"],
  "act.scan": ["扫一扫", "Scan"],
  "act.event": ["其他事件", "Other event"],
  "image.file": ["从电脑选一张，不选就用画的", "One from this computer; else one is drawn"],
  "voice.seconds": ["时长（秒）", "Length (seconds)"],
  "voice.words": ["识别出的文字（可不填）", "Recognised words (may be empty)"],
  "location.label": ["地名", "Place"],
  "location.x": ["纬度", "Latitude"],
  "location.y": ["经度", "Longitude"],
  "link.title": ["标题", "Title"],
  "link.description": ["描述", "Description"],
  "link.url": ["网址", "Address"],
  "scan.what": ["二维码的内容：ticket、场景值，或扫到的文字", "What the code holds: a ticket, a scene, or text"],
  "scan.codes": ["公众号的二维码", "Codes of the account"],
  "scan.none": ["还没有带参数的二维码。", "The account has made no QR code yet."],
  "event.name": ["Event", "Event"],
  "event.members": ["其他字段（JSON）", "Other members (JSON)"],

  "kind.image": ["图片", "Picture"],
  "kind.voice": ["语音", "Voice"],
  "kind.video": ["视频", "Video"],
  "kind.shortvideo": ["小视频", "Short video"],
  "kind.music": ["音乐", "Music"],
  "kind.location": ["位置", "Location"],
  "kind.link": ["链接", "Link"],
  "kind.file": ["文件", "File"],
  "kind.news": ["图文", "Article"],
  "kind.mpnews": ["图文", "Article"],
  "kind.mpnewsarticle": ["图文", "Article"],
  "kind.wxcard": ["卡券", "Coupon"],
  "kind.miniprogrampage": ["小程序", "Mini program"],
  "kind.template": ["模板消息", "Template message"],
  "kind.subscribe": ["订阅通知", "Notice"],
  "details": ["详情", "Details"],
  "event.subscribe": ["已关注公众号", "Followed the account"],
  "event.unsubscribe": ["已取消关注", "Unfollowed the account"],
  "event.SCAN": ["扫了二维码", "Scanned a code"],
  "event.CLICK": ["点了菜单", "Tapped the menu"],
  "event.VIEW": ["打开了菜单里的网页", "Opened a page of the menu"],
  "event.LOCATION": ["上报了位置", "Reported the location"],

  "web.back": ["返回", "Back"],
  "web.close": ["关闭网页", "Close the page"],
  "web.more": ["更多", "More"],
  "web.open": ["打开网页", "Open a page"],
  "web.address": ["网址", "Address"],
  "web.from": ["从哪里进入", "Where from"],
  "web.from.chat": ["公众号会话或菜单（关注者静默授权）", "the account's chat or menu (followers sign in silently)"],
  "web.from.address": ["别处（扫码、朋友分享）", "elsewhere (a code, a friend's link)"],
  "web.snapshot": ["当前是快照页，信息是虚拟的", "This is a snapshot; the identity is virtual"],
  "web.full": ["使用完整服务", "Use the full service"],
  "web.provider": ["网页由 {0} 提供", "This page is provided by {0}"],
  "web.refused": ["这个网页不让别的网页嵌入它，所以手机里显示不出来。", "This page forbids being shown inside another, so the phone cannot show it."],
  "web.refused.cure": ["微信里没有这个限制。可以在新标签页打开；或让后端的 frame-ancestors 加上 {0}。", "WeChat has no such limit. Open it in a new tab, or add {0} to the backend's frame-ancestors."],
  "web.unreachable": ["连不上这个网页。", "The page cannot be reached."],
  "web.newtab": ["在新标签页打开", "Open in a new tab"],
  "web.retry": ["重试", "Try again"],
  "web.friend": ["发送给朋友", "Send to a friend"],
  "web.timeline": ["分享到朋友圈", "Share on Moments"],
  "web.copy": ["复制链接", "Copy the link"],
  "web.refresh": ["刷新", "Reload"],
  "web.qq": ["分享到手机 QQ", "Share to QQ"],
  "web.card": ["分享出去是这样：", "This is what would be shared:"],
  "web.card.default": ["网页没有设置分享卡片，用默认的。", "The page set no card; this is the default one."],
  "web.shared.friend": ["已发送给朋友", "Sent to a friend"],
  "web.shared.timeline": ["已分享到朋友圈", "Shared on Moments"],
  "web.fragment": ["该链接无法访问", "The link cannot be opened"],
  "js.image": ["选择图片", "Choose pictures"],
  "js.scan": ["网页要扫码：扫到什么？", "The page scans: what does the code say?"],
  "js.location": ["网页要你的位置", "The page asks where you are"],
  "js.allow": ["允许", "Allow"],

  "tab.pushes": ["推送", "Pushes"],
  "tab.requests": ["API 调用", "API calls"],
  "tab.jssdk": ["JS-SDK", "JS-SDK"],
  "tab.oauth": ["网页授权", "OAuth"],
  "tab.tokens": ["令牌", "Tokens"],
  "tab.faults": ["故障", "Faults"],
  "tab.clock": ["时钟", "Clock"],
  "tab.account": ["账号", "Account"],
  "tab.help": ["说明", "Glossary"],

  "pushes.lead": ["微信把粉丝的消息和事件推给后端：每条最多三次，每次等五秒。再晚就只能发客服消息。", "WeChat pushes what fans do to the backend: three tries at most, five seconds each. What comes later is a customer-service message."],
  "pushes.none": ["还没有推送。在手机上发一句话。", "No pushes yet. Say something on the phone."],
  "pushes.shown": ["用户看到：", "The user sees: "],
  "pushes.nothing": ["没有回复", "no reply"],
  "pushes.running": ["进行中…", "under way…"],
  "pushes.answered": ["第 {0} 次推送带回了回复，{1}", "answered by delivery {0} after {1}"],
  "pushes.unanswered": ["没有一次推送带回回复", "no delivery carried an answer"],
  "pushes.both": ["{0}；{1}", "{0}; {1}"],
  "pushes.custom": ["{0} 后发了客服消息", "customer-service message after {0}"],
  "pushes.customs": ["{1} 后起发了 {0} 条客服消息", "{0} customer-service messages, the first after {1}"],
  "pushes.customrefused": ["客服消息被拒（{0}）", "customer-service message refused ({0})"],
  "pushes.customhead": ["之后的客服消息", "Customer-service message after it"],
  "pushes.later": ["{0} 后", "after {0}"],
  "pushes.answer.reply": ["回复", "a reply"],
  "pushes.answer.nothing": ["不说话", "nothing to say"],
  "pushes.attempt": ["第 {0} 次", "Try {0}"],
  "pushes.sent": ["发出的请求", "Request as sent"],
  "pushes.clear": ["消息明文", "Message in clear"],
  "pushes.got": ["后端的应答", "The backend's answer"],
  "pushes.replyclear": ["回复明文", "Reply in clear"],
  "requests.lead": ["后端调用微信接口的记录，新的在上。", "The backend's calls to the platform, newest first."],
  "requests.none": ["还没有调用。", "No calls yet."],
  "requests.filter": ["按路径筛选", "Filter by path"],
  "requests.failed": ["只看出错的", "Errors only"],
  "requests.query": ["参数", "Query"],
  "requests.body": ["请求体", "Request body"],
  "requests.answer": ["应答", "Answer"],
  "jssdk.lead": ["网页的 wx.config 怎样检查：先域名，再签名，再权限。", "How a page's wx.config is checked: domain, then signature, then rights."],
  "jssdk.none": ["还没有网页用过 JS-SDK。", "No page has used the JS-SDK yet."],
  "jssdk.should": ["应当签名的字符串", "The string that should be signed"],
  "jssdk.expected": ["应得的签名", "Its signature"],
  "jssdk.given": ["网页给的签名", "The page's signature"],
  "jssdk.signed": ["网页签名时用的字符串", "The string that the page's signature fits"],
  "jssdk.unknown": ["认不出签的是什么：不是当前 ticket 加上 url 的常见变体", "Unknown: it fits none of the usual mistakes in ticket or url"],
  "jssdk.check.appid": ["AppID", "AppID"],
  "jssdk.check.domain": ["域名", "Domain"],
  "jssdk.check.signature": ["签名", "Signature"],
  "jssdk.check.rights": ["权限", "Rights"],
  "jssdk.card": ["分享卡片", "Share card"],
  "oauth.lead": ["每次打开授权页的经过。", "What came of each visit to the consent page."],
  "oauth.none": ["还没有网页授权。", "No sign-in yet."],
  "oauth.error": ["出错", "error"],
  "oauth.consent": ["显示授权页", "consent page shown"],
  "oauth.code": ["给出 code", "code given"],
  "oauth.silent": ["静默给出 code", "code given silently"],
  "oauth.snapshot": ["快照：虚拟身份的 code", "snapshot: code of a virtual identity"],
  "oauth.refused": ["用户拒绝", "refused by the user"],
  "oauth.fault": ["按故障应答", "an ordered fault"],
  "oauth.query": ["授权链接的参数", "Parameters of the link"],
  "oauth.why.base": ["snsapi_base 只取 openid，从不询问。", "snsapi_base only takes the openid and never asks."],
  "oauth.why.follower": ["关注者从公众号的会话或菜单进入，不再询问。", "A follower who comes from the account's chat or menu is not asked."],
  "oauth.why.snapshot": ["网页一打开就要资料，先给快照：openid 是虚拟的，没有头像昵称。", "A page that asks at once gets a snapshot first: a virtual openid, no profile."],
  "tokens.lead": ["按平台的时钟，哪些令牌还活着。旧的在换新后再活五分钟。", "Which tokens live, by the platform's clock. An old one lives five minutes beside the new one."],
  "tokens.none": ["还没有令牌。", "No tokens yet."],
  "tokens.classic": ["access_token（/cgi-bin/token）", "access_token (/cgi-bin/token)"],
  "tokens.stable": ["access_token（/cgi-bin/stable_token）", "access_token (/cgi-bin/stable_token)"],
  "tokens.jsapi": ["jsapi_ticket", "jsapi_ticket"],
  "tokens.wx_card": ["卡券 ticket", "wx_card ticket"],
  "tokens.alive": ["活着，还有 {0}", "alive for {0}"],
  "tokens.dead": ["已失效", "dead"],
  "faults.lead": ["让接下来的调用出错，看后端怎么应对。", "Make the next calls fail and see what the backend does."],
  "faults.path": ["接口", "Path"],
  "faults.kind": ["故障", "Fault"],
  "faults.times": ["次数", "Times"],
  "faults.add": ["打开故障", "Switch it on"],
  "faults.clear": ["全部关掉", "Switch all off"],
  "faults.none": ["没有打开的故障。", "No faults are switched on."],
  "faults.on": ["已打开", "Switched on"],
  "faults.left": ["还剩 {0} 次", "{0} left"],
  "faults.busy": ["系统繁忙", "busy"],
  "faults.stale": ["token 被顶掉", "token replaced"],
  "faults.expired": ["token 过期", "token expired"],
  "faults.quota": ["额度用完", "quota used up"],
  "faults.minute": ["调用太快", "too fast"],
  "faults.rights": ["没有权限", "no right"],
  "faults.500": ["HTTP 500", "HTTP 500"],
  "faults.502": ["HTTP 502", "HTTP 502"],
  "faults.slow": ["慢 {0} 秒", "{0} s slow"],
  "faults.html": ["应答是 HTML", "HTML for an answer"],
  "faults.custom": ["其他返回码…", "Another code…"],
  "faults.code": ["返回码", "Code"],
  "clock.lead": ["平台的时钟：令牌、ticket、code、素材、48 小时窗口都按它走。推送的时间戳不变。", "The platform's clock: tokens, tickets, codes, media and the 48-hour window live by it. Pushes keep the real time."],
  "clock.now": ["平台现在", "Now, on the platform"],
  "clock.ahead": ["比本机快 {0}", "{0} ahead of this machine"],
  "clock.real": ["与本机一致", "the same as this machine's"],
  "clock.5m": ["+5 分钟", "+5 min"],
  "clock.1h": ["+1 小时", "+1 h"],
  "clock.2h": ["+2 小时", "+2 h"],
  "clock.1d": ["+1 天", "+1 day"],
  "clock.3d": ["+3 天", "+3 days"],
  "clock.30d": ["+30 天", "+30 days"],
  "clock.back": ["回到现在", "Back to now"],
  "clock.5m.what": ["code 和换下的 token 失效", "codes and replaced tokens die"],
  "clock.1h.what": ["令牌还剩一半", "tokens are half spent"],
  "clock.2h.what": ["access_token 和 ticket 过期", "access tokens and tickets expire"],
  "clock.1d.what": ["每日额度恢复", "daily quotas are back"],
  "clock.3d.what": ["临时素材失效，48 小时窗口关闭", "temporary media die, the 48-hour window closes"],
  "clock.30d.what": ["网页授权的 refresh_token 过期", "refresh tokens of web OAuth expire"],
  "account.lead": ["相当于公众平台后台的“基本配置”和“公众号设置”。", "What the console's pages 基本配置 and 公众号设置 hold."],
  "account.appid": ["AppID", "AppID"],
  "account.appsecret": ["AppSecret", "AppSecret"],
  "account.original_id": ["原始 ID", "Original id"],
  "account.callback_url": ["服务器地址（URL）", "Callback URL (服务器地址)"],
  "account.token": ["令牌（Token）", "Token"],
  "account.encoding_aes_key": ["消息加解密密钥（EncodingAESKey）", "EncodingAESKey"],
  "account.mode": ["消息加解密方式", "Mode of messages"],
  "account.mode.plain": ["明文模式", "plain 明文"],
  "account.mode.compatible": ["兼容模式", "compatible 兼容"],
  "account.mode.safe": ["安全模式", "safe 安全"],
  "account.kind": ["账号类型", "Kind of account"],
  "account.kind.service": ["已认证服务号", "certified service account"],
  "account.kind.subscription": ["已认证公众号（订阅号）", "certified subscription account"],
  "account.kind.unverified": ["未认证", "unverified"],
  "account.kind.sandbox": ["测试号", "sandbox"],
  "account.limits": ["限制", "Limits"],
  "account.limits.real": ["照真的来（额度、窗口、次数会拒绝）", "real (quotas, windows and counts refuse)"],
  "account.limits.relaxed": ["放宽（只记录，不拒绝）", "relaxed (kept and shown, refuse nothing)"],
  "account.oauth_domains": ["网页授权域名，每行一个", "OAuth domains, one a line"],
  "account.js_domains": ["JS 接口安全域名，每行一个", "JS domains, one a line"],
  "account.ip_whitelist": ["IP 白名单，每行一个；空的不限", "IP whitelist, one a line; empty for anybody"],
  "account.save": ["提交", "Submit (提交)"],
  "account.saved": ["已保存，服务器地址验证通过。", "Saved; the callback URL passed its check."],
  "account.saved.only": ["已保存。没有服务器地址，推送发不出去。", "Saved. Without a callback URL nothing can be pushed."],
  "account.refused": ["没有保存：{0}", "Not saved: {0}"],
  "account.unverified": ["已保存，但服务器地址没有通过验证：{0}", "Saved, but the callback URL failed its check: {0}"],
  "account.checking": ["正在验证…", "Checking…"],
  "help.lead": ["错误是什么意思，该做什么。", "What errors mean, and what to do about them."],
  "help.search": ["返回码或文字", "A code or a word"],
  "help.what": ["怎么办：", "What to do: "],
  "help.nothing": ["没有找到。", "Nothing found."],
  "seconds": ["{0} 秒", "{0} s"],
  "minutes": ["{0} 分钟", "{0} min"],
  "hours": ["{0} 小时", "{0} h"],
  "days": ["{0} 天", "{0} d"],
};

const KEY = "sim.language";
let language = first();

function first() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "zh" || kept === "en") return kept;
  } catch {
    // Private windows refuse storage; the browser's language will do.
  }
  return /^zh\b/i.test(navigator.language) ? "zh" : "en";
}

export function t(key, ...values) {
  const words = WORDS[key];
  if (!words) return key;
  return values.reduce((text, value, at) => text.replace("{" + at + "}", value), words[language === "zh" ? 0 : 1]);
}

export const has = (key) => key in WORDS;
export const current = () => language;

// The one of a pair {zh, en}.
export const pick = (pair) => pair[language];

export function time(at) {
  return new Date(at).toLocaleTimeString(language === "zh" ? "zh-CN" : "en-GB", { hour12: false });
}

export function dateTime(at) {
  return new Date(at).toLocaleString(language === "zh" ? "zh-CN" : "en-GB", { hour12: false });
}

// "2 h 5 min": the two largest units.
export function span(seconds) {
  const parts = [["days", 86400], ["hours", 3600], ["minutes", 60], ["seconds", 1]];
  const said = [];
  let rest = Math.round(seconds);
  for (const [name, size] of parts) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count && said.length < 2) said.push(t(name, count));
  }
  return said.join(" ") || t("seconds", 0);
}

function write() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of document.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button")) node.title = t(node.dataset.tLabel);
  }
  for (const node of document.querySelectorAll("[data-t-placeholder]")) node.placeholder = t(node.dataset.tPlaceholder);
  const other = byId("language");
  other.textContent = language === "zh" ? "English" : "中文";
  other.lang = language === "zh" ? "en" : "zh-CN";
}

export function start() {
  write();
  byId("language").addEventListener("click", () => {
    language = language === "zh" ? "en" : "zh";
    try {
      localStorage.setItem(KEY, language);
    } catch {
      // See above.
    }
    write();
    emit("language");
  });
}
