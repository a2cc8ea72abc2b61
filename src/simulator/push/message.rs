//! From the JSON of `/_sim/send` to the XML that the platform would send.
//!
//! Texts become CDATA, numbers stay bare, objects nest, and a list is its element again and again.

use serde_json::{Map, Value, json};

use crate::simulator::account::Account;
use crate::simulator::clock::machine_seconds;
use crate::simulator::mint::Mint;
use crate::wechat::id::OpenId;

/// The lead of every message; the rest follows in the alphabet's order, `MsgId` last.
const LEAD: [&str; 5] = [
    "ToUserName",
    "FromUserName",
    "CreateTime",
    "MsgType",
    "Event",
];
/// Whole numbers even where the caller writes them as a text, as JavaScript must with 17 digits.
const NUMBERS: [&str; 2] = ["CreateTime", "MsgId"];
/// The first of all ids: 17 digits, like the platform's own.
const FIRST_MSG_ID: u64 = 24_300_000_000_000_000;

/// One message or event, ready to be delivered as often as it takes.
#[derive(Debug)]
pub(super) struct Message {
    /// Who acts: the `openid` of the request.
    pub(super) fan: OpenId,
    /// The `Event`, where it is one.
    pub(super) event: Option<String>,
    /// All elements under WeChat's names.
    pub(super) json: Value,
    /// What stands in the chat for it.
    pub(super) shown: String,
    elements: String,
}

impl Message {
    /// Reads the members and adds what the platform adds: both names, the time, a `MsgId`.
    ///
    /// # Errors
    ///
    /// A sentence that names the member at fault.
    pub(super) fn build(
        mut members: Map<String, Value>,
        account: &Account,
        mint: &mut Mint,
    ) -> Result<Self, String> {
        let fan = match members.remove("openid") {
            Some(Value::String(openid)) => {
                OpenId::parse(&openid).map_err(|why| format!("openid: {why}"))?
            }
            _ => return Err("openid: expected the openid of the fan who acts".to_owned()),
        };
        let msg_type = text(&members, "MsgType")
            .ok_or("MsgType: expected a text")?
            .to_owned();
        let event = match msg_type.as_str() {
            "event" => Some(
                text(&members, "Event")
                    .ok_or("Event: expected a text")?
                    .to_owned(),
            ),
            _ => None,
        };
        let mut add = |name: &str, value: Value| {
            members.entry(name).or_insert(value);
        };
        add("ToUserName", json!(account.original_id));
        add("FromUserName", json!(fan));
        add("CreateTime", json!(machine_seconds()));
        if event.is_none() {
            add("MsgId", json!(FIRST_MSG_ID + mint.next("MsgId")));
        }
        for name in NUMBERS {
            if let Some(Value::String(digits)) = members.get(name) {
                let number: u64 = digits
                    .parse()
                    .map_err(|_| format!("{name}: expected digits"))?;
                members.insert(name.to_owned(), json!(number));
            }
        }

        let mut elements = String::new();
        let names = members.keys().map(String::as_str);
        let rest: Vec<_> = names
            .filter(|name| !LEAD.contains(name) && *name != "MsgId")
            .collect();
        for name in LEAD.into_iter().chain(rest).chain(["MsgId"]) {
            if let Some(value) = members.get(name) {
                write(&mut elements, name, value)?;
            }
        }
        Ok(Self {
            shown: shown(&msg_type, event.as_deref(), &members),
            json: Value::Object(members),
            fan,
            event,
            elements,
        })
    }

    /// `FromUserName`, to whom the reply must go.
    pub(super) fn from(&self) -> &str {
        self.json["FromUserName"].as_str().unwrap_or_default()
    }

    /// `ToUserName`, from whom the reply must come.
    pub(super) fn to(&self) -> &str {
        self.json["ToUserName"].as_str().unwrap_or_default()
    }

    /// The clear message.
    pub(super) fn xml(&self) -> String {
        format!("<xml>{}</xml>", self.elements)
    }

    /// 安全模式: nothing but the receiver and the ciphertext.
    pub(super) fn safe_envelope(&self, encrypt: &str) -> String {
        let mut xml = String::from("<xml>");
        cdata(&mut xml, "ToUserName", self.to());
        cdata(&mut xml, "Encrypt", encrypt);
        xml + "</xml>"
    }

