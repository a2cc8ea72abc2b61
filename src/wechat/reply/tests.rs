use proptest::prelude::*;
use serde_json::json;

use super::*;

fn user() -> OpenId {
    OpenId::parse("oFan0000000000000000000000001").unwrap()
}

fn account() -> OriginalId {
    OriginalId::parse("gh_000000000sim").unwrap()
}

fn xml(reply: &Reply) -> String {
    reply.to_xml(&user(), &account(), 1_700_000_001).unwrap()
}

fn article(n: usize) -> Article {
    Article {
        title: format!("第{n}条"),
        description: format!("说明{n}"),
        pic_url: format!("https://shop.example.test/p{n}.jpg"),
        url: format!("https://shop.example.test/a/{n}"),
    }
}

/// Each sample, the reply it holds, and that reply as JSON.
fn samples() -> Vec<(&'static str, Reply, serde_json::Value)> {
    macro_rules! sample {
        ($file:literal) => {
            include_str!(concat!("../../../tests/fixtures/replies/", $file, ".xml"))
        };
    }
    let text = "收到，第一行\n第二行 <a href=\"https://shop.example.test/\">链接</a>";
    let some = |text: &str| Some(text.to_owned());
    vec![
        (
            sample!("text"),
            text.into(),
            json!({"MsgType": "text", "Content": text}),
        ),
        (
            sample!("image"),
            Reply::Image {
                media_id: "SIM_MEDIA_IMAGE_0001".into(),
            },
            json!({"MsgType": "image", "Image": {"MediaId": "SIM_MEDIA_IMAGE_0001"}}),
        ),
        (
            sample!("voice"),
            Reply::Voice {
                media_id: "SIM_MEDIA_VOICE_8K_0001".into(),
            },
            json!({"MsgType": "voice", "Voice": {"MediaId": "SIM_MEDIA_VOICE_8K_0001"}}),
        ),
        (
            sample!("video"),
            Reply::Video {
                media_id: "SIM_MEDIA_VIDEO_0001".into(),
                title: some("模拟视频"),
                description: some("说明"),
            },
            json!({"MsgType": "video", "Video": {
                "MediaId": "SIM_MEDIA_VIDEO_0001", "Title": "模拟视频", "Description": "说明",
            }}),
        ),
        (
            sample!("music"),
            Reply::Music {
                title: some("模拟音乐"),
                description: some("说明"),
                music_url: some("https://shop.example.test/a.mp3"),
                hq_music_url: some("https://shop.example.test/a-hq.mp3"),
                thumb_media_id: some("SIM_MEDIA_THUMB_0001"),
            },
            json!({"MsgType": "music", "Music": {
                "Title": "模拟音乐", "Description": "说明",
                "MusicUrl": "https://shop.example.test/a.mp3",
                "HQMusicUrl": "https://shop.example.test/a-hq.mp3",
                "ThumbMediaId": "SIM_MEDIA_THUMB_0001",
            }}),
        ),
        (
            sample!("news"),
            Reply::News(vec![article(1)]),
            json!({"MsgType": "news", "Articles": [{
                "Title": "第1条", "Description": "说明1",
                "PicUrl": "https://shop.example.test/p1.jpg", "Url": "https://shop.example.test/a/1",
            }]}),
        ),
        (
            sample!("news_multi_event_only"),
            Reply::News(vec![article(1), article(2)]),
            json!({"MsgType": "news", "Articles": [
                {"Title": "第1条", "Description": "说明1",
                 "PicUrl": "https://shop.example.test/p1.jpg", "Url": "https://shop.example.test/a/1"},
                {"Title": "第2条", "Description": "说明2",
                 "PicUrl": "https://shop.example.test/p2.jpg", "Url": "https://shop.example.test/a/2"},
            ]}),
        ),
        (
            sample!("transfer_customer_service"),
            Reply::TransferCustomerService { kf_account: None },
            json!({"MsgType": "transfer_customer_service"}),
        ),
        (
            sample!("transfer_customer_service_kfaccount"),
            Reply::TransferCustomerService {
                kf_account: some("agent1@simshop"),
            },
            json!({"MsgType": "transfer_customer_service", "TransInfo": {"KfAccount": "agent1@simshop"}}),
        ),
    ]
}

