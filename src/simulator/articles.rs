//! Drafts and published articles ("WeChat: 草稿箱", "发布能力").
//!
//! Publishing takes a while on the platform's clock; what it will come to is settled at once and seen
//! when that time is over.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use super::api::{Members, Refusal};
use super::clock::Seconds;
use super::media::MediaKind;
use super::platform::Platform;

/// One to eight articles in the making.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) media_id: String,
    pub(crate) items: Vec<Value>,
    pub(crate) created_at: Seconds,
    pub(crate) updated_at: Seconds,
    /// Until then it is being published, and gone afterwards where that succeeds.
    publishing: Option<(Seconds, bool)>,
}

/// A run of publishing, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) publish_id: u64,
    pub(crate) msg_data_id: u64,
    pub(crate) article_id: String,
    /// 0 well, 2 to 4 not; shown once `due` is past.
    status: i64,
    pub(crate) due: Seconds,
    pub(crate) items: Vec<Value>,
    pub(crate) deleted: Vec<bool>,
}

/// All drafts and publications.
#[derive(Debug, Default)]
pub(crate) struct Articles {
    drafts: Vec<Draft>,
    publications: Vec<Publication>,
}

/// The most that are kept of each.
const REMEMBERED: usize = 5000;

/// Articles in one draft.
const MOST: usize = 8;
/// Pictures of a newspic.
const PICTURES: usize = 20;
/// Letters of a digest that is made of the text.
const DIGEST: usize = 54;

impl Draft {
    fn is_there(&self, now: Seconds) -> bool {
        !matches!(self.publishing, Some((due, true)) if due <= now)
    }

    pub(crate) fn is_publishing(&self, now: Seconds) -> bool {
        matches!(self.publishing, Some((due, _)) if now < due)
    }
}

impl Publication {
    /// `publish_status` at that moment: 1 while it runs, 5 once all is deleted.
    pub(crate) fn status(&self, now: Seconds) -> i64 {
        if now < self.due {
            1
        } else if self.status == 0 && self.deleted.iter().all(|deleted| *deleted) {
            5
        } else {
            self.status
        }
    }

    fn is_public(&self, now: Seconds) -> bool {
        self.status(now) == 0
    }

    /// `article_detail`, as call and event write it.
    pub(crate) fn detail(&self) -> Value {
        let items: Vec<_> = self
            .items
            .iter()
            .enumerate()
            .map(|(place, item)| json!({"idx": place + 1, "article_url": item["url"]}))
            .collect();
        json!({"count": items.len(), "item": items})
    }

    /// The articles with a mark on those that were deleted.
    pub(crate) fn marked(&self) -> Vec<Value> {
        let items = self.items.iter().zip(&self.deleted);
        items
            .map(|(item, deleted)| {
                let mut item = item.clone();
                item["is_deleted"] = json!(deleted);
                item
            })
            .collect()
    }
}

impl Articles {
    pub(crate) fn add_draft(&mut self, media_id: String, items: Vec<Value>, now: Seconds) {
        if self.drafts.len() >= REMEMBERED {
            self.drafts.remove(0);
        }
        self.drafts.push(Draft {
            media_id,
            items,
            created_at: now,
            updated_at: now,
            publishing: None,
        });
    }

    /// The drafts, the oldest first; without those that have been published.
    pub(crate) fn drafts(&self, now: Seconds) -> impl DoubleEndedIterator<Item = &Draft> {
        self.drafts.iter().filter(move |draft| draft.is_there(now))
    }

    pub(crate) fn draft(&self, media_id: &str, now: Seconds) -> Option<&Draft> {
        self.drafts(now).find(|draft| draft.media_id == media_id)
    }

    pub(crate) fn draft_mut(&mut self, media_id: &str, now: Seconds) -> Option<&mut Draft> {
        self.drafts
            .iter_mut()
            .find(|draft| draft.media_id == media_id && draft.is_there(now))
    }

    pub(crate) fn delete_draft(&mut self, media_id: &str) {
        self.drafts.retain(|draft| draft.media_id != media_id);
    }

    /// Starts publishing a draft.
    pub(crate) fn publish(&mut self, media_id: &str, publication: Publication) {
        for draft in &mut self.drafts {
            if draft.media_id == media_id {
                draft.publishing = Some((publication.due, publication.status == 0));
            }
        }
        if self.publications.len() >= REMEMBERED {
            self.publications.remove(0);
        }
        self.publications.push(publication);
    }

    pub(crate) fn publication(&self, publish_id: u64) -> Option<&Publication> {
        let found = |publication: &&Publication| publication.publish_id == publish_id;
        self.publications.iter().find(found)
    }

    /// What is published, the oldest first.
    pub(crate) fn published(&self, now: Seconds) -> impl DoubleEndedIterator<Item = &Publication> {
        let public = move |publication: &&Publication| publication.is_public(now);
        self.publications.iter().filter(public)
    }

    /// A published article.
    ///
    /// # Errors
    ///
    /// 53600 for one that is not there.
    pub(crate) fn article(&self, article_id: &str, now: Seconds) -> Result<&Publication, i64> {
        let found = |publication: &&Publication| publication.article_id == article_id;
        self.published(now).find(found).ok_or(53600)
    }

    /// The same, to be changed.
    ///
    /// # Errors
    ///
    /// 53600 for one that is not there.
    pub(crate) fn article_mut(
        &mut self,
        article_id: &str,
        now: Seconds,
    ) -> Result<&mut Publication, i64> {
        self.publications
            .iter_mut()
            .find(|publication| publication.article_id == article_id && publication.is_public(now))
            .ok_or(53600)
    }
}

/// `publish_status` of a run whose next outcome was not ordered.
const WELL: i64 = 0;

