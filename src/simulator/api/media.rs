//! Temporary files, pictures for articles, and what mass messages need beforehand.

use serde_json::{Value, json};

use super::form::Part;
use super::{Answer, Call, Endpoint, File, Refusal, get, post, upload};
use crate::simulator::media::{Media, MediaKind};
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    upload(
        "/cgi-bin/media/upload",
        "新增临时素材: for three days",
        &["type"],
        &["media"],
        add,
    )
    .errors(&[
        40004, 40005, 40009, 40010, 40011, 40012, 40113, 40137, 41005, 44001,
    ])
    .daily(100_000, 500),
    get(
        "/cgi-bin/media/get",
        "获取临时素材: the file; of a video its address",
        &["media_id"],
        fetch,
    )
    .errors(&[40007, 41006])
    .daily(200_000, 1000),
    get(
        "/cgi-bin/media/get/jssdk",
        "高清语音素材获取接口: what a page recorded, 16 kHz speex",
        &["media_id"],
        fetch_recording,
    )
    .errors(&[40007, 41006])
    .daily(200_000, 1000),
    upload(
        "/cgi-bin/media/uploadimg",
        "上传图文消息内的图片获取URL: JPG or PNG up to 1 MB, counts for no library",
        &[],
        &["media"],
        add_picture,
    )
    .errors(&[40005, 40009, 40137, 41005, 44001]),
    post(
        "/cgi-bin/media/uploadnews",
        "上传图文消息素材: up to 8 articles for a mass message",
        &["articles"],
        add_news,
    )
    .errors(&[
        40007, 44003, 45002, 45003, 45004, 45005, 45008, 45110, 47003,
    ])
    .daily(10, 10),
    post(
        "/cgi-bin/media/uploadvideo",
        "上传群发视频: title and description to an uploaded video",
        &["media_id", "title?", "description?"],
        add_video,
    )
    .errors(&[40007])
    .daily(100_000, 500),
];

/// The largest picture of an article.
const PICTURE: usize = 1 << 20;

/// The file of a form: the part `media`.
///
/// # Errors
///
/// 41005 where there is none.
pub(super) fn file(call: &Call) -> Result<(String, Part), Refusal> {
    let parts = call.form().into_iter();
    let part = parts
        .filter(|part| part.name == "media")
        .find_map(|part| Some((part.filename.clone()?, part)));
    part.ok_or(41005.into())
}

fn add(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let kind = call.query.get("type").and_then(MediaKind::parse);
    let kind = kind.ok_or(40004)?;
    let (name, part) = file(call)?;
    let format = kind.check(&name, &part.bytes, false)?;
    let now = platform.now();
    let media = Media::new(kind, format, part.bytes, &mut platform.mint, now);
    let media = platform.media.add(Media { name, ..media }, now);
    let id = match kind {
        MediaKind::Thumb => "thumb_media_id",
        _ => "media_id",
    };
    Ok(json!({"type": kind.as_str(), id: media.media_id, "created_at": media.created_at}).into())
}

fn fetch(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let media_id = call.need("media_id", 41006)?;
    let media = platform.media.find(media_id, platform.now())?;
    Ok(match media.kind {
        MediaKind::News => return Err(40007.into()),
        MediaKind::Video => {
            json!({"video_url": format!("{}{}", platform.origin, media.path())}).into()
        }
        _ => download(media),
    })
}

/// A file as an attachment with its id for a name.
pub(super) fn download(media: &Media) -> Answer {
    File {
        content_type: media.format.content_type,
        name: Some(format!("{}.{}", media.media_id, media.format.extension)),
        bytes: media.bytes.clone(),
    }
    .into()
}

fn fetch_recording(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let media_id = call.need("media_id", 41006)?;
    let media = platform.media.find(media_id, platform.now())?;
    if !media.from_page || media.kind != MediaKind::Voice {
        return Err(40007.into());
    }
    Ok(File {
        content_type: "voice/speex",
        name: Some(format!("{media_id}.speex")),
        bytes: media.bytes.clone(),
    }
    .into())
}

fn add_picture(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let (name, part) = file(call)?;
    let format = MediaKind::Image.check(&name, &part.bytes, false)?;
    if !matches!(format.extension, "jpg" | "png") {
        return Err(40137.into());
    }
    if part.bytes.len() > PICTURE {
        return Err(40009.into());
    }
    let now = platform.now();
    let picture = Media::new(
        MediaKind::Image,
        format,
        part.bytes,
        &mut platform.mint,
        now,
    );
    let path = platform.media.add(picture.unlisted(), now).path();
    Ok(json!({"url": format!("{}{path}", platform.origin)}).into())
}

fn add_news(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let articles = body.list("articles").filter(|list| !list.is_empty());
    let articles = articles.ok_or(44003)?;
    let articles = platform.check_articles(articles, true)?;
    let now = platform.now();
    let news = Media::news(articles, &mut platform.mint, now);
    Ok(stored(platform.media.add(news, now)).into())
}

fn add_video(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let now = platform.now();
    let media_id = body.need("media_id", 40007)?;
    let video = platform
        .media
        .find_kind(media_id, &[MediaKind::Video], now)?
        .clone();
    let text = |name: &str| body.text(name).unwrap_or_default().to_owned();
    let made = Media::new(
        MediaKind::Video,
        video.format,
        video.bytes,
        &mut platform.mint,
        now,
    );
    let made = Media {
        title: text("title"),
        introduction: text("description"),
        ..made
    };
    Ok(stored(platform.media.add(made, now)).into())
}

fn stored(media: &Media) -> Value {
    json!({
        "type": media.kind.as_str(),
        "media_id": media.media_id,
        "created_at": media.created_at,
    })
}
