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
    assert_eq!(leaf("<![CDATA[a]]> <![CDATA[b]]>").unwrap(), "ab");
    assert_eq!(leaf("<![CDATA[a]]>&amp; &amp;").unwrap(), "a& &");
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
    let xml =
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<!-- x --><?pi y?><xml/><!-- z -->\n";
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

/// What is nearly of the form that the quick reader knows.
fn nearly_flat() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => Just("<a>"), 8 => Just("</a>"), 4 => Just("<![CDATA["), 4 => Just("]]>"), 4 => Just("b"),
        2 => Just(" "), 1 => Just("\r\n"), 1 => Just("&amp;"), 1 => Just("]"), 1 => Just(">"),
        1 => Just("<_b1>"), 1 => Just("</_b1>"), 1 => Just("<1>"), 1 => Just("<b/>"), 1 => Just("你"),
        1 => Just("<a x='1'>"), 1 => Just("<!-- -->"), 1 => Just("</a >"), 1 => Just("<"),
    ];
    let leaf = prop_oneof![
        Just("<a>1</a>".to_owned()),
        Just("<b><![CDATA[x>]]]]></b>".to_owned()),
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
    ];
    prop::collection::vec(leaf, 0..5)
        .prop_map(|leaves| format!("<xml>{}</xml>\n", leaves.join("\n")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_quick_reader_gives_what_the_whole_one_does(text in nearly_flat()) {
        if let Some(root) = flat::read(&text) {
            prop_assert_eq!(Ok(root), read(&text));
        }
    }
}

#[test]
fn the_quick_reader_takes_what_the_platform_sends() {
    let message = "<xml><ToUserName><![CDATA[gh_1]]></ToUserName>\n<CreateTime>1700000000</CreateTime>\n\
                   <Content><![CDATA[a>b ]] 你好\u{7}]]></Content><MsgId></MsgId></xml>\n";
    let root = flat::read(message).unwrap();
    assert_eq!(root.child("Content").unwrap().text, "a>b ]] 你好\u{7}");
    assert_eq!(root.children.len(), 4);
    for other in [
        "<xml></xml>",
        "<xml> </xml>",
        "<xml><a>1</a></xml>x",
        "<xml><a><b>1</b></a></xml>",
        "<xml><a>&lt;</a></xml>",
        "<xml><a>1</b></xml>",
        "<xml><a>1\r\n</a></xml>",
        "<xml><a><![CDATA[1]]> </a></xml>",
        "<xml><a/></xml>",
        "<?xml version='1.0'?><xml><a>1</a></xml>",
        "<xml><a>1</a>",
    ] {
        assert_eq!(flat::read(other), None, "{other}");
    }
}
