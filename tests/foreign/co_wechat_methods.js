// Calls every method that npm's co-wechat-api and co-wechat-oauth have for what the simulator simulates.
//
// Takes a JSON object as its argument: platform (the simulator's address), appid, appsecret. Prints a list:
// for each method of the packages, found by looking into them, {client, method, outcome, why}. Outcomes:
//
//     ok       every call of it was answered in the documented shape
//     refused  it was refused with the documented code, which is right; why is the code
//     failed   anything else; why says what
//     unused   it was not called
'use strict';

const fs = require('fs');
const os = require('os');
const path = require('path');
const { isDeepStrictEqual } = require('util');

const API = require('co-wechat-api');
const OAuth = require('co-wechat-oauth');

const task = JSON.parse(process.argv[2]);
const { platform, appid, appsecret } = task;

const atSimulator = (url) =>
  url.replace(/^https?:\/\/(file\.api|api|open|mp)\.weixin\.qq\.com/, platform);

// The packages have WeChat's addresses in their code; each may have an HTTP client of its own.
for (const name of ['co-wechat-api', 'co-wechat-oauth']) {
  const httpx = require(require.resolve('httpx', { paths: [require.resolve(name)] }));
  if (httpx.isAtSimulator) continue;
  const { request } = httpx;
  httpx.request = (url, options) => request(atSimulator(url), options);
  httpx.isAtSimulator = true;
}

// The shape of an answer: a test, a value that it equals, or these in objects, with more members allowed,
// and in arrays of one or more of a kind.
const text = (value) => typeof value === 'string' && value !== '';
const string = (value) => typeof value === 'string';
// Whole numbers that a double can't hold come as objects of their own.
const whole = (value) => /^\d+$/.test(String(value)) && typeof value !== 'string';
const url = (value) => /^http/.test(value);
const list = (value) => Array.isArray(value);
const nothing = (value) => value === undefined;
const bytes = (content) => (value) => Buffer.isBuffer(value) && value.equals(content);
const OK = { errcode: 0, errmsg: 'ok' };

function differs(value, shape, at = 'answer') {
  const wrong = `${at} is ${JSON.stringify(value)}`;
  if (typeof shape === 'function') return shape(value) ? null : wrong;
  if (Array.isArray(shape) && shape.length > 0) {
    if (!Array.isArray(value) || value.length === 0) return wrong;
    return value.map((one) => differs(one, shape[0], `${at}[]`)).find(Boolean) || null;
  }
  if (shape !== null && typeof shape === 'object' && !Array.isArray(shape)) {
    if (value === null || typeof value !== 'object') return wrong;
    const found = Object.keys(shape).map((name) => differs(value[name], shape[name], `${at}.${name}`));
    return found.find(Boolean) || null;
  }
  return isDeepStrictEqual(value, shape) ? null : wrong;
}

const outcomes = { 'co-wechat-api': {}, 'co-wechat-oauth': {} };

// Of several calls of one method the worst counts.
function note(client, method, outcome, why = '') {
  const rank = ['ok', 'refused', 'failed'];
  const known = outcomes[client][method];
  if (!known || rank.indexOf(outcome) > rank.indexOf(known.outcome)) {
    outcomes[client][method] = { outcome, why };
  }
}

function callerOf(name, object) {
  return async (method, args, shape) => {
    let answer;
    try {
      answer = await object[method](...args);
    } catch (why) {
      note(name, method, 'failed', String(why));
      return {};
    }
    const wrong = differs(answer, shape);
    note(name, method, wrong ? 'failed' : 'ok', wrong || '');
    return answer;
  };
}

const api = new API(appid, appsecret);
const oauth = new OAuth(appid, appsecret);
const call = callerOf('co-wechat-api', api);
const grant = callerOf('co-wechat-oauth', oauth);

// A call that WeChat refuses too.
async function refused(method, args, errcode) {
  try {
    const answer = await api[method](...args);
    note('co-wechat-api', method, 'failed', `not refused: ${JSON.stringify(answer)}`);
  } catch (why) {
    const isRight = why.code === errcode;
    note('co-wechat-api', method, isRight ? 'refused' : 'failed', isRight ? String(errcode) : String(why));
  }
}

