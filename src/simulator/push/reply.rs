//! What the platform makes of an answer with status 200.

use serde_json::{Map, Value, json};

use super::message::Message;
use crate::simulator::account::{Account, Mode};
use crate::wechat::crypto::Cipher;
use crate::wechat::signature::sign_encrypted;
use crate::wechat::xml::{self, Element};

/// Articles of a news reply that a message gets, and those that an event gets; the rest is cut.
const ARTICLES: (usize, usize) = (1, 8);

/// What becomes of an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// `success` or nothing: the fan sees nothing.
    Silence,
    /// A reply, decrypted, with what the phone shows of it.
    Reply { json: Value, shown: String },
    /// Something that is no reply, and why: the fan sees the failure line, and no retry comes.
    Failure(String),
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
        Ok((json, shown)) => Verdict::Reply { json, shown },
        Err(why) => Verdict::Failure(why),
    }
}

fn read(
    body: &[u8],
    message: &Message,
    account: &Account,
    cipher: Option<&Cipher>,
) -> Result<(Value, String), String> {
    let root = parse(body)?;
    let clear;
    let root = match (root.child("Encrypt"), cipher) {
        (None, Some(_)) if account.mode == Mode::Safe => {
            return Err("a clear reply in safe mode".to_owned());
        }
        (None, _) => root,
        (Some(_), None) => return Err("an encrypted reply in plain mode".to_owned()),
        (Some(encrypt), Some(cipher)) => {
            clear = decrypt(&root, &encrypt.text, account, cipher)?;
            parse(clear.as_bytes())?
        }
    };
    let part = |name: &str| root.child(name).map_or("", |part| &part.text);
    if part("ToUserName") != message.json["FromUserName"]
        || part("FromUserName") != message.json["ToUserName"]
    {
        return Err("ToUserName and FromUserName are not those of the message, swapped".to_owned());
    }
    if part("CreateTime").parse::<u64>().is_err() {
        return Err("CreateTime is no number".to_owned());
    }
    let mut json = Map::new();
    for child in &root.children {
        let value = match child.name.as_ref() {
            "CreateTime" | "ArticleCount" => {
                let number = child.text.parse::<u64>();
                number.map_or_else(|_| json!(child.text), |number| json!(number))
            }
            "Articles" => child.children.iter().map(value).collect(),
            _ => value(child),
        };
        json.insert(child.name.clone().into_owned(), value);
    }
    let most = if message.event.is_some() {
        ARTICLES.1
    } else {
        ARTICLES.0
    };
    if let Some(Value::Array(articles)) = json.get_mut("Articles") {
        articles.truncate(most);
    }
    let json = Value::Object(json);
    let shown = shown(&json)?;
    Ok((json, shown))
}

fn parse(body: &[u8]) -> Result<Element<'_>, String> {
    let root = xml::parse(body).map_err(|why| format!("no XML: {why}"))?;
    if root.name != "xml" {
        return Err(format!("the root is <{}>, not <xml>", root.name));
    }
    Ok(root)
}

fn decrypt(
    root: &Element<'_>,
    encrypt: &str,
    account: &Account,
    cipher: &Cipher,
) -> Result<String, String> {
    let part = |name: &str| root.child(name).map_or("", |part| &part.text);
    let token = account.token.expose();
    let signature = sign_encrypted(token, part("TimeStamp"), part("Nonce"), encrypt);
    if !signature.matches(part("MsgSignature")) {
        return Err("MsgSignature does not match".to_owned());
    }
    cipher
        .decrypt(encrypt)
        .map_err(|why| format!("the reply does not decrypt: {why}"))
}

fn value(element: &Element<'_>) -> Value {
    if element.children.is_empty() {
        return json!(element.text);
    }
    let mut members = Map::new();
    for child in &element.children {
        members.insert(child.name.clone().into_owned(), value(child));
    }
    Value::Object(members)
}

/// What the phone shows, if the reply has what its type needs.
fn shown(reply: &Value) -> Result<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let need = |what: &str, value: &Value| match text(value) {
        empty if empty.is_empty() => Err(format!("a reply without {what}")),
        text => Ok(text),
    };
    match text(&reply["MsgType"]).as_str() {
        "text" => need("Content", &reply["Content"]),
        "image" => Ok(format!(
            "[image] {}",
            need("Image.MediaId", &reply["Image"]["MediaId"])?
        )),
        "voice" => Ok(format!(
            "[voice] {}",
            need("Voice.MediaId", &reply["Voice"]["MediaId"])?
        )),
        "video" => Ok(format!(
            "[video] {}",
            need("Video.MediaId", &reply["Video"]["MediaId"])?
        )),
        "music" if reply["Music"].is_object() => {
            Ok(format!("[music] {}", text(&reply["Music"]["Title"])))
        }
        "news" => match reply["Articles"].as_array() {
            Some(articles) if !articles.is_empty() => {
                let titles: Vec<_> = articles
                    .iter()
                    .map(|article| text(&article["Title"]))
                    .collect();
                Ok(format!("[news] {}", titles.join(" / ")))
            }
            _ => Err("a reply without Articles".to_owned()),
        },
        // It goes on in another client; nothing stands in the chat.
        "transfer_customer_service" => Ok(String::new()),
        other => Err(format!("the MsgType {other:?} is no reply")),
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
