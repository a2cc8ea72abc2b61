use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::wechat::event;

/// The messages among the samples, by the name of their file.
fn samples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/messages");
    let mut samples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .filter(|(name, _)| !name.starts_with('_'))
        .collect();
    samples.sort();
    samples
}

fn sample(name: &str) -> Message {
    let (_, xml) = samples()
        .into_iter()
        .find(|(found, _)| found == name)
        .unwrap();
    parse(&xml).unwrap()
}

fn parse(xml: &str) -> Result<Message, MessageError> {
    Message::parse(xml.as_bytes())
}

const HEAD: &str = "<ToUserName>gh_1</ToUserName><FromUserName>o1</FromUserName><CreateTime>1700000000</CreateTime>";

fn message(msg_type: &str, rest: &str) -> String {
    format!("<xml>{HEAD}<MsgType>{msg_type}</MsgType>{rest}</xml>")
}

fn event(name: &str, rest: &str) -> String {
    message("event", &format!("<Event>{name}</Event>{rest}"))
}

#[track_caller]
fn unknown(xml: &str) -> Unknown {
    match parse(xml).unwrap().kind {
        Kind::Unknown(unknown) => unknown,
        other => panic!("{other:?} of {xml}"),
    }
}

#[test]
fn every_sample_is_a_typed_value() {
    let samples = samples();
    assert_eq!(samples.len(), 71);
    for (file, xml) in samples {
        let message = parse(&xml).unwrap();
        assert!(
            !matches!(message.kind, Kind::Unknown(_)),
            "{file}: {:?}",
            message.kind
        );
        let root = xml::parse(xml.as_bytes()).unwrap();
        assert_eq!(
            message.msg_type(),
            root.child("MsgType").unwrap().text,
            "{file}"
        );
        let event = root.child("Event").map(|event| &*event.text);
        assert_eq!(message.event_name(), event, "{file}");
        assert_eq!(message.is_event(), event.is_some(), "{file}");
        assert_eq!(message.event().is_some(), event.is_some(), "{file}");
        // The typed form alone, without what JSON adds of the undeclared.
        let declared = match serde_json::to_value(&message.kind).unwrap() {
            Value::Object(declared) => declared,
            other => panic!("{file}: {other}"),
        };
        for child in &root.children {
            let is_empty_id = child.text.is_empty() && child.children.is_empty();
            assert!(
                Head::holds(&child.name) || declared.contains_key(&*child.name) || is_empty_id,
                "{file}: {} is not declared",
                child.name
            );
        }
    }
}

#[test]
fn the_json_of_every_sample_holds_every_element() {
    fn check(file: &str, element: &Element<'_>, json: &Value) {
        match json {
            Value::String(text) => assert_eq!(*text, element.text, "{file}"),
            Value::Number(number) => {
                let same = element.text.parse::<f64>().unwrap() == number.as_f64().unwrap();
                assert!(same, "{file}: {number} of {}", element.text);
            }
            Value::Object(object) => check_children(file, element, object),
            other => panic!("{file}: {other} of {}", element.name),
        }
    }
    fn check_children(file: &str, parent: &Element<'_>, object: &serde_json::Map<String, Value>) {
        let mut seen = std::collections::HashMap::new();
        for child in &parent.children {
            let name = &*child.name;
            let json = object
                .get(name)
                .unwrap_or_else(|| panic!("{file}: no {name}"));
            let at = seen.entry(name.to_owned()).or_insert(0_usize);
            let json = match json {
                Value::Array(items) => &items[*at],
                single => single,
            };
            *at += 1;
            check(file, child, json);
        }
    }
    for (file, xml) in samples() {
        let root = xml::parse(xml.as_bytes()).unwrap();
        let json = parse(&xml).unwrap().to_json();
        check_children(&file, &root, json.as_object().unwrap());
    }
}

#[test]
fn white_space_and_order_do_not_matter() {
    for (file, xml) in samples() {
        let message = parse(&xml).unwrap();
        let mut lines: Vec<_> = xml.lines().collect();
        let dense = parse(&lines.concat()).unwrap();
        assert_eq!(
            (&dense.kind, dense.ledger_key()),
            (&message.kind, message.ledger_key()),
            "{file}"
        );
        // Nested elements span lines, so only the flat samples can be turned round by lines.
        let is_flat = xml::parse(xml.as_bytes())
            .unwrap()
            .children
            .iter()
            .all(|c| c.children.is_empty());
        if is_flat {
            let last = lines.len() - 1;
            lines[1..last].reverse();
            let turned = parse(&lines.join("\n")).unwrap();
            assert_eq!(
                (&turned.kind, turned.ledger_key()),
                (&message.kind, message.ledger_key()),
                "{file}"
            );
        }
    }
}

