//! The small XML that the platform speaks: a strict reader into a tree, and the writer's parts.
//!
//! WeChat: "接收普通消息", XML 1.0. Strict where an attacker could gain: no DOCTYPE, no entity beyond
//! the five, at most eight levels, one root. Lenient where the platform really is: control characters
//! stand raw inside CDATA, a byte order mark or a declaration may come first, and a value may be
//! CDATA, text or both.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

mod flat;

/// Levels of elements that are read, the root included.
pub const MAX_DEPTH: usize = 8;

const BYTE_ORDER_MARK: char = '\u{feff}';

/// One element: its text where it is a leaf, its children where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element<'x> {
    /// The tag's name as written.
    pub name: Cow<'x, str>,
    /// All text and CDATA directly inside, glued. White space that only lays out is left out:
    /// that between child elements, and bare white space beside a CDATA section.
    pub text: Cow<'x, str>,
    /// The child elements in the order of the document.
    pub children: Vec<Element<'x>>,
}

impl<'x> Element<'x> {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Element<'x>> {
        self.children.iter().find(|child| child.name == name)
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> Element<'static> {
        Element {
            name: Cow::Owned(self.name.clone().into_owned()),
            text: Cow::Owned(self.text.clone().into_owned()),
            // At most `MAX_DEPTH` calls deep.
            children: self.children.iter().map(Element::to_owned).collect(),
        }
    }
}

/// Why a body is no XML for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    Utf8,
    /// A NUL byte.
    #[error("the body holds a NUL")]
    Nul,
    /// No element at all.
    #[error("the body holds no element")]
    Empty,
    /// A document type declaration, which could define entities.
    #[error("a DOCTYPE is not accepted")]
    Doctype,
    /// An entity other than `lt`, `gt`, `amp`, `quot`, `apos`.
    #[error("an entity is not one of the five of XML")]
    Entity,
    /// A reference to a character that XML does not have.
    #[error("a reference to NUL, a surrogate, a control character or a non-character")]
    CharacterReference,
    /// More than [`MAX_DEPTH`] levels.
    #[error("elements are nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// An end tag that closes nothing or another element, or an element that stays open.
    #[error("start and end tags do not match")]
    Mismatched,
    /// A second root, or text before or after the root.
    #[error("something stands outside the root element; if it is JSON, choose XML as 数据格式")]
    OutsideRoot,
    /// Anything else that is not well-formed.
    #[error("the XML is not well-formed")]
    Malformed,
    /// `Encrypt` or another known member of an envelope stands twice.
    #[error("the element `{0}` stands twice")]
    Duplicate(&'static str),
    /// A member that an envelope must have is not there.
    #[error("the element `{0}` is missing")]
    Missing(&'static str),
}

/// Reads a whole document and gives its root. Takes time in proportion to the input.
///
/// # Errors
///
/// [`XmlError`] for whatever is not well-formed, and for what this module's head refuses.
pub fn parse(input: &[u8]) -> Result<Element<'_>, XmlError> {
    parse_text(str::from_utf8(input).map_err(|_| XmlError::Utf8)?)
}

/// The same of a text.
///
/// # Errors
///
/// As for [`parse`], but for UTF-8.
pub fn parse_text(text: &str) -> Result<Element<'_>, XmlError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.as_bytes().contains(&0) {
        return Err(XmlError::Nul);
    }
    // The reader would drop a second mark in silence, and count its positions without it.
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(XmlError::OutsideRoot);
    }
    flat::read(text).map_or_else(|| read(text), Ok)
}

/// Reads whatever form a document has.
fn read(text: &str) -> Result<Element<'_>, XmlError> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_comments = true;
    // The tree checks them, and without copies of the names.
    config.check_end_names = false;
    config.allow_unmatched_ends = true;

    let mut tree = Tree::default();
    let mut is_start = true;
    loop {
        let rest = &text[text.len() - reader.get_ref().len()..];
        match reader.read_event().map_err(|_| XmlError::Malformed)? {
            Event::Start(tag) => tree.open(element(&tag, rest)?)?,
            Event::Empty(tag) => {
                tree.open(element(&tag, rest)?)?;
                tree.close_last()?;
            }
            Event::End(tag) => tree.close(tag.name().0)?,
            Event::Text(chunk) => tree.bare_text(chunk.xml10_content())?,
            Event::CData(chunk) => tree.cdata(chunk.xml10_content())?,
            Event::GeneralRef(reference) => tree.reference(resolve(&reference)?)?,
            Event::DocType(_) => return Err(XmlError::Doctype),
            Event::Decl(declaration) => {
                if !is_start || declaration.version().is_err() {
                    return Err(XmlError::Malformed);
                }
            }
            Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => return tree.finish(),
        }
        is_start = false;
    }
}

/// The document as far as it was read: no recursion, so depth costs no stack.
#[derive(Default)]
struct Tree<'x> {
    root: Option<Element<'x>>,
    open: Vec<Open<'x>>,
}

struct Open<'x> {
    element: Element<'x>,
    /// White space after a CDATA section only lays out.
    is_after_cdata: bool,
    /// So far the text is nothing but bare white space.
    is_layout: bool,
}

impl<'x> Tree<'x> {
    fn open(&mut self, element: Element<'x>) -> Result<(), XmlError> {
        if self.open.is_empty() && self.root.is_some() {
            return Err(XmlError::OutsideRoot);
        }
        if self.open.len() == MAX_DEPTH {
            return Err(XmlError::TooDeep);
        }
        self.open.push(Open {
            element,
            is_after_cdata: false,
            is_layout: true,
        });
        Ok(())
    }