// The simulator's control side.
async function sim(control, body) {
  const answer = await fetch(`${platform}/_sim/${control}`, body && { method: 'POST', body: JSON.stringify(body) });
  if (answer.status !== 200) throw new Error(`${control}: ${await answer.text()}`);
  return answer.json();
}

// The openid of a new follower.
const fan = async () => (await sim('fans', { nickname: '新粉丝', subscribe: 1 })).openid;

// A new follower who has just written, so that the account may write to him.
async function writer() {
  const openid = await fan();
  await sim('send', { openid, MsgType: 'text', Content: '在吗' });
  return openid;
}

// What files begin with.
const JPG = Buffer.from('\xff\xd8\xff\xe0 picture', 'latin1');
const MP3 = Buffer.from('ID3 sound');
const MP4 = Buffer.from('\0\0\0\x18ftypmp42 film', 'latin1');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'co-wechat-'));
function file(name, content) {
  fs.writeFileSync(path.join(folder, name), content);
  return path.join(folder, name);
}
const jpg = file('a.jpg', JPG);
const mp3 = file('a.mp3', MP3);
const mp4 = file('a.mp4', MP4);

async function client() {
  const token = { accessToken: text, expireTime: whole };
  const { accessToken } = await call('getAccessToken', [], token);
  await call('ensureAccessToken', [], { ...token, accessToken });
  await call('setOpts', [{ timeout: 10000 }], nothing);
  note('co-wechat-api', 'setOpts', isDeepStrictEqual(api.defaults, { timeout: 10000 }) ? 'ok' : 'failed');
  await call('request', [`${api.prefix}get_api_domain_ip?access_token=${accessToken}`], { ip_list: [text] });
  await call('getIp', [], { ip_list: [text] });
  // WeChat stopped it in 2021.
  await refused('shorturl', ['http://127.0.0.1/a'], 45106);
}

async function followers(openid, other) {
  const person = {
    subscribe: 1, openid: text, subscribe_time: whole, remark: string, groupid: whole, tagid_list: list,
    subscribe_scene: text, qr_scene: whole, qr_scene_str: string,
  };
  await call('getUser', [openid], { ...person, openid });
  await call('getUser', [{ openid, lang: 'zh_CN' }], { ...person, openid });
  await call('batchGetUsers', [[openid, other]], { user_info_list: [person] });
  await call('batchGetUsers', [[openid], 'en'], { user_info_list: [person] });
  await call('getFollowers', [], { total: whole, count: whole, data: { openid: [text] }, next_openid: other });
  await call('getFollowers', [openid], { count: 1, data: { openid: [other] } });
  await call('updateRemark', [openid, '老朋友'], OK);
  await call('getUser', [openid], { remark: '老朋友' });

  const { tag } = await call('createTags', ['贵宾'], { tag: { id: whole, name: '贵宾' } });
  await call('updateTag', [tag.id, '常客'], OK);
  await call('batchTagging', [[openid, other], tag.id], OK);
  await call('getTags', [], { tags: [{ id: whole, name: text, count: whole }] });
  await call('getIdList', [openid], { tagid_list: [tag.id] });
  await call('getUsersFromTag', [tag.id], { count: 2, data: { openid: [text] }, next_openid: other });
  await call('getUsersFromTag', [tag.id, openid], { count: 1, data: { openid: [other] } });
  await call('batchUnTagging', [[openid, other], tag.id], OK);
  await call('deleteTag', [tag.id], OK);

  // Groups, which came before tags.
  const { group } = await call('createGroup', ['朋友'], { group: { id: whole, name: '朋友' } });
  await call('updateGroup', [group.id, '老友'], OK);
  await call('moveUserToGroup', [openid, group.id], OK);
  await call('moveUsersToGroup', [[openid, other], group.id], OK);
  await call('getWhichGroup', [openid], { groupid: group.id });
  await call('getGroups', [], { groups: [{ id: whole, name: text, count: whole }] });
  await call('removeGroup', [group.id], OK);
  await call('getWhichGroup', [openid], { groupid: 0 });
}

