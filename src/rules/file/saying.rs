//! What a rule says and what follows on it, as the file has them.

use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::{Reader, Value};
use crate::api::MediaKind;
use crate::rules::fault::{listed, meant};
use crate::rules::media::MediaFile;
use crate::rules::reply::{Card, Media, Saying};
use crate::rules::template::{Groups, Place};
use crate::rules::{Rule, Then};
use crate::wechat::Event;
use crate::wechat::reply::{MAX_ARTICLES_TO_EVENT, MAX_ARTICLES_TO_MESSAGE, MAX_TEXT_BYTES};

/// The keys of a rule that are replies.
const SAYINGS: &[&str] = &[
    "text",
    "image",
    "voice",
    "video",
    "music",
    "news",
    "transfer_customer_service",
    "nothing",
];

impl Reader<'_> {
    pub(super) fn saying(
        &mut self,
        at: usize,
        table: &DeTable<'_>,
        groups: Groups<'_>,
        all_known: bool,
    ) -> Option<(usize, Saying)> {
        let given = |key: &&&str| table.contains_key(**key);
        let mut given = SAYINGS.iter().filter(given);
        let Some(key) = given.next() else {
            if all_known && !table.contains_key("then") {
                let text = format!(
                    "the rule says nothing; give it {}, or `then`",
                    listed(SAYINGS.iter().copied())
                );
                self.source.fault(at, text);
            }
            return None;
        };
        if let Some(second) = given.next() {
            let why = format!(
                "the rule has `{key}` already, and WeChat takes one reply; make two rules of it"
            );
            self.fault_at_key(table, second, why);
        }
        let value = table.get(*key)?;
        let at = value.span().start;
        let saying = match *key {
            "text" => self.texts(value, groups),
            "image" => self.media(value, MediaKind::Image).map(Saying::Image),
            "voice" => self.media(value, MediaKind::Voice).map(Saying::Voice),
            "video" => self.video(value, groups),
            "music" => self.music(value, groups),
            "news" => self.news(value, groups),
            "nothing" => match self.boolean(value)? {
                true => Some(Saying::Nothing),
                false => {
                    self.fault_at(value, "expected `true`, or no `nothing` at all");
                    None
                }
            },
            _ => self.transfer(value),
        };
        Some((at, saying?))
    }

    fn texts(&mut self, value: &Value<'_>, groups: Groups<'_>) -> Option<Saying> {
        let mut texts = Vec::new();
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() {
            self.fault_at(
                value,
                "an empty list; give it a text, or say `nothing = true`",
            );
        }
        for value in values {
            let text = self.template(value, Place::Text, groups)?;
            if text.is_empty() {
                self.fault_at(
                    value,
                    "an empty text; to say nothing write `nothing = true`",
                );
            }
            if text.least_bytes() > MAX_TEXT_BYTES {
                let why = format!(
                    "over the {MAX_TEXT_BYTES} bytes that WeChat takes in one text: the rest comes later"
                );
                self.source.warn(value.span().start, why);
            }
            texts.push(text);
        }
        Some(Saying::Text(texts))
    }

    /// `{ file = "…" }` or `{ media_id = "…" }`.
    fn media(&mut self, value: &Value<'_>, kind: MediaKind) -> Option<Media> {
        let Some(table) = value.get_ref().as_table() else {
            self.fault_at(
                value,
                "expected `{ file = \"…\" }`, or `{ media_id = \"…\" }` of something uploaded",
            );
            return None;
        };
        let all_known = self.only(table, &["file", "media_id"], "here");
        self.media_of(value, table, kind, all_known)
    }

    fn media_of(
        &mut self,
        value: &Value<'_>,
        table: &DeTable<'_>,
        kind: MediaKind,
        all_known: bool,
    ) -> Option<Media> {
        match (table.get("file"), table.get("media_id")) {
            (Some(file), None) => {
                let written = self.text(file)?;
                let key = (kind, written.to_owned());
                if let Some(known) = self.files.get(&key) {
                    return known.clone().map(Media::File);
                }
                let read = match MediaFile::read(kind, written, self.folder) {
                    Ok(read) => Some(Arc::new(read)),
                    Err(why) => {
                        self.fault_at(file, why);
                        None
                    }
                };
                self.files.insert(key, read.clone());
                read.map(Media::File)
            }
            (None, Some(id)) => {
                let text = self.text(id)?.trim();
                let is_plain = |byte: u8| byte.is_ascii_graphic();
                if text.is_empty() || !text.bytes().all(is_plain) {
                    self.fault_at(id, "expected a media_id, as an upload answers it");
                    return None;
                }
                Some(Media::Id(text.to_owned()))
            }
            (Some(_), Some(id)) => {
                self.fault_at(id, "`file` or `media_id`, not both");
                None
            }
            (None, None) => {
                if all_known {
                    self.fault_at(value, "`file = \"…\"` or `media_id = \"…\"` is missing");
                }
                None
            }
        }
    }

    fn video(&mut self, value: &Value<'_>, groups: Groups<'_>) -> Option<Saying> {
        let table = self.table(value)?;
        let known = ["file", "media_id", "title", "description"];
        let all_known = self.only(table, &known, "of a video");
        let title = self.optional(table, "title", Place::Text, groups);
        let description = self.optional(table, "description", Place::Text, groups);
        Some(Saying::Video {
            media: self.media_of(value, table, MediaKind::Video, all_known)?,
            title,
            description,
        })
    }

    fn music(&mut self, value: &Value<'_>, groups: Groups<'_>) -> Option<Saying> {
        let table = self.table(value)?;
        let known = ["title", "description", "music_url", "hq_music_url", "thumb"];
        let all_known = self.only(table, &known, "of a music card");
        if all_known && !table.contains_key("music_url") && !table.contains_key("hq_music_url") {
            self.fault_at(value, "`music_url` is missing: what is played");
        }
        let thumb = table
            .get("thumb")
            .map(|thumb| self.media(thumb, MediaKind::Thumb));
        Some(Saying::Music {
            title: self.optional(table, "title", Place::Text, groups),
            description: self.optional(table, "description", Place::Text, groups),
            music_url: self.optional(table, "music_url", Place::Url, groups),
            hq_music_url: self.optional(table, "hq_music_url", Place::Url, groups),
            thumb: thumb.flatten(),
        })
    }

    fn news(&mut self, value: &Value<'_>, groups: Groups<'_>) -> Option<Saying> {
        let values = match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        };
        if values.is_empty() || values.len() > MAX_ARTICLES_TO_EVENT {
            self.fault_at(
                value,
                format!("expected 1 to {MAX_ARTICLES_TO_EVENT} cards"),
            );
        }
        let mut cards = Vec::new();
        for value in values {
            let table = self.table(value)?;
            let known = ["title", "description", "pic_url", "url"];
            if self.only(table, &known, "of a card") && !table.contains_key("title") {
                self.fault_at(value, "`title` is missing");
            }
            let mut part = |key, place| {
                let part = self.optional(table, key, place, groups);
                part.unwrap_or_default()
            };
            cards.push(Card {
                title: part("title", Place::Text),
                description: part("description", Place::Text),
                pic_url: part("pic_url", Place::Url),
                url: part("url", Place::Url),
            });
        }
        Some(Saying::News(cards))
    }

    fn transfer(&mut self, value: &Value<'_>) -> Option<Saying> {
        let kf_account = match value.get_ref() {
            DeValue::Boolean(true) => None,
            DeValue::Table(table) => {
                self.only(table, &["kf_account"], "here");
                let account = table.get("kf_account");
                match account.map(|account| self.text(account)) {
                    Some(account) => Some(account?.to_owned()),
                    None => None,
                }
            }
            _ => {
                let expected = "expected `true`, or `{ kf_account = \"name@account\" }`";
                self.fault_at(value, expected);
                return None;
            }
        };
        Some(Saying::TransferCustomerService { kf_account })
    }

    pub(super) fn then(&mut self, table: &DeTable<'_>, says: Option<&(usize, Saying)>) -> Then {
        const WORDS: [&str; 3] = ["stop", "next", "forward"];
        let Some(value) = table.get("then") else {
            return Then::Stop;
        };
        match self.text(value) {
            Some("stop") => {
                if says.is_none() {
                    self.fault_at(
                        value,
                        "a rule that ends the search says something: give it a reply",
                    );
                }
                Then::Stop
            }
            Some("next") => {
                if let Some((at, saying)) = says
                    && !matches!(saying, Saying::Text(_))
                {
                    let why = "before another rule's answer only a `text` can stand; remove this, or `then`";
                    self.source.fault(*at, why);
                }
                Then::Next
            }
            Some("forward") => {
                if let Some((at, _)) = says {
                    let why =
                        "a message that is handed on is answered elsewhere; remove this, or `then`";
                    self.source.fault(*at, why);
                }
                Then::Forward
            }
            Some(other) => {
                let near = meant(other, WORDS);
                self.fault_at(value, format!("expected {}{near}", listed(WORDS)));
                Then::Stop
            }
            None => Then::Stop,
        }
    }

    /// What WeChat will not show.
    pub(super) fn doubts(&mut self, rule: &Rule, table: &DeTable<'_>) {
        /// The events to which the platform shows a reply.
        const ANSWERED: &[&str] = &["subscribe", "SCAN", "LOCATION", "CLICK", "scancode_waitmsg"];
        let fits_messages = !["event", "key", "scene"]
            .iter()
            .any(|key| table.contains_key(*key));
        if let Some(Saying::News(cards)) = &rule.says
            && fits_messages
            && cards.len() > MAX_ARTICLES_TO_MESSAGE
            && let Some(value) = table.get("news")
        {
            let why =
                "in answer to a message WeChat shows one card, the first; to an event up to eight";
            self.source.warn(value.span().start, why);
        }
        let says_nothing = matches!(rule.says, None | Some(Saying::Nothing));
        if let Some(value) = table.get("event")
            && !says_nothing
        {
            for (at, event) in self.words(value) {
                if Event::NAMES.contains(&event) && !ANSWERED.contains(&event) {
                    let why = format!(
                        "WeChat shows no reply to `{event}`, only to {}",
                        listed(ANSWERED.iter().copied())
                    );
                    self.source.warn(at, why);
                }
            }
        }
    }
}
