// Says things to the backend as the platform would, with the cryptography of npm's wechat-crypto.
//
// Takes a JSON object as its argument: url (of /wechat), token, aes_key, appid, texts.
'use strict';

const crypto = require('crypto');
const { promisify } = require('util');
const WXBizMsgCrypt = require('wechat-crypto');
const xml2js = require('xml2js');

const FAN = 'oFan0000000000000000000000002';
const ACCOUNT = 'gh_000000000sim';

const task = JSON.parse(process.argv[2]);
const box = new WXBizMsgCrypt(task.token, task.aes_key, task.appid);

async function fields(xml) {
  const read = await promisify(xml2js.parseString)(xml, { explicitArray: false });
  return read.xml;
}

async function say(text, place) {
  const timestamp = String(Math.floor(Date.now() / 1000));
  const nonce = crypto.randomBytes(8).toString('hex');
  const xml = `<xml><ToUserName><![CDATA[${ACCOUNT}]]></ToUserName><FromUserName><![CDATA[${FAN}]]></FromUserName>`
    + `<CreateTime>${timestamp}</CreateTime><MsgType><![CDATA[text]]></MsgType>`
    + `<Content><![CDATA[${text}]]></Content><MsgId>${8000000000000000 + place}</MsgId></xml>`;
  const encrypt = box.encrypt(xml);
  const query = new URLSearchParams({
    signature: crypto.createHash('sha1').update([task.token, timestamp, nonce].sort().join('')).digest('hex'),
    timestamp,
    nonce,
    openid: FAN,
    encrypt_type: 'aes',
    msg_signature: box.getSignature(timestamp, nonce, encrypt),
  });
  const envelope = `<xml><ToUserName><![CDATA[${ACCOUNT}]]></ToUserName><Encrypt><![CDATA[${encrypt}]]></Encrypt></xml>`;
  const answer = await fetch(`${task.url}?${query}`, { method: 'POST', body: envelope });
  const body = await answer.text();
  if (answer.status !== 200) throw new Error(`${answer.status} ${body}`);
  const reply = await fields(body);
  const signature = box.getSignature(reply.TimeStamp, reply.Nonce, reply.Encrypt);
  const opened = box.decrypt(reply.Encrypt);
  return {
    content_type: answer.headers.get('content-type'),
    is_signed: signature === reply.MsgSignature,
    appid: opened.id,
    reply: await fields(opened.message),
  };
}

(async () => {
  const said = [];
  for (const [place, text] of task.texts.entries()) said.push(await say(text, place));
  console.log(JSON.stringify({ said }));
})();