async function files() {
  const uploaded = (type) => ({ type, media_id: text, created_at: whole });
  const thumb = { type: 'thumb', thumb_media_id: text, created_at: whole };
  const made = {};
  await call('uploadMedia', [jpg, 'image'], uploaded('image'));
  await call('uploadMedia', [JPG, 'image', 'b.jpg', 'image/jpeg'], uploaded('image'));
  made.image = (await call('uploadImageMedia', [jpg], uploaded('image'))).media_id;
  made.voice = (await call('uploadVoiceMedia', [mp3], uploaded('voice'))).media_id;
  made.video = (await call('uploadVideoMedia', [mp4], uploaded('video'))).media_id;
  made.thumb = (await call('uploadThumbMedia', [jpg], thumb)).thumb_media_id;
  await call('uploadVoice', [mp3], uploaded('voice'));
  await call('uploadVideo', [mp4], uploaded('video'));
  await call('uploadThumb', [jpg], thumb);
  // Of two methods of this name the package keeps the one for pictures of articles.
  await call('uploadImage', [jpg], { url });
  await call('getMedia', [made.image], bytes(JPG));
  await call('getMedia', [made.voice], bytes(MP3));
  await call('getMedia', [made.video], { video_url: url });

  const words = { title: '短片', introduction: '说明' };
  await call('uploadMaterial', [jpg, 'image'], { media_id: text, url });
  made.kept = (await call('uploadImageMaterial', [jpg], { media_id: text, url })).media_id;
  const voice = await call('uploadVoiceMaterial', [mp3], { media_id: text });
  made.keptThumb = (await call('uploadThumbMaterial', [jpg], { media_id: text, url })).media_id;
  const video = await call('uploadVideoMaterial', [mp4, words], { media_id: text });
  await call('getMaterial', [made.kept], bytes(JPG));
  await call('getMaterial', [voice.media_id], bytes(MP3));
  await call('getMaterial', [video.media_id], { title: '短片', description: '说明', down_url: url });
  await call('getMaterialCount', [], { voice_count: 1, video_count: 1, image_count: 3, news_count: whole });
  await call('getMaterials', ['image', 0, 20], {
    total_count: 3, item_count: 3, item: [{ media_id: text, name: text, update_time: whole, url }],
  });
  await call('removeMaterial', [voice.media_id], OK);
  await call('getMaterials', ['voice', 0, 20], { total_count: 0, item_count: 0, item: [] });
  made.article = {
    thumb_media_id: made.keptThumb, title: '第一篇', content: '<p>正文</p>', author: '作者', digest: '摘要',
  };
  // WeChat stopped these in 2022, for drafts.
  await refused('uploadNewsMaterial', [{ articles: [made.article] }], 45106);
  await refused('updateNewsMaterial', [{ media_id: made.kept, index: 0, articles: made.article }], 45106);

  // Drafts and publishing, for which the package has no names.
  const { accessToken } = await api.ensureAccessToken();
  const post = (name, body, shape) => call('request', [
    `${api.prefix}${name}?access_token=${accessToken}`, { method: 'POST', data: JSON.stringify(body) }], shape);
  made.draft = (await post('draft/add', { articles: [made.article] }, { media_id: text })).media_id;
  await call('getMaterial', [made.draft], { news_item: [{ title: '第一篇', url }] });
  const { media_id } = await post('draft/add', { articles: [made.article] }, { media_id: text });
  const { publish_id } = await post('freepublish/submit', { media_id }, { ...OK, publish_id: text });
  await post('freepublish/get', { publish_id }, { publish_id, publish_status: 1 });
  return made;
}

