//! Replies as the platform reads them.

use super::{Article, Reply};
use crate::wechat::id::{OpenId, OriginalId};
use crate::wechat::xml::{self, Element, XmlError};

/// To whom a reply goes, from whom, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The user, `ToUserName`.
    pub to: OpenId,
    /// The account, `FromUserName`.
    pub from: OriginalId,
    /// Unix seconds, as the reply says.
    pub create_time: i64,
}

/// Why a reply cannot be delivered. The user would see the platform's error line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// A member that the reply must have is not there, or is empty.
    #[error("the reply has no `{0}`")]
    Missing(&'static str),
    /// A member stands twice.
    #[error("the reply has `{0}` twice")]
    Duplicate(&'static str),
    /// A member is not of its type.
    #[error("the reply's `{0}` is malformed")]
    Malformed(&'static str),
    /// No `MsgType` of a passive reply.
    #[error("`{0}` is no MsgType of a reply")]
    UnknownType(String),
}

impl Reply {
    /// Reads a reply's XML. An answer of `success` or of no bytes is not for this function.
    ///
    /// # Errors
    ///
    /// [`ReplyError`] for whatever the platform could not deliver.
    pub fn parse(body: &[u8]) -> Result<(ReplyHead, Self), ReplyError> {
        let root = xml::parse(body)?;
        if root.name != "xml" {
            return Err(ReplyError::Missing("xml"));
        }
        let head = ReplyHead {
            to: OpenId::parse(text(&root, "ToUserName")?.trim())
                .map_err(|_| ReplyError::Malformed("ToUserName"))?,
            from: OriginalId::parse(text(&root, "FromUserName")?.trim())
                .map_err(|_| ReplyError::Malformed("FromUserName"))?,
            create_time: number(&root, "CreateTime")?,
        };
        Ok((head, content(&root)?))
    }
}

fn content(root: &Element<'_>) -> Result<Reply, ReplyError> {
    Ok(match text(root, "MsgType")?.trim() {
        "text" => Reply::Text(text(root, "Content")?),
        "image" => Reply::Image {
            media_id: text(part(root, "Image")?, "MediaId")?,
        },
        "voice" => Reply::Voice {
            media_id: text(part(root, "Voice")?, "MediaId")?,
        },
        "video" => {
            let video = part(root, "Video")?;
            Reply::Video {
                media_id: text(video, "MediaId")?,
                title: optional(video, "Title")?,
                description: optional(video, "Description")?,
            }
        }
        "music" => {
            let music = part(root, "Music")?;
            Reply::Music {
                title: optional(music, "Title")?,
                description: optional(music, "Description")?,
                music_url: optional(music, "MusicUrl")?,
                hq_music_url: optional(music, "HQMusicUrl")?,
                thumb_media_id: optional(music, "ThumbMediaId")?,
            }
        }
        "news" => {
            number(root, "ArticleCount")?;
            let items = &part(root, "Articles")?.children;
            let articles: Vec<_> = items
                .iter()
                .filter(|item| item.name == "item")
                .map(article)
                .collect::<Result<_, _>>()?;
            if articles.is_empty() {
                return Err(ReplyError::Missing("item"));
            }
            Reply::News(articles)
        }
        "transfer_customer_service" => {
            let kf_account = match only(root, "TransInfo")? {
                Some(info) => optional(info, "KfAccount")?,
                None => None,
            };
            Reply::TransferCustomerService { kf_account }
        }
        other => return Err(ReplyError::UnknownType(other.to_owned())),
    })
}

fn article(item: &Element<'_>) -> Result<Article, ReplyError> {
    Ok(Article {
        title: optional(item, "Title")?.unwrap_or_default(),
        description: optional(item, "Description")?.unwrap_or_default(),
        pic_url: optional(item, "PicUrl")?.unwrap_or_default(),
        url: optional(item, "Url")?.unwrap_or_default(),
    })
}

fn only<'e, 'x>(
    parent: &'e Element<'x>,
    name: &'static str,
) -> Result<Option<&'e Element<'x>>, ReplyError> {
    let mut named = parent.children.iter().filter(|child| child.name == name);
    let found = named.next();
    if named.next().is_some() {
        Err(ReplyError::Duplicate(name))
    } else {
        Ok(found)
    }
}

fn part<'e, 'x>(
    parent: &'e Element<'x>,
    name: &'static str,
) -> Result<&'e Element<'x>, ReplyError> {
    only(parent, name)?.ok_or(ReplyError::Missing(name))
}

fn optional(parent: &Element<'_>, name: &'static str) -> Result<Option<String>, ReplyError> {
    Ok(only(parent, name)?.map(|element| element.text.clone().into_owned()))
}

fn text(parent: &Element<'_>, name: &'static str) -> Result<String, ReplyError> {
    optional(parent, name)?
        .filter(|text| !text.is_empty())
        .ok_or(ReplyError::Missing(name))
}

fn number(parent: &Element<'_>, name: &'static str) -> Result<i64, ReplyError> {
    text(parent, name)?
        .trim()
        .parse()
        .map_err(|_| ReplyError::Malformed(name))
}
