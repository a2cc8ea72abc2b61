//! Pictures and voices of pages: chosen, recorded, uploaded, downloaded ("WeChat: 图像接口", "音频接口").
//!
//! On a phone a `localId` is a name that only the client understands. Here it is the file's address, so
//! that a page can show it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::simulator::media::{Format, Media, MediaKind};
use crate::simulator::platform::Platform;

/// One frame of AMR in which nobody speaks, 20 ms.
const SILENCE: u8 = 0x7c;
/// Frames of a recording: three seconds.
const FRAMES: usize = 150;

/// `chooseImage`: a picture that the person took or picked.
pub(super) fn keep_picture(platform: &mut Platform, bytes: &[u8]) -> Value {
    match MediaKind::Image.check("", bytes, false) {
        Ok(format) => keep(platform, MediaKind::Image, format, bytes.to_vec()),
        Err(_) => failed(),
    }
}

/// `stopRecord`: three silent seconds.
pub(super) fn record_voice(platform: &mut Platform) -> Value {
    let mut bytes = b"#!AMR\n".to_vec();
    bytes.resize(bytes.len() + FRAMES, SILENCE);
    let format = Format {
        extension: "amr",
        content_type: "audio/amr",
    };
    keep(platform, MediaKind::Voice, format, bytes)
}

fn keep(platform: &mut Platform, kind: MediaKind, format: Format, bytes: Vec<u8>) -> Value {
    let now = platform.now();
    let media = Media {
        from_page: kind == MediaKind::Voice,
        ..Media::new(kind, format, bytes, &mut platform.mint, now)
    };
    let path = platform.media.add(media, now).path();
    json!({"localId": format!("{}{path}", platform.origin)})
}

/// `uploadImage`, `uploadVoice`: a `serverId`, which is a temporary `media_id`.
pub(super) fn upload(platform: &Platform, asked: &Value) -> Value {
    find(platform, asked).map_or_else(failed, |media| json!({"serverId": media.media_id}))
}

/// `downloadImage`, `downloadVoice`: the way back.
pub(super) fn download(platform: &Platform, asked: &Value) -> Value {
    let server_id = asked["serverId"].as_str().unwrap_or_default();
    match platform.media.find(server_id, platform.now()) {
        Ok(media) => json!({"localId": format!("{}{}", platform.origin, media.path())}),
        Err(_) => failed(),
    }
}

/// `getLocalImgData`: the picture itself.
pub(super) fn data(platform: &Platform, asked: &Value) -> Value {
    find(platform, asked).map_or_else(failed, |media| {
        let encoded = STANDARD.encode(&media.bytes);
        let content_type = media.format.content_type;
        json!({"localData": format!("data:{content_type};base64,{encoded}")})
    })
}

fn find<'a>(platform: &'a Platform, asked: &Value) -> Option<&'a Media> {
    let local_id = asked["localId"].as_str()?;
    let path = local_id.strip_prefix(platform.origin.as_str())?;
    platform.media.at(path, platform.now())
}

fn failed() -> Value {
    json!({"error": "fail"})
}
