// Uses the simulator as the platform, through npm's co-wechat-api and co-wechat-oauth.
//
// Takes a JSON object as its argument: platform (the simulator's address), appid, appsecret, openid (of
// a fan), redirect_uri, and the url of a page.
'use strict';

const API = require('co-wechat-api');
const OAuth = require('co-wechat-oauth');

const task = JSON.parse(process.argv[2]);
const { openid } = task;

// The package has WeChat's address in its code.
class OAuthAtSimulator extends OAuth {
  request(url, options) {
    return super.request(atSimulator(url), options);
  }
}

function atSimulator(url) {
  return url.replace(/^https:\/\/(api|open)\.weixin\.qq\.com/, task.platform);
}

async function refusal(call) {
  try {
    await call();
  } catch (why) {
    return why.code;
  }
  return null;
}

function client(secret) {
  const api = new API(task.appid, secret);
  api.prefix = task.platform + '/cgi-bin/';
  return api;
}

(async () => {
  const api = client(task.appsecret);
  const token = await api.ensureAccessToken();
  const followers = await api.getFollowers();
  const user = await api.getUser({ openid, lang: 'zh_CN' });
  const batch = await api.batchGetUsers(followers.data.openid);
  const ticket = await api.getTicket();
  const config = await api.getJsConfig({ debug: false, jsApiList: ['getNetworkType'], url: task.url });
  const phone = await fetch(task.platform + '/sdk/preVerifyJSAPI', {
    method: 'POST',
    body: JSON.stringify({ ...config, url: task.url }),
  });

  // A token that the platform does not know any more: the package gets a new one and repeats the call.
  await api.saveToken({ accessToken: 'stale', expireTime: Date.now() + 7200000 });
  const repeated = (await api.getFollowers()).total;

  const oauth = new OAuthAtSimulator(task.appid, task.appsecret);
  const consented = await fetch(atSimulator(oauth.getAuthorizeURL(task.redirect_uri, 'aState2', 'snsapi_userinfo')), {
    method: 'POST',
    redirect: 'manual',
    body: new URLSearchParams({ _fan: openid, _choice: 'allow' }),
  });
  const landed = new URL(consented.headers.get('location')).searchParams;
  const code = landed.get('code');
  const granted = await oauth.getAccessToken(code);
  const refreshed = await oauth.refreshAccessToken(granted.data.refresh_token);
  const profile = await oauth.getUser({ openid, lang: 'zh_CN' });
  const valid = await oauth.verifyToken(openid, refreshed.data.access_token);

  console.log(JSON.stringify({
    token,
    followers,
    user,
    batch: batch.user_info_list.map((one) => one.openid),
    ticket,
    config: await phone.json(),
    repeated,
    state: landed.get('state'),
    granted: granted.data,
    refreshed: refreshed.data,
    profile,
    valid,
    refusals: {
      wrong_secret: await refusal(() => client('1'.repeat(32)).ensureAccessToken()),
      unknown_openid: await refusal(() => api.getUser({ openid: 'oNobody000000000000000000000' })),
      used_code: await refusal(() => oauth.getAccessToken(code)),
    },
  }));
})();
