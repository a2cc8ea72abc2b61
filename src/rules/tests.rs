//! What rules of a file make of messages.

use std::path::Path;

use super::file::parse;
use super::template::Values;
use super::*;

fn read(text: &str) -> Reading {
    parse(text, "r.toml", Path::new("tests/fixtures"))
}

#[track_caller]
fn book(text: &str) -> Rulebook {
    let reading = read(text);
    reading.rules.unwrap_or_else(|faults| panic!("{faults:?}"))
}

#[track_caller]
fn faults(text: &str) -> Vec<String> {
    let faults = read(text).rules.unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let reading = read(text);
    assert!(reading.rules.is_ok(), "{:?}", reading.rules);
    reading.warnings.iter().map(ToString::to_string).collect()
}

/// 2026-11-20 was a Friday.
const AT: &str = "2026-11-20 10:00";

fn text(content: &str) -> Trial {
    Trial {
        text: Some(content.to_owned()),
        at: Some(AT.to_owned()),
        ..Trial::default()
    }
}

fn event(event: &str, key: &str) -> Trial {
    Trial {
        event: Some(event.to_owned()),
        key: Some(key.to_owned()),
        at: Some(AT.to_owned()),
        ..Trial::default()
    }
}

/// What is said; `None` where the rules leave it to others.
fn said(book: &Rulebook, trial: &Trial) -> Option<Reply> {
    let message = trial.message(book, 0).unwrap();
    let decision = book.decide(&Subject::new(&message), |_, _| {});
    let saying = decision.saying();
    if saying.is_empty() {
        return None;
    }
    let replies = saying.iter().map(|(fitting, saying)| {
        let values = Values {
            message: &message,
            captures: &fitting.captures,
            user: None,
        };
        saying.say(&values, None, 0)
    });
    Some(join(replies.collect()))
}

#[track_caller]
fn check(book: &Rulebook, trial: &Trial, expected: &str) {
    let expected = (!expected.is_empty()).then(|| Reply::Text(expected.to_owned()));
    assert_eq!(said(book, trial), expected, "{}", explained(book, trial));
}

fn explained(book: &Rulebook, trial: &Trial) -> String {
    book.explain(&trial.message(book, 0).unwrap())
}

// Conditions.

#[test]
fn a_keyword_is_the_whole_text_in_any_case_and_width() {
    let book = book(
        "[[rule]]\nkeyword = [\"Help\", \"帮助\", 7]\ntext = \"a\"\n\
         [[rule]]\nkeyword = \"VIP\"\ncase_sensitive = true\ntext = \"b\"",
    );
    for fits in [
        "help",
        "HELP",
        " Help\n",
        "ｈｅＬＰ",
        "\u{3000}帮助\u{3000}",
        "7",
        "７",
    ] {
        check(&book, &text(fits), "a");
    }
    for other in ["help me", "帮助我", "hel p", "vip", "Vip"] {
        check(&book, &text(other), "");
    }
    check(&book, &text("ＶＩＰ"), "b");
}

#[test]
fn contains_finds_a_word_anywhere() {
    let book = book("[[rule]]\ncontains = [\"退款\", \"Refund\"]\ntext = \"a\"");
    for fits in ["我要退款!", "refund", "no REFUNDS", "ｒｅｆｕｎｄ"] {
        check(&book, &text(fits), "a");
    }
    check(&book, &text("退 款"), "");
}

#[test]
fn a_regex_searches_the_trimmed_text_and_gives_its_groups() {
    let book = book(
        "[[rule]]\nregex = ['^订单\\s*(\\d+)$', '^order (?<no>\\d+)$']\ntext = \"{{1}}/{{no|-}}\"\n\
         [[rule]]\nregex = '(?i)^YES$'\ntext = \"yes\"",
    );
    check(&book, &text("  订单 42\n"), "42/-");
    check(&book, &text("order 7"), "7/7");
    check(&book, &text("Order 7"), "");
    check(&book, &text("yes"), "yes");
}