#[test]
fn cdata_and_bare_text_are_the_same() {
    let bare = message(
        "location",
        "<Location_X>1.5</Location_X><Location_Y> -2 </Location_Y><Scale>3</Scale><Label>a</Label><MsgId>7</MsgId>",
    );
    let cdata = message(
        "<![CDATA[location]]>",
        "<Location_X><![CDATA[1.5]]></Location_X><Location_Y><![CDATA[-2]]></Location_Y><Scale>\n<![CDATA[3]]>\n</Scale><Label><![CDATA[a]]></Label><MsgId><![CDATA[7]]></MsgId>",
    );
    let (bare, cdata) = (parse(&bare).unwrap(), parse(&cdata).unwrap());
    assert_eq!(bare.kind, cdata.kind);
    assert_eq!(bare.msg_id, cdata.msg_id);
    assert_eq!(bare.ledger_key(), cdata.ledger_key());
    let location = bare.get::<Location>().unwrap();
    assert_eq!(
        (location.location_x, location.location_y, location.scale),
        (1.5, -2.0, Some(3))
    );
}

#[test]
fn a_text_is_read_whole() {
    let message = sample("text_from_article");
    assert_eq!(message.to.as_str(), "gh_000000000sim");
    assert_eq!(message.from.as_str(), "oFan0000000000000000000000001");
    assert_eq!(message.create_time, 1_700_000_000);
    assert_eq!(message.msg_id, Some(MsgId::new(24_300_000_000_000_003)));
    assert_eq!(message.msg_data_id.as_deref(), Some("2247480001"));
    assert_eq!(message.idx, Some(1));
    assert_eq!(message.text(), Some("这篇文章很好"));
    assert_eq!(
        (
            message.msg_type(),
            message.event_name(),
            message.event_key()
        ),
        ("text", None, None)
    );
    assert_eq!(message.subject(), &message.from);
    assert!(message.xml().contains("这篇文章很好"));
}

#[test]
fn numbers_are_exact_to_64_bits() {
    let text = |id: &str| message("text", &format!("<Content>a</Content><MsgId>{id}</MsgId>"));
    let id = |text: &str| parse(text).unwrap().msg_id.map(MsgId::get);
    assert_eq!(id(&text("18446744073709551615")), Some(u64::MAX));
    assert_eq!(id(&text("9007199254740993")), Some(9_007_199_254_740_993));
    let view = event(
        "VIEW",
        "<EventKey>u</EventKey><MenuId>18446744073709551615</MenuId>",
    );
    assert_eq!(
        parse(&view).unwrap().get::<event::View>().unwrap().menu_id,
        Some(u64::MAX)
    );
}

#[test]
fn content_is_kept_as_it_came() {
    for content in ["", " ", " a ", "a\nb", "<![CDATA[ <b>]]&gt; ]]>", "\u{1}"] {
        let message = parse(&message("text", &format!("<Content>{content}</Content>"))).unwrap();
        let expected = content
            .strip_prefix("<![CDATA[")
            .and_then(|rest| rest.strip_suffix("]]>"));
        assert_eq!(message.text(), Some(expected.unwrap_or(content)));
    }
}

#[test]
fn what_every_message_has_must_be_there() {
    let text = message("text", "<Content>a</Content>");
    for name in [
        "ToUserName",
        "FromUserName",
        "CreateTime",
        "MsgType",
        "Content",
    ] {
        let without = text.replace(&format!("{name}>"), "Other>");
        assert_eq!(parse(&without), Err(MessageError::Missing(name)));
    }
    assert_eq!(
        parse(&message("event", "<EventKey>a</EventKey>")),
        Err(MessageError::Missing("Event"))
    );
    assert_eq!(
        parse(&text.replace("xml>", "XML>")),
        Err(MessageError::Missing("xml"))
    );
    assert_eq!(parse("<xml/>"), Err(MessageError::Missing("MsgType")));
}