async function menus(openid) {
  const button = [
    { type: 'click', name: '帮助', key: 'HELP' },
    { name: '更多', sub_button: [{ type: 'view', name: '网页', url: 'http://127.0.0.1/' }] },
  ];
  await call('createMenu', [{ button }], OK);
  const matched = {
    button: [{ type: 'click', name: '苹果', key: 'IOS' }], matchrule: { client_platform_type: '1' },
  };
  const { menuid } = await call('addConditionalMenu', [matched], { menuid: text });
  await call('getMenu', [], {
    menu: { button: [{ name: text }], menuid: whole },
    conditionalmenu: [{ button: [{ name: '苹果' }], matchrule: { client_platform_type: '1' }, menuid: whole }],
  });
  await call('getMenuConfig', [], { is_menu_open: 1, selfmenu_info: { button: [{ name: text }] } });
  await call('tryConditionalMenu', [openid], { button: [{ name: text }] });
  await call('delConditionalMenu', [menuid], OK);
  await call('removeMenu', [], OK);
  await call('getAutoreply', [], {
    is_add_friend_reply_open: whole, is_autoreply_open: whole, keyword_autoreply_info: { list },
  });
}

async function customerService() {
  const agent = 'agent1@sim';
  await call('addKfAccount', [agent, '客服'], OK);
  await call('updateKfAccount', [agent, '小客'], OK);
  await call('inviteworker', [agent, 'worker'], OK);
  await call('setKfAccountAvatar', [agent, jpg], OK);
  await call('getCustomServiceList', [], {
    kf_list: [{ kf_account: agent, kf_nick: '小客', kf_id: text, kf_headimgurl: url, invite_wx: 'worker',
      invite_expire_time: whole, invite_status: 'waiting' }],
  });
  await sim('agents', { kf_account: agent, wx: 'worker', online: true });
  await call('getOnlineCustomServiceList', [], {
    kf_online_list: [{ kf_account: agent, status: 1, kf_id: text, accepted_case: 0 }],
  });
  await call('createKfSession', [agent, await writer()], OK);
  // WeChat has getmsglist in its place.
  const { now } = await sim('clock');
  await refused('getRecords', [{ starttime: now - 60, endtime: now, pageindex: 1, pagesize: 10 }], 40066);
  await call('deleteKfAccount', [agent], OK);
}

async function messages(made) {
  const news = [{ title: '一篇', description: '说明', url: 'http://127.0.0.1/a', picurl: 'http://127.0.0.1/a.jpg' }];
  const music = {
    title: '歌', description: '说明', musicurl: 'http://127.0.0.1/a.mp3', hqmusicurl: 'http://127.0.0.1/b.mp3',
    thumb_media_id: made.thumb,
  };
  const page = { title: '小程序', appid: 'wx00000000000000bb', pagepath: 'index', thumb_media_id: made.thumb };
  for (const [method, ...args] of [
    ['sendText', '你好，世界 🎉'], ['sendImage', made.image], ['sendVoice', made.voice],
    ['sendVideo', made.video, made.thumb], ['sendMusic', music], ['sendNews', news],
    ['sendMpNews', made.draft], ['sendCard', 'pSimCard00000000000000000001'], ['sendMiniProgram', page],
  ]) {
    await call(method, [await writer(), ...args], OK);
  }
}

async function massMessages(made) {
  const stored = (type) => ({ type, media_id: text, created_at: whole });
  const film = { media_id: made.video, title: '短片', description: '说明' };
  const news = (await call('uploadNews', [{ articles: [made.article] }], stored('news'))).media_id;
  const video = (await call('uploadMPVideo', [film], stored('video'))).media_id;
  const job = { errcode: 0, errmsg: 'send job submission success', msg_id: whole, msg_data_id: whole };
  const shown = { errcode: 0, errmsg: 'preview success', msg_id: whole };
  let sent;
  for (const [method, preview, content] of [
    ['massSendNews', 'previewNews', news],
    ['massSendText', 'previewText', '大家好'],
    ['massSendVoice', 'previewVoice', made.voice],
    ['massSendImage', 'previewImage', made.image],
    ['massSendVideo', 'previewVideo', video],
    ['massSendMPVideo', null, film],
  ]) {
    const few = [await fan(), await fan()];
    const { tag } = await api.createTags(method);
    await api.batchTagging(few, tag.id);
    sent = await call(method, [content, few, method], job);
    await call(method, [content, tag.id], job);
    if (preview) await call(preview, [few[0], content], shown);
  }
  await call('massSendText', ['所有人', true], job);
  const few = [await fan(), await fan()];
  await call('massSend', [{ msgtype: 'text', text: { content: '你们好' } }, few, 'mine', 0], job);
  const msg_id = sent.msg_id;
  await call('getMassMessageStatus', [msg_id], { msg_id, msg_status: 'SENDING' });
  await sim('clock', { advance_s: 60 });
  await call('getMassMessageStatus', [msg_id], { msg_id, msg_status: 'SEND_SUCCESS' });
  await call('deleteMass', [msg_id], OK);
  await call('getMassMessageStatus', [msg_id], { msg_id, msg_status: 'DELETE' });
}

