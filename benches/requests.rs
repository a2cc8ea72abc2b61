//! Writes requests for a load generator to send: each is unique and freshly signed, so none of them is
//! a retry and none is refused. `tests/load` runs this before each measurement.
//!
//! What it writes is one record for each request: its length in decimal digits, a line feed, and the
//! request as HTTP/1.1.

use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Parser, ValueEnum};
use offiaccount::store::{self, Digest, OAuthGrant, Session, Store, StoreKey, Vault};
use offiaccount::telemetry::metrics::Metrics;
use offiaccount::wechat::crypto::{Cipher, EncodingAesKey};
use offiaccount::wechat::id::{AppId, OpenId};
use offiaccount::wechat::signature;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

/// A month: no session ends while it is measured.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Users that are stored at once.
const AT_ONCE: u64 = 1_000;

/// Which requests.
#[derive(Clone, Copy, ValueEnum)]
enum Job {
    /// Plain text messages, each with a MsgId and a sender of its own.
    Plain,
    /// The same, encrypted.
    Safe,
    /// Signed configs for pages.
    Jsconfig,
    /// The URL check.
    Echo,
    /// Signed-in users, chosen among those that `--store-users` has stored.
    User,
    /// The account's token.
    Tokens,
    /// One address that answers without any work.
    Static,
}

#[derive(Parser)]
struct Arguments {
    job: Job,
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// The number of the first request: two files with other numbers share no message.
    #[arg(long, default_value_t = 0)]
    first: u64,
    #[arg(long, default_value = "loadtesting")]
    token: String,
    #[arg(long, default_value = "wx0123456789abcdef")]
    appid: String,
    #[arg(long, default_value = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG")]
    encoding_aes_key: String,
    #[arg(long, default_value = "bench")]
    admin_token: String,
    /// The number of users from which `user` chooses.
    #[arg(long, default_value_t = 1_000)]
    users: u64,
    /// Stores the users there, each with a session after `snsapi_base`, and writes no request.
    #[arg(long)]
    store_users: Option<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == "--bench") {
        eprintln!("requests: a tool of tests/load, which measures; there is nothing to run here");
        return Ok(());
    }
    let arguments = Arguments::parse();
    if let Some(url) = &arguments.store_users {
        return store_users(url, arguments.users);
    }
    write_requests(&arguments, BufWriter::new(std::io::stdout().lock()))
}

fn write_requests(arguments: &Arguments, mut out: impl Write) -> anyhow::Result<()> {
    let appid = AppId::parse(&arguments.appid)?;
    let key = EncodingAesKey::parse(&arguments.encoding_aes_key)?;
    let cipher = Cipher::new(&key, appid);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    for number in arguments.first..arguments.first + arguments.count {
        let request = match arguments.job {
            Job::Plain => {
                let target = format!("/wechat?{}", signed(&arguments.token, now, number));
                post(&target, &message(now, number))
            }
            Job::Safe => {
                let mut random = [0; 16];
                random[..8].copy_from_slice(&number.to_be_bytes());
                let encrypt = cipher.encrypt(&message(now, number), random);
                let (timestamp, nonce) = (now.to_string(), nonce(number));
                let sealed =
                    signature::sign_encrypted(&arguments.token, &timestamp, &nonce, &encrypt);
                let query = signed(&arguments.token, now, number);
                let target = format!("/wechat?{query}&encrypt_type=aes&msg_signature={sealed}");
                let body = format!(
                    "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>\
                     <Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>"
                );
                post(&target, &body)
            }
            Job::Jsconfig => get(
                &format!("/getJSConfig?url=http%3A%2F%2F127.0.0.1%3A3000%2Fpage%3Fn%3D{number}"),
                "",
            ),
            Job::Echo => {
                let query = signed(&arguments.token, now, number);
                get(&format!("/wechat?{query}&echostr={}", scatter(number)), "")
            }
            Job::User => {
                let session = session(scatter(number) % arguments.users);
                get(
                    "/getUser",
                    &format!("Cookie: offiaccount_session={session}\r\n"),
                )
            }
            Job::Tokens => get(
                "/getTokens",
                &format!("Authorization: Bearer {}\r\n", arguments.admin_token),
            ),
            Job::Static => get("/static", ""),
        };
        write!(out, "{}\n{request}", request.len())?;
    }
    out.flush()?;
    Ok(())
}

/// A number that looks like chance, the same for the same number (the finalizer of `MurmurHash3`).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1);
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ mixed >> 33).wrapping_mul(factor);
    }
    mixed ^ mixed >> 33
}

fn nonce(number: u64) -> String {
    format!("{:010}", scatter(number))
}

fn signed(token: &str, now: u64, number: u64) -> String {
    let (timestamp, nonce) = (now.to_string(), nonce(number));
    let signature = signature::sign(token, &timestamp, &nonce);
    format!("signature={signature}&timestamp={timestamp}&nonce={nonce}")
}

fn open_id(number: u64) -> String {
    format!("oLoad{number:023}")
}

fn session(number: u64) -> String {
    hex::encode(Sha256::digest(number.to_be_bytes()))
}

fn message(now: u64, number: u64) -> String {
    let (sender, msg_id) = (open_id(number), 23_000_000_000_000_000 + number);
    format!(
        "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>\n\
         <FromUserName><![CDATA[{sender}]]></FromUserName>\n\
         <CreateTime>{now}</CreateTime>\n\
         <MsgType><![CDATA[text]]></MsgType>\n\
         <Content><![CDATA[你好，第 {number} 个]]></Content>\n\
         <MsgId>{msg_id}</MsgId>\n\
         </xml>"
    )
}

fn post(target: &str, body: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: Mozilla/4.0\r\n\
         Accept: */*\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nAccept: */*\r\n{headers}\r\n")
}

/// Signs everybody in, in a new database or one that holds some of them.
#[tokio::main]
async fn store_users(url: &str, users: u64) -> anyhow::Result<()> {
    let store = store::open(url, Metrics::new()?.store).await?;
    let vault = Vault::new(&StoreKey::generate(), None);
    let grant = OAuthGrant {
        scope: "snsapi_base".into(),
        access_token: vault.seal("load", &"t".repeat(100)),
        access_expires_in: LIFETIME,
        refresh_token: vault.seal("load", &"r".repeat(100)),
        refresh_expires_in: LIFETIME,
    };
    let mut storing = JoinSet::new();
    for number in 0..users {
        let (store, grant) = (store.clone(), grant.clone());
        storing.spawn(async move { store_user(&*store, &grant, number).await });
        if storing.len() as u64 >= AT_ONCE
            && let Some(stored) = storing.join_next().await
        {
            stored??;
        }
    }
    while let Some(stored) = storing.join_next().await {
        stored??;
    }
    store.close().await;
    Ok(())
}

async fn store_user(store: &dyn Store, grant: &OAuthGrant, number: u64) -> anyhow::Result<()> {
    let open_id = OpenId::parse(&open_id(number))?;
    store.save_grant(&open_id, None, grant).await?;
    let record = Session {
        open_id,
        scope: "snsapi_base".into(),
    };
    let id = Digest(Sha256::digest(session(number)).into());
    store.create_session(&id, &record, LIFETIME).await?;
    Ok(())
}
