//! Files that rules send: what the platform takes (WeChat: "新增临时素材"), checked when the rules are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::api::MediaKind;
use crate::store::Digest;

fn formats(kind: MediaKind) -> &'static [Format] {
    match kind {
        MediaKind::Image => &[Format::Jpg, Format::Png, Format::Gif],
        MediaKind::Voice => &[Format::Amr, Format::Mp3],
        MediaKind::Video => &[Format::Mp4],
        MediaKind::Thumb => &[Format::Jpg],
    }
}

/// The kind in an article, for sentences.
fn a(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "a picture",
        MediaKind::Voice => "a voice message",
        MediaKind::Video => "a video",
        MediaKind::Thumb => "the picture of a music card",
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Jpg,
    Png,
    Gif,
    Amr,
    Mp3,
    Mp4,
}

impl Format {
    /// By the first bytes of a file.
    fn of(head: &[u8]) -> Option<Self> {
        Some(match head {
            [0xff, 0xd8, 0xff, ..] => Self::Jpg,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [b'G', b'I', b'F', b'8', ..] => Self::Gif,
            [b'#', b'!', b'A', b'M', b'R', ..] => Self::Amr,
            // A tag, or the sync bits of the first frame.
            [b'I', b'D', b'3', ..] => Self::Mp3,
            [0xff, second, ..] if second & 0xe0 == 0xe0 => Self::Mp3,
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Self::Mp4,
            _ => return None,
        })
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Jpg => "jpg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::Amr => "amr",
            Self::Mp3 => "mp3",
            Self::Mp4 => "mp4",
        }
    }
}

/// A file that a rule sends, as it was when the rules were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MediaFile {
    /// What the rule sends it as.
    pub(crate) kind: MediaKind,
    /// As the rule writes it.
    pub(crate) written: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// SHA-256 of the kind and the bytes: the same bytes are another upload as another kind.
    pub(crate) digest: Digest,
    format: Format,
}

impl MediaFile {
    /// Looks whether the platform will take the file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the person who wrote the rule.
    pub(super) fn read(kind: MediaKind, written: &str, folder: &Path) -> Result<Self, String> {
        let path = folder.join(written);
        let bytes = read_within(&path, kind.max_bytes()).map_err(|refused| match refused {
            Refused::TooLarge => format!(
                "`{written}` is too large: WeChat takes at most {} for {}",
                size(kind.max_bytes()),
                a(kind),
            ),
            Refused::Io(error) => format!(
                "`{written}` can't be read: {error} (the path begins at the folder of the rules)"
            ),
        })?;
        if bytes.is_empty() {
            return Err(format!("`{written}` is empty"));
        }
        let format = Format::of(&bytes).filter(|format| formats(kind).contains(format));
        let format = format.ok_or_else(|| {
            let taken: Vec<_> = formats(kind).iter().map(|f| f.extension()).collect();
            format!(
                "`{written}` is of the wrong type by its first bytes: WeChat takes {} for {}",
                taken.join(", ").to_uppercase(),
                a(kind),
            )
        })?;
        Ok(Self {
            kind,
            written: written.to_owned(),
            digest: digest(kind, &bytes),
            path,
            format,
        })
    }

    /// The bytes as they are now.
    ///
    /// # Errors
    ///
    /// The file is gone, or has grown over what the platform takes.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        read_within(&self.path, self.kind.max_bytes()).map_err(|refused| match refused {
            Refused::Io(error) => error,
            Refused::TooLarge => io::Error::other("it has become too large for WeChat"),
        })
    }

    /// The name to upload it under: ASCII, and with the extension of its bytes, since the platform
    /// goes by that.
    pub(super) fn upload_name(&self) -> String {
        let stem = self.path.file_stem().and_then(|stem| stem.to_str());
        let is_plain = |stem: &&str| {
            let mut bytes = stem.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let stem = stem.filter(is_plain).unwrap_or(self.kind.name());
        format!("{stem}.{}", self.format.extension())
    }
}

/// The digest under which an upload is remembered.
pub(super) fn digest(kind: MediaKind, bytes: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(kind.name());
    hasher.update([0]);
    hasher.update(bytes);
    Digest(hasher.finalize().into())
}

enum Refused {
    TooLarge,
    Io(io::Error),
}

fn read_within(path: &Path, most_bytes: u64) -> Result<Vec<u8>, Refused> {
    // Before it is opened: a pipe would wait for its writer.
    if !path.metadata().map_err(Refused::Io)?.is_file() {
        return Err(Refused::Io(io::Error::other("it is no file")));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(Refused::Io)?
        .take(most_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(Refused::Io)?;
    if bytes.len() as u64 > most_bytes {
        return Err(Refused::TooLarge);
    }
    Ok(bytes)
}

fn size(bytes: u64) -> String {
    if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes >> 10)
    }
}
