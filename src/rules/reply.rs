//! What a rule says: a reply with templates for texts and files for media.

use std::sync::Arc;

use super::media::MediaFile;
use super::template::{Template, Values};
use crate::wechat::{Article, Reply};

/// A reply in the making.
#[derive(Clone, Debug)]
pub(super) enum Saying {
    /// Nothing: `success`.
    Nothing,
    /// One of these texts, by chance.
    Text(Vec<Template>),
    Image(Media),
    Voice(Media),
    Video {
        media: Media,
        title: Option<Template>,
        description: Option<Template>,
    },
    Music {
        title: Option<Template>,
        description: Option<Template>,
        music_url: Option<Template>,
        hq_music_url: Option<Template>,
        thumb: Option<Media>,
    },
    News(Vec<Card>),
    TransferCustomerService {
        kf_account: Option<String>,
    },
}

/// A card of [`Saying::News`].
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) title: Template,
    pub(super) description: Template,
    pub(super) pic_url: Template,
    pub(super) url: Template,
}

/// Something that was uploaded, or is to be.
#[derive(Clone, Debug)]
pub(super) enum Media {
    /// By an id that the operator knows: of a permanent file, most likely.
    Id(String),
    File(Arc<MediaFile>),
}

impl Saying {
    /// The file that has to be uploaded before it can be said.
    pub(super) fn file(&self) -> Option<&Arc<MediaFile>> {
        let media = match self {
            Self::Image(media) | Self::Voice(media) | Self::Video { media, .. } => media,
            Self::Music { thumb, .. } => thumb.as_ref()?,
            _ => return None,
        };
        match media {
            Media::Id(_) => None,
            Media::File(file) => Some(file),
        }
    }

    /// Whether the stored copy of the user's profile has to be read before it can be said.
    pub(super) fn needs_user(&self) -> bool {
        self.templates().any(Template::needs_user)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let templates: Vec<_> = match self {
            Self::Text(texts) => texts.iter().collect(),
            Self::Video {
                title, description, ..
            } => [title, description].into_iter().flatten().collect(),
            Self::Music {
                title,
                description,
                music_url,
                hq_music_url,
                ..
            } => [title, description, music_url, hq_music_url]
                .into_iter()
                .flatten()
                .collect(),
            Self::News(cards) => cards.iter().flat_map(Card::templates).collect(),
            _ => Vec::new(),
        };
        templates.into_iter()
    }

    /// The reply. `media_id` is what the file was uploaded as; `chance` chooses one of several texts.
    pub(super) fn say(&self, values: &Values<'_>, media_id: Option<&str>, chance: usize) -> Reply {
        let fill = |template: &Template| template.fill(values);
        let optional = |template: &Option<Template>| template.as_ref().map(fill);
        let id = |media: &Media| match media {
            Media::Id(id) => id.clone(),
            Media::File(file) => media_id.unwrap_or(&file.written).to_owned(),
        };
        match self {
            Self::Nothing => Reply::None,
            Self::Text(texts) => match texts.get(chance % texts.len().max(1)) {
                Some(text) => Reply::Text(fill(text)),
                None => Reply::None,
            },
            Self::Image(media) => Reply::Image {
                media_id: id(media),
            },
            Self::Voice(media) => Reply::Voice {
                media_id: id(media),
            },
            Self::Video {
                media,
                title,
                description,
            } => Reply::Video {
                media_id: id(media),
                title: optional(title),
                description: optional(description),
            },
            Self::Music {
                title,
                description,
                music_url,
                hq_music_url,
                thumb,
            } => Reply::Music {
                title: optional(title),
                description: optional(description),
                music_url: optional(music_url),
                hq_music_url: optional(hq_music_url),
                thumb_media_id: thumb.as_ref().map(id),
            },
            Self::News(cards) => {
                let article = |card: &Card| Article {
                    title: fill(&card.title),
                    description: fill(&card.description),
                    pic_url: fill(&card.pic_url),
                    url: fill(&card.url),
                };
                Reply::News(cards.iter().map(article).collect())
            }
            Self::TransferCustomerService { kf_account } => Reply::TransferCustomerService {
                kf_account: kf_account.clone(),
            },
        }
    }

    /// How many texts there are to choose from.
    pub(super) fn choices(&self) -> usize {
        match self {
            Self::Text(texts) => texts.len(),
            _ => 1,
        }
    }
}

impl Card {
    fn templates(&self) -> [&Template; 4] {
        [&self.title, &self.description, &self.pic_url, &self.url]
    }
}