#[test]
fn what_every_message_has_must_not_be_empty() {
    let event = event("CLICK", "<EventKey>a</EventKey>");
    let values = [
        ("ToUserName", "gh_1"),
        ("FromUserName", "o1"),
        ("CreateTime", "1700000000"),
        ("MsgType", "event"),
        ("Event", "CLICK"),
    ];
    for (name, value) in values {
        for empty in ["", " ", "<![CDATA[]]>"] {
            let without = event.replace(&format!("<{name}>{value}<"), &format!("<{name}>{empty}<"));
            assert_eq!(
                parse(&without),
                Err(MessageError::Missing(name)),
                "{without}"
            );
        }
    }
}

#[test]
fn a_known_field_stands_once() {
    let twice = |field: &str| format!("<{field}>1</{field}><{field}>1</{field}>");
    for name in [
        "ToUserName",
        "FromUserName",
        "CreateTime",
        "MsgType",
        "MsgId",
        "MsgDataId",
        "Idx",
        "Event",
    ] {
        let xml = message(
            "text",
            &format!("<Content>a</Content><{name}>1</{name}>{}", twice(name)),
        );
        assert_eq!(parse(&xml), Err(MessageError::Duplicate(name)), "{xml}");
    }
    assert_eq!(
        parse(&message("text", &twice("Content"))),
        Err(MessageError::Duplicate("Content"))
    );
    assert_eq!(
        parse(&event("CLICK", &twice("EventKey"))),
        Err(MessageError::Duplicate("EventKey"))
    );
    let nested = format!(
        "<EventKey>a</EventKey><ScanCodeInfo>{}</ScanCodeInfo>",
        twice("ScanType")
    );
    assert_eq!(
        parse(&event("scancode_push", &nested)),
        Err(MessageError::Duplicate("ScanType"))
    );
    let any_case = "<OpenID>o1</OpenID><openid>o1</openid>";
    assert_eq!(
        parse(&event("user_info_modified", any_case)),
        Err(MessageError::Duplicate("OpenID"))
    );
    // A second one counts even where the first is already wrong.
    let malformed =
        "<Location_X>x</Location_X><Location_Y>1</Location_Y><Location_X>1</Location_X>";
    assert_eq!(
        parse(&message("location", malformed)),
        Err(MessageError::Duplicate("Location_X"))
    );
}

#[test]
fn unknown_elements_are_ignored_even_twice() {
    let rest = "<Content>a</Content><New>1</New><New>2</New><Deep><Deep>3</Deep></Deep>";
    assert_eq!(parse(&message("text", rest)).unwrap().text(), Some("a"));
    let nested = "<EventKey>a</EventKey><ScanCodeInfo><ScanType>q</ScanType><ScanResult>r</ScanResult><New/><New/></ScanCodeInfo>";
    assert!(
        parse(&event("scancode_push", nested))
            .unwrap()
            .event()
            .is_some()
    );
}

#[test]
fn a_malformed_head_is_an_error() {
    let text = message("text", "<Content>a</Content>");
    for time in ["now", "1.5", "17000000000000000000", "0x1"] {
        let xml = text.replace("1700000000", time);
        assert_eq!(
            parse(&xml),
            Err(MessageError::Malformed("CreateTime")),
            "{time}"
        );
    }
    assert_eq!(
        parse(&text.replace("gh_1", "商店")),
        Err(MessageError::Malformed("ToUserName"))
    );
    assert_eq!(
        parse(&text.replace("o1", "a b")),
        Err(MessageError::Malformed("FromUserName"))
    );
    assert_eq!(parse("<xml>"), Err(MessageError::Xml(XmlError::Mismatched)));
    assert_eq!(
        parse("success"),
        Err(MessageError::Xml(XmlError::OutsideRoot))
    );
}