#[test]
fn every_sample_is_written_and_read() {
    for (sample, reply, _) in samples() {
        // The samples have a line feed after each tag, we have none.
        assert_eq!(xml(&reply), sample.replace(">\n", ">"));
        let (head, read) = Reply::parse(sample.as_bytes()).unwrap();
        assert_eq!(read, reply);
        assert_eq!(
            head,
            ReplyHead {
                to: user(),
                from: account(),
                create_time: 1_700_000_001
            }
        );
        assert_eq!(Reply::parse(xml(&reply).as_bytes()).unwrap(), (head, reply));
    }
}

#[test]
fn every_reply_is_json_with_wechats_names() {
    for (_, reply, json) in samples() {
        assert_eq!(serde_json::to_value(&reply).unwrap(), json);
        assert_eq!(serde_json::from_value::<Reply>(json).unwrap(), reply);
    }
}

#[test]
fn no_reply_is_an_empty_object() {
    assert_eq!(serde_json::to_value(Reply::None).unwrap(), json!({}));
    assert_eq!(serde_json::from_str::<Reply>("{}").unwrap(), Reply::None);
}

#[test]
fn members_of_the_xml_that_say_nothing_new_are_ignored_in_json() {
    let json = json!({
        "ToUserName": "o1", "FromUserName": "gh_1", "CreateTime": 1, "ArticleCount": 1,
        "MsgType": "news", "Articles": [{"Title": "t"}], "Other": [1],
    });
    let expected = Article {
        title: "t".into(),
        ..Article::default()
    };
    assert_eq!(
        serde_json::from_value::<Reply>(json).unwrap(),
        Reply::News(vec![expected])
    );
}

#[test]
fn json_that_is_no_reply_is_an_error() {
    for json in [
        json!(null),
        json!("text"),
        json!([]),
        json!({"Content": "a"}),
        json!({"MsgType": "text"}),
        json!({"MsgType": "text", "Content": 1}),
        json!({"MsgType": "Text", "Content": "a"}),
        json!({"MsgType": "sticker", "Content": "a"}),
        json!({"MsgType": "image", "MediaId": "a"}),
        json!({"MsgType": "image", "Image": {}}),
        json!({"MsgType": "news", "Articles": {"item": []}}),
    ] {
        assert!(
            serde_json::from_value::<Reply>(json.clone()).is_err(),
            "{json}"
        );
    }
}

#[test]
fn handlers_may_return_simple_things() {
    assert_eq!(Reply::from("a"), Reply::Text("a".into()));
    assert_eq!(Reply::from("a".to_owned()), Reply::Text("a".into()));
    assert_eq!(Reply::from(()), Reply::None);
    assert_eq!(Reply::from(Some("a")), Reply::Text("a".into()));
    assert_eq!(Reply::from(None::<String>), Reply::None);
    assert_eq!(Reply::from(Some(Reply::News(vec![]))), Reply::News(vec![]));
}

#[test]
fn a_reply_with_nothing_to_show_is_no_reply() {
    for silent in [
        Reply::None,
        Reply::from(""),
        Reply::from("\u{1}\u{0}"),
        Reply::News(vec![]),
    ] {
        assert_eq!(silent.to_xml(&user(), &account(), 1), None, "{silent:?}");
        assert_eq!(silent.fitted(false), (Reply::None, vec![]));
    }
}

#[test]
fn a_text_may_hold_the_end_of_a_cdata_section() {
    let xml = xml(&"a]]>b".into());
    assert_eq!(xml.matches("<Content>").count(), 1);
    assert_eq!(Reply::parse(xml.as_bytes()).unwrap().1, "a]]>b".into());
}

#[test]
fn a_long_text_is_cut_at_a_border_of_characters() {
    let exact = "a".repeat(2048);
    assert_eq!(
        Reply::from(exact.clone()).fitted(false),
        (exact.clone().into(), vec![])
    );
    let over = exact.clone() + "b";
    assert_eq!(
        Reply::from(over).fitted(true),
        (exact.into(), vec![Cut::Text { bytes: 1 }])
    );
    // 2048 is no multiple of three: the 683rd character would end at byte 2049.
    let chinese = "你".repeat(700);
    let (Reply::Text(kept), cuts) = Reply::from(chinese).fitted(false) else {
        panic!("a text")
    };
    assert_eq!(kept, "你".repeat(682));
    assert_eq!(cuts, [Cut::Text { bytes: 54 }]);
}

