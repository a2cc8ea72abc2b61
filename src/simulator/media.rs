//! Files of the account and of its fans: temporary ones for three days, and the permanent library
//! ("WeChat: 素材管理").

use serde_json::Value;

use super::clock::Seconds;
use super::mint::Mint;

/// The life of a temporary file.
const LIFE: Seconds = 3 * 24 * 3600;
/// What all files together may weigh; the oldest temporary ones give way.
const MOST_BYTES: usize = 256 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaKind {
    Image,
    Voice,
    Video,
    Thumb,
    /// Articles for a mass message, not a file.
    News,
}

/// A format that the platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) extension: &'static str,
    pub(crate) content_type: &'static str,
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct Media {
    pub(crate) media_id: String,
    /// The part of its public address.
    pub(crate) key: String,
    pub(crate) kind: MediaKind,
    pub(crate) format: Format,
    /// The name it was uploaded with.
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) created_at: Seconds,
    /// Never, for a permanent one.
    pub(crate) expires_at: Option<Seconds>,
    /// Recorded by a page through the JS-SDK.
    pub(crate) from_page: bool,
    /// Title and description of a video.
    pub(crate) title: String,
    pub(crate) introduction: String,
    /// Of [`MediaKind::News`].
    pub(crate) articles: Vec<Value>,
}

/// All files.
#[derive(Debug, Default)]
pub(crate) struct MediaLibrary {
    list: Vec<Media>,
}

impl MediaKind {
    /// Reads `type=` of an upload.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        match word {
            "image" => Some(Self::Image),
            "voice" => Some(Self::Voice),
            "video" => Some(Self::Video),
            "thumb" => Some(Self::Thumb),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Video => "video",
            Self::Thumb => "thumb",
            Self::News => "news",
        }
    }

    /// Checks a file ("WeChat: 新增临时素材", "新增永久素材"): not empty, not too large, of a format taken.
    ///
    /// # Errors
    ///
    /// 44001 for an empty file, 40009 to 40012 for a large one, 40005 for a name of another kind,
    /// 40113 and, for pictures, 40137 for bytes of another kind.
    pub(crate) fn check(self, name: &str, bytes: &[u8], is_permanent: bool) -> Result<Format, i64> {
        let (most, too_large, formats): (usize, i64, &[&str]) = match self {
            Self::Image if is_permanent => (10 << 20, 40009, &["jpg", "png", "gif", "bmp"]),
            Self::Image | Self::News => (10 << 20, 40009, &["jpg", "png", "gif"]),
            Self::Voice if is_permanent => (2 << 20, 40010, &["amr", "mp3", "wma", "wav"]),
            Self::Voice => (2 << 20, 40010, &["amr", "mp3"]),
            Self::Video => (10 << 20, 40011, &["mp4"]),
            Self::Thumb => (64 << 10, 40012, &["jpg"]),
        };
        if bytes.is_empty() {
            return Err(44001);
        }
        if bytes.len() > most {
            return Err(too_large);
        }
        if let Some((_, extension)) = name.rsplit_once('.') {
            let extension = extension.to_ascii_lowercase().replace("jpeg", "jpg");
            if !formats.contains(&extension.as_str()) {
                return Err(40005);
            }
        }
        let is_picture = matches!(self, Self::Image | Self::Thumb | Self::News);
        format_of(bytes)
            .filter(|format| formats.contains(&format.extension))
            .ok_or(if is_picture { 40137 } else { 40113 })
    }
}

/// The format by the first bytes of a file.
pub(crate) fn format_of(bytes: &[u8]) -> Option<Format> {
    let begins = |with: &[u8]| bytes.starts_with(with);
    let (extension, content_type) = if begins(b"\xff\xd8\xff") {
        ("jpg", "image/jpeg")
    } else if begins(b"\x89PNG") {
        ("png", "image/png")
    } else if begins(b"GIF8") {
        ("gif", "image/gif")
    } else if begins(b"BM") {
        ("bmp", "image/bmp")
    } else if begins(b"#!AMR") {
        ("amr", "audio/amr")
    } else if begins(b"ID3") || matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0) {
        ("mp3", "audio/mpeg")
    } else if begins(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
        ("wav", "audio/wav")
    } else if begins(b"\x30\x26\xb2\x75") {
        ("wma", "audio/x-ms-wma")
    } else if bytes.get(4..8) == Some(b"ftyp") {
        ("mp4", "video/mp4")
    } else {
        return None;
    };
    Some(Format {
        extension,
        content_type,
    })
}