#[test]
fn events_are_told_apart_by_name_key_and_scene() {
    let book = book(
        "[[rule]]\nkey = \"MENU\"\ntext = \"key\"\n\
         [[rule]]\nscene = [42, \"shop\"]\ntext = \"scene\"\n\
         [[rule]]\nevent = [\"subscribe\", \"SCAN\"]\ntext = \"event\"",
    );
    check(&book, &event("CLICK", "MENU"), "key");
    check(&book, &event("CLICK", "menu"), "");
    check(&book, &event("SCAN", "42"), "scene");
    check(&book, &event("subscribe", "qrscene_shop"), "scene");
    check(&book, &event("subscribe", "qrscene_43"), "event");
    check(&book, &event("SCAN", "qrscene_42"), "event");
    check(&book, &event("VIEW", "https://a.example/"), "");
}

#[test]
fn a_rule_that_asks_for_no_event_gets_none() {
    let messages = book("[[rule]]\ntext = \"any\"");
    check(&messages, &text("x"), "any");
    let image = Trial {
        msg_type: Some("image".to_owned()),
        ..Trial::default()
    };
    check(&messages, &image, "any");
    check(&messages, &event("LOCATION", ""), "");
    let events = book("[[rule]]\ntype = \"event\"\ntext = \"any\"");
    check(&events, &event("LOCATION", ""), "any");
    check(&events, &text("x"), "");
}

#[test]
fn all_conditions_must_hold_and_of_a_list_any() {
    let book = book(
        "[[rule]]\nkeyword = [\"a\", \"b\"]\ntime = [\"09:00-12:00\", \"22:00-02:00\"]\n\
         weekday = \"mon-fri\"\nfrom = 2026-11-16\nuntil = \"2026-11-20\"\ntext = \"in\"",
    );
    let at = |content: &str, at: &str| Trial {
        at: Some(at.to_owned()),
        ..text(content)
    };
    for (content, when, expected) in [
        ("a", "2026-11-20 09:00", "in"),
        ("b", "2026-11-20 11:59:59", "in"),
        ("c", "2026-11-20 09:00", ""),
        ("a", "2026-11-20 12:00", ""),
        ("a", "2026-11-20 23:59", "in"),
        ("a", "2026-11-21 00:00", ""),
        ("a", "2026-11-16 00:30", ""),
        ("a", "2026-11-17 00:30", "in"),
        ("a", "2026-11-15 10:00", ""),
        ("a", "2026-11-20 01:00:00Z", "in"),
    ] {
        check(&book, &at(content, when), expected);
    }
}

#[test]
fn times_are_those_of_the_offset_of_the_file() {
    let book = book("utc_offset = \"-03:00\"\n[[rule]]\ntime = \"09:00-10:00\"\ntext = \"in\"");
    let at = |at: &str| Trial {
        at: Some(at.to_owned()),
        ..text("x")
    };
    check(&book, &at("2026-11-20 09:30"), "in");
    check(&book, &at("2026-11-20T12:30:00Z"), "in");
    check(&book, &at("2026-11-20T09:30:00+08:00"), "");
}

// What is said.

#[test]
fn the_first_rule_that_fits_answers() {
    let book =
        book("[[rule]]\nkeyword = \"a\"\ntext = \"1\"\n[[rule]]\ncontains = \"a\"\ntext = \"2\"");
    check(&book, &text("a"), "1");
    check(&book, &text("ab"), "2");
}

#[test]
fn next_puts_its_text_before_the_answer_of_a_later_rule() {
    let book = book(
        "[[rule]]\nname = \"count\"\nthen = \"next\"\n\
         [[rule]]\ncontains = \"夜\"\nthen = \"next\"\ntext = \"已下班\"\n\
         [[rule]]\nkeyword = \"夜a\"\ntext = \"A\"\n\
         [[rule]]\nkeyword = \"夜图\"\nimage = { media_id = \"m\" }\n\
         [[rule]]\nkeyword = \"夜静\"\nnothing = true\n\
         [[rule]]\nkeyword = \"夜问\"\nthen = \"forward\"",
    );
    check(&book, &text("夜a"), "已下班\nA");
    check(&book, &text("夜b"), "已下班");
    check(&book, &text("夜静"), "已下班");
    check(&book, &text("夜问"), "");
    check(&book, &text("b"), "");
    let media_id = "m".to_owned();
    assert_eq!(said(&book, &text("夜图")), Some(Reply::Image { media_id }));
}

