//! `/wechat`: who is let in, what is read, what is answered, and that a message is handled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeEncrypt as _, KeyIvInit as _};
use offiaccount::simulator::Mode;
use offiaccount::wechat::crypto::{Cipher, EncodingAesKey, read_encrypted_reply};
use offiaccount::wechat::id::AppId;
use offiaccount::wechat::signature::{sign, sign_encrypted};
use offiaccount::wechat::xml;
use offiaccount::{Bot, Context, Next, Reply};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::helpers::*;
use crate::wire::{raw, sign_in};

const FAN: &str = "oFan0000000000000000000000001";
/// Another key and another token, as before or after a change in the console.
const OTHER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const OTHER_TOKEN: &str = "tokenbefore2025";

/// A query with this timestamp and nonce, rightly signed whatever they are.
fn query(timestamp: &str, nonce: &str) -> String {
    let signature = sign(TOKEN, timestamp, nonce);
    format!("signature={signature}&timestamp={timestamp}&nonce={nonce}")
}

/// A query signed so many seconds from now.
fn query_at(offset: i64) -> String {
    query(&now().saturating_add_signed(offset).to_string(), &nonce())
}

/// The query and the body of a ciphertext under its right `msg_signature`.
fn sealed(encrypt: &str) -> (String, String) {
    let (timestamp, nonce) = (now().to_string(), nonce());
    let full = sign_encrypted(TOKEN, &timestamp, &nonce, encrypt);
    let query = format!(
        "{}&encrypt_type=aes&msg_signature={full}",
        query(&timestamp, &nonce)
    );
    (
        query,
        format!("<xml><ToUserName>{ACCOUNT}</ToUserName><Encrypt>{encrypt}</Encrypt></xml>"),
    )
}

/// A message of elements of one's own.
fn message(elements: &str) -> String {
    let msg_id = rand::random::<u64>() >> 1;
    format!(
        "<xml><ToUserName>{ACCOUNT}</ToUserName><FromUserName>{FAN}</FromUserName>\
         <CreateTime>{}</CreateTime><MsgId>{msg_id}</MsgId>{elements}</xml>",
        now()
    )
}

fn event(name: &str, elements: &str) -> String {
    format!(
        "<xml><ToUserName>{ACCOUNT}</ToUserName><FromUserName>{FAN}</FromUserName>\
         <CreateTime>{}</CreateTime><MsgType>event</MsgType><Event>{name}</Event>{elements}</xml>",
        now()
    )
}

/// The text of a reply, whose envelope must be right.
#[track_caller]
fn content(reply: &str) -> String {
    let root = xml::parse(reply.as_bytes()).expect(reply);
    let text = |name: &str| {
        root.child(name)
            .unwrap_or_else(|| panic!("no {name}: {reply}"))
            .text
            .clone()
    };
    assert_eq!(
        (&*text("ToUserName"), &*text("FromUserName")),
        (FAN, ACCOUNT)
    );
    assert_eq!(text("MsgType"), "text");
    assert!(
        text("CreateTime").parse::<u64>().unwrap().abs_diff(now()) < 30,
        "{reply}"
    );
    text("Content").into_owned()
}

/// The text of an answer of 200 and XML.
#[track_caller]
fn said(response: Response) -> impl Future<Output = String> {
    let at = std::panic::Location::caller();
    async move {
        let status = response.status();
        let content_type = response.headers().get("content-type").cloned();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{at}: {body}");
        assert!(
            content_type
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("application/xml"),
            "{at}"
        );
        content(&body)
    }
}

#[track_caller]
fn is_success(response: Response) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    async move {
        let status = response.status();
        assert_eq!(
            (status, &*response.text().await.unwrap()),
            (StatusCode::OK, "success"),
            "{at}"
        );
    }
}

#[track_caller]
fn is_refused(response: Response) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    async move {
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(
            (status, &*body),
            (StatusCode::FORBIDDEN, "Invalid signature"),
            "{at}"
        );
    }
}

/// 400 with a problem, which does not repeat the body.
#[track_caller]
fn is_malformed(response: Response) -> impl Future<Output = ()> {
    let at = std::panic::Location::caller();
    async move {
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{at}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{at}"
        );
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["code"], "not_a_message", "{at}: {problem}");
        assert!(!problem.to_string().contains("canary"), "{at}: {problem}");
    }
}

/// A bot that answers texts by how many messages it has handled.
fn counting() -> (Bot, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let handled = Arc::clone(&count);
    let bot = Bot::new().with(move |_: Context, _: Next| {
        let number = handled.fetch_add(1, Ordering::SeqCst) + 1;
        async move { Ok(Reply::Text(format!("number {number}"))) }
    });
    (bot, count)
}

// The URL check.

#[tokio::test]
async fn an_echostr_comes_back_byte_for_byte_as_plain_text() {
    let world = World::start().await;
    let longest = "a1".repeat(128);
    for (sent, echostr) in [
        ("5838479218127813673", "5838479218127813673"),
        ("aZ09_+/=-", "aZ09_+/=-"),
        ("a%2Bb%3D", "a+b="),
        (&longest, &longest),
    ] {
        let response = world
            .get(&format!("/wechat?{}&echostr={sent}", signed_query()))
            .await;
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(
            header("content-type").starts_with("text/plain"),
            "{}",
            header("content-type")
        );
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(response.bytes().await.unwrap(), echostr.as_bytes());
    }
}

#[tokio::test]
async fn an_echostr_of_a_wrong_form_is_400_and_never_reflected() {
    let world = World::start().await;
    let too_long = "echo".repeat(65);
    for echostr in [
        "%3Cscript%3Eecho%3C/script%3E",
        "<echo>",
        "echo%20echo",
        "echo%0A",
        "echo%00",
        "echo.",
        "%E4%BD%A0echo",
        "%FFecho",
        &too_long,
        "",
    ] {
        let response = world
            .get(&format!("/wechat?{}&echostr={echostr}", signed_query()))
            .await;
        let problem = expect_status(response, StatusCode::BAD_REQUEST).await;
        assert_eq!(problem["code"], "bad_echostr", "{echostr}");
        assert!(
            !problem.to_string().replace("echostr", "").contains("echo"),
            "{problem}"
        );
    }
    let without = world.get(&format!("/wechat?{}", signed_query())).await;
    expect_status(without, StatusCode::BAD_REQUEST).await;
}