impl Media {
    /// A file to be kept; temporary until told otherwise.
    pub(crate) fn new(
        kind: MediaKind,
        format: Format,
        bytes: Vec<u8>,
        mint: &mut Mint,
        now: Seconds,
    ) -> Self {
        Self {
            media_id: mint.text("media_id", 64),
            key: mint.text("media key", 32),
            kind,
            format,
            name: String::new(),
            bytes,
            created_at: now,
            expires_at: Some(now + LIFE),
            from_page: false,
            title: String::new(),
            introduction: String::new(),
            articles: Vec::new(),
        }
    }

    /// Articles for a mass message.
    pub(crate) fn news(articles: Vec<Value>, mint: &mut Mint, now: Seconds) -> Self {
        let format = Format {
            extension: "json",
            content_type: "application/json",
        };
        Self {
            articles,
            ..Self::new(MediaKind::News, format, Vec::new(), mint, now)
        }
    }

    pub(crate) fn permanent(self) -> Self {
        Self {
            expires_at: None,
            ..self
        }
    }

    /// A picture in no library, whose address is good for ever.
    pub(crate) fn unlisted(self) -> Self {
        Self {
            expires_at: Some(Seconds::MAX),
            ..self
        }
    }

    /// The path under which anybody finds the bytes.
    pub(crate) fn path(&self) -> String {
        format!("/mmbiz/{}/0", self.key)
    }

    fn is_alive(&self, now: Seconds) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

impl MediaLibrary {
    /// Keeps a file; the oldest temporary ones make room for it.
    pub(crate) fn add(&mut self, media: Media, now: Seconds) -> &Media {
        self.list.retain(|media| media.is_alive(now));
        let mut weight = self
            .list
            .iter()
            .map(|media| media.bytes.len())
            .sum::<usize>();
        while weight + media.bytes.len() > MOST_BYTES {
            let is_temporary = |media: &Media| media.expires_at.is_some();
            let Some(oldest) = self.list.iter().position(is_temporary) else {
                break;
            };
            weight -= self.list.remove(oldest).bytes.len();
        }
        self.list.push(media);
        &self.list[self.list.len() - 1]
    }

    /// The file with this id, temporary or permanent.
    ///
    /// # Errors
    ///
    /// 40007 for one that is not, or no longer, there.
    pub(crate) fn find(&self, media_id: &str, now: Seconds) -> Result<&Media, i64> {
        let found = |media: &&Media| media.media_id == media_id && media.is_alive(now);
        self.list.iter().find(found).ok_or(40007)
    }

    /// The file with this id if it is one of those kinds.
    ///
    /// # Errors
    ///
    /// 40007 as for [`Self::find`].
    pub(crate) fn find_kind(
        &self,
        media_id: &str,
        kinds: &[MediaKind],
        now: Seconds,
    ) -> Result<&Media, i64> {
        let media = self.find(media_id, now)?;
        if !kinds.contains(&media.kind) {
            return Err(40007);
        }
        Ok(media)
    }

    /// A file of the permanent library.
    ///
    /// # Errors
    ///
    /// 40007 for one that is not there.
    pub(crate) fn find_permanent(&self, media_id: &str) -> Result<&Media, i64> {
        let found = |media: &&Media| media.media_id == media_id;
        self.permanent().find(found).ok_or(40007)
    }

    /// The permanent library, the newest last.
    pub(crate) fn permanent(&self) -> impl DoubleEndedIterator<Item = &Media> {
        self.list.iter().filter(|media| media.expires_at.is_none())
    }

    pub(crate) fn remove(&mut self, media_id: &str) {
        self.list.retain(|media| media.media_id != media_id);
    }

    /// The file at the path that [`Media::path`] gave.
    pub(crate) fn at(&self, path: &str, now: Seconds) -> Option<&Media> {
        let mut alive = self.list.iter().filter(|media| media.is_alive(now));
        alive.find(|media| media.path() == path)
    }

    /// Type and bytes behind a public address.
    pub(crate) fn public(&self, key: &str, now: Seconds) -> Option<(&'static str, &[u8])> {
        let found = |media: &&Media| media.key == key && media.is_alive(now);
        let media = self.list.iter().find(found)?;
        Some((media.format.content_type, &media.bytes))
    }
}
