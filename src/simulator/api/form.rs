//! `multipart/form-data` (RFC 7578), whole bodies in memory.

use memchr::memmem;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// A part with a file name is a file.
    pub(crate) filename: Option<String>,
    pub(crate) bytes: Vec<u8>,
}

impl Part {
    /// Its content as a text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// The parts of a body of that type; none where it is no such form, or broken.
pub(crate) fn parse(content_type: &str, body: &[u8]) -> Vec<Part> {
    boundary(content_type)
        .and_then(|boundary| parts(&boundary, body))
        .unwrap_or_default()
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameter(parameters, "boundary")
}

/// The value of `name=value` or `name="value"` among parameters that a `;` divides.
fn parameter(parameters: &str, name: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, value) = rest.split_once('=')?;
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_once(';').unwrap_or((value, "")),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = after;
    }
}

fn parts(boundary: &str, body: &[u8]) -> Option<Vec<Part>> {
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    // The first delimiter may open the body, without a line end before it.
    let opening = &delimiter[2..];
    let mut rest = match body.strip_prefix(opening) {
        Some(rest) => rest,
        None => &body[memmem::find(body, &delimiter)? + delimiter.len()..],
    };
    let mut parts = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(parts);
        }
        let line_end = memmem::find(rest, b"\r\n")?;
        // From the line end itself, so that a part without headers is one too.
        let head_end = memmem::find(&rest[line_end..], b"\r\n\r\n")? + line_end;
        let content = &rest[head_end + 4..];
        let end = memmem::find(content, &delimiter)?;
        let head = String::from_utf8_lossy(&rest[line_end..head_end]);
        parts.extend(part(&head, &content[..end]));
        rest = &content[end + delimiter.len()..];
    }
}

/// A part whose head names it.
fn part(head: &str, bytes: &[u8]) -> Option<Part> {
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim()
            .eq_ignore_ascii_case("content-disposition")
            .then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    Some(Part {
        name: parameter(parameters, "name")?,
        filename: parameter(parameters, "filename")
            .or_else(|| parameter(parameters, "filename*").map(|name| decoded(&name))),
        bytes: bytes.to_vec(),
    })
}

/// `utf-8''%E4%BD%A0.jpg` (RFC 8187), as Python's clients write names beyond ASCII.
fn decoded(name: &str) -> String {
    let encoded = name.rsplit('\'').next().unwrap_or(name);
    percent_encoding::percent_decode_str(encoded)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_fields_are_told_apart_and_bytes_stay_as_they_are() {
        let body =
            b"--b-1\r\nContent-Disposition: form-data; name=\"media\"; filename=\"a;b.jpg\"\r\n\
            Content-Type: image/jpeg\r\n\r\n\xff\xd8\r\n--b\r\n\r\n--b-1\r\n\
            content-disposition: form-data; name=description\r\n\r\n{}\r\n--b-1--\r\n";
        let parts = parse("multipart/form-data; boundary=\"b-1\"", body);
        assert_eq!(parts.len(), 2);
        assert_eq!(
            parts[0],
            Part {
                name: "media".to_owned(),
                filename: Some("a;b.jpg".to_owned()),
                bytes: b"\xff\xd8\r\n--b\r\n".to_vec(),
            }
        );
        assert_eq!(
            (parts[1].name.as_str(), parts[1].text().as_str()),
            ("description", "{}")
        );
        assert_eq!(parts[1].filename, None);
    }

    #[test]
    fn an_encoded_file_name_is_decoded_and_a_preamble_is_skipped() {
        let body = b"hello\r\n--x\r\nContent-Disposition: form-data; name=\"media\"; \
            filename*=utf-8''%E4%BD%A0.jpg\r\n\r\n1\r\n--x--";
        let parts = parse("Multipart/Form-Data;boundary=x", body);
        assert_eq!(parts[0].filename.as_deref(), Some("你.jpg"));
        assert_eq!(parts[0].bytes, b"1");
    }

    #[test]
    fn what_is_no_form_has_no_parts() {
        let broken = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1";
        for (content_type, body) in [
            ("application/json", "{}"),
            ("multipart/form-data", "--x--"),
            ("multipart/form-data; boundary=x", broken),
            ("multipart/form-data; boundary=y", broken),
            ("multipart/form-data; boundary=x", "--x--"),
        ] {
            assert_eq!(parse(content_type, body.as_bytes()), [], "{content_type}");
        }
    }
}