#[tokio::test]
async fn the_consoles_check_passes_in_every_mode() {
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let mut setup = if mode == Mode::Plain {
            Setup::new()
        } else {
            Setup::safe()
        };
        setup.mode = mode;
        let world = setup.start().await;
        let verdict = world.sim("verify", Some(json!({}))).await;
        assert_eq!(verdict["ok"], true, "{mode:?}: {verdict}");
    }
}

// Who is let in.

#[tokio::test]
async fn a_wrong_signature_is_refused_before_the_body_is_looked_at() {
    let world = World::start().await;
    let (timestamp, nonce) = (now().to_string(), nonce());
    let wrong = format!(
        "signature={}&timestamp={timestamp}&nonce={nonce}",
        sign("another1", &timestamp, &nonce)
    );
    is_refused(world.get(&format!("/wechat?{wrong}&echostr=1")).await).await;
    is_refused(
        world
            .get(&format!("/wechat?{wrong}&echostr=<script>"))
            .await,
    )
    .await;
    is_refused(world.post(&wrong, text_xml("hi")).await).await;
    is_refused(world.post(&wrong, "not XML").await).await;
    is_refused(world.post(&wrong, "").await).await;
    is_refused(world.get("/wechat").await).await;
    is_refused(world.post("", text_xml("hi")).await).await;
    is_refused(world.get("/wechat?echostr=1").await).await;
}

#[tokio::test]
async fn the_signature_covers_timestamp_and_nonce() {
    let world = World::start().await;
    let (timestamp, nonce) = (now().to_string(), nonce());
    let signature = sign(TOKEN, &timestamp, &nonce);
    let query = |signature: &str, timestamp: &str, nonce: &str| {
        format!("signature={signature}&timestamp={timestamp}&nonce={nonce}")
    };
    let later = (now() + 1).to_string();
    is_refused(
        world
            .post(&query(signature.as_str(), &later, &nonce), text_xml("a"))
            .await,
    )
    .await;
    is_refused(
        world
            .post(&query(signature.as_str(), &timestamp, "17"), text_xml("a"))
            .await,
    )
    .await;
    let right = query(signature.as_str(), &timestamp, &nonce);
    assert_eq!(
        said(world.post(&right, text_xml("a")).await).await,
        "Hello a"
    );
}

#[tokio::test]
async fn a_parameter_that_stands_twice_is_refused() {
    let world = World::start().await;
    let (timestamp, nonce) = (now().to_string(), nonce());
    let signature = sign(TOKEN, &timestamp, &nonce);
    let right = query(&timestamp, &nonce);
    for again in [
        format!("signature={signature}"),
        format!("timestamp={timestamp}"),
        format!("nonce={nonce}"),
        "timestamp=1".to_owned(),
        "nonce".to_owned(),
    ] {
        is_refused(world.post(&format!("{right}&{again}"), text_xml("a")).await).await;
        is_refused(world.post(&format!("{again}&{right}"), text_xml("a")).await).await;
        is_refused(
            world
                .get(&format!("/wechat?{right}&echostr=1&{again}"))
                .await,
        )
        .await;
    }
    for twice in ["openid", "encrypt_type", "msg_signature", "echostr"] {
        let query = format!("{right}&{twice}={signature}&{twice}={signature}");
        is_refused(world.post(&query, text_xml("a")).await).await;
    }
    let unknown = format!("{right}&from=a&from=b");
    assert_eq!(
        said(world.post(&unknown, text_xml("a")).await).await,
        "Hello a"
    );
}