#[test]
fn any_other_field_that_is_not_of_its_type_makes_the_message_unknown() {
    let place = |x: &str| {
        message(
            "location",
            &format!("<Location_X>{x}</Location_X><Location_Y>1</Location_Y>"),
        )
    };
    assert!(parse(&place("1e2")).unwrap().get::<Location>().is_some());
    for x in ["", "north", "inf", "nan", "1e999", "1,5"] {
        assert_eq!(unknown(&place(x)).msg_type, "location", "{x}");
    }
    for rest in [
        "<MsgId>x</MsgId>",
        "<MsgId>-1</MsgId>",
        "<MsgId>18446744073709551616</MsgId>",
        "<Idx>first</Idx>",
        "<bizmsgmenuid>x</bizmsgmenuid>",
    ] {
        let xml = message("text", &format!("<Content>a</Content>{rest}"));
        assert_eq!(unknown(&xml).fields[0].text, "a", "{rest}");
        assert_eq!(parse(&xml).unwrap().msg_id, None);
    }
    for (name, rest) in [
        ("CLICK", ""),
        (
            "TEMPLATESENDJOBFINISH",
            "<MsgID>x</MsgID><Status>success</Status>",
        ),
        (
            "location_select",
            "<EventKey>a</EventKey><SendLocationInfo><Location_X>x</Location_X></SendLocationInfo>",
        ),
        ("user_authorization_revoke", "<OpenID>a b</OpenID>"),
        (
            "PUBLISHJOBFINISH",
            "<PublishEventInfo><publish_id>1</publish_id><publish_status>2</publish_status><fail_idx>x</fail_idx></PublishEventInfo>",
        ),
    ] {
        assert_eq!(unknown(&event(name, rest)).event.as_deref(), Some(name));
    }
}

#[test]
fn an_unknown_type_keeps_all_it_holds() {
    let xml = message(
        "sticker",
        "<Event>x</Event><Pack>7</Pack><Deep><A>1</A><A>2</A></Deep><MsgId>9</MsgId>",
    );
    let message = parse(&xml).unwrap();
    assert_eq!(
        (message.msg_type(), message.event_name(), message.is_event()),
        ("sticker", None, false)
    );
    assert_eq!(message.msg_id, Some(MsgId::new(9)));
    let unknown = unknown(&xml);
    let names: Vec<_> = unknown.fields.iter().map(|field| &*field.name).collect();
    assert_eq!(names, ["Pack", "Deep"]);
    assert_eq!(
        message.to_json(),
        json!({
            "ToUserName": "gh_1", "FromUserName": "o1", "CreateTime": 1_700_000_000, "MsgType": "sticker",
            "MsgId": "9", "Event": "x", "Pack": "7", "Deep": {"A": ["1", "2"]},
        })
    );
}

#[test]
fn an_unknown_event_has_its_name_and_key() {
    let message = parse(&event("new_thing", "<EventKey>k</EventKey>")).unwrap();
    assert!(message.is_event());
    assert_eq!(message.event(), None);
    assert_eq!(
        (
            message.msg_type(),
            message.event_name(),
            message.event_key()
        ),
        ("event", Some("new_thing"), Some("k"))
    );
    // The case of a name is part of it.
    assert_eq!(
        unknown(&event("click", "<EventKey>k</EventKey>"))
            .event
            .as_deref(),
        Some("click")
    );
}

#[test]
fn a_list_of_one_is_a_list() {
    let popup = sample("event_subscribe_msg_change_event");
    let changes = &popup
        .get::<event::SubscribeMsgChangeEvent>()
        .unwrap()
        .subscribe_msg_change_event;
    assert_eq!(changes.list.len(), 1);
    assert_eq!(changes.list[0].subscribe_status_string, "reject");
    assert!(popup.to_json()["SubscribeMsgChangeEvent"]["List"].is_array());

    let pics = sample("event_pic_sysphoto");
    assert_eq!(
        pics.get::<event::PicSysphoto>()
            .unwrap()
            .send_pics_info
            .pic_list
            .items
            .len(),
        1
    );

    let failed = sample("event_PUBLISHJOBFINISH_original_fail");
    let info = &failed
        .get::<event::PublishJobFinish>()
        .unwrap()
        .publish_event_info;
    assert_eq!(
        (info.publish_status, &*info.fail_idx),
        (2, [1, 2].as_slice())
    );
}

