//! `static/`: the operator's folder first (there goes `MP_verify_*.txt`, no rebuild), then the files
//! that were built in.

use std::path::{Component, Path, PathBuf};

use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse as _, Request, Response};
use rust_embed::RustEmbed;

use super::error::Problem;

#[derive(RustEmbed)]
#[folder = "static/"]
struct BuiltIn;

/// Where files come from.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: Option<PathBuf>,
}

impl Files {
    /// Files of `dir`, if there is one, before the built-in ones.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    async fn find(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(dir) = &self.dir
            && let Some(bytes) = read_within(dir, path).await
        {
            return Some(bytes);
        }
        BuiltIn::get(path).map(|file| file.data.into_owned())
    }
}

/// Serves a file, or nothing but 404.
pub(super) async fn answer(request: &Request, files: &Files) -> Result<Response, Problem> {
    let path = percent_encoding::percent_decode_str(request.uri().path().trim_start_matches('/'))
        .decode_utf8();
    let path = path.map_err(|_| Problem::not_found())?;
    let bytes = if is_plain(&path) {
        files.find(&path).await
    } else {
        None
    };
    let bytes = bytes.ok_or_else(Problem::not_found)?;
    let etag = etag(&bytes);
    let known = request.headers().get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known == etag) {
        return Ok(StatusCode::NOT_MODIFIED
            .with_header(header::ETAG, etag)
            .into_response());
    }
    let mut content_type = mime_guess::from_path(&*path)
        .first_or_octet_stream()
        .to_string();
    if content_type.starts_with("text/") {
        content_type.push_str("; charset=utf-8");
    }
    Ok(Response::builder()
        .content_type(content_type)
        // Looked up at each use, so that a changed file is seen at once.
        .header(header::CACHE_CONTROL, "no-cache")
        .header(header::ETAG, etag)
        .body(bytes))
}

/// Names and slashes alone: no `..`, no root, no hidden file.
fn is_plain(path: &str) -> bool {
    !path.contains(['\\', '\0'])
        && !path.is_empty()
        && Path::new(path)
            .components()
            .all(|component| match component {
                Component::Normal(name) => !name.to_string_lossy().starts_with('.'),
                _ => false,
            })
}

/// Reads a file whose real place, links followed, is below `dir`.
async fn read_within(dir: &Path, path: &str) -> Option<Vec<u8>> {
    let (dir, path) = (dir.to_owned(), path.to_owned());
    let read = move || {
        let dir = dir.canonicalize().ok()?;
        let file = dir.join(path).canonicalize().ok()?;
        (file.starts_with(&dir) && file.is_file()).then(|| std::fs::read(file).ok())?
    };
    tokio::task::spawn_blocking(read).await.ok()?
}

/// A strong validator (RFC 9110, section 8.8.3).
fn etag(bytes: &[u8]) -> HeaderValue {
    use sha2::{Digest as _, Sha256};
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(bytes)[..12]));
    // Hex digits and quotes.
    HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_holds_names_alone() {
        for good in ["app.css", "MP_verify_abc.txt", "a/b.js"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in [
            "",
            "../x",
            "a/../../x",
            "/etc/passwd",
            ".env",
            "a/.git/config",
            "a\\b",
            "a\0b",
        ] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_link_does_not_lead_out_of_the_folder() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        std::fs::write(inside.path().join("file"), "f").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), inside.path().join("link"))
            .unwrap();
        assert_eq!(read_within(inside.path(), "file").await.unwrap(), b"f");
        assert_eq!(read_within(inside.path(), "link").await, None);
    }
}
