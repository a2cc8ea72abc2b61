//! A form with one file, as `multipart/form-data` (RFC 7578).

use std::fmt;

use bytes::Bytes;

/// A file on its way to the platform. Cheap to clone.
#[derive(Clone)]
pub struct File {
    /// The form's field.
    pub field: &'static str,
    /// The file's name. The platform looks at its extension.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// The file.
    pub bytes: Bytes,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the content: it is a user's or the operator's.
        f.debug_struct("File")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl File {
    /// The form's `Content-Type` and the form, divided by a `boundary` that the file does not hold.
    pub(super) fn to_form(&self, boundary: &str) -> (String, Vec<u8>) {
        let Self {
            field,
            name,
            content_type,
            bytes,
        } = self;
        let name = quoted(name);
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\
             Content-Type: {content_type}\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        (
            format!("multipart/form-data; boundary={boundary}"),
            [head.as_bytes(), bytes, tail.as_bytes()].concat(),
        )
    }
}

/// The name as browsers write it into a form (the HTML standard, "multipart/form-data encoding
/// algorithm"): raw UTF-8, and what would end the quotes or the line in per cent.
fn quoted(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected_name: &str) {
        let file = File {
            field: "media",
            name: name.into(),
            content_type: "image/png",
            bytes: Bytes::from_static(b"\xff\xd8\r\n--"),
        };
        let (content_type, form) = file.to_form("b0");
        assert_eq!(content_type, "multipart/form-data; boundary=b0");
        let head = format!(
            "--b0\r\nContent-Disposition: form-data; name=\"media\"; filename=\"{expected_name}\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        let expected = [head.as_bytes(), b"\xff\xd8\r\n--\r\n--b0--\r\n"];
        assert_eq!(form, expected.concat(), "{name}");
    }

    #[test]
    fn a_form_holds_the_file_as_it_is() {
        check("a;b c.PNG", "a;b c.PNG");
    }

    #[test]
    fn a_file_name_may_be_chinese_and_never_leaves_its_quotes() {
        check("我的\"图\"\\.png", "我的%22图%22\\.png");
        check("a\r\nX-Y: 1\r\n\r\n.png", "a%0D%0AX-Y: 1%0D%0A%0D%0A.png");
    }

    #[test]
    fn a_file_prints_without_its_content() {
        let file = File {
            field: "media",
            name: "a.jpg".into(),
            content_type: "image/jpeg",
            bytes: Bytes::from_static(b"canary"),
        };
        assert!(!format!("{file:?}").contains("canary"));
    }
}
