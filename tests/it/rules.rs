//! Rules without code, in a running backend: what they answer, the files they send, and what happens
//! when their file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use offiaccount::{Bot, Context};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::forward::downstream::{Downstream, Received, says};
use crate::forward::forwarding;
use crate::helpers::*;
use crate::wire::sign_in;

const FALLBACK: &str = "抱歉，暂时无法回答，请稍后再试。";
const UPLOAD: &str = "/cgi-bin/media/upload";
const PATIENCE: Duration = Duration::from_secs(10);

/// A world whose backend has rules, in a folder of their own.
struct Ruled {
    world: World,
    folder: tempfile::TempDir,
}

impl Ruled {
    async fn start(rules: &str) -> Self {
        Self::start_with(Setup::new(), rules).await
    }

    async fn start_with(setup: Setup, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let media = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/media");
        std::fs::create_dir(folder.path().join("media")).unwrap();
        for file in std::fs::read_dir(media).unwrap() {
            let file = file.unwrap();
            let copy = folder.path().join("media").join(file.file_name());
            std::fs::copy(file.path(), copy).unwrap();
        }
        let path = folder.path().join("replies.toml");
        std::fs::write(&path, rules).unwrap();
        let replies = path.display().to_string();
        let setup = setup.settings(|settings| settings.replies = Some(replies));
        Self {
            world: setup.start().await,
            folder,
        }
    }

    /// The rules of `tests/fixtures/replies.toml`, in which every feature is.
    async fn of_fixture() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/replies.toml");
        // Whatever the hour is.
        let rules = std::fs::read_to_string(path).unwrap();
        Self::start(&rules.replace("22:00-06:00", "04:00-04:01")).await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts new rules in the place of the old ones, as editors do.
    fn replace(&self, rules: &str) {
        let new = self.path("replies.toml.new");
        std::fs::write(&new, rules).unwrap();
        std::fs::rename(new, self.path("replies.toml")).unwrap();
    }

    async fn acts(&self, mut message: Value) -> Value {
        message["openid"] = json!(self.world.fan().await);
        self.world.act(message).await
    }

    async fn says(&self, text: &str) -> Value {
        self.acts(json!({"MsgType": "text", "Content": text})).await
    }