#[test]
fn to_say_nothing_is_an_answer_and_to_forward_is_none() {
    let book = book(
        "[[rule]]\nkeyword = \"quiet\"\nnothing = true\n\
         [[rule]]\nkeyword = \"ai\"\nthen = \"forward\"\n\
         [[rule]]\ntext = \"rest\"",
    );
    assert_eq!(said(&book, &text("quiet")), Some(Reply::None));
    assert_eq!(said(&book, &text("ai")), None);
    check(&book, &text("x"), "rest");
}

#[test]
fn a_text_is_one_of_several() {
    let book = book("[[rule]]\ntext = [\"a\", \"b\", \"c\"]");
    let saying = book.rules[0].says.as_ref().unwrap();
    assert_eq!(saying.choices(), 3);
    let message = text("x").message(&book, 0).unwrap();
    let values = Values {
        message: &message,
        captures: &Captures::default(),
        user: None,
    };
    let all: Vec<_> = (0..3)
        .map(|chance| saying.say(&values, None, chance))
        .collect();
    assert_eq!(all, ["a".into(), "b".into(), Reply::from("c")]);
}

#[test]
fn a_reply_has_every_part_that_the_rule_gives_it() {
    let book = book(
        "[[rule]]\nkeyword = \"video\"\nvideo = { media_id = \"v\", title = \"{{Content}}\" }\n\
         [[rule]]\nkeyword = \"music\"\n[rule.music]\ntitle = \"t\"\ndescription = \"d\"\n\
         music_url = \"https://a.example/{{Content}}.mp3\"\nhq_music_url = \"https://a.example/hq\"\n\
         thumb = { media_id = \"th\" }\n\
         [[rule]]\nkeyword = \"kf\"\ntransfer_customer_service = { kf_account = \"k@a\" }\n\
         [[rule]]\nkeyword = \"anykf\"\ntransfer_customer_service = true\n\
         [[rule]]\nevent = \"subscribe\"\n[[rule.news]]\ntitle = \"1\"\n[[rule.news]]\ntitle = \"2\"\n\
         url = \"https://a.example/\"\npic_url = \"https://a.example/p.png\"\ndescription = \"d\"\n\
         [[rule]]\nkeyword = \"voice\"\nvoice = { media_id = \"vo\" }",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        said(&book, &text("video")),
        Some(Reply::Video {
            media_id: "v".to_owned(),
            title: some("video"),
            description: None
        })
    );
    assert_eq!(
        said(&book, &text("music")),
        Some(Reply::Music {
            title: some("t"),
            description: some("d"),
            music_url: some("https://a.example/music.mp3"),
            hq_music_url: some("https://a.example/hq"),
            thumb_media_id: some("th"),
        })
    );
    let kf_account = some("k@a");
    assert_eq!(
        said(&book, &text("kf")),
        Some(Reply::TransferCustomerService { kf_account })
    );
    assert_eq!(
        said(&book, &text("anykf")),
        Some(Reply::TransferCustomerService { kf_account: None })
    );
    let Some(Reply::News(cards)) = said(&book, &event("subscribe", "")) else {
        panic!("no news");
    };
    assert_eq!(cards.len(), 2);
    assert_eq!(cards[1].url, "https://a.example/");
    assert_eq!(cards[1].pic_url, "https://a.example/p.png");
    let media_id = "vo".to_owned();
    assert_eq!(said(&book, &text("voice")), Some(Reply::Voice { media_id }));
}

// Faults.

#[test]
fn the_fixture_with_every_feature_is_sound() {
    let reading = super::read(Path::new("tests/fixtures/replies.toml"));
    let rules = reading.rules.unwrap();
    assert_eq!(reading.warnings, [], "nothing doubtful in it");
    assert_eq!(rules.to_string(), "22 rules, 4 media files");
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let found = faults(
        "utc_offset = \"+8\"\n\
         [[rule]]\n\
         keywrd = \"x\"\n\
         text = \"你好 {{nicknme}} {{1}}\"\n\
         [[rule]]\n\
         event = \"click\"\n\
         text = \"\"\n\
         [[rule]]\n\
         regex = [\"(\", \"ok\"]\n\
         text = \"{{1}}\"\n\
         [[rule]]\n\
         keyword = \"x\"",
    );
    let places: Vec<_> = found
        .iter()
        .map(|fault| fault.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        places,
        [
            "r.toml:1:14",
            "r.toml:3:1",
            "r.toml:4:12",
            "r.toml:4:24",
            "r.toml:6:9",
            "r.toml:7:8",
            "r.toml:9:10",
            "r.toml:11:1",
        ],
        "{found:#?}"
    );
    assert!(found[1].ends_with("unknown key `keywrd`; did you mean `keyword`?"));
    assert!(found[4].contains("WeChat writes it `CLICK`"));
}

