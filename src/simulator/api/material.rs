//! The permanent library ("WeChat: 永久素材").

use serde_json::{Value, json};

use super::form::Part;
use super::media::{download, file};
use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, post, upload};
use crate::simulator::media::{Media, MediaKind};
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    upload(
        "/cgi-bin/material/add_material",
        "新增永久素材: image, voice, video, thumb; a video with a description",
        &["type"],
        &["media", "description?"],
        add,
    )
    .errors(&[
        40004, 40005, 40009, 40010, 40011, 40012, 40113, 40137, 41005, 44001, 45028,
    ]),
    post(
        "/cgi-bin/material/get_material",
        "获取永久素材: the file; of news and videos JSON",
        &["media_id"],
        fetch,
    )
    .errors(&[40007]),
    post(
        "/cgi-bin/material/del_material",
        "删除永久素材: unless the menu needs it",
        &["media_id"],
        delete,
    )
    .errors(&[40007, 48005]),
    get(
        "/cgi-bin/material/get_materialcount",
        "获取永久素材总数",
        &[],
        count,
    ),
    post(
        "/cgi-bin/material/batchget_material",
        "获取永久素材列表: 20 at most, the newest first",
        &["type", "offset", "count"],
        list,
    )
    .errors(&[40004, 40035]),
    post(
        "/cgi-bin/material/add_news",
        "新增永久图文素材: stopped in 2022, drafts took its place",
        &["articles"],
        stopped,
    )
    .errors(&[45106]),
    post(
        "/cgi-bin/material/update_news",
        "修改永久图文素材: stopped in 2022, drafts took its place",
        &["media_id", "index", "articles"],
        stopped,
    )
    .errors(&[45106]),
];

/// Pictures in the library.
const PICTURES: usize = 100_000;
/// Files of each other kind.
const OTHERS: usize = 1000;
/// Items in one list.
pub(super) const PAGE: i64 = 20;

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let kind = call.query.get("type").and_then(MediaKind::parse);
    let kind = kind.ok_or(40004)?;
    let (name, part) = file(call)?;
    let format = kind.check(&name, &part.bytes, true)?;
    // The documents put it into the form; a client in wide use puts it into the query.
    let form = call.form();
    let described = form.iter().find(|part| part.name == "description");
    let described = described
        .map(Part::text)
        .or_else(|| call.query.get("description").map(str::to_owned));
    let description = match described {
        Some(words) => serde_json::from_str(&words).map_err(|_| 47001)?,
        None if kind == MediaKind::Video => return Err(47001.into()),
        None => Value::Null,
    };
    let description = Members::of(&description);
    let most = match kind {
        MediaKind::Image => PICTURES,
        _ => OTHERS,
    };
    if of_kind(platform, kind).count() >= most {
        return Err(45028.into());
    }
    let text = |name: &str| description.text(name).unwrap_or_default().to_owned();
    let now = platform.now();
    let media = Media::new(kind, format, part.bytes, &mut platform.mint, now).permanent();
    let media = Media {
        name,
        title: text("title"),
        introduction: text("introduction"),
        ..media
    };
    let media = platform.media.add(media, now);
    let mut answer = json!({"media_id": media.media_id});
    if matches!(kind, MediaKind::Image | MediaKind::Thumb) {
        answer["url"] = json!(format!("{}{}", platform.origin, media.path()));
    }
    Ok(answer.into())
}

fn of_kind(platform: &Platform, kind: MediaKind) -> impl DoubleEndedIterator<Item = &Media> {
    let is_of = move |media: &&Media| {
        // A thumb is a picture of the library like any other.
        let listed = match media.kind {
            MediaKind::Thumb => MediaKind::Image,
            kind => kind,
        };
        listed == kind
    };
    platform.media.permanent().filter(is_of)
}

fn fetch(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let media_id = body.need("media_id", 40007)?;
    if let Some(draft) = platform.articles.draft(media_id, platform.now()) {
        return Ok(json!({"news_item": draft.items}).into());
    }
    let media = platform.media.find_permanent(media_id)?;
    Ok(match media.kind {
        MediaKind::Video => json!({
            "title": media.title,
            "description": media.introduction,
            "down_url": format!("{}{}", platform.origin, media.path()),
        })
        .into(),
        _ => download(media),
    })
}

fn delete(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let media_id = body.need("media_id", 40007)?;
    platform.media.find_permanent(media_id)?;
    if platform.menu.uses(media_id) {
        return Err(48005.into());
    }
    platform.media.remove(media_id);
    Ok(ok())
}

fn count(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    let count = |kind| of_kind(platform, kind).count();
    Ok(json!({
        "voice_count": count(MediaKind::Voice),
        "video_count": count(MediaKind::Video),
        "image_count": count(MediaKind::Image),
        "news_count": 0,
    })
    .into())
}

fn list(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let (offset, page) = span(&body)?;
    let kind = match body.text("type") {
        // No news since 2022: drafts and published articles have lists of their own.
        Some("news") => return Ok(json!({"total_count": 0, "item_count": 0, "item": []}).into()),
        Some("thumb") | None => return Err(40004.into()),
        Some(kind) => MediaKind::parse(kind).ok_or(40004)?,
    };
    let items: Vec<_> = of_kind(platform, kind)
        .rev()
        .skip(offset)
        .take(page)
        .map(|media| {
            let mut item = json!({
                "media_id": media.media_id,
                "name": media.name,
                "update_time": media.created_at,
            });
            if kind == MediaKind::Image {
                item["url"] = json!(format!("{}{}", platform.origin, media.path()));
            }
            item
        })
        .collect();
    Ok(json!({
        "total_count": of_kind(platform, kind).count(),
        "item_count": items.len(),
        "item": items,
    })
    .into())
}

/// `offset` and `count` of a list.
///
/// # Errors
///
/// 40035 for a negative offset and a count outside of 1 to 20.
pub(super) fn span(body: &Members) -> Result<(usize, usize), Refusal> {
    let offset = body.number("offset").unwrap_or(0);
    let offset = usize::try_from(offset).map_err(|_| 40035)?;
    let count = body
        .number("count")
        .filter(|count| (1..=PAGE).contains(count));
    let count = count.and_then(|count| usize::try_from(count).ok());
    Ok((offset, count.ok_or(40035)?))
}

fn stopped(_: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Err(45106.into())
}
