// An account's backend that other people could have written: Koa and npm's co-wechat.
//
// Takes a JSON object as its argument: token, aes_key (or null), appid. Prints {"port"} and serves until
// its input closes.
'use strict';

const Koa = require('koa');
const wechat = require('co-wechat');

const { token, aes_key: encodingAESKey, appid } = JSON.parse(process.argv[2]);

const app = new Koa();
app.silent = true;
app.use(wechat(encodingAESKey ? { token, appid, encodingAESKey } : { token, appid }).middleware(async (message) => {
  if (message.MsgType === 'event') return '';
  if (message.Content === 'news') {
    return [{ title: '一篇文章', description: '说明', picurl: 'http://127.0.0.1/a.png', url: 'http://127.0.0.1/a' }];
  }
  return `Koa: ${message.Content} (${typeof message.MsgId}, ${message.FromUserName})`;
}));

const server = app.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