#[tokio::test]
async fn malformed_parameters_are_refused_though_rightly_signed() {
    let world = World::start().await;
    let fresh = now().to_string();
    for (timestamp, nonce) in [
        (&fresh[..9], "1"),
        (&*format!("{fresh}0"), "1"),
        (&*format!("0{fresh}"), "1"),
        (&*format!("+{}", &fresh[1..]), "1"),
        (&*format!("{}.0", &fresh[..8]), "1"),
        ("", "1"),
        (&*fresh, ""),
        (&*fresh, "a-b"),
        (&*fresh, "a_b"),
        (&*fresh, "1.5"),
        (&*fresh, &*"1".repeat(33)),
    ] {
        is_refused(world.post(&query(timestamp, nonce), text_xml("a")).await).await;
        let url = format!("/wechat?{}&echostr=1", query(timestamp, nonce));
        is_refused(world.get(&url).await).await;
    }
    // Bytes that are signed as they are and sent percent-encoded.
    for (nonce, sent) in [
        ("a b", "a%20b"),
        ("a\nb", "a%0Ab"),
        ("你", "%E4%BD%A0"),
        ("a+b", "a%2Bb"),
    ] {
        let signature = sign(TOKEN, &fresh, nonce);
        let query = format!("signature={signature}&timestamp={fresh}&nonce={sent}");
        is_refused(world.post(&query, text_xml("a")).await).await;
    }
    let signature = sign(TOKEN, &fresh, "1").to_string();
    for signature in [
        signature.to_uppercase(),
        signature[..39].to_owned(),
        format!("{signature}0"),
        format!("0x{}", &signature[2..]),
        String::new(),
    ] {
        let query = format!("signature={signature}&timestamp={fresh}&nonce=1");
        is_refused(world.post(&query, text_xml("a")).await).await;
    }
    let longest = query(&fresh, &"a1Z".repeat(11)[..32]);
    assert_eq!(
        said(world.post(&longest, text_xml("a")).await).await,
        "Hello a"
    );
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes_on_either_side() {
    let world = World::start().await;
    // One second more for those ahead of time, since a second may pass on the way.
    for stale in [-301, 302, -3600, 86_400] {
        is_refused(world.post(&query_at(stale), text_xml("a")).await).await;
        is_refused(
            world
                .get(&format!("/wechat?{}&echostr=1", query_at(stale)))
                .await,
        )
        .await;
    }
    for fresh in [-290, 0, 290] {
        assert_eq!(
            said(world.post(&query_at(fresh), text_xml("a")).await).await,
            "Hello a"
        );
        let response = world
            .get(&format!("/wechat?{}&echostr=1", query_at(fresh)))
            .await;
        assert_eq!(expect_status(response, StatusCode::OK).await, json!(1));
    }
}

#[tokio::test]
async fn the_age_of_a_message_is_no_reason_to_refuse_it() {
    let world = World::start().await;
    let old = text_xml("a").replace(&format!("<CreateTime>{}", now()), "<CreateTime>1700000000");
    assert!(old.contains("1700000000"));
    assert_eq!(said(world.deliver(&old).await).await, "Hello a");
}

#[tokio::test]
async fn with_a_key_a_plain_body_is_refused_whatever_the_query_says() {
    let world = Setup::safe().start().await;
    let (timestamp, nonce) = (now().to_string(), nonce());
    let plain = text_xml("a");
    let full = sign_encrypted(TOKEN, &timestamp, &nonce, &plain);
    for more in [
        String::new(),
        "&encrypt_type=raw".to_owned(),
        "&encrypt_type=aes".to_owned(),
        format!("&encrypt_type=aes&msg_signature={full}"),
        format!("&encrypt_type=raw&msg_signature={full}"),
    ] {
        let query = format!("{}{more}", query(&timestamp, &nonce));
        is_refused(world.post(&query, plain.clone()).await).await;
        is_refused(world.post(&query, "not XML").await).await;
    }
}

#[tokio::test]
async fn without_a_key_an_encrypted_body_is_refused_whatever_the_query_says() {
    let world = World::start().await;
    let (query, safe) = encrypted(&text_xml("a"));
    let encrypt = &safe[safe.find("<Encrypt>").unwrap()..];
    let compatible = text_xml("a").replace("</xml>", encrypt);
    let (plain_query, _) = query.split_once("&encrypt_type").unwrap();
    for body in [safe, compatible] {
        is_refused(world.post(&query, body.clone()).await).await;
        is_refused(world.post(plain_query, body.clone()).await).await;
        is_refused(
            world
                .post(&format!("{plain_query}&encrypt_type=raw"), body)
                .await,
        )
        .await;
    }
}

#[tokio::test]
async fn the_query_does_not_decide_what_must_be_encrypted() {
    let world = Setup::safe().start().await;
    for encrypt_type in ["raw", "", "none"] {
        let (query, body) = encrypted(&text_xml("a"));
        let query = query.replace("encrypt_type=aes", &format!("encrypt_type={encrypt_type}"));
        let reply = world.post(&query, body).await.text().await.unwrap();
        assert!(reply.contains("<Encrypt>"), "{encrypt_type}: {reply}");
    }
    let world = World::start().await;
    let query = format!(
        "{}&encrypt_type=aes&msg_signature={}",
        signed_query(),
        "0".repeat(40)
    );
    assert_eq!(
        said(world.post(&query, text_xml("a")).await).await,
        "Hello a"
    );
}

// Encryption.

#[tokio::test]
async fn a_fan_is_answered_in_every_mode() {
    for mode in [Mode::Plain, Mode::Compatible, Mode::Safe] {
        let mut setup = if mode == Mode::Plain {
            Setup::new()
        } else {
            Setup::safe()
        };
        setup.mode = mode;
        let world = setup.start().await;
        let openid = world.fan().await;
        let sent = json!({"openid": openid, "MsgType": "text", "Content": "你好 😀"});
        let result = world.act(sent).await;
        assert_eq!(
            result["shown_to_user"], "Hello 你好 😀",
            "{mode:?}: {result}"
        );
        assert_eq!(result["attempts"].as_array().unwrap().len(), 1);
        let body = result["attempts"][0]["body"].as_str().unwrap();
        assert_eq!(
            body.contains("<Encrypt>"),
            mode != Mode::Plain,
            "{mode:?}: {body}"
        );
        assert_eq!(
            body.contains("Hello"),
            mode == Mode::Plain,
            "{mode:?}: {body}"
        );
    }
}

#[tokio::test]
async fn a_reply_is_encrypted_and_signed_with_its_own_timestamp_and_nonce() {
    let world = Setup::safe().start().await;
    let (query, body) = encrypted(&text_xml("safe"));
    let response = world.post(&query, body).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/xml")
    );
    let body = response.text().await.unwrap();
    let reply = read_encrypted_reply(body.as_bytes()).unwrap();
    let expected = sign_encrypted(TOKEN, &reply.timestamp, &reply.nonce, &reply.encrypt);
    assert_eq!(reply.msg_signature, expected.as_str());
    assert!(reply.timestamp.parse::<u64>().unwrap().abs_diff(now()) < 30);
    assert_eq!(
        content(&cipher().decrypt(&reply.encrypt).unwrap()),
        "Hello safe"
    );
}

#[tokio::test]
async fn nothing_to_say_is_success_in_clear_in_safe_mode_too() {
    let world = Setup::safe().start().await;
    let (query, body) = encrypted(&event("VIEW", "<EventKey>http://a/</EventKey>"));
    is_success(world.post(&query, body).await).await;
}

#[tokio::test]
async fn what_stands_beside_the_ciphertext_is_never_read() {
    let world = Setup::safe().start().await;
    let (query, body) = encrypted(&text_xml("inner"));
    let outer = text_xml("outer").replace(FAN, "oSomebodyElse");
    let body = body.replace("<xml>", outer.strip_suffix("</xml>").unwrap());
    // The envelope's own receiver now stands twice, which nobody reads either.
    let reply = world.post(&query, body).await.text().await.unwrap();
    let reply = read_encrypted_reply(reply.as_bytes()).unwrap();
    assert_eq!(
        content(&cipher().decrypt(&reply.encrypt).unwrap()),
        "Hello inner"
    );
}

#[tokio::test]
async fn both_signatures_must_hold_and_fit_this_ciphertext() {
    let world = Setup::safe().start().await;
    let (query, body) = encrypted(&text_xml("a"));
    let (_, other) = encrypted(&text_xml("b"));
    is_refused(world.post(&query, other).await).await;
    let (plain_query, _) = query.split_once("&msg_signature").unwrap();
    is_refused(world.post(plain_query, body.clone()).await).await;
    let swapped = query.replacen("signature=", "signature=0", 1);
    is_refused(world.post(&swapped, body.clone()).await).await;
    let signature = &query["signature=".len()..][..40];
    let repeated = format!("{plain_query}&msg_signature={signature}");
    is_refused(world.post(&repeated, body.clone()).await).await;
    // A right msg_signature does not stand in for a wrong signature.
    let full = query.rsplit_once('=').unwrap().1;
    let wrong_first = query.replacen(signature, full, 1);
    is_refused(world.post(&wrong_first, body.clone()).await).await;
    assert_eq!(world.post(&query, body).await.status(), StatusCode::OK);
}

