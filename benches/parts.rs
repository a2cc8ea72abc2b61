//! What the parts of a message's way cost, and what they allocate. `cargo bench --bench parts`
//!
//! All of it is pure: no store, no socket, no clock.

#![expect(clippy::unwrap_used, reason = "a benchmark ends with the first fault")]

use divan::{AllocProfiler, Bencher, black_box};
use offiaccount::wechat::crypto::{self, Cipher, EncodingAesKey};
use offiaccount::wechat::id::AppId;
use offiaccount::wechat::query::DeliveryQuery;
use offiaccount::wechat::{Message, Reply, signature};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TOKEN: &str = "loadtesting";
const QUERY: &str = "signature=0123456789abcdef0123456789abcdef01234567&timestamp=1790000000\
                     &nonce=1234567890&openid=oFan000000000000000000000001";
const XML: &str = "<xml><ToUserName><![CDATA[gh_0123456789ab]]></ToUserName>\n\
                   <FromUserName><![CDATA[oFan000000000000000000000001]]></FromUserName>\n\
                   <CreateTime>1790000000</CreateTime>\n\
                   <MsgType><![CDATA[text]]></MsgType>\n\
                   <Content><![CDATA[你好，今天有什么新闻？]]></Content>\n\
                   <MsgId>23000000000000001</MsgId>\n\
                   </xml>";

fn main() {
    divan::main();
}

fn cipher() -> Cipher {
    let key = EncodingAesKey::parse("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG").unwrap();
    Cipher::new(&key, AppId::parse("wx0123456789abcdef").unwrap())
}

fn message() -> Message {
    Message::parse(XML.as_bytes()).unwrap()
}

fn reply() -> Reply {
    Reply::Text("Hello 你好，今天有什么新闻？".into())
}

#[divan::bench]
fn parse_the_query() -> DeliveryQuery<'static> {
    DeliveryQuery::parse(black_box(QUERY)).unwrap()
}

#[divan::bench]
fn check_the_signature() -> bool {
    signature::sign(TOKEN, black_box("1790000000"), "1234567890").matches("0")
}

#[divan::bench]
fn parse_a_text() -> Message {
    Message::parse(black_box(XML.as_bytes())).unwrap()
}

#[divan::bench]
fn name_it_in_the_ledger(bencher: Bencher<'_, '_>) {
    let message = message();
    bencher.bench_local(|| black_box(&message).ledger_key());
}

#[divan::bench]
fn write_a_reply(bencher: Bencher<'_, '_>) {
    let (message, reply) = (message(), reply());
    bencher.bench_local(|| black_box(&reply).to_xml(&message.from, &message.to, 1_790_000_000));
}

#[divan::bench]
fn decrypt_a_text(bencher: Bencher<'_, '_>) {
    let cipher = cipher();
    let encrypt = cipher.encrypt(XML, [7; 16]);
    bencher.bench_local(|| cipher.decrypt(black_box(&encrypt)).unwrap());
}

#[divan::bench]
fn check_the_signature_of_a_ciphertext(bencher: Bencher<'_, '_>) {
    let encrypt = cipher().encrypt(XML, [7; 16]);
    bencher.bench_local(|| {
        signature::sign_encrypted(TOKEN, "1790000000", "1234567890", black_box(&encrypt))
            .matches("0")
    });
}

#[divan::bench]
fn encrypt_a_reply(bencher: Bencher<'_, '_>) {
    let (cipher, message) = (cipher(), message());
    let xml = reply().to_xml(&message.from, &message.to, 1_790_000_000);
    let xml = xml.unwrap();
    bencher.bench_local(|| {
        let encrypt = cipher.encrypt(black_box(&xml), [7; 16]);
        let signature = signature::sign_encrypted(TOKEN, "1790000000", "1234567890", &encrypt);
        crypto::encrypted_reply_xml(&encrypt, &signature, 1_790_000_000, "1234567890")
    });
}

#[divan::bench]
fn sign_a_page(bencher: Bencher<'_, '_>) {
    let ticket = "t".repeat(86);
    bencher.bench_local(|| {
        let url = black_box("https://wx.example.com/page?id=1");
        signature::jssdk(&ticket, "0123456789abcdef", 1_790_000_000, url)
    });
}
