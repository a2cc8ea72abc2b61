//! The least that an honest backend on poem does: checks the signature, reads the message, replies. No
//! ledger, no freshness, no replay check, no limits, no metrics, no log. What `offiaccount` costs is
//! measured against it. `GET /static` answers without any work at all: poem alone.
//!
//! Settings are `LISTEN`, `WECHAT_TOKEN`, `WECHAT_APPID` and `WECHAT_ENCODING_AES_KEY`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aes::Aes256;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use poem::http::StatusCode;
use poem::listener::{Acceptor, Listener as _, TcpListener};
use poem::web::{Data, LocalAddr, Query, RemoteAddr};
use poem::{EndpointExt as _, Response, Route, get, handler};
use quick_xml::events::Event;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

struct Account {
    token: String,
    appid: String,
    key: [u8; 32],
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
    timestamp: String,
    nonce: String,
    echostr: Option<String>,
    msg_signature: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    url: String,
}

#[derive(Default)]
struct Message {
    to: String,
    from: String,
    kind: String,
    content: String,
    encrypt: String,
}

fn sign(mut parts: Vec<&str>) -> String {
    parts.sort_unstable();
    hex::encode(Sha1::digest(parts.concat()))
}

impl Signed {
    fn is_authentic(&self, account: &Account) -> bool {
        let parts = vec![&*account.token, &*self.timestamp, &*self.nonce];
        sign(parts) == self.signature
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

fn parse(xml: &str) -> Option<Message> {
    let mut message = Message::default();
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut name = String::new();
    loop {
        let text = match reader.read_event().ok()? {
            Event::Start(tag) => {
                name = tag.name().0.to_owned();
                continue;
            }
            Event::Text(text) => text.xml10_content().into_owned(),
            Event::CData(text) => text.xml10_content().into_owned(),
            Event::End(_) => {
                name.clear();
                continue;
            }
            Event::Eof => return Some(message),
            _ => continue,
        };
        match &*name {
            "ToUserName" => message.to = text,
            "FromUserName" => message.from = text,
            "MsgType" => message.kind = text,
            "Content" => message.content = text,
            "Encrypt" => message.encrypt = text,
            _ => {}
        }
    }
}

fn reply(message: &Message) -> String {
    format!(
        "<xml><ToUserName><![CDATA[{}]]></ToUserName><FromUserName><![CDATA[{}]]></FromUserName>\
         <CreateTime>{}</CreateTime><MsgType><![CDATA[text]]></MsgType>\
         <Content><![CDATA[Hello {}]]></Content></xml>",
        message.from,
        message.to,
        now(),
        message.content
    )
}

fn decrypt(account: &Account, encrypt: &str) -> Option<String> {
    let mut buffer = STANDARD.decode(encrypt).ok()?;
    let iv: [u8; 16] = account.key[..16].try_into().ok()?;
    cbc::Decryptor::<Aes256>::new((&account.key).into(), (&iv).into())
        .decrypt_padded::<NoPadding>(&mut buffer)
        .ok()?;
    let length = u32::from_be_bytes(buffer.get(16..20)?.try_into().ok()?) as usize;
    String::from_utf8(buffer.get(20..20 + length)?.to_vec()).ok()
}

fn encrypt(account: &Account, xml: &str) -> Option<String> {
    let mut buffer = rand::random::<[u8; 16]>().to_vec();
    buffer.extend_from_slice(&u32::try_from(xml.len()).ok()?.to_be_bytes());
    buffer.extend_from_slice(xml.as_bytes());
    buffer.extend_from_slice(account.appid.as_bytes());
    let padding = 32 - buffer.len() % 32;
    buffer.resize(buffer.len() + padding, u8::try_from(padding).ok()?);
    let iv: [u8; 16] = account.key[..16].try_into().ok()?;
    let length = buffer.len();
    cbc::Encryptor::<Aes256>::new((&account.key).into(), (&iv).into())
        .encrypt_padded::<NoPadding>(&mut buffer, length)
        .ok()?;
    Some(STANDARD.encode(buffer))
}

#[handler]
fn echo(Query(query): Query<Signed>, Data(account): Data<&Arc<Account>>) -> Response {
    if !query.is_authentic(account) {
        return StatusCode::FORBIDDEN.into();
    }
    Response::builder()
        .content_type("text/plain; charset=utf-8")
        .body(query.echostr.unwrap_or_default())
}

#[handler]
fn receive(
    Query(query): Query<Signed>,
    Data(account): Data<&Arc<Account>>,
    body: String,
) -> Response {
    if !query.is_authentic(account) {
        return StatusCode::FORBIDDEN.into();
    }
    match answer(&query, account, &body) {
        Some(xml) => Response::builder()
            .content_type("application/xml; charset=utf-8")
            .body(xml),
        None => StatusCode::BAD_REQUEST.into(),
    }
}

fn answer(query: &Signed, account: &Account, body: &str) -> Option<String> {
    let message = parse(body)?;
    let Some(given) = &query.msg_signature else {
        return (message.kind == "text").then(|| reply(&message));
    };
    let parts = vec![
        &*account.token,
        &*query.timestamp,
        &*query.nonce,
        &*message.encrypt,
    ];
    if sign(parts) != *given {
        return None;
    }
    let message = parse(&decrypt(account, &message.encrypt)?)?;
    let encrypt = encrypt(account, &reply(&message))?;
    let (timestamp, nonce) = (now().to_string(), rand::random::<u32>().to_string());
    let signature = sign(vec![&account.token, &timestamp, &nonce, &encrypt]);
    Some(format!(
        "<xml><Encrypt><![CDATA[{encrypt}]]></Encrypt>\
         <MsgSignature><![CDATA[{signature}]]></MsgSignature>\
         <TimeStamp>{timestamp}</TimeStamp><Nonce><![CDATA[{nonce}]]></Nonce></xml>"
    ))
}

#[handler]
fn js_config(Query(page): Query<Page>, Data(account): Data<&Arc<Account>>) -> Response {
    let (timestamp, nonce) = (now(), hex::encode(rand::random::<[u8; 8]>()));
    let signed = format!(
        "jsapi_ticket={}&noncestr={nonce}&timestamp={timestamp}&url={}",
        "t".repeat(86),
        page.url
    );
    let config = serde_json::json!({
        "debug": false,
        "appId": account.appid,
        "timestamp": timestamp,
        "nonceStr": nonce,
        "signature": hex::encode(Sha1::digest(signed)),
        "jsApiList": ["updateAppMessageShareData", "updateTimelineShareData"],
    });
    Response::builder()
        .content_type("application/json; charset=utf-8")
        .body(config.to_string())
}

#[handler]
fn nothing() -> &'static str {
    "success"
}

/// poem's listener with small answers sent at once, as any server in earnest has it.
struct NoDelay<A>(A);

impl<A: Acceptor<Io = tokio::net::TcpStream>> Acceptor for NoDelay<A> {
    type Io = A::Io;