#[track_caller]
fn check_fault(rule: &str, place: &str, text: &str) {
    let found = faults(&format!("[[rule]]\n{rule}"));
    let is_it =
        |fault: &String| fault.starts_with(&format!("r.toml:{place}: ")) && fault.contains(text);
    assert!(found.iter().any(is_it), "{rule}: {found:#?}");
    assert_eq!(found.len(), 1, "{rule}: {found:#?}");
}

#[test]
fn each_fault_has_a_place_and_a_cure() {
    let says = "text = \"a\"";
    for (rule, place, cure) in [
        ("name = \"12\"\ntext = \"a\"", "2:8", "a number is no name"),
        ("name = \"\"\ntext = \"a\"", "2:8", "1 to 64 characters"),
        (
            "text = 3",
            "2:8",
            "expected a text in quotes, found a number",
        ),
        ("text = []", "2:8", "an empty list"),
        (
            "text = \"a\"\nnothing = true",
            "3:1",
            "make two rules of it",
        ),
        ("nothing = false", "2:11", "expected `true`"),
        ("text = \"{{Content\"", "2:9", "without `}}`"),
        ("image = \"cat.jpg\"", "2:9", "{ file = "),
        (
            "image = { fil = \"cat.jpg\" }",
            "2:11",
            "did you mean `file`?",
        ),
        ("image = { file = \"none.jpg\" }", "2:18", "can't be read"),
        ("image = { file = \"media\" }", "2:18", "it is no file"),
        (
            "image = { file = \"replies.toml\" }",
            "2:18",
            "JPG, PNG, GIF for a picture",
        ),
        (
            "voice = { file = \"media/cat.jpg\" }",
            "2:18",
            "AMR, MP3 for a voice message",
        ),
        (
            "video = { file = \"media/cat.jpg\" }",
            "2:18",
            "MP4 for a video",
        ),
        (
            "image = { media_id = \"\" }",
            "2:22",
            "as an upload answers it",
        ),
        (
            "image = { file = \"media/cat.jpg\", media_id = \"m\" }",
            "2:46",
            "not both",
        ),
        ("music = { title = \"a\" }", "2:9", "`music_url` is missing"),
        (
            "music = { music_url = \"a\" }",
            "2:23",
            "http:// or https://",
        ),
        ("news = []", "2:8", "1 to 8 cards"),
        (
            "news = [{ url = \"https://a.example/\" }]",
            "2:9",
            "`title` is missing",
        ),
        (
            "news = [{ title = \"a\", url = \"{{Content}}\" }]",
            "2:31",
            "scheme and host",
        ),
        ("transfer_customer_service = \"a\"", "2:29", "kf_account"),
        ("then = \"nxt\"", "2:8", "did you mean `next`?"),
        ("then = \"stop\"", "2:8", "give it a reply"),
        (
            "then = \"next\"\nimage = { media_id = \"m\" }",
            "3:9",
            "only a `text` can stand",
        ),
        (
            "then = \"forward\"\ntext = \"a\"",
            "3:8",
            "answered elsewhere",
        ),
        (
            "keyword = \"a\"\nevent = \"CLICK\"\ntext = \"a\"",
            "3:1",
            "make two rules",
        ),
        (
            "type = \"image\"\nregex = \"a\"\ntext = \"a\"",
            "2:1",
            "remove `type`",
        ),
        (
            "event = \"CLICK\"\nscene = 1\ntext = \"a\"",
            "3:1",
            "have a scene",
        ),
        (
            "keyword = \" \"\ntext = \"a\"",
            "2:11",
            "an empty `keyword`",
        ),
        ("keyword = []\ntext = \"a\"", "2:11", "an empty list"),
        ("keyword = 0x10\ntext = \"a\"", "2:11", "expected a text"),
        (
            "case_sensitive = true\ntext = \"a\"",
            "2:18",
            "`keyword` or `contains`",
        ),
        (
            "regex = 'a{1000}{1000}'\ntext = \"a\"",
            "2:9",
            "too much memory",
        ),
        (
            "type = \"TEXT\"\ntext = \"a\"",
            "2:8",
            "WeChat writes it `text`",
        ),
        ("time = \"9-18\"\ntext = \"a\"", "2:8", "09:00-18:00"),
        ("weekday = \"someday\"\ntext = \"a\"", "2:11", "mon-fri"),
        ("from = \"tomorrow\"\ntext = \"a\"", "2:8", "2026-12-24"),
        ("from = 09:00:00\ntext = \"a\"", "2:8", "2026-12-24"),
        (
            "from = 2026-12-24\nuntil = 2026-12-23\ntext = \"a\"",
            "3:9",
            "over before",
        ),
    ] {
        check_fault(rule, place, cure);
    }
    let long = format!("regex = '{}'\n{says}", "a".repeat(1001));
    check_fault(&long, "2:9", "make it shorter");
}