#[test]
fn job_results_are_read_to_the_last_level() {
    let message = sample("event_MASSSENDJOBFINISH_copyright");
    let job = message.get::<event::MassSendJobFinish>().unwrap();
    assert_eq!(
        (job.msg_id.get(), &*job.status),
        (1_000_000_002, "err(30003)")
    );
    let check = job.copyright_check_result.as_ref().unwrap();
    let articles = &check.result_list.as_ref().unwrap().items;
    assert_eq!((check.check_state, articles.len()), (2, 2));
    assert_eq!(
        articles[1].original_article_url.as_deref(),
        Some("https://mp.weixin.qq.com/s/SIM2")
    );
    assert_eq!(job.article_url_result, None);

    let message = sample("event_TEMPLATESENDJOBFINISH_system_failed");
    assert_eq!(message.to_json()["MsgID"], "3700000000000000003");
    assert_eq!(
        message
            .get::<event::TemplateSendJobFinish>()
            .unwrap()
            .status,
        "failed: system failed"
    );
    assert_eq!(message.msg_id, None);
}

#[test]
fn authorization_events_name_their_subject_in_any_case() {
    for name in [
        "user_info_modified",
        "user_authorization_revoke",
        "user_authorization_cancellation",
    ] {
        for (openid, appid) in [
            ("OpenID", "AppID"),
            ("openid", "appid"),
            ("OpenId", "AppId"),
        ] {
            let rest = format!("<{openid}>oOther</{openid}><{appid}>wx1</{appid}>");
            let message = parse(&event(name, &rest)).unwrap();
            assert_eq!(message.event_name(), Some(name));
            assert_eq!(
                (message.from.as_str(), message.subject().as_str()),
                ("o1", "oOther")
            );
            let json = message.to_json();
            assert_eq!(
                (&json["OpenID"], &json["AppID"]),
                (&json!("oOther"), &json!("wx1"))
            );
            assert_eq!(json.as_object().unwrap().len(), 7, "{json}");
        }
    }
}

#[test]
fn a_scene_comes_without_its_prefix() {
    for (file, key, scene) in [
        ("event_subscribe", None, None),
        (
            "event_subscribe_qrscene_int",
            Some("qrscene_12345"),
            Some("12345"),
        ),
        (
            "event_subscribe_qrscene_str",
            Some("qrscene_order-1024"),
            Some("order-1024"),
        ),
        ("event_SCAN", Some("order-1024"), Some("order-1024")),
        ("event_CLICK", Some("MENU_HELP"), None),
        ("event_VIEW", Some("https://shop.example.test/m"), None),
        ("event_unsubscribe", None, None),
        ("event_LOCATION", None, None),
    ] {
        let message = sample(file);
        assert_eq!(
            (message.event_key(), message.scene()),
            (key, scene),
            "{file}"
        );
    }
}

#[test]
fn every_event_with_a_key_gives_it() {
    for (file, xml) in samples() {
        let root = xml::parse(xml.as_bytes()).unwrap();
        let key = root
            .child("EventKey")
            .map(|key| &*key.text)
            .filter(|key| !key.is_empty());
        assert_eq!(parse(&xml).unwrap().event_key(), key, "{file}");
    }
}

#[test]
fn a_message_gives_its_own_type_only() {
    let message = sample("text");
    assert_eq!(
        message.get::<Text>().unwrap().content,
        "你好，我想问一下订单 #1024"
    );
    assert_eq!(message.get::<Image>(), None);
    assert_eq!(message.get::<event::Click>(), None);
    assert_eq!(
        (Text::NAME, event::MassSendJobFinish::NAME),
        ("text", "MASSSENDJOBFINISH")
    );
    assert_eq!(sample("event_CLICK").get::<Text>(), None);
}

#[test]
fn json_is_flat_with_wechats_names() {
    assert_eq!(
        sample("text_from_article").to_json(),
        json!({
            "ToUserName": "gh_000000000sim", "FromUserName": "oFan0000000000000000000000001",
            "CreateTime": 1_700_000_000, "MsgType": "text", "Content": "这篇文章很好",
            "MsgId": "24300000000000003", "MsgDataId": "2247480001", "Idx": 1,
        })
    );
    let place = sample("event_location_select").to_json();
    assert_eq!(
        place["SendLocationInfo"],
        json!({
            "Location_X": 31.230416, "Location_Y": 121.473701, "Scale": 15,
            "Label": "上海市黄浦区模拟路1号", "Poiname": "模拟广场",
        })
    );
    assert_eq!(
        (&place["MsgType"], &place["Event"]),
        (&json!("event"), &json!("location_select"))
    );
    let extra = parse(&message("text", "<Content>a</Content><New>1</New>")).unwrap();
    assert_eq!(extra.to_json()["New"], "1");
}