    fn local_addr(&self) -> Vec<LocalAddr> {
        self.0.local_addr()
    }

    async fn accept(
        &mut self,
    ) -> std::io::Result<(Self::Io, LocalAddr, RemoteAddr, poem::http::uri::Scheme)> {
        let accepted = self.0.accept().await?;
        accepted.0.set_nodelay(true)?;
        Ok(accepted)
    }
}

fn setting(name: &str) -> anyhow::Result<String> {
    std::env::var(name).map_err(|_| anyhow::anyhow!("{name} is not set"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == "--bench") {
        eprintln!("minimal: a server for tests/load, which measures; there is nothing to run here");
        return Ok(());
    }
    let lenient = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
    );
    let key = lenient.decode(setting("WECHAT_ENCODING_AES_KEY")?)?;
    let account = Account {
        token: setting("WECHAT_TOKEN")?,
        appid: setting("WECHAT_APPID")?,
        key: key
            .try_into()
            .map_err(|_| anyhow::anyhow!("the key has not 32 bytes"))?,
    };
    let app = Route::new()
        .at("/wechat", get(echo).post(receive))
        .at("/getJSConfig", get(js_config))
        .at("/static", get(nothing))
        .data(Arc::new(account));
    let acceptor = TcpListener::bind(setting("LISTEN")?)
        .into_acceptor()
        .await?;
    poem::Server::new_with_acceptor(NoDelay(acceptor))
        .run(app)
        .await?;
    Ok(())
}
