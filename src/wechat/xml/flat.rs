//! A reader for the form that nearly every message has: leaves in a root, each with one CDATA section or a
//! bare text. It copies nothing and takes a quarter of what the whole reader does.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use super::{Element, is_white_space};

/// The elements of most messages.
const USUAL_CHILDREN: usize = 8;

/// Reads the document. `None` where it is of any other form: the whole reader decides about that. What it
/// gives is what the whole reader would.
pub(super) fn read(text: &str) -> Option<Element<'_>> {
    let (root, mut rest) = start_tag(text)?;
    let mut children = Vec::with_capacity(USUAL_CHILDREN);
    loop {
        rest = without_layout(rest);
        if let Some(after) = end_tag(rest, root) {
            let is_flat = !children.is_empty() && without_layout(after).is_empty();
            return is_flat.then(|| Element {
                children,
                ..leaf(root, "")
            });
        }
        let (name, content) = start_tag(rest)?;
        let (value, after) = match content.strip_prefix("<![CDATA[") {
            Some(content) => cdata(content)?,
            None => bare(content)?,
        };
        // Ends of lines are made one kind.
        if memchr(b'\r', value.as_bytes()).is_some() {
            return None;
        }
        children.push(leaf(name, value));
        rest = end_tag(after, name)?;
    }
}

fn leaf<'x>(name: &'x str, text: &'x str) -> Element<'x> {
    Element {
        name: Cow::Borrowed(name),
        text: Cow::Borrowed(text),
        children: Vec::new(),
    }
}

/// The name of a tag without attributes, and what follows.
fn start_tag(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let end = inside
        .bytes()
        .position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_'))?;
    let (name, rest) = inside.split_at(end);
    let begins_well = !name.starts_with(|first: char| first.is_ascii_digit());
    (!name.is_empty() && begins_well).then_some((name, rest.strip_prefix('>')?))
}

fn end_tag<'x>(text: &'x str, name: &str) -> Option<&'x str> {
    text.strip_prefix("</")?
        .strip_prefix(name)?
        .strip_prefix('>')
}

/// What stands before `]]>`, and what after.
fn cdata(text: &str) -> Option<(&str, &str)> {
    let bytes = text.as_bytes();
    let end = memchr_iter(b'>', bytes).find(|&at| bytes[..at].ends_with(b"]]"))?;
    Some((&text[..end - 2], &text[end + 1..]))
}

/// What stands before the next tag, and the tag.
fn bare(text: &str) -> Option<(&str, &str)> {
    let end = memchr(b'<', text.as_bytes())?;
    let (value, rest) = text.split_at(end);
    let is_plain = !value.bytes().any(|byte| matches!(byte, b'&' | b'>' | b']'));
    is_plain.then_some((value, rest))
}

fn without_layout(text: &str) -> &str {
    let end = text.bytes().position(|byte| !is_white_space(byte));
    &text[end.unwrap_or(text.len())..]
}