/// Encrypts a plaintext as it is, whatever it holds.
fn seal(plain: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
    let lenient = NO_PAD.with_decode_allow_trailing_bits(true);
    let lenient = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let key: [u8; 32] = lenient.decode(AES_KEY).unwrap().try_into().unwrap();
    let iv: [u8; 16] = key[..16].try_into().unwrap();
    let mut buffer = plain.to_vec();
    cbc::Encryptor::<aes::Aes256>::new(&key.into(), &iv.into())
        .encrypt_padded::<NoPadding>(&mut buffer, plain.len())
        .unwrap();
    STANDARD.encode(buffer)
}

/// A plaintext of these parts; the padding fills it to 32 by the rule unless `padding` says otherwise.
fn plaintext(length: usize, message: &[u8], appid: &str, padding: Option<u8>) -> Vec<u8> {
    let mut plain = [
        &[7; 16],
        &u32::try_from(length).unwrap().to_be_bytes()[..],
        message,
        appid.as_bytes(),
    ]
    .concat();
    let by_rule = 32 - plain.len() % 32;
    let padding = padding.unwrap_or(u8::try_from(by_rule).unwrap());
    plain.resize(plain.len() + by_rule, padding);
    plain
}

#[tokio::test]
async fn every_part_of_the_envelope_is_checked_behind_a_right_signature() {
    let world = Setup::safe().start().await;
    let xml = text_xml("a");
    let (xml, length) = (xml.as_bytes(), xml.len());
    let right = plaintext(length, xml, APPID, None);
    let (query, body) = sealed(&seal(&right));
    assert_eq!(
        world.post(&query, body).await.status(),
        StatusCode::OK,
        "the control"
    );

    let mut first_padding_byte = right.clone();
    let padding = usize::from(*right.last().unwrap());
    first_padding_byte[right.len() - padding] ^= 1;
    // The AppID may end where the plaintext's padding of 32 begins.
    let whole_block = [&b"<xml/>                          "[..6], &[b' '; 20][..]].concat();
    for (what, plain) in [
        ("a padding of 0", plaintext(length, xml, APPID, Some(0))),
        ("a padding of 33", plaintext(length, xml, APPID, Some(33))),
        ("a padding of 255", plaintext(length, xml, APPID, Some(255))),
        (
            "a padding whose first byte differs",
            if padding > 1 {
                first_padding_byte
            } else {
                vec![0; 32]
            },
        ),
        (
            "a length one too large",
            plaintext(length + 1, xml, APPID, None),
        ),
        (
            "a length one too small",
            plaintext(length - 1, xml, APPID, None),
        ),
        (
            "a length beyond the plaintext",
            plaintext(length + 4096, xml, APPID, None),
        ),
        (
            "the largest length",
            plaintext(u32::MAX as usize, xml, APPID, None),
        ),
        ("a length of 0", plaintext(0, xml, APPID, None)),
        (
            "another account's AppID",
            plaintext(length, xml, "wx0000000000000sin", None),
        ),
        (
            "an AppID with a tail",
            plaintext(length, xml, &format!("{APPID}0"), None),
        ),
        ("no AppID", plaintext(length, xml, "", None)),
        ("nothing but padding", vec![32; 32]),
        ("a header cut short", [vec![1; 15], vec![17; 17]].concat()),
        (
            "no message",
            plaintext(whole_block.len(), &whole_block, "wx", None),
        ),
    ] {
        let (query, body) = sealed(&seal(&plain));
        let response = world.post(&query, body).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{what}");
        is_refused(response).await;
    }
}

#[tokio::test]
async fn a_ciphertext_that_is_not_strict_base64_of_whole_blocks_is_refused() {
    let world = Setup::safe().start().await;
    let good = cipher().encrypt(&text_xml("a"), [1; 16]);
    let unpadded = good.trim_end_matches('=');
    for bad in [
        String::new(),
        "====".to_owned(),
        good[..good.len() - 4].to_owned(),
        format!("{good}="),
        format!("{good}AAAA"),
        format!("{good}\n"),
        format!("{} {}", &good[..8], &good[8..]),
        format!("-{}", &good[1..]),
        format!("{unpadded}!"),
        good[..64].to_owned(),
        "AAAAAAAAAAAAAAAAAAAAAA==".to_owned(),
    ] {
        let (query, body) = sealed(&bad);
        is_refused(world.post(&query, body).await).await;
    }
}

#[tokio::test]
async fn no_flipped_bit_in_any_block_gets_through() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let world = Setup::safe().start().await;
    let bytes = STANDARD
        .decode(cipher().encrypt(&text_xml("tampered"), [1; 16]))
        .unwrap();
    let (mut refused, mut malformed) = (0, 0);
    for at in (0..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        // Under a signature that does not cover it, always refused.
        let (query, _) = encrypted(&text_xml("tampered"));
        let body = sealed(&STANDARD.encode(&bytes)).1;
        is_refused(world.post(&query, body).await).await;
        // Under one that does, whoever made it knows the token: still no message of ours.
        let (query, body) = sealed(&STANDARD.encode(&bytes));
        let response = world.post(&query, body).await;
        match response.status() {
            StatusCode::FORBIDDEN => refused += 1,
            StatusCode::BAD_REQUEST => malformed += 1,
            other => panic!("byte {at}: {other} {}", response.text().await.unwrap()),
        }
    }
    assert!(
        refused > 0 && malformed > 0,
        "{refused} refused, {malformed} malformed"
    );
}

