//! What the platform makes of an answer with status 200.

use serde_json::{Value, json};

use super::message::Message;
use crate::simulator::account::{Account, Mode};
use crate::wechat::crypto::{Cipher, read_encrypt, read_encrypted_reply};
use crate::wechat::reply::{MAX_ARTICLES_TO_EVENT, MAX_ARTICLES_TO_MESSAGE, Reply};
use crate::wechat::signature::sign_encrypted;

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// `success` or nothing: the fan sees nothing.
    Silence,
    /// A reply with what the phone shows of it, and its XML in clear.
    Reply {
        json: Value,
        shown: String,
        clear: String,
    },
    /// Something that is no reply, and why: the fan sees the failure line, and no retry comes.
    Failure(Failure),
}

/// What is wrong with an answer, or with there being none.
#[derive(Debug)]
pub(super) struct Failure {
    /// What the glossary has under `push:`.
    pub(super) topic: &'static str,
    pub(super) why: String,
}

/// An answer that is no reply at all.
fn malformed(why: &dyn std::fmt::Display) -> Failure {
    failure("form", why)
}

fn failure(topic: &'static str, why: &dyn std::fmt::Display) -> Failure {
    Failure {
        topic,
        why: why.to_string(),
    }
}

/// Reads an answer to `message` as the account's mode has it.
pub(super) fn judge(
    body: &[u8],
    message: &Message,
    account: &Account,
    cipher: Option<&Cipher>,
) -> Verdict {
    if body.is_empty() || body == b"success" {
        return Verdict::Silence;
    }
    match read(body, message, account, cipher) {
        Ok(reply) => reply,
        Err(failure) => Verdict::Failure(failure),
    }
}

fn read(
    body: &[u8],
    message: &Message,
    account: &Account,
    cipher: Option<&Cipher>,
) -> Result<Verdict, Failure> {
    let is_encrypted = read_encrypt(body).map_err(|why| malformed(&why))?.is_some();
    let clear = match (is_encrypted, cipher) {
        (false, Some(_)) if account.mode == Mode::Safe => {
            return Err(failure("clear", &"a clear reply in safe mode"));
        }
        (true, None) => return Err(failure("encrypted", &"an encrypted reply in plain mode")),
        (false, _) => String::from_utf8(body.to_vec()).map_err(|why| malformed(&why))?,
        (true, Some(cipher)) => decrypt(body, account, cipher)?,
    };
    let (head, mut reply) = Reply::parse(clear.as_bytes()).map_err(|why| malformed(&why))?;
    if head.to.as_str() != message.from() || head.from.as_str() != message.to() {
        let why = "ToUserName and FromUserName are not those of the message, swapped";
        return Err(failure("swapped", &why));
    }
    if let Reply::News(articles) = &mut reply {
        articles.truncate(match message.event {
            Some(_) => MAX_ARTICLES_TO_EVENT,
            None => MAX_ARTICLES_TO_MESSAGE,
        });
    }
    let mut json = serde_json::to_value(&reply).map_err(|why| malformed(&why))?;
    json["ToUserName"] = json!(head.to);
    json["FromUserName"] = json!(head.from);
    json["CreateTime"] = json!(head.create_time);
    Ok(Verdict::Reply {
        json,
        shown: shown(&reply),
        clear,
    })
}

/// The clear reply, once its signature holds and its AppID is the account's.
fn decrypt(body: &[u8], account: &Account, cipher: &Cipher) -> Result<String, Failure> {
    let reply = read_encrypted_reply(body).map_err(|why| malformed(&why))?;
    let token = account.token.expose();
    let signature = sign_encrypted(token, &reply.timestamp, &reply.nonce, &reply.encrypt);
    if !signature.matches(&reply.msg_signature) {
        return Err(failure("signature", &"MsgSignature does not match"));
    }
    cipher.decrypt(&reply.encrypt).map_err(|why| {
        let why = format!("the reply does not decrypt: {why}");
        failure("decrypt", &why)
    })
}

/// What the phone shows: a text itself, of the rest its kind and what names it.
fn shown(reply: &Reply) -> String {
    let title = |title: &Option<String>| title.clone().unwrap_or_default();
    match reply {
        // A conversation that is handed over goes on in another client.
        Reply::None | Reply::TransferCustomerService { .. } => String::new(),
        Reply::Text(content) => content.clone(),
        Reply::Image { media_id } => format!("[图片] {media_id}"),
        Reply::Voice { media_id } => format!("[语音] {media_id}"),
        Reply::Video {
            media_id,
            title: name,
            ..
        } => match title(name) {
            name if name.is_empty() => format!("[视频] {media_id}"),
            name => format!("[视频] {name}"),
        },
        Reply::Music { title: name, .. } => format!("[音乐] {}", title(name)),
        Reply::News(articles) => {
            let titles: Vec<_> = articles
                .iter()
                .map(|article| article.title.as_str())
                .collect();
            format!("[图文] {}", titles.join(" / "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Options;
    use crate::simulator::mint::Mint;

    /// Judges `body` in plain mode as the answer to a text or to a follow.
    fn judged(body: &str, is_event: bool) -> Verdict {
        let account = Options::default().account().unwrap();
        let members = if is_event {
            json!({"openid": "oFan", "MsgType": "event", "Event": "subscribe"})
        } else {
            json!({"openid": "oFan", "MsgType": "text", "Content": "x"})
        };
        let members = members.as_object().unwrap().clone();
        let message = Message::build(members, &account, &mut Mint::new(Some(1))).unwrap();
        judge(body.as_bytes(), &message, &account, None)
    }

    fn reply(rest: &str) -> String {
        format!(
            "<xml><ToUserName>oFan</ToUserName><FromUserName>gh_000000000sim</FromUserName>\
             <CreateTime>1700000000</CreateTime>{rest}</xml>"
        )
    }

    #[track_caller]
    fn check_failure(body: &str) {
        let verdict = judged(body, false);
        assert!(
            matches!(verdict, Verdict::Failure(_)),
            "{body} gave {verdict:?}"
        );
    }

    #[test]
    fn nothing_and_success_are_silence() {
        assert!(matches!(judged("", false), Verdict::Silence));
        assert!(matches!(judged("success", false), Verdict::Silence));
    }

    #[test]
    fn what_is_no_reply_is_a_failure() {
        check_failure("{\"ok\":true}");
        check_failure("<html></html>");
        check_failure("<xml>");
        check_failure("ok");
        check_failure(&format!(
            "junk{}",
            reply("<MsgType>text</MsgType><Content>x</Content>")
        ));
        check_failure(&reply("<MsgType>text</MsgType><Content></Content>"));
        check_failure(&reply("<MsgType>image</MsgType>"));
        check_failure(&reply("<MsgType>dance</MsgType>"));
        check_failure(&reply("<Encrypt>abc</Encrypt>"));
        let unswapped = reply("<MsgType>text</MsgType><Content>x</Content>")
            .replace("oFan", "o")
            .replace("gh_000000000sim", "oFan");
        check_failure(&unswapped);
    }

    #[test]
    fn news_is_cut_to_one_article_for_a_message_and_eight_for_an_event() {
        let items = "<item><Title>t</Title></item>".repeat(10);
        let news = reply(&format!(
            "<MsgType>news</MsgType><ArticleCount>10</ArticleCount><Articles>{items}</Articles>"
        ));
        for (is_event, most) in [(false, 1), (true, 8)] {
            let Verdict::Reply { json, .. } = judged(&news, is_event) else {
                panic!("no reply");
            };
            assert_eq!(json["Articles"].as_array().unwrap().len(), most);
        }
    }
}
