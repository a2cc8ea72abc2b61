//! Customer-service messages: `message/custom/…`.
//!
//! WeChat: "客服消息". When and how many the account may send follows from what the user did; here the
//! platform judges.

use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use super::{ApiError, Call, Client};
use crate::wechat::Reply;
use crate::wechat::id::OpenId;
use crate::wechat::reply::{Article, MAX_TEXT_BYTES};
use crate::wechat::xml::is_xml_character;

/// A message that the account sends of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomMessage {
    msg_type: &'static str,
    content: Value,
}

/// Why a reply can't be sent as a customer-service message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// There is nothing in it to show.
    #[error("there is nothing to send")]
    Empty,
    /// The text is over the limit. In parts it can be sent.
    #[error("the text has {bytes} bytes; a customer-service message may have {MAX_TEXT_BYTES}")]
    TextTooLong {
        /// Bytes of UTF-8.
        bytes: usize,
    },
    /// A customer-service message has exactly one article.
    #[error("{articles} articles; a customer-service message has exactly one")]
    Articles {
        /// How many it has.
        articles: usize,
    },
    /// Handing the conversation over is an answer to a delivery, and no message.
    #[error("only a delivery's answer can hand the conversation over to customer service")]
    Transfer,
}

impl CustomMessage {
    /// The message that says what `reply` says.
    ///
    /// # Errors
    ///
    /// [`Unsendable`] for a reply that no such message can carry.
    pub fn of(reply: &Reply) -> Result<Self, Unsendable> {
        let content = match reply {
            Reply::None => return Err(Unsendable::Empty),
            Reply::Text(content) => {
                // As in a passive reply. JSON would escape them, and the call refuses `\uXXXX` (40033).
                let content: String = content.chars().filter(|&c| is_xml_character(c)).collect();
                match content.len() {
                    0 => return Err(Unsendable::Empty),
                    bytes if bytes > MAX_TEXT_BYTES => {
                        return Err(Unsendable::TextTooLong { bytes });
                    }
                    _ => json!({"content": content}),
                }
            }
            Reply::Image { media_id } | Reply::Voice { media_id } => json!({"media_id": media_id}),
            Reply::Video {
                media_id,
                title,
                description,
            } => members([
                ("media_id", Some(media_id)),
                ("title", title.as_ref()),
                ("description", description.as_ref()),
            ]),
            Reply::Music {
                title,
                description,
                music_url,
                hq_music_url,
                thumb_media_id,
            } => members([
                ("title", title.as_ref()),
                ("description", description.as_ref()),
                ("musicurl", music_url.as_ref()),
                ("hqmusicurl", hq_music_url.as_ref()),
                ("thumb_media_id", thumb_media_id.as_ref()),
            ]),
            Reply::News(articles) => match articles.as_slice() {
                [
                    Article {
                        title,
                        description,
                        pic_url,
                        url,
                    },
                ] => json!({"articles": [
                    {"title": title, "description": description, "url": url, "picurl": pic_url},
                ]}),
                [] => return Err(Unsendable::Empty),
                several => {
                    return Err(Unsendable::Articles {
                        articles: several.len(),
                    });
                }
            },
            Reply::TransferCustomerService { .. } => return Err(Unsendable::Transfer),
        };
        // No reply was sorted out above.
        let msg_type = reply.msg_type().ok_or(Unsendable::Empty)?;
        Ok(Self { msg_type, content })
    }

    fn to(&self, user: &OpenId) -> Value {
        let Self { msg_type, content } = self;
        json!({"touser": user, "msgtype": msg_type, *msg_type: content})
    }
}

/// An object of the members that are there.
fn members<const N: usize>(members: [(&str, Option<&String>); N]) -> Value {
    let members = members.into_iter();
    let there = members.filter_map(|(name, text)| Some((name.to_owned(), json!(text?))));
    Value::Object(there.collect::<Map<_, _>>())
}

impl Client {
    /// Sends a customer-service message. It is repeated only when the token was refused: then nobody
    /// has seen it.
    ///
    /// # Errors
    ///
    /// 45015 outside the window, 45047 when its messages are used up, 48001 where the account may send
    /// none; see [`ApiError::class`] for the rest. After a time-out or a broken connection the user may
    /// have seen it.
    pub async fn send_custom(&self, to: &OpenId, message: &CustomMessage) -> Result<(), ApiError> {
        let call = Call::post("/cgi-bin/message/custom/send", message.to(to));
        self.write::<IgnoredAny>(&call).await.map(drop)
    }

