//! Replies as JSON, with WeChat's names and nested as in the XML.

use std::borrow::Cow;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Article, Reply};

/// All members that a reply can have. `MsgType` says which of them count.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_type: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Media<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice: Option<Media<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<Video<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    music: Option<Music<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    articles: Option<Cow<'r, [Article]>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_info: Option<TransInfo<'r>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Media<'r> {
    media_id: Cow<'r, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Video<'r> {
    media_id: Cow<'r, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'r, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Music<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    music_url: Option<Cow<'r, str>>,
    #[serde(rename = "HQMusicUrl", skip_serializing_if = "Option::is_none")]
    hq_music_url: Option<Cow<'r, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumb_media_id: Option<Cow<'r, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TransInfo<'r> {
    kf_account: Cow<'r, str>,
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members::from(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reply {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        if object.is_empty() {
            return Ok(Self::None);
        }
        let members = Members::deserialize(Value::Object(object)).map_err(D::Error::custom)?;
        members.into_reply().map_err(D::Error::custom)
    }
}

impl<'r> From<&'r Reply> for Members<'r> {
    fn from(reply: &'r Reply) -> Self {
        fn some(text: &str) -> Cow<'_, str> {
            Cow::Borrowed(text)
        }
        fn any(text: &Option<String>) -> Option<Cow<'_, str>> {
            text.as_deref().map(Cow::Borrowed)
        }
        let mut members = Self {
            msg_type: reply.msg_type().map(Cow::Borrowed),
            ..Self::default()
        };
        let media = |media_id| {
            Some(Media {
                media_id: some(media_id),
            })
        };
        match reply {
            Reply::None => {}
            Reply::Text(content) => members.content = Some(some(content)),
            Reply::Image { media_id } => members.image = media(media_id),
            Reply::Voice { media_id } => members.voice = media(media_id),
            Reply::Video {
                media_id,
                title,
                description,
            } => {
                members.video = Some(Video {
                    media_id: some(media_id),
                    title: any(title),
                    description: any(description),
                });
            }
            Reply::Music {
                title,
                description,
                music_url,
                hq_music_url,
                thumb_media_id,
            } => {
                members.music = Some(Music {
                    title: any(title),
                    description: any(description),
                    music_url: any(music_url),
                    hq_music_url: any(hq_music_url),
                    thumb_media_id: any(thumb_media_id),
                });
            }
            Reply::News(articles) => members.articles = Some(Cow::Borrowed(articles)),
            Reply::TransferCustomerService { kf_account } => {
                members.trans_info = any(kf_account).map(|kf_account| TransInfo { kf_account });
            }
        }
        members
    }
}

impl Members<'_> {
    fn into_reply(self) -> Result<Reply, String> {
        fn need<T>(member: Option<T>, name: &str) -> Result<T, String> {
            member.ok_or_else(|| format!("missing member `{name}`"))
        }
        let any = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Ok(match &*need(self.msg_type, "MsgType")? {
            "text" => Reply::Text(need(self.content, "Content")?.into_owned()),
            "image" => Reply::Image {
                media_id: need(self.image, "Image")?.media_id.into_owned(),
            },
            "voice" => Reply::Voice {
                media_id: need(self.voice, "Voice")?.media_id.into_owned(),
            },
            "video" => {
                let video = need(self.video, "Video")?;
                Reply::Video {
                    media_id: video.media_id.into_owned(),
                    title: any(video.title),
                    description: any(video.description),
                }
            }
            "music" => {
                let music = need(self.music, "Music")?;
                Reply::Music {
                    title: any(music.title),
                    description: any(music.description),
                    music_url: any(music.music_url),
                    hq_music_url: any(music.hq_music_url),
                    thumb_media_id: any(music.thumb_media_id),
                }
            }
            "news" => Reply::News(need(self.articles, "Articles")?.into_owned()),
            "transfer_customer_service" => Reply::TransferCustomerService {
                kf_account: any(self.trans_info.map(|info| info.kf_account)),
            },
            other => return Err(format!("`{other}` is no MsgType of a reply")),
        })
    }
}