#[test]
fn the_ledger_key_is_by_receiver_sender_and_msg_id() {
    let text = |id: &str, content: &str| {
        message(
            "text",
            &format!("<Content>{content}</Content><MsgId>{id}</MsgId>"),
        )
    };
    let key = |xml: &str| parse(xml).unwrap().ledger_key();
    let first = text("7", "a");
    assert_eq!(key(&first), key(&text("7", "b")));
    assert_eq!(key(&first), key(&first.replace("1700000000", "1700000001")));
    for other in [
        text("8", "a"),
        first.replace("gh_1", "gh_2"),
        first.replace("o1", "o2"),
    ] {
        assert_ne!(key(&first), key(&other), "{other}");
    }
    // Nothing moves from one part to the next.
    assert_ne!(
        key(&first.replace("gh_1", "gh_1o")),
        key(&first.replace("o1", "oo1"))
    );
}

#[test]
fn without_msg_id_the_ledger_key_is_by_everything() {
    let key = |xml: &str| parse(xml).unwrap().ledger_key();
    let click = event("CLICK", "<EventKey>a</EventKey>");
    let mut others = vec![
        click.replace("1700000000", "1700000001"),
        click.replace("o1", "o2"),
        event("VIEW", "<EventKey>a</EventKey>"),
        event("CLICK", "<EventKey>b</EventKey>"),
        event("CLICK", "<EventKey>a</EventKey><New>1</New>"),
        event("CLICK", "<EventKey>a</EventKey><New><A>1</A></New>"),
        event("CLICK", "<EventKey>a</EventKey><New><B>1</B></New>"),
        event("CLICK", "<EventKey>a</EventKey><MsgID>1</MsgID>"),
        event("CLICK", "<EventKey>a</EventKey><New>1</New><New>2</New>"),
        event("CLICK", "<EventKey>a</EventKey><New>2</New><New>1</New>"),
        message("text", "<Content>a</Content>"),
        event("CLICK", "<EventKey>a</EventKey><MsgId>1</MsgId>"),
    ];
    others.push(click);
    for (at, one) in others.iter().enumerate() {
        for other in &others[at + 1..] {
            assert_ne!(key(one), key(other), "{one}\n{other}");
        }
    }
    let turned = event(
        "CLICK",
        "\n<New>\n<B>2</B>\n<A>1</A></New>\n<EventKey><![CDATA[a]]></EventKey>\n",
    );
    assert_eq!(
        key(&turned),
        key(&event(
            "CLICK",
            "<EventKey>a</EventKey><New><A>1</A><B>2</B></New>"
        ))
    );
}

#[test]
fn debug_output_holds_nothing_private() {
    let debug = format!("{:?}", sample("text"));
    assert!(
        debug.contains("24300000000000001") && !debug.contains("订单"),
        "{debug}"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        prop_assert!(Message::parse(&bytes).is_err());
    }

    #[test]
    fn no_mix_of_samples_makes_it_panic(at: prop::sample::Index, lines in prop::collection::vec(any::<prop::sample::Index>(), 0..20)) {
        let samples = samples();
        let mut all: Vec<&str> = samples.iter().flat_map(|(_, xml)| xml.lines()).filter(|line| !line.contains("xml>")).collect();
        all.extend(["<Event>CLICK</Event>", "<Scale>x</Scale>", "<MsgId></MsgId>"]);
        let base = at.get(&samples).1.replace("</xml>", "");
        let body: Vec<_> = lines.iter().map(|line| *line.get(&all)).collect();
        if let Ok(message) = parse(&format!("{base}{}</xml>", body.join("\n"))) {
            prop_assert!(message.to_json().is_object());
            message.ledger_key();
            message.event_key();
        }
    }

    #[test]
    fn any_text_is_read_as_it_was_written(content in "[\\t\\n\u{20}-\u{d7ff}\u{e000}-\u{fffd}]{0,60}") {
        let mut written = String::new();
        xml::push_cdata(&mut written, "Content", &content);
        let message = parse(&message("text", &written)).unwrap();
        prop_assert_eq!(message.text(), Some(&*content));
        prop_assert_eq!(&message.to_json()["Content"], &json!(content));
    }
}