    /// What is shown after a text.
    async fn hears(&self, text: &str) -> String {
        self.says(text).await["shown_to_user"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What is shown after an event.
    async fn hears_after(&self, event: &str, key: &str) -> String {
        let event = json!({"MsgType": "event", "Event": event, "EventKey": key});
        self.acts(event).await["shown_to_user"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn metric(&self, name_and_labels: &str) -> f64 {
        let text = self.world.get("/metrics").await.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name_and_labels));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until the file was read again so many times with this outcome.
    async fn reloaded(&self, outcome: &str, times: f64) {
        let name = format!("offiaccount_rules_reloads_total{{outcome=\"{outcome}\"}}");
        eventually(PATIENCE, async || self.metric(&name).await >= times).await;
    }

    /// What the platform has under this id: the bytes of the file.
    async fn media(&self, media_id: &str) -> Result<Vec<u8>, Value> {
        let got = expect_status(self.world.manage("/getTokens").await, StatusCode::OK).await;
        let token = got["access_token"].as_str().unwrap();
        match self.media_with(token, media_id).await {
            Err(error) if error["errcode"] == 42001 => {
                let renewed = expect_status(self.world.refresh(token).await, StatusCode::OK).await;
                let token = renewed["access_token"].as_str().unwrap();
                self.media_with(token, media_id).await
            }
            got => got,
        }
    }

    async fn media_with(&self, token: &str, media_id: &str) -> Result<Vec<u8>, Value> {
        let url = format!("{}/cgi-bin/media/get", self.world.sim);
        let query = [("access_token", token), ("media_id", media_id)];
        let response = self.world.http.get(url).query(&query).send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap();
        if content_type.contains("json") {
            return Err(response.json().await.unwrap());
        }
        Ok(response.bytes().await.unwrap().to_vec())
    }
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/media");
    std::fs::read(Path::new(folder).join(name)).unwrap()
}

fn answering(text: &str) -> String {
    format!("[[rule]]\ncontains = \"a\"\ntext = \"{text}\"\n")
}

// Conditions and replies.

#[tokio::test]
async fn texts_are_answered_by_keyword_part_and_pattern() {
    let ruled = Ruled::of_fixture().await;
    let openid = ruled.world.fan().await;
    let help = "发“订单 123”查物流，\n发“猫”看图。";
    for (said, answer) in [
        ("帮助", help),
        (" HELP\u{3000}", help),
        ("１", help),
        ("VIP", &*format!("{openid}，您好")),
        ("vip", "Hello vip"),
        (
            "订单 42",
            &format!(
                "No. 42: <a href=\"https://shop.example.com/orders?no=42&who={openid}\">查看</a>"
            ),
        ),
        (
            "Order 7",
            &format!(
                "No. 7: <a href=\"https://shop.example.com/orders?no=7&who={openid}\">查看</a>"
            ),
        ),
        ("。", ""),
        ("问天气", "Hello 问天气"),
        ("else", "Hello else"),
    ] {
        assert_eq!(ruled.hears(said).await, answer, "{said}");
    }
    let thanks = ruled.hears("多谢谢谢").await;
    let any = ["不客气，朋友！", "应该的。", "{{ :-) }}"];
    assert!(any.contains(&&*thanks), "{thanks}");
    assert!(
        ruled
            .metric("offiaccount_rule_fits_total{rule=\"order\"}")
            .await
            > 1.5
    );
    assert!(
        ruled
            .metric("offiaccount_rule_fits_total{rule=\"counted\"}")
            .await
            > 0.5
    );
    assert!(
        ruled
            .metric("offiaccount_rule_fits_total{rule=\"2\"}")
            .await
            > 2.5
    );
}

#[tokio::test]
async fn events_are_answered_by_name_key_and_scene() {
    let ruled = Ruled::of_fixture().await;
    for (event, key, answer) in [
        ("CLICK", "TODAY", "今日推荐：TODAY"),
        ("CLICK", "OTHER", ""),
        ("SCAN", "shop", "扫码：shop"),
        ("SCAN", "42", ""),
        ("subscribe", "qrscene_42", "来自二维码 qrscene_42"),
        ("subscribe", "", "[图文] 欢迎，新朋友 / 常见问题"),
        ("LOCATION", "", ""),
    ] {
        assert_eq!(ruled.hears_after(event, key).await, answer, "{event} {key}");
    }
    let scan = json!({
        "MsgType": "event", "Event": "scancode_waitmsg", "EventKey": "k",
        "ScanCodeInfo": {"ScanType": "qrcode", "ScanResult": "6901"},
    });
    assert_eq!(ruled.acts(scan).await["shown_to_user"], "扫到：6901");
    let voice = |recognition: &str| json!({"MsgType": "voice", "MediaId": "m", "Format": "amr", "Recognition": recognition});
    assert_eq!(ruled.acts(voice("喂")).await["shown_to_user"], "听不到：喂");
    assert_eq!(
        ruled.acts(voice("")).await["shown_to_user"],
        "听不到：没有声音"
    );
}

#[tokio::test]
async fn every_kind_of_reply_is_said_with_all_its_parts() {
    let ruled = Ruled::of_fixture().await;
    let reply = async |text: &str| ruled.says(text).await["reply"].clone();
    let id = |reply: &Value, part: &str, name: &str| reply[part][name].as_str().unwrap().to_owned();

    let image = id(&reply("猫").await, "Image", "MediaId");
    assert_eq!(ruled.media(&image).await.unwrap(), fixture("cat.jpg"));
    let voice = id(&reply("听").await, "Voice", "MediaId");
    assert_eq!(ruled.media(&voice).await.unwrap(), fixture("hello.amr"));
    let video = reply("看").await;
    assert_eq!(video["Video"]["Title"], "片子");
    assert_eq!(video["Video"]["Description"], "看");
    let video = ruled.media(&id(&video, "Video", "MediaId")).await;
    assert!(video.unwrap_err()["video_url"].is_string());
    let music = reply("歌").await;
    assert_eq!(music["Music"]["Description"], "歌");
    assert_eq!(
        music["Music"]["HQMusicUrl"],
        "https://shop.example.com/song-hq.mp3"
    );
    let thumb = id(&music, "Music", "ThumbMediaId");
    assert_eq!(ruled.media(&thumb).await.unwrap(), fixture("cat.jpg"));
    assert_ne!(thumb, image, "the same file as another kind");

    assert_eq!(
        reply("老图").await["Image"]["MediaId"],
        "permanent-media-id"
    );
    assert_eq!(
        reply("文章").await["Articles"],
        json!([{
            "Title": "一", "Description": "二",
            "PicUrl": "https://shop.example.com/a.png", "Url": "https://shop.example.com/a",
        }])
    );
    let anybody = reply("人工").await;
    assert_eq!(anybody["MsgType"], "transfer_customer_service");
    assert!(anybody["TransInfo"].is_null());
    assert_eq!(reply("小王").await["TransInfo"]["KfAccount"], "wang@shop");
    let nothing = ruled.says("。").await;
    assert_eq!(nothing["attempts"][0]["body"], "success");
    assert_eq!(
        ruled.world.calls(UPLOAD).await,
        4,
        "each file and kind once"
    );
}

#[tokio::test]
async fn the_time_of_a_message_chooses_the_rule() {
    let ruled = Ruled::start(
        "[[rule]]\ntime = \"22:00-06:00\"\nweekday = \"fri\"\nthen = \"next\"\ntext = \"夜\"\n\
         [[rule]]\nfrom = 2026-11-21\nuntil = 2026-11-21\ntext = \"周六\"\n",
    )
    .await;
    // 2026-11-20, a Friday, 21:59 in China.
    let almost_ten = 1_795_183_140;
    for (at, answer) in [
        (almost_ten, Some("Hello a")),
        (almost_ten + 60, Some("夜")),
        (almost_ten + 121 * 60, Some("夜\n周六")),
        (almost_ten + 481 * 60, Some("周六")),
        (almost_ten + 24 * 3600 + 121 * 60, Some("Hello a")),
    ] {
        let xml = text_xml("a");
        let (head, tail) = xml.split_once("<CreateTime>").unwrap();
        let (_, tail) = tail.split_once('<').unwrap();
        let xml = format!("{head}<CreateTime>{at}<{tail}");
        let said = ruled.world.deliver(&xml).await.text().await.unwrap();
        let content = said
            .split("<Content><![CDATA[")
            .nth(1)
            .and_then(|rest| rest.split("]]>").next());
        assert_eq!(content, answer, "{at}: {said}");
    }
}

#[tokio::test]
async fn the_stored_profile_fills_a_text() {
    let ruled = Ruled::start("[[rule]]\ntext = \"{{nickname|朋友}}，你好\"\n").await;
    let world = &ruled.world;
    assert_eq!(ruled.hears("a").await, "朋友，你好");
    let fan = world.fan().await;
    sign_in(&world.http, &world.app.url, &world.sim, &fan).await;
    let user = expect_status(world.get("/getUser").await, StatusCode::OK).await;
    let nickname = user["nickname"].as_str().unwrap();
    assert_eq!(ruled.hears("a").await, format!("{nickname}，你好"));
}

#[tokio::test]
async fn routes_of_the_program_go_before_rules_and_its_fallback_behind() {
    let bot = Bot::new()
        .on_keyword("both", async |_: Context| "route")
        .fallback(async |_: Context| "fallback");
    let rules = "[[rule]]\nkeyword = [\"both\", \"rule\"]\ntext = \"rule\"\n\
                 [[rule]]\nkeyword = \"on\"\nthen = \"forward\"\n\
                 [[rule]]\nkeyword = \"quiet\"\nnothing = true\n";
    let ruled = Ruled::start_with(Setup::new().bot(bot), rules).await;
    for (said, answer) in [
        ("both", "route"),
        ("rule", "rule"),
        ("on", "fallback"),
        ("else", "fallback"),
        ("quiet", ""),
    ] {
        assert_eq!(ruled.hears(said).await, answer, "{said}");
    }
}

#[tokio::test]
async fn what_rules_leave_or_hand_on_is_forwarded() {
    let downstream = Downstream::start(async |got: Received| says(&got.content())).await;
    let rules = "[[rule]]\nkeyword = \"rule\"\ntext = \"by rule\"\n\
                 [[rule]]\ncontains = \"ask\"\nthen = \"forward\"\n\
                 [[rule]]\ncontains = \"a\"\nnothing = true\n";
    let ruled = Ruled::start_with(forwarding(&downstream.url), rules).await;
    for (said, answer) in [
        ("rule", "by rule"),
        ("ask me", "ask me"),
        ("a", ""),
        ("else", "else"),
    ] {
        assert_eq!(ruled.hears(said).await, answer, "{said}");
    }
    let forwarded = downstream.received();
    let forwarded: Vec<_> = forwarded.iter().map(Received::content).collect();
    assert_eq!(forwarded, ["ask me", "else"]);
}

#[tokio::test]
async fn in_safe_mode_rules_answer_too() {
    let ruled = Ruled::start_with(Setup::safe(), &answering("b")).await;
    assert_eq!(ruled.hears("a").await, "b");
}

// Files.

const TWO_PICTURES: &str = "[[rule]]\nkeyword = \"cat\"\nimage = { file = \"media/cat.jpg\" }\n\
                            [[rule]]\nkeyword = \"dog\"\nimage = { file = \"media/dog.png\" }\n";

impl Ruled {
    /// The picture that answers a text.
    async fn picture(&self, text: &str) -> String {
        let said = self.says(text).await;
        let id = said["reply"]["Image"]["MediaId"].as_str();
        id.unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    async fn uploads(&self) -> usize {
        self.world.calls(UPLOAD).await
    }
}

#[tokio::test]
async fn files_are_uploaded_before_they_are_needed_and_once() {
    let ruled = Ruled::start(TWO_PICTURES).await;
    eventually(PATIENCE, async || ruled.uploads().await == 2).await;
    let cat = ruled.picture("cat").await;
    let asked = (0..8).map(|_| ruled.picture("cat"));
    for again in futures_util::future::join_all(asked).await {
        assert_eq!(again, cat);
    }
    assert_eq!(ruled.uploads().await, 2);
    // Another instance, and the next start, find them in the store.
    let other = App::start(&ruled.world.settings, Bot::new(), Default::default()).await;
    let callback = json!({"callback_url": format!("{}/wechat", other.url)});
    let account = format!("{}/_sim/account", ruled.world.sim);
    let put = ruled.world.http.put(account).json(&callback);
    assert_eq!(ruled.world.send(put).await.status(), StatusCode::OK);
    assert_eq!(ruled.picture("cat").await, cat);
    assert_eq!(ruled.uploads().await, 2);
    other.stop().await;
}

#[tokio::test]
async fn a_file_is_uploaded_again_when_its_three_days_are_over() {
    let ruled = Ruled::start(TWO_PICTURES).await;
    eventually(PATIENCE, async || ruled.uploads().await == 2).await;
    let before = ruled.picture("cat").await;
    ruled.world.advance(3 * 24 * 3600).await;
    assert_eq!(ruled.media(&before).await.unwrap_err()["errcode"], 40007);
    // The next upload tells the platform's time.
    let mut bytes = fixture("cat.jpg");
    bytes.push(0);
    std::fs::write(ruled.path("media/new.jpg"), &bytes).unwrap();
    let third = "[[rule]]\nkeyword = \"new\"\nimage = { file = \"media/new.jpg\" }\n";
    ruled.replace(&format!("{TWO_PICTURES}{third}"));
    ruled.reloaded("ok", 1.0).await;
    let new = ruled.picture("new").await;
    assert_eq!(ruled.media(&new).await.unwrap(), bytes);
    let after = ruled.picture("cat").await;
    assert_ne!(after, before);
    assert_eq!(ruled.media(&after).await.unwrap(), fixture("cat.jpg"));
}

#[tokio::test]
async fn a_file_that_is_changed_is_uploaded_as_it_is_now() {
    let ruled = Ruled::start(TWO_PICTURES).await;
    let before = ruled.picture("cat").await;
    std::fs::copy(ruled.path("media/dog.png"), ruled.path("media/cat.jpg")).unwrap();
    ruled.reloaded("ok", 1.0).await;
    let after = ruled.picture("cat").await;
    assert_ne!(after, before);
    assert_eq!(ruled.media(&after).await.unwrap(), fixture("dog.png"));
    assert_eq!(ruled.picture("dog").await, after, "the same bytes");
}

#[tokio::test]
async fn where_a_file_can_not_be_uploaded_the_user_is_told_so() {
    let ruled = Ruled::start("[[rule]]\nkeyword = \"x\"\ntext = \"y\"\n").await;
    // Refused ahead of its use, and for the first message.
    ruled.world.fault(UPLOAD, json!({"errcode": -1}), 2).await;
    ruled.replace(TWO_PICTURES);
    ruled.reloaded("ok", 1.0).await;
    eventually(PATIENCE, async || ruled.uploads().await >= 2).await;
    ruled.world.fault(UPLOAD, json!({"errcode": -1}), 1).await;
    assert_eq!(ruled.hears("cat").await, FALLBACK);
    let cat = ruled.picture("cat").await;
    assert_eq!(ruled.media(&cat).await.unwrap(), fixture("cat.jpg"));
}

#[tokio::test]
async fn a_late_picture_that_the_platform_no_longer_has_is_uploaded_again() {
    let ruled = Ruled::start("[[rule]]\nkeyword = \"x\"\ntext = \"y\"\n").await;
    let slow = json!({"delay_ms": 17_000});
    ruled.world.fault(UPLOAD, slow, 1).await;
    let send = "/cgi-bin/message/custom/send";
    ruled.world.fault(send, json!({"errcode": 40007}), 1).await;
    ruled.replace("[[rule]]\nkeyword = \"cat\"\nimage = { file = \"media/cat.jpg\" }\n");
    ruled.reloaded("ok", 1.0).await;
    let late = ruled.says("cat").await;
    assert_eq!(
        late["shown_to_user"], "",
        "no delivery could carry it: {late}"
    );
    let sent = async || {
        let requests = ruled.world.sim("requests", None).await;
        let mut requests = requests.as_array().unwrap().iter();
        let good = requests.find(|request| request["path"] == send && request["errcode"] == 0);
        good.map(|request| request["request_body"].clone())
    };
    eventually(PATIENCE, async || sent().await.is_some()).await;
    assert_eq!(ruled.uploads().await, 2);
    let body = sent().await.unwrap();
    let body: Value = match &body {
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other => other.clone(),
    };
    let media_id = body["image"]["media_id"].as_str().unwrap();
    assert_eq!(ruled.media(media_id).await.unwrap(), fixture("cat.jpg"));
    assert_eq!(ruled.picture("cat").await, media_id);
}

// Changes.

/// Several threads: what is said while rules change is said at that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rules_change_under_traffic_and_no_message_is_lost() {
    const LAST: u32 = 5;
    let ruled = Arc::new(Ruled::start(&answering("0")).await);
    let talkers: Vec<_> = (0..3)
        .map(|number| tokio::spawn(talk_until(Arc::clone(&ruled), number, LAST)))
        .collect();
    for version in 1..=LAST {
        ruled.replace(&answering(&version.to_string()));
        ruled.reloaded("ok", f64::from(version)).await;
    }
    for talker in talkers {
        let mut heard = talker.await.unwrap();
        assert!(heard.is_sorted(), "never back to older rules: {heard:?}");
        let messages = heard.len();
        heard.dedup();
        assert_eq!(heard, [0, 1, 2, 3, 4, LAST], "{messages} messages");
    }
}

/// A fan of his own says `a` again and again. What the rules answered to each, until it is `last`.
async fn talk_until(ruled: Arc<Ruled>, number: usize, last: u32) -> Vec<u32> {
    let fans = ruled.world.sim("fans", None).await;
    let openid = fans[number]["openid"].clone();
    let mut heard = Vec::new();
    while heard.last() != Some(&last) {
        let message = json!({"openid": openid, "MsgType": "text", "Content": "a"});
        let said = ruled.world.act(message).await;
        assert_eq!(said["attempts"].as_array().unwrap().len(), 1, "{said}");
        let answer = said["shown_to_user"].as_str().unwrap();
        let version = answer.parse();
        heard.push(version.unwrap_or_else(|_| panic!("{answer:?} is no answer of a rule")));
    }
    heard
}

#[tokio::test]
async fn a_message_ends_under_the_rules_it_began_with() {
    let ruled = Ruled::start("[[rule]]\nkeyword = \"x\"\ntext = \"y\"\n").await;
    ruled
        .world
        .fault(UPLOAD, json!({"delay_ms": 4_000}), 1)
        .await;
    ruled.replace("[[rule]]\nkeyword = \"cat\"\nimage = { file = \"media/cat.jpg\" }\n");
    ruled.reloaded("ok", 1.0).await;
    let changing = async {
        ruled.replace("[[rule]]\nkeyword = \"cat\"\ntext = \"no picture\"\n");
        ruled.reloaded("ok", 2.0).await;
    };
    let (begun, ()) = tokio::join!(ruled.picture("cat"), changing);
    assert_eq!(ruled.media(&begun).await.unwrap(), fixture("cat.jpg"));
    assert_eq!(ruled.hears("cat").await, "no picture");
}

#[tokio::test]
async fn broken_rules_leave_the_last_good_ones_in_service() {
    let ruled = Ruled::start(&answering("good")).await;
    ruled.replace("[[rule]]\ncontains = \"a\"\ntxt = \"bad\"\n");
    ruled.reloaded("failed", 1.0).await;
    assert_eq!(ruled.hears("a").await, "good");
    std::fs::remove_file(ruled.path("replies.toml")).unwrap();
    ruled.reloaded("failed", 2.0).await;
    assert_eq!(ruled.hears("a").await, "good");
    ruled.replace(&answering("better"));
    ruled.reloaded("ok", 1.0).await;
    assert_eq!(ruled.hears("a").await, "better");
}

#[tokio::test]
async fn a_file_that_was_missing_makes_the_rules_good_when_it_comes() {
    let ruled = Ruled::start(&answering("text")).await;
    ruled.replace("[[rule]]\ncontains = \"a\"\nimage = { file = \"late.jpg\" }\n");
    ruled.reloaded("failed", 1.0).await;
    std::fs::copy(ruled.path("media/cat.jpg"), ruled.path("late.jpg")).unwrap();
    ruled.reloaded("ok", 1.0).await;
    let picture = ruled.picture("a").await;
    assert_eq!(ruled.media(&picture).await.unwrap(), fixture("cat.jpg"));
}

#[tokio::test]
async fn a_rule_that_is_gone_leaves_the_metrics() {
    let named = |name: &str| format!("[[rule]]\nname = \"{name}\"\ntext = \"{name}\"\n");
    let ruled = Ruled::start(&named("first")).await;
    assert_eq!(ruled.hears("a").await, "first");
    let first = "offiaccount_rule_fits_total{rule=\"first\"}";
    assert!(ruled.metric(first).await > 0.5);
    ruled.replace(&named("second"));
    ruled.reloaded("ok", 1.0).await;
    assert!(ruled.metric(first).await < 0.5);
    assert_eq!(ruled.hears("a").await, "second");
    assert!(
        ruled
            .metric("offiaccount_rule_fits_total{rule=\"second\"}")
            .await
            > 0.5
    );
}