async function templates(openid) {
  await call('setIndustry', [{ industry_id1: '1', industry_id2: '4' }], OK);
  const industry = { first_class: text, second_class: text };
  await call('getIndustry', [], { primary_industry: industry, secondary_industry: industry });
  const { template_id } = await call('addTemplate', ['TM00015'], { ...OK, template_id: text });
  const { template_list } = await call('getAllPrivateTemplate', [], {
    template_list: [{ template_id, title: text, primary_industry: text, deputy_industry: text, content: text,
      example: string }],
  });
  const data = {};
  for (const [, name] of template_list[0].content.matchAll(/\{\{(\w+)\.DATA\}\}/g)) {
    const value = name.startsWith('time') ? '2026年11月20日 12:00' : '2026';
    data[name] = { value, color: '#173177' };
  }
  const miniprogram = { appid: 'wx00000000000000bb', pagepath: 'index' };
  await call('sendTemplate', [openid, template_id, 'http://127.0.0.1/', '#FF0000', data], { ...OK, msgid: whole });
  await call('sendTemplate', [openid, template_id, 'http://127.0.0.1/', '#FF0000', data, miniprogram],
    { ...OK, msgid: whole });
  await call('delPrivateTemplate', [template_id], OK);

  const once = 'SIM_ONE_TIME_TEMPLATE';
  await sim('subscribe_notice', { openid, template_id: once });
  await call('sendSubscribe', [openid, once, 'http://127.0.0.1/', miniprogram, 7, '通知',
    { content: { value: '到了', color: '#173177' } }], OK);
}

async function codes() {
  const made = { ticket: text, url };
  await call('createTmpQRCode', [123, 1800], { ...made, expire_seconds: 1800 });
  await call('createTmpQRCode', ['门口', 1800], { ...made, expire_seconds: 1800 });
  await call('createLimitQRCode', [123], made);
  const { ticket } = await call('createLimitQRCode', ['门口'], made);
  const shown = await fetch(atSimulator(api.showQRCodeURL(encodeURIComponent(ticket))));
  const isPicture = shown.status === 200 && shown.headers.get('content-type').startsWith('image/');
  note('co-wechat-api', 'showQRCodeURL', isPicture ? 'ok' : 'failed', isPicture ? '' : String(shown.status));
}

async function statistics() {
  const { now } = await sim('clock');
  const day = new Date((now - 24 * 3600) * 1000).toISOString().slice(0, 10);
  for (const method of Object.keys(require('co-wechat-api/lib/api_datacube'))) {
    await call(method, [day, day], { list });
  }
  await call('getUserSummary', [day, day], {
    list: [{ ref_date: day, user_source: whole, new_user: whole, cancel_user: whole }],
  });
  await call('getUserCumulate', [day, day], { list: [{ ref_date: day, user_source: whole, cumulate_user: whole }] });
}