#[test]
fn a_file_that_wechat_would_not_take_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let jpg = std::fs::read("tests/fixtures/media/cat.jpg").unwrap();
    for (name, kib) in [("small.jpg", 64), ("big.jpg", 65)] {
        let mut bytes = jpg.clone();
        bytes.resize(kib << 10, 0);
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    std::fs::write(folder.path().join("empty.jpg"), "").unwrap();
    let with_thumb = |name: &str| {
        let rules = format!(
            "[[rule]]\nmusic = {{ music_url = \"https://a.example/\", thumb = {{ file = \"{name}\" }} }}"
        );
        parse(&rules, "r.toml", folder.path())
    };
    assert!(with_thumb("small.jpg").rules.is_ok());
    let big = with_thumb("big.jpg");
    assert_eq!(
        big.named,
        [folder.path().join("big.jpg")],
        "watched all the same"
    );
    let told = big.rules.unwrap_err()[0].to_string();
    assert!(told.starts_with("r.toml:2:62: "), "{told}");
    assert!(
        told.contains("at most 64 KiB for the picture of a music card"),
        "{told}"
    );
    let told = with_thumb("empty.jpg").rules.unwrap_err()[0].to_string();
    assert!(told.contains("`empty.jpg` is empty"), "{told}");
}

#[test]
fn what_is_no_toml_is_told_with_its_place() {
    let found = faults("[[rule]]\nkeyword = \"a\ntext = \"b\"\n");
    assert!(found[0].starts_with("r.toml:2:"), "{found:?}");
    assert!(found[0].contains("no TOML"), "{found:?}");
    let twice = faults("[[rule]]\ntext = \"a\"\ntext = \"b\"\n");
    assert_eq!(twice, ["r.toml:3:1: no TOML: duplicate key"]);
}

#[test]
fn a_file_without_rules_is_a_fault() {
    for empty in ["", "# nothing\n", "utc_offset = \"Z\"\n"] {
        assert!(faults(empty)[0].contains("`[[rule]]`"), "{empty:?}");
    }
    assert!(faults("[rule]\ntext = \"a\"")[0].contains("in two brackets"));
    assert!(faults("rule = []\n")[0].contains("`[[rule]]`"));
}

#[test]
fn two_rules_have_no_name_in_common() {
    let found = faults(
        "[[rule]]\nname = \"a\"\nkeyword = \"1\"\ntext = \"1\"\n\
         [[rule]]\nname = \"a\"\nkeyword = \"2\"\ntext = \"2\"",
    );
    assert_eq!(
        found,
        ["r.toml:6:8: line 1 has a rule of this name already"]
    );
}

// Warnings.

#[track_caller]
fn check_overlap(first: &str, second: &str, is_covered: bool) {
    let rules = format!("[[rule]]\n{first}\ntext = \"1\"\n[[rule]]\n{second}\ntext = \"2\"");
    let found = warnings(&rules);
    let expected = "r.toml:".to_owned();
    let told = found
        .iter()
        .any(|w| w.starts_with(&expected) && w.contains("rule 2 never answers"));
    assert_eq!(told, is_covered, "{first} / {second}: {found:?}");
}

