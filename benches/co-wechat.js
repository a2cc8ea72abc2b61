// The same account answered by co-wechat on Koa: what `offiaccount` is compared with.
// NODE_PATH names the folder of its packages. co-wechat has no JS-SDK config of its own, so that one is
// signed with Node's crypto, as its users do it.
'use strict';

const crypto = require('crypto');
const Koa = require('koa');
const wechat = require('co-wechat');

const account = {
  token: process.env.WECHAT_TOKEN,
  appid: process.env.WECHAT_APPID,
  encodingAESKey: process.env.WECHAT_ENCODING_AES_KEY,
};
const [host, port] = process.env.LISTEN.split(':');

const answer = wechat(account).middleware(async (message) => `Hello ${message.Content}`);

function jsConfig(url) {
  const timestamp = Math.floor(Date.now() / 1000);
  const nonceStr = crypto.randomBytes(8).toString('hex');
  const signed = `jsapi_ticket=${'t'.repeat(86)}&noncestr=${nonceStr}&timestamp=${timestamp}&url=${url}`;
  return {
    debug: false,
    appId: account.appid,
    timestamp,
    nonceStr,
    signature: crypto.createHash('sha1').update(signed).digest('hex'),
    jsApiList: ['updateAppMessageShareData', 'updateTimelineShareData'],
  };
}

const app = new Koa();
app.use(async (ctx, next) => {
  if (ctx.path === '/getJSConfig') {
    ctx.body = jsConfig(ctx.query.url);
  } else {
    await next();
  }
});
app.use(answer);
app.listen(Number(port), host);