    /// Shows the user that the account is writing, for 15 s or until a message comes.
    ///
    /// # Errors
    ///
    /// 45080 unless he wrote within the last 30 s, 45081 where it shows already.
    pub async fn show_typing(&self, to: &OpenId) -> Result<(), ApiError> {
        self.type_as(to, "Typing").await
    }

    /// Takes [`show_typing`](Self::show_typing) back.
    ///
    /// # Errors
    ///
    /// See [`ApiError::class`].
    pub async fn cancel_typing(&self, to: &OpenId) -> Result<(), ApiError> {
        self.type_as(to, "CancelTyping").await
    }

    async fn type_as(&self, to: &OpenId, command: &str) -> Result<(), ApiError> {
        let body = json!({"touser": to, "command": command});
        let call = Call::post("/cgi-bin/message/custom/typing", body);
        self.write::<IgnoredAny>(&call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(reply: &Reply) -> Result<Value, Unsendable> {
        let user = OpenId::parse("oFan0000000000000000000000001").unwrap();
        CustomMessage::of(reply).map(|message| message.to(&user))
    }

    #[track_caller]
    fn check(reply: &Reply, msg_type: &str, content: &Value) {
        let expected = json!({
            "touser": "oFan0000000000000000000000001", "msgtype": msg_type, msg_type: content,
        });
        assert_eq!(body(reply), Ok(expected));
    }

    fn article(title: &str) -> Article {
        Article {
            title: title.into(),
            description: "说明".into(),
            pic_url: "https://shop.example.test/p.jpg".into(),
            url: "https://shop.example.test/a".into(),
        }
    }

    #[test]
    fn every_sendable_reply_has_wechats_members() {
        let some = |text: &str| Some(text.to_owned());
        let media_id = "MEDIA".to_owned();
        check(
            &"你好\n<a href=\"https://shop.example.test/\">链接</a>".into(),
            "text",
            &json!({"content": "你好\n<a href=\"https://shop.example.test/\">链接</a>"}),
        );
        let image = Reply::Image {
            media_id: media_id.clone(),
        };
        check(&image, "image", &json!({"media_id": "MEDIA"}));
        let voice = Reply::Voice {
            media_id: media_id.clone(),
        };
        check(&voice, "voice", &json!({"media_id": "MEDIA"}));
        let video = Reply::Video {
            media_id: media_id.clone(),
            title: some("标题"),
            description: None,
        };
        check(
            &video,
            "video",
            &json!({"media_id": "MEDIA", "title": "标题"}),
        );
        let music = Reply::Music {
            title: some("标题"),
            description: some("说明"),
            music_url: some("https://shop.example.test/a.mp3"),
            hq_music_url: some("https://shop.example.test/hq.mp3"),
            thumb_media_id: some("THUMB"),
        };
        check(
            &music,
            "music",
            &json!({
                "title": "标题", "description": "说明", "musicurl": "https://shop.example.test/a.mp3",
                "hqmusicurl": "https://shop.example.test/hq.mp3", "thumb_media_id": "THUMB",
            }),
        );
        check(
            &Reply::News(vec![article("第1条")]),
            "news",
            &json!({"articles": [{
                "title": "第1条", "description": "说明",
                "url": "https://shop.example.test/a", "picurl": "https://shop.example.test/p.jpg",
            }]}),
        );
    }

    #[test]
    fn what_no_message_can_carry_is_told_apart() {
        let long = "你".repeat(683);
        for (reply, why) in [
            (Reply::None, Unsendable::Empty),
            ("".into(), Unsendable::Empty),
            ("\u{1}".into(), Unsendable::Empty),
            (long.into(), Unsendable::TextTooLong { bytes: 2049 }),
            (Reply::News(vec![]), Unsendable::Empty),
            (
                Reply::News(vec![article("1"), article("2")]),
                Unsendable::Articles { articles: 2 },
            ),
            (
                Reply::TransferCustomerService { kf_account: None },
                Unsendable::Transfer,
            ),
        ] {
            assert_eq!(body(&reply), Err(why), "{reply:?}");
        }
        assert!(CustomMessage::of(&"a".repeat(2048).into()).is_ok());
    }

    #[test]
    fn a_text_goes_out_without_escapes() {
        let body = body(&"a\u{1}\u{b}你\"\\\n".into()).unwrap();
        assert!(!body.to_string().contains("\\u"), "{body}");
        assert_eq!(body["text"]["content"], "a你\"\\\n");
    }
}
