//! Passive replies: what a handler returns, and the XML that the platform delivers.
//!
//! WeChat: "被动回复用户消息". The reply swaps sender and receiver of the message. An answer that the
//! platform cannot use shows the user an error line; so a reply with nothing in it is no reply, and
//! one over the limits is cut by [`Reply::fitted`].

mod json;
mod read;

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

pub use self::read::{ReplyError, ReplyHead};
use super::id::{OpenId, OriginalId};
use super::xml::{is_xml_character, push_cdata, push_number};

/// The most bytes of UTF-8 that a text reply carries.
pub const MAX_TEXT_BYTES: usize = 2048;
/// The most articles in answer to a message.
pub const MAX_ARTICLES_TO_MESSAGE: usize = 1;
/// The most articles in answer to an event.
pub const MAX_ARTICLES_TO_EVENT: usize = 8;

/// What the user is told. A handler returns it; `()`, a text or an `Option` become one by `into`.
///
/// As JSON it has WeChat's names, nested as in the XML, and no reply is `{}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reply {
    /// Nothing: the platform is answered `success` and shows nothing.
    #[default]
    None,
    /// A text, at most [`MAX_TEXT_BYTES`]. Line feeds and `<a href>` work.
    Text(String),
    /// A picture that was uploaded before.
    Image {
        /// Of a temporary or a permanent picture.
        media_id: String,
    },
    /// A voice message that was uploaded before.
    Voice {
        /// Of a temporary or a permanent voice file.
        media_id: String,
    },
    /// A video that was uploaded before and has passed review.
    Video {
        /// Of a temporary or a permanent video.
        media_id: String,
        /// Shown above it.
        title: Option<String>,
        /// Shown below it.
        description: Option<String>,
    },
    /// A music card that plays from a URL.
    Music {
        /// The first line.
        title: Option<String>,
        /// The second line.
        description: Option<String>,
        /// What is played.
        music_url: Option<String>,
        /// What is played on Wi-Fi.
        hq_music_url: Option<String>,
        /// Of an uploaded thumbnail. The platform's documents require it, its clients do without.
        thumb_media_id: Option<String>,
    },
    /// Cards that open pages: one in answer to a message, up to eight in answer to an event.
    News(Vec<Article>),
    /// Hands the conversation to the people of the customer-service client.
    TransferCustomerService {
        /// The account of the one who shall serve, whoever is free where `None`.
        kf_account: Option<String>,
    },
}

/// One card of [`Reply::News`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Article {
    /// The headline.
    pub title: String,
    /// The lines below it.
    #[serde(default)]
    pub description: String,
    /// A picture, JPG or PNG: 360×200 for the first card, 200×200 for the others.
    #[serde(default)]
    pub pic_url: String,
    /// The page that a tap opens.
    #[serde(default)]
    pub url: String,
}

/// What [`Reply::fitted`] took away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// So many bytes at the end of a text.
    Text {
        /// Bytes of UTF-8.
        bytes: usize,
    },
    /// So many cards at the end.
    News {
        /// Cards.
        articles: usize,
    },
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { bytes } => write!(f, "{bytes} bytes of text over {MAX_TEXT_BYTES}"),
            Self::News { articles } => write!(f, "{articles} articles over the limit"),
        }
    }
}

impl Reply {
    /// Whether the answer is `success`: no reply, or one in which there is nothing to show.
    pub fn is_silent(&self) -> bool {
        match self {
            Self::None => true,
            Self::Text(content) => !content.contains(is_xml_character),
            Self::News(articles) => articles.is_empty(),
            _ => false,
        }
    }

    /// The uploaded file that it shows, if it is one of these kinds.
    pub fn media_id(&self) -> Option<&str> {
        match self {
            Self::Image { media_id } | Self::Voice { media_id } | Self::Video { media_id, .. } => {
                Some(media_id)
            }
            Self::Music { thumb_media_id, .. } => thumb_media_id.as_deref(),
            _ => None,
        }
    }

    /// The same reply with another uploaded file; with none, if it shows none.
    #[must_use]
    pub fn with_media_id(mut self, new: String) -> Self {
        match &mut self {
            Self::Image { media_id } | Self::Voice { media_id } | Self::Video { media_id, .. } => {
                *media_id = new;
            }
            Self::Music {
                thumb_media_id: Some(media_id),
                ..
            } => *media_id = new,
            _ => {}
        }
        self
    }