#[test]
fn a_rule_that_an_earlier_one_hides_is_warned_of() {
    for (first, second) in [
        ("keyword = \"Help\"", "keyword = \"help\""),
        ("keyword = [\"a\", \"b\"]", "keyword = [\"b\", \"ｂ\"]"),
        ("contains = \"el\"", "keyword = \"help\""),
        ("contains = \"el\"", "contains = \"hello\""),
        ("", "keyword = \"help\""),
        ("", "type = \"image\""),
        ("type = \"text\"", "regex = \"a\""),
        ("type = [\"text\", \"event\"]", "event = \"CLICK\""),
        ("regex = \"a\"", "regex = \"a\"\ntime = \"09:00-10:00\""),
        ("event = \"CLICK\"", "event = \"CLICK\"\nkey = \"a\""),
        ("event = [\"subscribe\", \"SCAN\"]", "scene = 1"),
        ("key = \"a\"", "key = \"a\""),
        (
            "time = \"08:00-12:00\"",
            "keyword = \"a\"\ntime = \"09:00-10:00\"\nweekday = \"mon\"",
        ),
        ("from = 2026-01-01", "from = 2026-02-01"),
        ("until = 2026-02-01", "until = 2026-01-01"),
        (
            "keyword = \"a\"\ncase_sensitive = true",
            "keyword = \"a\"\ncase_sensitive = true",
        ),
        ("keyword = \"a\"", "keyword = \"A\"\ncase_sensitive = true"),
    ] {
        check_overlap(first, second, true);
    }
    for (first, second) in [
        ("keyword = \"help\"", "contains = \"help\""),
        ("keyword = \"a\"\ncase_sensitive = true", "keyword = \"a\""),
        ("keyword = \"a\"\ntime = \"09:00-10:00\"", "keyword = \"a\""),
        ("keyword = \"a\"\nthen = \"next\"", "keyword = \"a\""),
        ("", "event = \"CLICK\""),
        ("type = \"event\"", "keyword = \"a\""),
        ("event = \"subscribe\"", "scene = 1"),
        ("regex = \".*\"", "keyword = \"a\""),
        ("from = 2026-02-01", "from = 2026-01-01"),
    ] {
        check_overlap(first, second, false);
    }
}

#[test]
fn a_hidden_value_is_named_where_others_are_not_hidden() {
    let found = warnings(
        "[[rule]]\nname = \"first\"\nkeyword = \"a\"\ntext = \"1\"\n\
         [[rule]]\nkeyword = [\"a\", \"b\"]\ntext = \"2\"",
    );
    assert_eq!(
        found,
        ["r.toml:5:1: rule 2 never answers to keyword `a`: rule 1 `first`, line 1, does"]
    );
    let by_two = warnings(
        "[[rule]]\nkeyword = \"a\"\ntext = \"1\"\n[[rule]]\nkeyword = \"b\"\ntext = \"2\"\n\
         [[rule]]\nkeyword = [\"a\", \"b\"]\ntext = \"3\"",
    );
    assert_eq!(by_two.len(), 1);
    assert!(
        by_two[0].contains("rule 3 never answers: earlier rules"),
        "{by_two:?}"
    );
}

#[test]
fn what_wechat_does_not_show_or_know_is_warned_of() {
    let found = warnings(
        "[[rule]]\nevent = [\"VIEW\", \"suscribe\"]\ntext = \"a\"\n\
         [[rule]]\nkeyword = \"n\"\nnews = [{ title = \"1\" }, { title = \"2\" }]\n\
         [[rule]]\ntype = \"dance\"\nnothing = true",
    );
    assert_eq!(found.len(), 4, "{found:#?}");
    assert!(found[0].contains("no reply to `VIEW`"), "{found:#?}");
    assert!(found[1].contains("did you mean `subscribe`?"), "{found:#?}");
    assert!(found[2].contains("one card"), "{found:#?}");
    assert!(found[3].contains("no type `dance`"), "{found:#?}");
    let long = format!("[[rule]]\ntext = \"{}\"", "长".repeat(700));
    assert!(warnings(&long)[0].contains("2048 bytes"));
}