    fn close(&mut self, name: &str) -> Result<(), XmlError> {
        match self.open.last() {
            Some(open) if open.element.name == name => self.close_last(),
            _ => Err(XmlError::Mismatched),
        }
    }

    fn close_last(&mut self) -> Result<(), XmlError> {
        let Open {
            mut element,
            is_layout,
            ..
        } = self.open.pop().ok_or(XmlError::Mismatched)?;
        if is_layout && !element.children.is_empty() {
            element.text = Cow::Borrowed("");
        }
        match self.open.last_mut() {
            Some(parent) => parent.element.children.push(element),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn bare_text(&mut self, chunk: Cow<'x, str>) -> Result<(), XmlError> {
        if chunk.contains("]]>") {
            return Err(XmlError::Malformed);
        }
        let is_blank = chunk.bytes().all(is_white_space);
        match self.open.last_mut() {
            None if is_blank => {}
            None => return Err(XmlError::OutsideRoot),
            Some(open)
                if is_blank && (open.is_after_cdata || !open.element.children.is_empty()) => {}
            Some(open) => {
                open.is_layout &= is_blank;
                open.is_after_cdata = false;
                open.append(chunk);
            }
        }
        Ok(())
    }

    fn cdata(&mut self, chunk: Cow<'x, str>) -> Result<(), XmlError> {
        let open = self.open.last_mut().ok_or(XmlError::OutsideRoot)?;
        if open.is_layout {
            open.element.text = Cow::Borrowed("");
        }
        open.is_layout = false;
        open.is_after_cdata = true;
        open.append(chunk);
        Ok(())
    }

    fn reference(&mut self, character: char) -> Result<(), XmlError> {
        let open = self.open.last_mut().ok_or(XmlError::OutsideRoot)?;
        open.is_layout = false;
        open.is_after_cdata = false;
        open.element.text.to_mut().push(character);
        Ok(())
    }

    fn finish(self) -> Result<Element<'x>, XmlError> {
        if !self.open.is_empty() {
            return Err(XmlError::Mismatched);
        }
        self.root.ok_or(XmlError::Empty)
    }
}

impl<'x> Open<'x> {
    fn append(&mut self, chunk: Cow<'x, str>) {
        if self.element.text.is_empty() {
            self.element.text = chunk;
        } else {
            self.element.text.to_mut().push_str(&chunk);
        }
    }
}

/// An element for its start tag, with which `rest` begins. Attributes mean nothing here, but they
/// must be XML.
fn element<'x>(tag: &BytesStart<'_>, rest: &'x str) -> Result<Element<'x>, XmlError> {
    for attribute in tag.attributes().with_checks(false) {
        let attribute = attribute.map_err(|_| XmlError::Malformed)?;
        if !is_name(attribute.key.0) || attribute.value.contains('<') {
            return Err(XmlError::Malformed);
        }
        for reference in attribute.value.split('&').skip(1) {
            let (name, _) = reference.split_once(';').ok_or(XmlError::Malformed)?;
            resolve(&BytesRef::new(name))?;
        }
    }
    // The reader lends a name for as long as its event; the same bytes of the input live longer.
    let name = rest
        .get(1..=tag.name().0.len())
        .ok_or(XmlError::Malformed)?;
    if !is_name(name) {
        return Err(XmlError::Malformed);
    }
    Ok(Element {
        name: Cow::Borrowed(name),
        text: Cow::Borrowed(""),
        children: Vec::new(),
    })
}

/// Close to XML's `Name`: a letter first, then digits, `-` and `.` too. Beyond ASCII all is a letter.
fn is_name(name: &str) -> bool {
    let is_start = |b: u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b':') || !b.is_ascii();
    let is_inner = |b: u8| is_start(b) || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    name.bytes().next().is_some_and(is_start) && name.bytes().all(is_inner)
}

fn is_white_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, XmlError> {
    match &**reference {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        number if number.starts_with('#') => match reference.resolve_char_ref() {
            Ok(Some(character)) if is_xml_character(character) && !is_noncharacter(character) => {
                Ok(character)
            }
            _ => Err(XmlError::CharacterReference),
        },
        _ => Err(XmlError::Entity),
    }
}

/// Whether XML 1.0 can hold it at all (§2.2, `Char`).
pub(crate) fn is_xml_character(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    }
}

/// The code points that Unicode never assigns.
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// Appends `<name><![CDATA[text]]></name>`. The text may hold `]]>`; characters that XML does not
/// have are left out.
pub fn push_cdata(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push_str("><![CDATA[");
    push_text(out, text);
    out.push_str("]]></");
    out.push_str(name);
    out.push('>');
}

fn push_text(out: &mut String, text: &str) {
    let bytes = text.as_bytes();
    let is_special = |byte: &u8| matches!(byte, 0..=0x1f | b'>' | 0xef);
    // Without a way out of the loop, so that it takes many bytes at once.
    if !bytes.iter().fold(false, |any, byte| any | is_special(byte)) {
        return out.push_str(text);
    }
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        // Bytes of `text` from here on that are no XML.
        let skipped = match byte {
            b'>' => 0,
            0..=0x1f if !is_white_space(byte) => 1,
            0xef if matches!(bytes[at + 1..], [0xbf, 0xbe | 0xbf, ..]) => 3,
            _ => continue,
        };
        out.push_str(&text[written..at]);
        written = at + skipped;
        if byte == b'>' && out.ends_with("]]") {
            out.push_str("]]><![CDATA[");
        }
    }
    out.push_str(&text[written..]);
}

/// Appends `<name>number</name>`.
pub fn push_number(out: &mut String, name: &str, number: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "<{name}>{number}</{name}>");
}

#[cfg(test)]
mod tests;