#[tokio::test]
async fn the_token_before_the_last_change_is_accepted_beside_the_new_one() {
    let setup =
        Setup::new().settings(|settings| settings.wechat_token_previous = Some(OTHER_TOKEN.into()));
    let world = setup.start().await;
    let (timestamp, nonce) = (now().to_string(), nonce());
    let signature = sign(OTHER_TOKEN, &timestamp, &nonce);
    let old = format!("signature={signature}&timestamp={timestamp}&nonce={nonce}");
    assert_eq!(
        said(world.post(&old, text_xml("old")).await).await,
        "Hello old"
    );
    assert_eq!(
        said(world.deliver(&text_xml("new")).await).await,
        "Hello new"
    );
    let signature = sign("neither0", &timestamp, &nonce);
    let neither = format!("signature={signature}&timestamp={timestamp}&nonce={nonce}");
    is_refused(world.post(&neither, text_xml("a")).await).await;
}

#[tokio::test]
async fn while_a_key_changes_a_reply_is_sealed_as_its_message_was() {
    // The backend has the new key and token already; the console still has the old ones.
    let setup = Setup::safe().settings(|settings| {
        settings.wechat_encoding_aes_key_previous = Some(AES_KEY.into());
        settings.wechat_encoding_aes_key = Some(OTHER_KEY.into());
        settings.wechat_token_previous = Some(TOKEN.into());
        settings.wechat_token = Some(OTHER_TOKEN.into());
    });
    let world = setup.start().await;
    let openid = world.fan().await;
    let sent = json!({"openid": openid, "MsgType": "text", "Content": "old"});
    let result = world.act(sent).await;
    assert_eq!(result["shown_to_user"], "Hello old", "{result}");

    // And then the new ones.
    let (timestamp, nonce) = (now().to_string(), nonce());
    let new = Cipher::new(
        &EncodingAesKey::parse(OTHER_KEY).unwrap(),
        AppId::parse(APPID).unwrap(),
    );
    let encrypt = new.encrypt(&text_xml("new"), [3; 16]);
    let plain = sign(OTHER_TOKEN, &timestamp, &nonce);
    let full = sign_encrypted(OTHER_TOKEN, &timestamp, &nonce, &encrypt);
    let query =
        format!("signature={plain}&timestamp={timestamp}&nonce={nonce}&msg_signature={full}");
    let response = world
        .post(&query, format!("<xml><Encrypt>{encrypt}</Encrypt></xml>"))
        .await;
    let body = response.text().await.unwrap();
    let reply = read_encrypted_reply(body.as_bytes()).unwrap();
    assert_eq!(content(&new.decrypt(&reply.encrypt).unwrap()), "Hello new");
    let expected = sign_encrypted(OTHER_TOKEN, &reply.timestamp, &reply.nonce, &reply.encrypt);
    assert_eq!(reply.msg_signature, expected.as_str());
}

#[tokio::test]
async fn all_refusals_look_the_same() {
    let world = Setup::safe().start().await;
    let (query, body) = encrypted(&text_xml("a"));
    let (_, other) = encrypted(&text_xml("b"));
    let (bad_padding, padded) = sealed(&seal(&[0; 64]));
    let (bad_appid, foreign) = sealed(&seal(&plaintext(1, b"a", "wxother", None)));
    let (bad_base64, no_base64) = sealed("!");
    let (stale, nonce) = ((now() - 4000).to_string(), nonce());
    let stale = format!(
        "signature={}&timestamp={stale}&nonce={nonce}",
        sign(TOKEN, &stale, &nonce)
    );
    let mut seen = Vec::new();
    for (query, body) in [
        ("", &body),
        ("signature=1", &body),
        (&*query.replacen("signature=", "signature=0", 1), &body),
        (&stale, &body),
        (&query, &other),
        (&query, &text_xml("plain")),
        (&query, &"no XML".to_owned()),
        (&bad_padding, &padded),
        (&bad_appid, &foreign),
        (&bad_base64, &no_base64),
    ] {
        let response = world.post(query, body.clone()).await;
        let status = response.status();
        let mut headers = response.headers().clone();
        headers.remove("x-request-id").expect("a request id");
        headers.remove("date");
        seen.push((status, headers, response.bytes().await.unwrap()));
    }
    assert_eq!(seen[0].0, StatusCode::FORBIDDEN);
    assert_eq!(seen[0].2, "Invalid signature");
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:#?}");
}

// One handling, one reply.