impl Platform {
    /// A run of publishing for these articles, that ends after a while.
    pub(crate) fn new_publication(&mut self, items: Vec<Value>, seconds: Seconds) -> Publication {
        Publication {
            publish_id: 100_000_000 + self.mint.next("publish_id"),
            msg_data_id: 2_247_483_000 + self.mint.next("msg_data_id"),
            article_id: self.mint.text("article_id", 43),
            status: self.outcomes.publish.take().unwrap_or(WELL),
            due: self.ends_in(seconds),
            deleted: vec![false; items.len()],
            items,
        }
    }

    /// Checks articles and gives them as the platform keeps them.
    ///
    /// # Errors
    ///
    /// 45008 beyond 8, and for each what [`Self::check_article`] says.
    pub(crate) fn check_articles(
        &mut self,
        articles: &[Value],
        for_mass: bool,
    ) -> Result<Vec<Value>, Refusal> {
        if articles.len() > MOST {
            return Err(45008.into());
        }
        articles
            .iter()
            .map(|article| self.check_article(article, for_mass))
            .collect()
    }

    /// Checks an article ("WeChat: 新建草稿") and gives it as the platform keeps it: scripts and foreign
    /// pictures are dropped, the digest made where there is none. Only for a mass message the thumb
    /// may be a temporary file.
    ///
    /// # Errors
    ///
    /// 40007 for pictures that are not there, 45002 to 45005 and 45110 for what is too long, 47003 for
    /// what is missing.
    pub(crate) fn check_article(
        &mut self,
        article: &Value,
        for_mass: bool,
    ) -> Result<Value, Refusal> {
        let given = Members::of(article);
        let text = |name: &str| given.text(name).unwrap_or_default();
        let letters = |name: &str| text(name).chars().count();
        if text("title").is_empty() {
            return Err(Refusal::argument("articles.title"));
        }
        if letters("title") > 32 {
            return Err(45003.into());
        }
        if letters("digest") > 128 {
            return Err(45004.into());
        }
        if text("content_source_url").len() > 1024 {
            return Err(45005.into());
        }
        if letters("author") > 16 {
            return Err(45110.into());
        }
        if letters("content") >= 20_000 || text("content").len() >= 1 << 20 {
            return Err(45002.into());
        }
        let kind = given.text("article_type").unwrap_or("news");
        let now = self.now();
        let mut kept = article.clone();
        match kind {
            "news" => {
                let thumb = text("thumb_media_id");
                let pictures = [MediaKind::Image, MediaKind::Thumb];
                let thumb = match self.media.find_permanent(thumb) {
                    Err(_) if for_mass => self.media.find_kind(thumb, &pictures, now),
                    found => found,
                }?;
                kept["thumb_url"] = json!(format!("{}{}", self.origin, thumb.path()));
            }
            "newspic" => {
                let list = given
                    .object("image_info")
                    .and_then(|info| info.list("image_list").cloned());
                let list = list.unwrap_or_default();
                if !(1..=PICTURES).contains(&list.len()) {
                    return Err(Refusal::argument("articles.image_info"));
                }
                for picture in &list {
                    let picture = Members::of(picture);
                    self.media
                        .find_permanent(picture.need("image_media_id", 40007)?)?;
                }
            }
            _ => return Err(Refusal::argument("articles.article_type")),
        }
        let content = clean(text("content"), &self.origin);
        if text("digest").is_empty() {
            kept["digest"] = json!(digest(&content));
        }
        kept["article_type"] = json!(kind);
        kept["content"] = json!(content);
        for (name, usual) in [
            ("author", json!("")),
            ("content_source_url", json!("")),
            ("need_open_comment", json!(0)),
            ("only_fans_can_comment", json!(0)),
        ] {
            if kept.get(name).is_none() {
                kept[name] = usual;
            }
        }
        kept["url"] = json!(format!(
            "http://mp.weixin.qq.com/s/{}",
            self.mint.text("article url", 22)
        ));
        Ok(kept)
    }
}

/// Without scripts, and without the addresses of pictures that are not the platform's.
fn clean(html: &str, origin: &str) -> String {
    static SCRIPT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?is)<script\b.*?</script\s*>|<script\b[^>]*>"));
    static PICTURE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r#"(?i)(<img\b[^>]*?)\ssrc\s*=\s*["']([^"']*)["']"#));
    let html = SCRIPT.replace_all(html, "");
    let ours = format!("{origin}/mmbiz/");
    let html = PICTURE.replace_all(&html, |found: &regex::Captures<'_>| {
        let url = &found[2];
        let is_ours = url.starts_with(&ours)
            || url.starts_with("http://mmbiz.qpic.cn/")
            || url.starts_with("https://mmbiz.qpic.cn/");
        if is_ours {
            found[0].to_owned()
        } else {
            found[1].to_owned()
        }
    });
    html.into_owned()
}

/// The first letters of the text between the tags.
fn digest(html: &str) -> String {
    static TAG: LazyLock<Regex> = LazyLock::new(|| pattern("<[^>]*>"));
    TAG.replace_all(html, "")
        .trim()
        .chars()
        .take(DIGEST)
        .collect()
}

fn pattern(text: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "the pattern is fixed and tested")]
    Regex::new(text).expect("a good pattern")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_foreign_pictures_are_dropped() {
        let html = r#"<p>你好<SCRIPT>alert(1)</script ></p><img alt="a" src="http://evil.test/x.jpg"><img src='http://s/mmbiz/k/0'>"#;
        assert_eq!(
            clean(html, "http://s"),
            r#"<p>你好</p><img alt="a"><img src='http://s/mmbiz/k/0'>"#
        );
        assert_eq!(digest("<p>你<b>好</b></p>"), "你好");
        assert_eq!(digest(&"好".repeat(60)).chars().count(), 54);
    }
}