    /// WeChat's `MsgType`, `None` where there is no reply.
    pub fn msg_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::None => return None,
            Self::Text(_) => "text",
            Self::Image { .. } => "image",
            Self::Voice { .. } => "voice",
            Self::Video { .. } => "video",
            Self::Music { .. } => "music",
            Self::News(_) => "news",
            Self::TransferCustomerService { .. } => "transfer_customer_service",
        })
    }

    /// Cuts what is over the platform's limits, at a border of characters or of cards. A reply with
    /// nothing to show becomes [`Reply::None`], since the platform shows an error line for it.
    pub fn fitted(mut self, is_event: bool) -> (Self, Vec<Cut>) {
        let mut cuts = Vec::new();
        match &mut self {
            Self::Text(content) => {
                let kept = boundary_within(content, MAX_TEXT_BYTES);
                if kept < content.len() {
                    cuts.push(Cut::Text {
                        bytes: content.len() - kept,
                    });
                    content.truncate(kept);
                }
            }
            Self::News(articles) => {
                let most = if is_event {
                    MAX_ARTICLES_TO_EVENT
                } else {
                    MAX_ARTICLES_TO_MESSAGE
                };
                if articles.len() > most {
                    cuts.push(Cut::News {
                        articles: articles.len() - most,
                    });
                    articles.truncate(most);
                }
            }
            _ => {}
        }
        if self.is_silent() {
            (Self::None, cuts)
        } else {
            (self, cuts)
        }
    }

    /// The reply to `to` as XML, `create_time` in Unix seconds; `None` where the answer is `success`.
    pub fn to_xml(&self, to: &OpenId, from: &OriginalId, create_time: i64) -> Option<String> {
        let msg_type = self.msg_type()?;
        if self.is_silent() {
            return None;
        }
        let mut out = String::with_capacity(256 + self.content_length());
        // Each message's reply has it, and ids hold nothing that XML has other uses for.
        out.push_str("<xml><ToUserName><![CDATA[");
        out.push_str(to.as_str());
        out.push_str("]]></ToUserName><FromUserName><![CDATA[");
        out.push_str(from.as_str());
        out.push_str("]]></FromUserName><CreateTime>");
        // Writing to a string cannot fail.
        let _ = write!(out, "{create_time}");
        out.push_str("</CreateTime><MsgType><![CDATA[");
        out.push_str(msg_type);
        out.push_str("]]></MsgType>");
        self.push_content(&mut out);
        out.push_str("</xml>");
        Some(out)
    }

    /// Room to write into, exact where replies are common and long.
    fn content_length(&self) -> usize {
        match self {
            Self::Text(content) => content.len(),
            _ => 256,
        }
    }

    fn push_content(&self, out: &mut String) {
        match self {
            Self::None => {}
            Self::Text(content) => push_cdata(out, "Content", content),
            Self::Image { media_id } => {
                wrapped(out, "Image", |out| push_cdata(out, "MediaId", media_id))
            }
            Self::Voice { media_id } => {
                wrapped(out, "Voice", |out| push_cdata(out, "MediaId", media_id))
            }
            Self::Video {
                media_id,
                title,
                description,
            } => wrapped(out, "Video", |out| {
                push_cdata(out, "MediaId", media_id);
                push_optional(out, "Title", title.as_ref());
                push_optional(out, "Description", description.as_ref());
            }),
            Self::Music {
                title,
                description,
                music_url,
                hq_music_url,
                thumb_media_id,
            } => {
                wrapped(out, "Music", |out| {
                    push_optional(out, "Title", title.as_ref());
                    push_optional(out, "Description", description.as_ref());
                    push_optional(out, "MusicUrl", music_url.as_ref());
                    push_optional(out, "HQMusicUrl", hq_music_url.as_ref());
                    push_optional(out, "ThumbMediaId", thumb_media_id.as_ref());
                });
            }
            Self::News(articles) => {
                push_number(out, "ArticleCount", articles.len());
                wrapped(out, "Articles", |out| {
                    for article in articles {
                        wrapped(out, "item", |out| {
                            push_cdata(out, "Title", &article.title);
                            push_cdata(out, "Description", &article.description);
                            push_cdata(out, "PicUrl", &article.pic_url);
                            push_cdata(out, "Url", &article.url);
                        });
                    }
                });
            }
            Self::TransferCustomerService { kf_account } => {
                if let Some(account) = kf_account {
                    wrapped(out, "TransInfo", |out| {
                        push_cdata(out, "KfAccount", account)
                    });
                }
            }
        }
    }
}

fn wrapped(out: &mut String, name: &str, inside: impl FnOnce(&mut String)) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    inside(out);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn push_optional(out: &mut String, name: &str, text: Option<&String>) {
    if let Some(text) = text {
        push_cdata(out, name, text);
    }
}

/// The last border of characters that is not over `limit`.
fn boundary_within(text: &str, limit: usize) -> usize {
    if text.len() <= limit {
        return text.len();
    }
    (0..=limit)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// A text in parts of at most [`MAX_TEXT_BYTES`], at borders of characters; at the end of a line where
/// one is near. Together they are the text.
pub fn split_text(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let most = boundary_within(rest, MAX_TEXT_BYTES);
        let line_end = rest[..most].rfind('\n').map(|at| at + 1);
        let at = line_end
            .filter(|&at| most < rest.len() && at > MAX_TEXT_BYTES * 3 / 4)
            .unwrap_or(most);
        let (part, after) = rest.split_at(at);
        rest = after;
        Some(part)
    })
}

impl From<String> for Reply {
    fn from(content: String) -> Self {
        Self::Text(content)
    }
}

impl From<&str> for Reply {
    fn from(content: &str) -> Self {
        Self::Text(content.to_owned())
    }
}

impl From<()> for Reply {
    fn from((): ()) -> Self {
        Self::None
    }
}

impl<T: Into<Reply>> From<Option<T>> for Reply {
    fn from(reply: Option<T>) -> Self {
        reply.map_or(Self::None, Into::into)
    }
}

#[cfg(test)]
mod tests;