#[tokio::test]
async fn a_signature_is_no_good_for_another_message() {
    let (bot, count) = counting();
    let world = Setup::new().bot(bot).start().await;
    let (query, first) = (signed_query(), text_xml("first"));
    assert_eq!(
        said(world.post(&query, first.clone()).await).await,
        "number 1"
    );
    is_refused(world.post(&query, text_xml("second")).await).await;
    is_refused(world.post(&query, event("subscribe", "")).await).await;
    assert_eq!(
        said(world.post(&query, first).await).await,
        "number 1",
        "the platform's retry"
    );
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_retried_message_is_handled_once_and_gets_the_same_reply() {
    let (bot, count) = counting();
    let world = Setup::new().bot(bot).start().await;
    let first = text_xml("a");
    let reply = world.deliver(&first).await.text().await.unwrap();
    assert_eq!(content(&reply), "number 1");
    for _ in 0..3 {
        assert_eq!(said(world.deliver(&first).await).await, "number 1");
    }
    assert_eq!(
        said(world.deliver(&text_xml("a")).await).await,
        "number 2",
        "another message"
    );

    let happened = event("CLICK", "<EventKey>k</EventKey>");
    assert_eq!(said(world.deliver(&happened).await).await, "number 3");
    // Order and white space do not make another event of it.
    let key = "<EventKey>k</EventKey>";
    let moved = happened
        .replace(key, "")
        .replace("<xml>", &format!("<xml>\n{key}\n"));
    assert_eq!(said(world.deliver(&moved).await).await, "number 3");
    let other = happened.replace(">k<", ">l<");
    assert_eq!(
        said(world.deliver(&other).await).await,
        "number 4",
        "the same second, another key"
    );
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_retry_gets_the_same_reply_to_the_letter_at_another_instance_too() {
    let world = World::start().await;
    let other = App::start(&world.settings, Bot::new(), Default::default()).await;
    let message = text_xml("a");
    let first = world.deliver(&message).await.text().await.unwrap();
    // `CreateTime` counts whole seconds of the machine's clock.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let retry = world.deliver(&message).await.text().await.unwrap();
    assert_eq!(retry, first);
    let url = format!("{}/wechat?{}", other.url, signed_query());
    let retry = world.http.post(url).body(message).send().await.unwrap();
    assert_eq!(retry.text().await.unwrap(), first);
}

#[tokio::test]
async fn a_retry_in_safe_mode_gets_the_same_reply_encrypted_anew() {
    let (bot, count) = counting();
    let world = Setup::safe().bot(bot).start().await;
    let message = text_xml("a");
    let mut ciphertexts = Vec::new();
    for _ in 0..2 {
        let (query, body) = encrypted(&message);
        let body = world.post(&query, body).await.text().await.unwrap();
        let reply = read_encrypted_reply(body.as_bytes()).unwrap();
        assert_eq!(
            content(&cipher().decrypt(&reply.encrypt).unwrap()),
            "number 1"
        );
        ciphertexts.push(reply.encrypt);
    }
    assert_ne!(ciphertexts[0], ciphertexts[1]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_same_number_of_another_fan_or_account_is_another_message() {
    let (bot, count) = counting();
    let world = Setup::new().bot(bot).start().await;
    let message = text_xml("a");
    world.deliver(&message).await;
    world
        .deliver(&message.replace(FAN, "oFan0000000000000000000000002"))
        .await;
    world
        .deliver(&message.replace(ACCOUNT, "gh_000000000two"))
        .await;
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn message_numbers_are_exact_beyond_what_a_float_holds() {
    let (bot, count) = counting();
    let world = Setup::new().bot(bot).start().await;
    let numbered = |number: &str| {
        text_xml("a")
            .replace("</xml>", "")
            .split("<MsgId>")
            .next()
            .unwrap()
            .to_owned()
            + &format!("<MsgId>{number}</MsgId></xml>")
    };
    for (n, number) in [
        "9007199254740992",
        "9007199254740993",
        "18446744073709551614",
        "18446744073709551615",
    ]
    .into_iter()
    .enumerate()
    {
        let reply = said(world.deliver(&numbered(number)).await).await;
        assert_eq!(reply, format!("number {}", n + 1), "{number}");
    }
    assert_eq!(
        said(world.deliver(&numbered("9007199254740993")).await).await,
        "number 2"
    );
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn duplicates_at_the_same_moment_join_one_handler() {
    let (gate, count) = (
        Arc::new(tokio::sync::Semaphore::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let bot = Bot::new().on_type("text", {
        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
        move |_: Context| {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            async move {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.unwrap().forget();
                format!("number {number}")
            }
        }
    });
    let world = Setup::new().bot(bot).start().await;
    let message = text_xml("a");
    let deliveries = async {
        futures_util::future::join_all(
            (0..5).map(|_| async { said(world.deliver(&message).await).await }),
        )
        .await
    };
    let release = async {
        let joined = async || {
            let metrics = world.get("/metrics").await.text().await.unwrap();
            metrics.contains("offiaccount_deliveries_repeated_total{found=\"joined\"} 4")
        };
        eventually(Duration::from_secs(3), joined).await;
        gate.add_permits(5);
    };
    let (replies, ()) = tokio::join!(deliveries, release);
    assert_eq!(replies, ["number 1"; 5]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_retry_at_another_instance_gets_the_reply_of_the_first() {
    let (bot, count) = counting();
    let world = Setup::new().bot(bot).start().await;
    let (other_bot, other_count) = counting();
    let other = App::start(&world.settings, other_bot, Default::default()).await;
    let message = text_xml("a");
    assert_eq!(said(world.deliver(&message).await).await, "number 1");
    let again = world
        .http
        .post(format!("{}/wechat?{}", other.url, signed_query()));
    assert_eq!(
        said(world.send(again.body(message)).await).await,
        "number 1"
    );
    assert_eq!(
        (
            count.load(Ordering::SeqCst),
            other_count.load(Ordering::SeqCst)
        ),
        (1, 0)
    );
    other.stop().await;
}

// What is read.

#[tokio::test]
async fn an_authentic_body_that_is_no_message_is_400() {
    let world = World::start().await;
    let good = text_xml("canary");
    let without = |name: &str| {
        let (from, to) = (format!("<{name}>"), format!("</{name}>"));
        let (head, rest) = good.split_once(&from).unwrap();
        format!("{head}{}", rest.split_once(&to).unwrap().1)
    };
    let nested = |levels: usize| {
        let (open, close) = ("<a>".repeat(levels), "</a>".repeat(levels));
        message(&format!(
            "<MsgType>text</MsgType><Content>canary</Content>{open}{close}"
        ))
    };
    let text = |content: &str| {
        message(&format!(
            "<MsgType>text</MsgType><Content>{content}</Content>"
        ))
    };
    let cases = [
        ("nothing", String::new()),
        ("no XML", "canary".to_owned()),
        ("JSON", r#"{"ToUserName":"canary"}"#.to_owned()),
        ("another root", good.replace("xml>", "root>")),
        ("two roots", format!("{good}{good}")),
        ("text after the root", format!("{good}canary")),
        ("a tag left open", good.replace("</xml>", "")),
        ("tags that cross", good.replace("</Content>", "</MsgType>")),
        ("a DOCTYPE", format!("<!DOCTYPE xml>{good}")),
        (
            "an entity of its own",
            format!(
                "<!DOCTYPE xml [<!ENTITY canary SYSTEM \"file:///etc/passwd\">]>{}",
                text("&canary;")
            ),
        ),
        ("an unknown entity", text("&nbsp;canary")),
        ("a bare ampersand", text("a & b")),
        ("a reference to NUL", text("&#0;")),
        ("the same in hex", text("&#x0;")),
        ("a reference to a control character", text("&#1;")),
        ("a reference to a non-character", text("&#xFFFE;")),
        ("a reference to a surrogate", text("&#xD800;")),
        ("a reference beyond Unicode", text("&#x110000;")),
        ("nine levels", nested(8)),
        ("a thousand levels", nested(1000)),
        ("a NUL", good.replace("canary", "can\0ary")),
        ("a Content twice", text("a</Content><Content>b")),
        (
            "a MsgType twice",
            message("<MsgType>text</MsgType><MsgType>text</MsgType><Content>a</Content>"),
        ),
        (
            "a FromUserName twice",
            good.replace("<xml>", "<xml><FromUserName>oOther</FromUserName>"),
        ),
        (
            "a MsgId twice",
            good.replace("</xml>", "<MsgId>1</MsgId></xml>"),
        ),
        (
            "an EventKey twice",
            event("CLICK", "<EventKey>a</EventKey><EventKey>b</EventKey>"),
        ),
        (
            "an Event twice",
            event("CLICK", "<Event>VIEW</Event><EventKey>b</EventKey>"),
        ),
        ("no Content", without("Content")),
        ("no MsgType", without("MsgType")),
        ("no FromUserName", without("FromUserName")),
        ("no ToUserName", without("ToUserName")),
        ("no CreateTime", without("CreateTime")),
        ("no Event", message("<MsgType>event</MsgType>")),
        (
            "a sender that is no openid",
            good.replace(FAN, "o Fan canary"),
        ),
    ];
    for (what, body) in cases {
        let response = world.deliver(&body).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{what}");
        is_malformed(response).await;
    }
    let mut latin1 = good.clone().into_bytes();
    let at = good.find("canary").unwrap();
    latin1[at] = 0xe9;
    is_malformed(world.post(&signed_query(), latin1).await).await;
}

#[tokio::test]
async fn an_authentic_ciphertext_of_no_message_is_400() {
    let world = Setup::safe().start().await;
    let doctype = format!("<!DOCTYPE xml>{}", text_xml("a"));
    for inner in ["", "canary", "<xml/>", &doctype] {
        let (query, body) = encrypted(inner);
        is_malformed(world.post(&query, body).await).await;
    }
    let latin1 = text_xml("caf").replace("caf", "caf\u{0}").into_bytes();
    let latin1: Vec<u8> = latin1
        .into_iter()
        .map(|byte| if byte == 0 { 0xe9 } else { byte })
        .collect();
    let (query, body) = sealed(&seal(&plaintext(latin1.len(), &latin1, APPID, None)));
    is_malformed(world.post(&query, body).await).await;
}

#[tokio::test]
async fn what_the_platform_really_sends_is_tolerated() {
    let world = World::start().await;
    let text = |more: &str| {
        message(&format!(
            "<MsgType>text</MsgType><Content>a</Content>{more}"
        ))
    };
    let deepest = format!("{}{}", "<b>".repeat(7), "</b>".repeat(7));
    for (what, body) in [
        ("an unknown element", text("<Novel>x</Novel>")),
        (
            "an unknown element twice",
            text("<Novel>x</Novel><Novel>y</Novel>"),
        ),
        (
            "unknown elements that nest",
            text("<Novel><item><a>1</a></item><item/></Novel>"),
        ),
        ("eight levels", text(&deepest)),
        ("a byte order mark", format!("\u{feff}{}", text(""))),
        (
            "a declaration",
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", text("")),
        ),
        (
            "white space between elements",
            text("").replace("><", ">\r\n  <"),
        ),
        ("a comment", text("<!-- a -->")),
        (
            "an attribute",
            text("").replace("<xml>", "<xml version=\"1\">"),
        ),
        ("an empty element", text("<MsgDataId></MsgDataId><Idx/>")),
        (
            "CDATA around a number",
            text("")
                .replace("<CreateTime>", "<CreateTime><![CDATA[")
                .replace("</CreateTime>", "]]></CreateTime>"),
        ),
        (
            "a known element of another type twice",
            text("<PicUrl>a</PicUrl><PicUrl>b</PicUrl>"),
        ),
    ] {
        let response = world.deliver(&body).await;
        assert_eq!(response.status(), StatusCode::OK, "{what}");
        assert_eq!(said(response).await, "Hello a", "{what}");
    }
}

#[tokio::test]
async fn an_unknown_type_or_event_is_success() {
    let world = World::start().await;
    for body in [
        message("<MsgType>hologram</MsgType><Content>a</Content>"),
        message("<MsgType>TEXT</MsgType><Content>a</Content>"),
        event("teleport", "<EventKey>a</EventKey>"),
        event("SUBSCRIBE", ""),
        event("user_authorize_revoke", ""),
    ] {
        is_success(world.deliver(&body).await).await;
    }
}

#[tokio::test]
async fn a_field_that_is_not_of_its_type_makes_the_message_unknown() {
    let world = World::start().await;
    for body in [
        text_xml("a").replace("<MsgId>", "<MsgId>x"),
        text_xml("a").replace("</xml>", "<Idx>first</Idx></xml>"),
        message(
            "<MsgType>location</MsgType><Location_X>north</Location_X><Location_Y>1</Location_Y>",
        ),
        message(
            "<MsgType>location</MsgType><Location_X>NaN</Location_X><Location_Y>1</Location_Y>",
        ),
        message("<MsgType>image</MsgType>"),
        text_xml("a").replace("<MsgId>", "<MsgId>184467440737095516160"),
    ] {
        is_success(world.deliver(&body).await).await;
    }
}

#[tokio::test]
async fn every_sample_of_the_platform_is_answered_200() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/messages");
    let (plain, safe) = (World::start().await, Setup::safe().start().await);
    let mut texts = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let xml = std::fs::read_to_string(&path).unwrap();
        if name.starts_with('_') {
            is_refused(plain.deliver(&xml).await).await;
            continue;
        }
        let response = plain.deliver(&xml).await;
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{name}: {body}");
        let is_text = xml.contains("<MsgType><![CDATA[text]]>");
        texts += usize::from(is_text);
        assert_eq!(body.contains("<![CDATA[Hello "), is_text, "{name}: {body}");
        assert_eq!(body == "success", !is_text, "{name}: {body}");

        let (query, body) = encrypted(&xml);
        let response = safe.post(&query, body).await;
        assert_eq!(response.status(), StatusCode::OK, "{name}");
    }
    assert!(texts >= 4, "{texts}");
}

// What is said.

#[tokio::test]
async fn a_text_that_nothing_else_answers_comes_back_with_hello() {
    let world = World::start().await;
    for (sent, back) in [
        ("mission", "mission"),
        ("你好，世界", "你好，世界"),
        ("😀👨‍👩‍👧", "😀👨‍👩‍👧"),
        ("  blanks \n and lines\t", "  blanks \n and lines\t"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("/::) [微笑]", "/::) [微笑]"),
        ("a\u{1}b\u{8}c\u{1f}d", "abcd"),
        ("a]]]]><![CDATA[>b", "a]]>b"),
    ] {
        let reply = said(world.deliver(&text_xml(sent)).await).await;
        assert_eq!(reply, format!("Hello {back}"));
    }
    let split = world
        .deliver(&text_xml("a]]]]><![CDATA[>b"))
        .await
        .text()
        .await
        .unwrap();
    let contents: Vec<_> = split.matches("<Content>").collect();
    assert_eq!(contents.len(), 1, "{split}");
    assert!(
        split.contains("<Content><![CDATA[Hello a]]]]><![CDATA[>b]]></Content>"),
        "{split}"
    );
    let bare = message("<MsgType>text</MsgType><Content>1 &lt; 2 &amp;&amp; &#x4f60;</Content>");
    assert_eq!(said(world.deliver(&bare).await).await, "Hello 1 < 2 && 你");
    let empty = message("<MsgType>text</MsgType><Content></Content>");
    assert_eq!(said(world.deliver(&empty).await).await, "Hello ");
}

#[tokio::test]
async fn a_long_text_is_cut_at_2048_bytes_between_two_characters() {
    let world = World::start().await;
    for (character, count) in [("a", 2042), ("你", 680), ("😀", 510)] {
        let exact = character.repeat(count);
        let reply = said(world.deliver(&text_xml(&exact)).await).await;
        assert_eq!(reply, format!("Hello {exact}"));
        let reply = said(
            world
                .deliver(&text_xml(&character.repeat(count + 400)))
                .await,
        )
        .await;
        assert_eq!(reply, format!("Hello {exact}"), "{}", reply.len());
    }
}

// Limits.

/// A rightly signed request as bytes, with headers and a body of one's own.
fn raw_post(headers: &str, body: &str) -> Vec<u8> {
    let query = signed_query();
    format!(
        "POST /wechat?{query} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[tokio::test]
async fn a_body_holds_64_kib_at_most() {
    let world = World::start().await;
    let (open, rest) = ("<!--", "--></xml>");
    let message = text_xml("a");
    let message = message.strip_suffix("</xml>").expect("a whole document");
    let filling = 65_536 - message.len() - open.len() - rest.len();
    let largest = format!("{message}{open}{}{rest}", " ".repeat(filling));
    assert_eq!(largest.len(), 65_536);
    assert_eq!(said(world.deliver(&largest).await).await, "Hello a");

    let over = " ".repeat(65_537);
    let answer = raw(&world.app.url, &raw_post("Content-Length: 65537", &over)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    let chunked = format!("10001\r\n{over}\r\n0\r\n\r\n");
    let answer = raw(
        &world.app.url,
        &raw_post("Transfer-Encoding: chunked", &chunked),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // The length alone is enough: nothing of it need arrive.
    let answer = raw(&world.app.url, &raw_post("Content-Length: 99999999999", "")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // And a small chunked body is as good as any.
    let small = text_xml("chunked");
    let chunked = format!("{:x}\r\n{small}\r\n0\r\n\r\n", small.len());
    let answer = raw(
        &world.app.url,
        &raw_post("Transfer-Encoding: chunked", &chunked),
    )
    .await;
    assert!(answer.contains("Hello chunked"), "{answer}");
}

#[tokio::test]
async fn a_compressed_body_is_415() {
    let world = World::start().await;
    for encoding in ["gzip", "deflate", "br", "x-novel"] {
        let url = format!("{}/wechat?{}", world.app.url, signed_query());
        let request = world.http.post(url).header("content-encoding", encoding);
        let problem = expect_status(
            world.send(request.body(text_xml("a"))).await,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
        );
        assert_eq!(problem.await["code"], "encoded_body");
    }
}

#[tokio::test]
async fn a_body_that_does_not_arrive_within_two_seconds_is_given_up() {
    let world = World::start().await;
    let began = std::time::Instant::now();
    let answer = raw(&world.app.url, &raw_post("Content-Length: 100", "<xml>")).await;
    let took = began.elapsed();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!((1900..3500).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn other_methods_are_405_and_say_what_is_allowed() {
    let world = World::start().await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}/wechat?{}", world.app.url, signed_query());
        let response = world.send(world.http.request(method, url)).await;
        assert_eq!(response.headers()["allow"], "GET, HEAD, POST");
        let problem = expect_status(response, StatusCode::METHOD_NOT_ALLOWED).await;
        assert_eq!(problem["code"], "method_not_allowed");
    }
    let url = format!("{}/wechat?{}&echostr=1", world.app.url, signed_query());
    let head = world.send(world.http.head(url)).await;
    assert_eq!(head.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_content_type_of_a_delivery_does_not_matter() {
    let world = World::start().await;
    for content_type in [
        "text/xml",
        "application/json",
        "application/x-www-form-urlencoded",
        "novel",
    ] {
        let url = format!("{}/wechat?{}", world.app.url, signed_query());
        let request = world.http.post(url).header("content-type", content_type);
        assert_eq!(
            said(world.send(request.body(text_xml("a"))).await).await,
            "Hello a"
        );
    }
}

// Farewells.

#[tokio::test]
async fn a_fan_who_leaves_is_answered_nothing_and_forgotten() {
    for farewell in [
        "unsubscribe",
        "user_authorization_revoke",
        "user_authorization_cancellation",
    ] {
        let bot = Bot::new().on_event("unsubscribe", async |_: Context| "don't go");
        let world = Setup::new().bot(bot).start().await;
        let openid = world.fan().await;
        sign_in(&world.http, &world.app.url, &world.sim, &openid).await;
        let user = expect_status(world.get("/getUser").await, StatusCode::OK).await;
        assert_eq!(user["openid"], openid);
        let result = world
            .act(json!({"openid": openid, "MsgType": "event", "Event": farewell, "OpenID": openid, "AppID": APPID, "RevokeInfo": "1"}))
            .await;
        assert_eq!(result["attempts"][0]["body"], "success", "{result}");
        expect_status(world.get("/getUser").await, StatusCode::UNAUTHORIZED).await;
    }
}