async function tickets(openid) {
  const ticket = { ticket: text, expireTime: whole };
  for (const type of ['jsapi', 'wx_card']) {
    const got = await call('getTicket', [type], ticket);
    await call('ensureTicket', [type], { ticket: got.ticket });
  }
  await call('getTicket', [], ticket);
  await call('getLatestTicket', [], ticket);
  const page = 'http://127.0.0.1/page?a=1';
  const config = await call('getJsConfig', [{ debug: false, jsApiList: ['getNetworkType'], url: page }],
    { appId: appid, timestamp: text, nonceStr: text, signature: text, jsApiList: ['getNetworkType'] });
  const phone = await fetch(`${platform}/sdk/preVerifyJSAPI`, {
    method: 'POST', body: JSON.stringify({ ...config, url: page }),
  });
  const { errMsg } = await phone.json();
  note('co-wechat-api', 'getJsConfig', errMsg === 'config:ok' ? 'ok' : 'failed', errMsg);
  await call('getCardExt', [{ card_id: 'pSimCard00000000000000000001', code: '1', openid }],
    { timestamp: text, signature: (sign) => sign.length === 40, code: '1', openid });
  // From now on tickets are kept elsewhere.
  const kept = {};
  await call('registerTicketHandle', [async (type) => kept[type], async (type, one) => { kept[type] = one; }], nothing);
  await api.ensureTicket('jsapi');
  note('co-wechat-api', 'registerTicketHandle', text(kept.jsapi && kept.jsapi.ticket) ? 'ok' : 'failed');
}

async function signIn(openid) {
  const back = 'http://127.0.0.1/landing?a=1&b=2';
  const consent = async () => {
    const address = await oauth.getAuthorizeURL(back, 'aState2', 'snsapi_userinfo');
    const answer = await fetch(atSimulator(address), {
      method: 'POST', redirect: 'manual', body: new URLSearchParams({ _fan: openid, _choice: 'allow' }),
    });
    return Object.fromEntries(new URL(answer.headers.get('location')).searchParams);
  };
  const landed = await consent();
  const wrong = differs(landed, { a: '1', b: '2', state: 'aState2', code: (code) => code.length === 32 });
  note('co-wechat-oauth', 'getAuthorizeURL', wrong ? 'failed' : 'ok', wrong || '');

  const data = {
    access_token: text, expires_in: 7200, refresh_token: text, openid, scope: 'snsapi_userinfo', create_at: whole,
  };
  const person = {
    openid, nickname: '新粉丝', sex: 0, language: '', city: '', province: '', country: '', headimgurl: string,
    privilege: [],
  };
  await grant('setOpts', [{ timeout: 10000 }], nothing);
  const granted = await grant('getAccessToken', [landed.code], { data });
  await grant('processToken', [granted.data], { data: { openid } });
  const refreshed = await grant('refreshAccessToken', [granted.data.refresh_token], { data });
  const token = refreshed.data.access_token;
  await grant('verifyToken', [openid, token], OK);
  await grant('getUser', [openid], person);
  await grant('getUser', [{ openid, lang: 'zh_CN' }], person);
  await grant('_getUser', [{ openid, lang: 'zh_CN' }, token], person);
  await grant('getUserByCode', [(await consent()).code], person);
  const address = `https://api.weixin.qq.com/sns/auth?access_token=${token}&openid=${openid}`;
  await grant('request', [address], OK);
}

function offered(client) {
  const names = Object.getOwnPropertyNames(client.prototype);
  return names.filter((name) => name !== 'constructor' && typeof client.prototype[name] === 'function');
}

(async () => {
  const openid = await fan();
  const other = await fan();
  await client();
  await followers(openid, other);
  const made = await files();
  await menus(openid);
  await customerService();
  await messages(made);
  await massMessages(made);
  await templates(openid);
  await codes();
  await statistics();
  await tickets(openid);
  await signIn(openid);
  fs.rmSync(folder, { recursive: true });
  const rows = Object.entries({ 'co-wechat-api': API, 'co-wechat-oauth': OAuth }).flatMap(([client, type]) => {
    const methods = offered(type);
    const unknown = Object.keys(outcomes[client]).filter((method) => !methods.includes(method));
    if (unknown.length > 0) throw new Error(`${client} has no ${unknown}`);
    return methods.map((method) => ({
      client, method, ...(outcomes[client][method] || { outcome: 'unused', why: '' }),
    }));
  });
  console.log(JSON.stringify(rows));
})().catch((why) => {
  console.error(why);
  process.exit(1);
});
