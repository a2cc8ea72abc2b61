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
    #[error("something stands outside the root element")]
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
    let text = str::from_utf8(input).map_err(|_| XmlError::Utf8)?;
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    if text.as_bytes().contains(&0) {
        return Err(XmlError::Nul);
    }
    // The reader would drop a second mark in silence, and count its positions without it.
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(XmlError::OutsideRoot);
    }
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
    has_cdata: bool,
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
            has_cdata: false,
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
            Some(open) if is_blank && (open.has_cdata || !open.element.children.is_empty()) => {}
            Some(open) => {
                open.is_layout &= is_blank;
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
        open.has_cdata = true;
        open.append(chunk);
        Ok(())
    }

    fn reference(&mut self, character: char) -> Result<(), XmlError> {
        let open = self.open.last_mut().ok_or(XmlError::OutsideRoot)?;
        open.is_layout = false;
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
    let bytes = text.as_bytes();
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
    out.push_str("]]></");
    out.push_str(name);
    out.push('>');
}

/// Appends `<name>number</name>`.
pub fn push_number(out: &mut String, name: &str, number: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = write!(out, "<{name}>{number}</{name}>");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text of the one child of the root.
    fn leaf(body: &str) -> Result<String, XmlError> {
        let xml = format!("<xml><a>{body}</a></xml>");
        parse(xml.as_bytes()).map(|root| root.children[0].text.clone().into_owned())
    }

    #[track_caller]
    fn refused(xml: impl AsRef<[u8]>, error: XmlError) {
        let xml = xml.as_ref();
        assert_eq!(parse(xml), Err(error), "{}", String::from_utf8_lossy(xml));
    }

    #[test]
    fn a_tree_is_read_without_its_layout() {
        let xml = "<xml>\n <a>1</a>\n <b>\n  <c> x </c>\n </b>\n <d/>\n</xml>\n";
        let root = parse(xml.as_bytes()).unwrap();
        assert_eq!((&*root.name, &*root.text), ("xml", ""));
        let names: Vec<_> = root.children.iter().map(|child| &*child.name).collect();
        assert_eq!(names, ["a", "b", "d"]);
        assert_eq!(root.child("a").unwrap().text, "1");
        let b = root.child("b").unwrap();
        assert_eq!((&*b.text, &*b.children[0].text), ("", " x "));
        assert_eq!(root.child("c"), None);
    }

    #[test]
    fn names_and_simple_texts_are_not_copied() {
        let root = parse(b"<xml><a><![CDATA[x]]></a> <b>1</b></xml>").unwrap();
        for element in std::iter::once(&root).chain(&root.children) {
            assert!(matches!(element.name, Cow::Borrowed(_)), "{}", element.name);
            assert!(matches!(element.text, Cow::Borrowed(_)), "{}", element.name);
        }
    }

    #[test]
    fn text_and_cdata_are_one() {
        assert_eq!(leaf("<![CDATA[a]]>").unwrap(), "a");
        assert_eq!(leaf("a").unwrap(), "a");
        assert_eq!(leaf("a<![CDATA[<b>]]>&lt;c").unwrap(), "a<b><c");
        assert_eq!(leaf("<![CDATA[]]]]><![CDATA[>]]>").unwrap(), "]]>");
        assert_eq!(leaf("<![CDATA[]]>").unwrap(), "");
        assert_eq!(leaf("").unwrap(), "");
        assert_eq!(leaf("a<!-- x -->b<?y?>c").unwrap(), "abc");
    }

    #[test]
    fn white_space_of_a_value_is_kept_and_that_beside_cdata_is_not() {
        assert_eq!(leaf(" a ").unwrap(), " a ");
        assert_eq!(leaf("  ").unwrap(), "  ");
        assert_eq!(leaf("<![CDATA[ a ]]>").unwrap(), " a ");
        assert_eq!(leaf("\n <![CDATA[ a]]>\n").unwrap(), " a");
        assert_eq!(leaf("&#32;<![CDATA[a]]>").unwrap(), " a");
        assert_eq!(leaf("<![CDATA[a\r\nb\rc]]>").unwrap(), "a\nb\nc");
    }

    #[test]
    fn the_five_entities_and_character_references_are_read() {
        assert_eq!(
            leaf("&lt;&gt;&amp;&quot;&apos;&#65;&#x4f60;&#x1F600;&#9;").unwrap(),
            "<>&\"'A你😀\t"
        );
    }

    #[test]
    fn other_entities_are_refused() {
        for entity in ["&nbsp;", "&x;", "&LT;", "&;"] {
            assert_eq!(leaf(entity), Err(XmlError::Entity), "{entity}");
        }
        for broken in ["&", "& a", "&lt", "&#65"] {
            assert_eq!(leaf(broken), Err(XmlError::Malformed), "{broken}");
        }
    }

    #[test]
    fn references_to_what_is_no_character_are_refused() {
        for reference in [
            "&#0;",
            "&#x0;",
            "&#1;",
            "&#x1f;",
            "&#xD800;",
            "&#xDFFF;",
            "&#xFFFE;",
            "&#xFFFF;",
            "&#xFDD0;",
            "&#x1FFFE;",
            "&#x110000;",
            "&#99999999999;",
            "&#-1;",
            "&#+65;",
            "&#X41;",
            "&#;",
            "&#x;",
            "&#1a;",
        ] {
            assert_eq!(
                leaf(reference),
                Err(XmlError::CharacterReference),
                "{reference}"
            );
        }
    }

    #[test]
    fn control_characters_are_tolerated_where_they_stand_raw() {
        let controls: String = (1..0x20_u8)
            .filter(|&b| b != b'\r')
            .map(char::from)
            .collect();
        assert_eq!(leaf(&format!("<![CDATA[{controls}]]>")).unwrap(), controls);
        assert_eq!(leaf("a\u{1}b").unwrap(), "a\u{1}b");
        refused("<xml><a>\0</a></xml>", XmlError::Nul);
        refused("<xml><a><![CDATA[\0]]></a></xml>", XmlError::Nul);
    }

    #[test]
    fn a_doctype_is_refused() {
        refused("<!DOCTYPE xml><xml/>", XmlError::Doctype);
        refused("<!doctype xml><xml/>", XmlError::Doctype);
        refused(
            "<!DOCTYPE xml [<!ENTITY a \"b\">]><xml><c>&a;</c></xml>",
            XmlError::Doctype,
        );
        refused(
            "<!DOCTYPE x SYSTEM \"file:///etc/passwd\"><xml/>",
            XmlError::Doctype,
        );
        refused("<xml/><!DOCTYPE xml>", XmlError::Doctype);
    }

    #[test]
    fn eight_levels_are_read_and_no_more() {
        let nested = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
        assert!(parse(nested(8).as_bytes()).is_ok());
        refused(nested(9), XmlError::TooDeep);
        refused(nested(100_000), XmlError::TooDeep);
        refused(
            "<a>".repeat(8) + "<b/>" + &"</a>".repeat(8),
            XmlError::TooDeep,
        );
    }

    #[test]
    fn a_mark_a_declaration_and_comments_may_come_first() {
        let xml = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- x --><?pi y?><xml/><!-- z -->\n";
        assert_eq!(parse(xml.as_bytes()).unwrap().name, "xml");
        assert_eq!(parse(b"<xml a=\"1\" b='&amp;'/>").unwrap().name, "xml");
        refused("<xml/><?xml version=\"1.0\"?>", XmlError::Malformed);
        refused(" <?xml version=\"1.0\"?><xml/>", XmlError::Malformed);
        refused("<?xml?><xml/>", XmlError::Malformed);
        refused("\u{feff}\u{feff}<xml/>", XmlError::OutsideRoot);
    }

    #[test]
    fn tags_match() {
        for bad in [
            "<xml>",
            "<xml><a></xml>",
            "<xml><a></xml></a>",
            "<xml></XML>",
            "</xml>",
            "<xml></xml></xml>",
            "<xml><a>",
        ] {
            refused(bad, XmlError::Mismatched);
        }
    }

    #[test]
    fn one_root_holds_everything() {
        for bad in [
            "x<xml/>",
            "<xml/>x",
            "<xml/><xml/>",
            "<xml/><![CDATA[]]>",
            "&amp;<xml/>",
            "<xml/>\u{1}",
        ] {
            refused(bad, XmlError::OutsideRoot);
        }
    }

    #[test]
    fn a_body_without_an_element_is_empty() {
        for empty in [
            "",
            "\n ",
            "\u{feff}",
            "<!-- x -->",
            "<?xml version=\"1.0\"?>",
        ] {
            refused(empty, XmlError::Empty);
        }
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for bad in [
            "<",
            "<xml",
            "<xml/",
            "< xml/>",
            "<1/>",
            "<a<b>/>",
            "<a/ >",
            "<xml><!-- a -- b --></xml>",
            "<xml><!--",
            "<xml><![CDATA[x</xml>",
            "<xml><![cdata[x]]></xml>",
            "<xml>]]></xml>",
            "<xml><!ENTITY a \"b\"></xml>",
            "<xml a></xml>",
            "<xml a=b></xml>",
            "<xml a=\"b></xml>",
            "<xml a='<'/>",
            "<xml a='&'/>",
            "<?",
            "<xml></>",
            "{\"a\":1}<",
        ] {
            let result = parse(bad.as_bytes());
            assert!(
                matches!(
                    result,
                    Err(XmlError::Malformed | XmlError::Mismatched | XmlError::OutsideRoot)
                ),
                "{bad}: {result:?}"
            );
        }
        refused("<xml a='&x;'/>", XmlError::Entity);
        refused("{\"ToUserName\":1}", XmlError::OutsideRoot);
    }

    #[test]
    fn a_body_is_utf8() {
        refused(b"<xml>\xff</xml>", XmlError::Utf8);
        refused(b"\xff\xfe<\0x\0/\0>\0", XmlError::Utf8);
        refused("你好".as_bytes().split_last().unwrap().1, XmlError::Utf8);
    }

    #[test]
    fn written_cdata_reads_as_it_was_meant() {
        for text in [
            "",
            "a",
            "]]>",
            "]]]]>>",
            "a]]>b]]>c",
            "]]",
            "]]&gt;",
            "<a href=\"x\">你好，</a>",
            "中\u{fffd}",
        ] {
            let mut xml = String::new();
            push_cdata(&mut xml, "a", text);
            assert_eq!(parse(xml.as_bytes()).unwrap().text, text, "{xml}");
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_left_out() {
        let mut xml = String::new();
        push_cdata(
            &mut xml,
            "a",
            "\u{1}a\u{0}]\u{b}]\u{fffe}>\u{ffff}\u{c}\u{1f}b\t\n\u{7f}",
        );
        assert_eq!(xml, "<a><![CDATA[a]]]]><![CDATA[>b\t\n\u{7f}]]></a>");
    }

    #[test]
    fn numbers_are_written_bare() {
        let mut xml = String::new();
        push_number(&mut xml, "CreateTime", 1_700_000_000_i64);
        assert_eq!(xml, "<CreateTime>1700000000</CreateTime>");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_markup_makes_the_reader_panic(
            parts in proptest::collection::vec(
                proptest::sample::select(vec![
                    "<", ">", "</", "/>", "xml", "a", "<xml>", "</xml>", "<a>", "</a>", "<![CDATA[", "]]>", "&", ";",
                    "lt", "#x", "1", "<!--", "-->", "<?", "?>", "<!DOCTYPE", "=", "\"", "'", " ", "\r\n", "你", "\u{1}", "\u{fffe}",
                ]),
                0..30,
            )
        ) {
            let _ = parse(parts.concat().as_bytes());
        }

        #[test]
        fn written_text_is_read_back(text in "(?s).{0,60}") {
            let mut xml = String::new();
            push_cdata(&mut xml, "a", &text);
            let kept: String = text.chars().filter(|&c| is_xml_character(c)).collect();
            let kept = kept.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(&parse(xml.as_bytes()).unwrap().text, &kept);
        }
    }
}
