//! Temporary media: `media/upload`.
//!
//! WeChat: "新增临时素材". A file lives for three days and may be sent any number of times.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;

use super::form::File;
use super::{ApiError, Call, Client, Number};

/// How long a temporary file lives on the platform.
pub const TEMPORARY_MEDIA_LIVES: Duration = Duration::from_secs(3 * 24 * 3600);
/// An upload may take this long: ten megabytes on a slow line.
const UPLOAD_WITHIN: Duration = Duration::from_secs(30);

/// What an uploaded file is used as. The platform takes no other kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// A voice message, of a minute at most.
    Voice,
    /// A video.
    Video,
    /// The small picture of a video or a music card.
    Thumb,
}

/// Why the platform would not take a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaFault {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is over the limit of its kind.
    #[error("the file has {bytes} bytes; a {kind} may have {most}", kind = kind.name(), most = kind.max_bytes())]
    TooLarge {
        /// What it should be.
        kind: MediaKind,
        /// Its size.
        bytes: u64,
    },
    /// Its name ends in something else.
    #[error("a {kind} has a name that ends in .{extensions}", kind = kind.name(), extensions = kind.extensions().join(", ."))]
    Extension {
        /// What it should be.
        kind: MediaKind,
    },
}

impl MediaKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Image, Self::Voice, Self::Video, Self::Thumb];

    /// WeChat's word, e.g. `image`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Video => "video",
            Self::Thumb => "thumb",
        }
    }

    /// The most bytes that a temporary file of this kind may have.
    pub const fn max_bytes(self) -> u64 {
        match self {
            Self::Image | Self::Video => 10 << 20,
            Self::Voice => 2 << 20,
            Self::Thumb => 64 << 10,
        }
    }

    /// What the name of a temporary file of this kind may end in, in small letters, without the dot.
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["jpg", "jpeg", "png", "gif"],
            Self::Voice => &["amr", "mp3"],
            Self::Video => &["mp4"],
            Self::Thumb => &["jpg", "jpeg"],
        }
    }

    /// Whether the platform takes a file of this name and size, as far as that can be told without
    /// reading it.
    ///
    /// # Errors
    ///
    /// [`MediaFault`] says what it would refuse.
    pub fn check(self, file_name: &str, bytes: u64) -> Result<(), MediaFault> {
        if !self.extensions().contains(&&*extension(file_name)) {
            Err(MediaFault::Extension { kind: self })
        } else if bytes == 0 {
            Err(MediaFault::Empty)
        } else if bytes > self.max_bytes() {
            Err(MediaFault::TooLarge { kind: self, bytes })
        } else {
            Ok(())
        }
    }
}

/// A file that the platform has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedMedia {
    /// Names it in replies and customer-service messages, for [`TEMPORARY_MEDIA_LIVES`].
    pub media_id: String,
    /// When the platform took it, in Unix seconds of its clock.
    pub created_at: u64,
}

/// What stands behind the last dot, in small letters.
fn extension(file_name: &str) -> String {
    file_name
        .rsplit_once('.')
        .map_or_else(String::new, |(_, extension)| extension.to_ascii_lowercase())
}

fn content_type(file_name: &str) -> &'static str {
    match &*extension(file_name) {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "amr" => "audio/amr",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        _ => "application/octet-stream",
    }
}

#[derive(Deserialize)]
struct Answer {
    // A thumbnail's id has a name of its own.
    #[serde(alias = "thumb_media_id")]
    media_id: String,
    created_at: Number,
}

impl Client {
    /// Uploads a temporary file. What it may be says [`MediaKind::check`]; here the platform judges.
    ///
    /// # Errors
    ///
    /// 40004 to 40012, 40113 or 40137 for a file that the platform does not take; see
    /// [`ApiError::class`] for the rest. After a time-out the file may be there, under an id that nobody
    /// knows: uploading again does no harm.
    pub async fn upload_media(
        &self,
        kind: MediaKind,
        file_name: &str,
        bytes: impl Into<Bytes>,
    ) -> Result<UploadedMedia, ApiError> {
        let file = File {
            field: "media",
            name: file_name.to_owned(),
            content_type: content_type(file_name),
            bytes: bytes.into(),
        };
        let query = [("type", kind.name())];
        let call = Call::upload("/cgi-bin/media/upload", &query, file).within(UPLOAD_WITHIN);
        let answer: Answer = self.write(&call).await?;
        Ok(UploadedMedia {
            media_id: answer.media_id,
            created_at: answer.created_at.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_judged_by_its_name_and_size() {
        use MediaKind::{Image, Thumb, Video, Voice};
        let too_large = |kind, bytes| Err(MediaFault::TooLarge { kind, bytes });
        let other = |kind| Err(MediaFault::Extension { kind });
        for (kind, name, bytes, expected) in [
            (Image, "a.jpg", 10 << 20, Ok(())),
            (Image, "图.片.PNG", 1, Ok(())),
            (Image, "a.jpg", (10 << 20) + 1, too_large(Image, 10_485_761)),
            (Image, "a.bmp", 1, other(Image)),
            (Image, "png", 1, other(Image)),
            (Image, "a.png", 0, Err(MediaFault::Empty)),
            (Voice, "a.mp3", 2 << 20, Ok(())),
            (Voice, "a.amr", (2 << 20) + 1, too_large(Voice, 2_097_153)),
            (Voice, "a.wav", 1, other(Voice)),
            (Video, "a.mp4", 10 << 20, Ok(())),
            (Video, "a.mov", 1, other(Video)),
            (Thumb, "a.jpeg", 64 << 10, Ok(())),
            (Thumb, "a.jpg", (64 << 10) + 1, too_large(Thumb, 65_537)),
            (Thumb, "a.png", 1, other(Thumb)),
        ] {
            assert_eq!(kind.check(name, bytes), expected, "{kind:?} {name} {bytes}");
        }
    }

    #[test]
    fn every_extension_has_a_media_type_of_its_kind() {
        for kind in MediaKind::ALL {
            for extension in kind.extensions() {
                let found = content_type(&format!("a.{}", extension.to_uppercase()));
                let family = match kind {
                    MediaKind::Image | MediaKind::Thumb => "image/",
                    MediaKind::Voice => "audio/",
                    MediaKind::Video => "video/",
                };
                assert!(found.starts_with(family), "{extension} is {found}");
            }
        }
        assert_eq!(content_type("mp4"), "application/octet-stream");
    }

    #[test]
    fn a_fault_says_what_is_allowed() {
        let fault = MediaKind::Voice.check("a.wav", 1).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "a voice has a name that ends in .amr, .mp3"
        );
        let fault = MediaKind::Thumb.check("a.jpg", 65_537).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "the file has 65537 bytes; a thumb may have 65536"
        );
    }
}