#[test]
fn news_answer_a_message_with_one_card_and_an_event_with_eight() {
    let news = |n| Reply::News((1..=n).map(article).collect());
    assert_eq!(news(1).fitted(false), (news(1), vec![]));
    assert_eq!(
        news(9).fitted(false),
        (news(1), vec![Cut::News { articles: 8 }])
    );
    assert_eq!(news(8).fitted(true), (news(8), vec![]));
    assert_eq!(
        news(9).fitted(true),
        (news(8), vec![Cut::News { articles: 1 }])
    );
}

#[test]
fn what_the_platform_cannot_deliver_is_told_apart() {
    #[track_caller]
    fn check(xml: &str, error: ReplyError) {
        assert_eq!(Reply::parse(xml.as_bytes()), Err(error), "{xml}");
    }
    use crate::wechat::xml::XmlError;

    let whole = xml(&"a".into());
    for name in [
        "ToUserName",
        "FromUserName",
        "CreateTime",
        "MsgType",
        "Content",
    ] {
        check(
            &whole.replace(&format!("{name}>"), "Other>"),
            ReplyError::Missing(name),
        );
        let twice = whole.replace(
            "<MsgType>",
            &format!("<{name}>1</{name}><{name}>1</{name}><MsgType>"),
        );
        check(&twice, ReplyError::Duplicate(name));
    }
    check("success", ReplyError::Xml(XmlError::OutsideRoot));
    check(&whole.replace("xml>", "XML>"), ReplyError::Missing("xml"));
    check(
        &whole.replace("1700000001", "now"),
        ReplyError::Malformed("CreateTime"),
    );
    check(
        &whole.replace("gh_000000000sim", "商店"),
        ReplyError::Malformed("FromUserName"),
    );
    check(
        &whole.replace("[text]", "[sticker]"),
        ReplyError::UnknownType("sticker".into()),
    );
    check(
        &whole.replace("<![CDATA[a]]>", ""),
        ReplyError::Missing("Content"),
    );
    check(
        &whole.replace("[text]", "[image]"),
        ReplyError::Missing("Image"),
    );
    let empty_news = xml(&Reply::News(vec![article(1)])).replace("item>", "other>");
    check(&empty_news, ReplyError::Missing("item"));
}

fn any_text() -> impl Strategy<Value = String> {
    // What XML can hold. A reader turns CR into LF, so none of those.
    "[\\t\\n\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]{0,40}|[\\]>&<]{1,9}"
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let some = || any_text().prop_filter("not empty", |text| !text.is_empty());
    let option = || proptest::option::of(any_text());
    let article = (any_text(), any_text(), any_text(), any_text()).prop_map(
        |(title, description, pic_url, url)| Article {
            title,
            description,
            pic_url,
            url,
        },
    );
    prop_oneof![
        some().prop_map(Reply::Text),
        some().prop_map(|media_id| Reply::Image { media_id }),
        some().prop_map(|media_id| Reply::Voice { media_id }),
        (some(), option(), option()).prop_map(|(media_id, title, description)| Reply::Video {
            media_id,
            title,
            description
        }),
        (option(), option(), option(), option(), option()).prop_map(
            |(title, description, music_url, hq_music_url, thumb_media_id)| Reply::Music {
                title,
                description,
                music_url,
                hq_music_url,
                thumb_media_id
            }
        ),
        proptest::collection::vec(article, 1..4).prop_map(Reply::News),
        option().prop_map(|kf_account| Reply::TransferCustomerService { kf_account }),
    ]
}

proptest! {
    #[test]
    fn any_reply_survives_the_wire(reply in any_reply()) {
        let (_, read) = Reply::parse(xml(&reply).as_bytes()).unwrap();
        prop_assert_eq!(&read, &reply);
    }

    #[test]
    fn any_reply_survives_json(reply in any_reply()) {
        let json = serde_json::to_string(&reply).unwrap();
        prop_assert_eq!(serde_json::from_str::<Reply>(&json).unwrap(), reply);
    }

    #[test]
    fn a_fitted_text_is_the_longest_start_within_the_limit(
        text in proptest::collection::vec(any::<char>(), 500..1200)
    ) {
        let text: String = text.into_iter().collect();
        match Reply::from(text.clone()).fitted(false).0 {
            Reply::Text(kept) => {
                prop_assert!(kept.len() <= MAX_TEXT_BYTES && text.starts_with(&kept));
                let next = text[kept.len()..].chars().next();
                prop_assert!(next.is_none_or(|c| kept.len() + c.len_utf8() > MAX_TEXT_BYTES));
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn no_bytes_make_the_reader_of_replies_panic(bytes: Vec<u8>) {
        let _ = Reply::parse(&bytes);
    }
}
