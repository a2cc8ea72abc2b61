//! Replies as JSON, with WeChat's names and nested as in the XML.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{Article, Reply};

/// All members that a reply can have. `MsgType` says which of them count.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Members {
    #[serde(skip_serializing_if = "Option::is_none")]
    msg_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Media>,
    #[serde(skip_serializing_if = "Option::is_none")]
    voice: Option<Media>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<Video>,
    #[serde(skip_serializing_if = "Option::is_none")]
    music: Option<Music>,
    #[serde(skip_serializing_if = "Option::is_none")]
    articles: Option<Vec<Article>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trans_info: Option<TransInfo>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Media {
    media_id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Video {
    media_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Music {
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    music_url: Option<String>,
    #[serde(rename = "HQMusicUrl", skip_serializing_if = "Option::is_none")]
    hq_music_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumb_media_id: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TransInfo {
    kf_account: String,
}

impl Serialize for Reply {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Members::from(self.clone()).serialize(serializer)
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

impl From<Reply> for Members {
    fn from(reply: Reply) -> Self {
        let mut members = Self {
            msg_type: reply.msg_type().map(str::to_owned),
            ..Self::default()
        };
        match reply {
            Reply::None => {}
            Reply::Text(content) => members.content = Some(content),
            Reply::Image { media_id } => members.image = Some(Media { media_id }),
            Reply::Voice { media_id } => members.voice = Some(Media { media_id }),
            Reply::Video {
                media_id,
                title,
                description,
            } => {
                members.video = Some(Video {
                    media_id,
                    title,
                    description,
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
                    title,
                    description,
                    music_url,
                    hq_music_url,
                    thumb_media_id,
                });
            }
            Reply::News(articles) => members.articles = Some(articles),
            Reply::TransferCustomerService { kf_account } => {
                members.trans_info = kf_account.map(|kf_account| TransInfo { kf_account });
            }
        }
        members
    }
}

impl Members {
    fn into_reply(self) -> Result<Reply, String> {
        fn need<T>(member: Option<T>, name: &str) -> Result<T, String> {
            member.ok_or_else(|| format!("missing member `{name}`"))
        }
        Ok(match need(self.msg_type, "MsgType")?.as_str() {
            "text" => Reply::Text(need(self.content, "Content")?),
            "image" => Reply::Image {
                media_id: need(self.image, "Image")?.media_id,
            },
            "voice" => Reply::Voice {
                media_id: need(self.voice, "Voice")?.media_id,
            },
            "video" => {
                let Video {
                    media_id,
                    title,
                    description,
                } = need(self.video, "Video")?;
                Reply::Video {
                    media_id,
                    title,
                    description,
                }
            }
            "music" => {
                let Music {
                    title,
                    description,
                    music_url,
                    hq_music_url,
                    thumb_media_id,
                } = need(self.music, "Music")?;
                Reply::Music {
                    title,
                    description,
                    music_url,
                    hq_music_url,
                    thumb_media_id,
                }
            }
            "news" => Reply::News(need(self.articles, "Articles")?),
            "transfer_customer_service" => Reply::TransferCustomerService {
                kf_account: self.trans_info.map(|info| info.kf_account),
            },
            other => return Err(format!("`{other}` is no MsgType of a reply")),
        })
    }
}