// Explaining.

#[test]
fn each_rule_that_was_tried_says_why() {
    let book = book(
        "[[rule]]\nname = \"night\"\ntime = \"22:00-06:00\"\nthen = \"next\"\ntext = \"夜\"\n\
         [[rule]]\nkeyword = \"b\"\ntext = \"b\"\n\
         [[rule]]\nregex = '^a(\\d)$'\ntext = [\"{{1}}\", \"{{nickname|友}}\"]\n\
         [[rule]]\ntext = \"never tried\"",
    );
    let told = explained(&book, &text("a7"));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "no   r.toml:1 rule 1 `night`: Fri 2026-11-20 10:00 +08:00 is not in 22:00-06:00",
            "no   r.toml:6 rule 2: the text is not `b`",
            "fits r.toml:9 rule 3: regex `^a(\\d)$` with {{0}} = `a7`, {{1}} = `7`",
            "say  rule 3: one of these 2 texts, by chance",
            "     | 7",
            "     | 友",
            "     (of a user who has signed in: with what is stored of his profile)",
        ]
    );
    let told = explained(&book, &event("CLICK", "k"));
    assert!(
        told.contains("it is an event, and the rule names no event"),
        "{told}"
    );
    assert!(told.contains("it is no text"), "{told}");
    assert!(
        told.contains("FORWARD_URL answers or, without one, the fallback"),
        "{told}"
    );
}

#[test]
fn a_trial_is_what_goes_together() {
    let book = book("[[rule]]\ntext = \"a\"");
    let try_it = |trial: &Trial| trial.message(&book, 1_700_000_000);
    let some = |text: &str| Some(text.to_owned());
    let now = try_it(&Trial {
        text: some("x"),
        ..Trial::default()
    })
    .unwrap();
    assert_eq!(now.create_time, 1_700_000_000);
    let click = try_it(&Trial {
        key: some("k"),
        ..Trial::default()
    })
    .unwrap();
    assert_eq!(
        (click.event_name(), click.event_key()),
        (Some("CLICK"), Some("k"))
    );
    let scan = try_it(&Trial {
        scene: some("s"),
        ..Trial::default()
    })
    .unwrap();
    assert_eq!((scan.event_name(), scan.scene()), (Some("SCAN"), Some("s")));
    let follow = Trial {
        event: some("subscribe"),
        scene: some("s"),
        ..Trial::default()
    };
    assert_eq!(try_it(&follow).unwrap().scene(), Some("s"));
    let sender = Trial {
        from: some("oMe"),
        ..text("x")
    };
    assert_eq!(try_it(&sender).unwrap().from.as_str(), "oMe");
    for (wrong, why) in [
        (Trial::default(), "give it a text"),
        (
            Trial {
                event: some("CLICK"),
                ..text("x")
            },
            "a message is",
        ),
        (
            Trial {
                msg_type: some("image"),
                ..text("x")
            },
            "a message is",
        ),
        (
            Trial {
                msg_type: some("event"),
                ..Trial::default()
            },
            "--event",
        ),
        (
            Trial {
                key: some("k"),
                scene: some("s"),
                ..Trial::default()
            },
            "which of them",
        ),
        (
            Trial {
                at: some("soon"),
                ..text("x")
            },
            "2026-11-20 09:30",
        ),
        (
            Trial {
                from: some("nobody else's"),
                ..text("x")
            },
            "FromUserName",
        ),
    ] {
        let error = try_it(&wrong).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn texts_join_and_anything_else_stands_alone() {
    let text = |text: &str| Reply::Text(text.to_owned());
    let image = || Reply::Image {
        media_id: "m".to_owned(),
    };
    assert_eq!(join(vec![]), Reply::None);
    assert_eq!(join(vec![text("a")]), text("a"));
    assert_eq!(join(vec![text("a"), text("b")]), text("a\nb"));
    assert_eq!(join(vec![text("a"), Reply::None]), text("a"));
    assert_eq!(join(vec![Reply::None]), Reply::None);
    assert_eq!(join(vec![text("a"), image()]), image());
}