    /// 兼容模式: the clear message and the ciphertext of the same.
    pub(super) fn compatible_envelope(&self, encrypt: &str) -> String {
        let mut xml = format!("<xml>{}", self.elements);
        cdata(&mut xml, "Encrypt", encrypt);
        xml + "</xml>"
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn write(xml: &mut String, name: &str, value: &Value) -> Result<(), String> {
    let mut letters = name.chars();
    let is_name = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || "_-.".contains(letter));
    if !is_name {
        return Err(format!("{name:?} cannot name an element"));
    }
    match value {
        Value::Null => cdata(xml, name, ""),
        Value::String(text) => cdata(xml, name, text),
        Value::Bool(_) | Value::Number(_) => xml.push_str(&format!("<{name}>{value}</{name}>")),
        Value::Array(items) => {
            for item in items {
                write(xml, name, item)?;
            }
        }
        Value::Object(members) => {
            xml.push_str(&format!("<{name}>"));
            for (name, value) in members {
                write(xml, name, value)?;
            }
            xml.push_str(&format!("</{name}>"));
        }
    }
    Ok(())
}

/// Characters go out as they are, control characters too: the platform does not filter them either.
fn cdata(xml: &mut String, name: &str, text: &str) {
    let text = text.replace("]]>", "]]]]><![CDATA[>");
    xml.push_str(&format!("<{name}><![CDATA[{text}]]></{name}>"));
}

/// The line in the chat.
fn shown(msg_type: &str, event: Option<&str>, members: &Map<String, Value>) -> String {
    let member = |name: &str| text(members, name).unwrap_or_default();
    match (event, msg_type) {
        (Some("subscribe"), _) => "已关注公众号".to_owned(),
        (Some("unsubscribe"), _) => "已取消关注".to_owned(),
        (Some(event), _) => format!("[{event}] {}", member("EventKey"))
            .trim_end()
            .to_owned(),
        (None, "text") => member("Content").to_owned(),
        (None, "location") => format!("[位置] {}", member("Label")),
        (None, "link" | "file") => format!("[{}] {}", name_of(msg_type), member("Title")),
        (None, _) => format!("[{}] {}", name_of(msg_type), member("MediaId"))
            .trim_end()
            .to_owned(),
    }
}

/// A kind of message in the phone's words.
fn name_of(msg_type: &str) -> &str {
    match msg_type {
        "image" => "图片",
        "voice" => "语音",
        "video" => "视频",
        "shortvideo" => "小视频",
        "link" => "链接",
        "file" => "文件",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Options;

    fn build(members: Value) -> Result<Message, String> {
        let account = Options::default().account().unwrap();
        let members = members.as_object().unwrap().clone();
        Message::build(members, &account, &mut Mint::new(Some(1)))
    }

    #[test]
    fn json_becomes_the_platforms_xml() {
        let message = build(json!({
            "openid": "oFan", "MsgType": "event", "Event": "pic_weixin", "CreateTime": 1_700_000_000,
            "EventKey": "k]]>", "SendPicsInfo": {
                "Count": 2, "PicList": {"item": [{"PicMd5Sum": "a"}, {"PicMd5Sum": "b"}]}},
        }));
        assert_eq!(
            message.unwrap().xml(),
            "<xml><ToUserName><![CDATA[gh_000000000sim]]></ToUserName>\
             <FromUserName><![CDATA[oFan]]></FromUserName><CreateTime>1700000000</CreateTime>\
             <MsgType><![CDATA[event]]></MsgType><Event><![CDATA[pic_weixin]]></Event>\
             <EventKey><![CDATA[k]]]]><![CDATA[>]]></EventKey><SendPicsInfo><Count>2</Count><PicList>\
             <item><PicMd5Sum><![CDATA[a]]></PicMd5Sum></item>\
             <item><PicMd5Sum><![CDATA[b]]></PicMd5Sum></item></PicList></SendPicsInfo></xml>"
        );
    }

    #[test]
    fn a_message_has_an_id_of_17_digits_unless_one_is_given() {
        let made = build(json!({"openid": "oFan", "MsgType": "text", "Content": "x"})).unwrap();
        assert!(
            made.xml()
                .ends_with("<MsgId>24300000000000001</MsgId></xml>")
        );
        let given = json!({"openid": "oFan", "MsgType": "text", "MsgId": "18446744073709551615"});
        let given = build(given).unwrap();
        assert!(
            given
                .xml()
                .ends_with("<MsgId>18446744073709551615</MsgId></xml>")
        );
    }

    #[test]
    fn what_makes_no_message_is_refused() {
        for bad in [
            json!({"MsgType": "text"}),
            json!({"openid": "o Fan", "MsgType": "text"}),
            json!({"openid": "oFan"}),
            json!({"openid": "oFan", "MsgType": "event"}),
            json!({"openid": "oFan", "MsgType": "text", "a><b": "x"}),
            json!({"openid": "oFan", "MsgType": "text", "MsgId": "many"}),
        ] {
            assert!(build(bad.clone()).is_err(), "{bad}");
        }
    }
}
