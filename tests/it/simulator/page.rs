//! The page at `/`: what it loads, its words, and what it shows of pushes.

use std::collections::BTreeSet;

use offiaccount::simulator::Options;
use serde_json::{Value, json};

use super::world::{Answer, Callback, World};

impl World {
    async fn text(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    }

    /// The page, its styles and all its scripts: path and text of each.
    async fn files(&self) -> Vec<(String, String)> {
        let mut files = vec![("/".to_owned(), self.text("/").await)];
        let mut known = BTreeSet::new();
        let mut next = 0;
        while let Some((_, text)) = files.get(next) {
            let (links, imports) = (parts(text, "\"/sim/", '"'), parts(text, "from \"./", '"'));
            let wanted: Vec<String> = links.chain(imports).map(str::to_owned).collect();
            for name in wanted {
                if known.insert(name.clone()) {
                    let path = format!("/sim/{name}");
                    let text = self.text(&path).await;
                    files.push((path, text));
                }
            }
            next += 1;
        }
        files
    }
}

/// What stands between `start` and `end`, each time.
fn parts<'a>(text: &'a str, start: &'static str, end: char) -> impl Iterator<Item = &'a str> {
    let after = text.split(start).skip(1);
    after.filter_map(move |rest| rest.split_once(end).map(|(part, _)| part))
}

#[tokio::test]
async fn the_page_loads_only_from_its_own_origin_and_runs_nothing_inline() {
    let world = World::start().await;
    let page = world.client.get(format!("{}/", world.url)).send().await;
    let page = page.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let files = world.files().await;
    for (path, text) in &files {
        let foreign = [
            "src=\"http",
            "href=\"http",
            "@import",
            "url(http",
            "innerHTML",
        ];
        for sign in foreign
            .iter()
            .chain(&[" style=", " onclick=", "<style", "eval("])
        {
            assert!(!text.contains(sign), "{path} has {sign}");
        }
    }
    let page = &files[0].1;
    for id in ["fan", "message", "send", "chat", "follow", "unfollow"] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    assert!(files.len() > 20, "only {} files were found", files.len());
}

#[tokio::test]
async fn every_word_of_the_page_is_there_in_chinese_and_english() {
    let world = World::start().await;
    let files = world.files().await;
    let (_, table) = files
        .iter()
        .find(|(path, _)| path == "/sim/i18n.js")
        .unwrap();
    let words: BTreeSet<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("  \"")?.split_once("\": [\""))
        .map(|(key, pair)| {
            assert!(!pair.starts_with('"') && !pair.contains("\"\"]"), "{key}");
            key
        })
        .collect();
    assert!(words.len() > 150);
    for (path, text) in &files {
        let in_page = ["data-t=\"", "data-t-label=\"", "data-t-placeholder=\""];
        let used = in_page.iter().flat_map(|start| parts(text, start, '"'));
        // Keys that are put together begin with a word and a dot: those the eye must check.
        let used = used
            .chain(parts(text, " t(\"", '"'))
            .chain(parts(text, "(t(\"", '"'));
        for key in used.filter(|key| !key.ends_with('.')) {
            assert!(words.contains(key), "{path}: no words for {key}");
        }
    }
}

#[tokio::test]
async fn unknown_files_are_not_served() {
    let world = World::start().await;
    for path in ["/sim/", "/sim/none.js", "/sim/glossary.json"] {
        let request = world.client.get(format!("{}{path}", world.url));
        assert_eq!(request.send().await.unwrap().status(), 404, "{path}");
    }
}

/// The newest delivery once `text` was sent to a backend that answers so.
async fn delivered(answer: impl Into<Answer>, mode: &str) -> Value {
    let callback = Callback::answering([answer]).await;
    let world = World::delivering_to(&callback, mode).await;
    world.say("你好").await;
    world.get("/_sim/pushes").await[0].clone()
}

#[tokio::test]
async fn a_delivery_is_shown_raw_and_in_clear() {
    let push = delivered("success", "safe").await;
    let attempt = &push["attempts"][0];
    let sent = attempt["request_body"].as_str().unwrap();
    assert!(
        sent.contains("<Encrypt>") && !sent.contains("你好"),
        "{sent}"
    );
    assert!(push["xml"].as_str().unwrap().contains("你好"));
    assert!(attempt["url"].as_str().unwrap().contains("msg_signature="));
    assert!(attempt["at"].is_i64());
    assert_eq!(attempt["body"], "success");
    assert_eq!(push.get("failure"), None);
}

#[tokio::test]
async fn what_went_wrong_with_a_delivery_leads_to_its_explanation() {
    let unswapped = "<xml><ToUserName>a</ToUserName><FromUserName>b</FromUserName>\
                     <CreateTime>1</CreateTime><MsgType>text</MsgType><Content>x</Content></xml>";
    let glossary = World::start().await.get("/_sim/glossary").await;
    let known: BTreeSet<&str> = glossary
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["id"].as_str().unwrap())
        .collect();
    for (answer, mode, topic) in [
        (Answer::status(403), "plain", "status"),
        (Answer::from("{\"ok\":true}"), "plain", "form"),
        (Answer::from(unswapped), "plain", "swapped"),
        (Answer::from(unswapped), "safe", "clear"),
        (
            Answer::from("<xml><Encrypt>x</Encrypt></xml>"),
            "plain",
            "encrypted",
        ),
    ] {
        let push = delivered(answer, mode).await;
        assert_eq!(push["failure_topic"], topic, "{push}");
        let attempts = push["attempts"].as_array().unwrap();
        assert!(attempts.iter().all(|attempt| attempt["topic"] == topic));
        assert!(known.contains(format!("push:{topic}").as_str()), "{topic}");
    }

    let nobody = World::with(Options {
        callback_url: Some("http://127.0.0.1:9/".to_owned()),
        ..Options::default()
    })
    .await;
    nobody.say("x").await;
    let push = &nobody.get("/_sim/pushes").await[0];
    assert_eq!(push["failure_topic"], "unreachable");
    let verdict = nobody.post("/_sim/verify", &Value::Null).await;
    assert_eq!(verdict["topic"], "unreachable");
    let refusing = Callback::answering(["not the echostr"]).await;
    let world = World::delivering_to(&refusing, "plain").await;
    let verdict = world.post("/_sim/verify", &Value::Null).await;
    assert_eq!(verdict["topic"], "echostr");
    for topic in ["unreachable", "echostr", "timeout", "signature", "decrypt"] {
        assert!(known.contains(format!("push:{topic}").as_str()), "{topic}");
    }
}

#[tokio::test]
async fn the_glossary_explains_in_both_languages() {
    let world = World::start().await;
    let glossary = world.get("/_sim/glossary").await;
    let entry = |id: &str| {
        let entries = glossary.as_array().unwrap();
        let found = entries.iter().find(|entry| entry["id"] == id);
        found.unwrap_or_else(|| panic!("no {id}")).clone()
    };
    let busy = entry("-1");
    assert_eq!(busy["errmsg"], "system error");
    assert_eq!(busy["meaning"]["zh"], "系统繁忙");
    assert!(busy["cure"]["en"].as_str().unwrap().contains("try again"));
    assert_eq!(entry("oauth:10003")["errmsg"], Value::Null);
}

#[tokio::test]
async fn the_list_of_controls_names_each_of_them() {
    let world = World::start().await;
    let controls = world.get("/_sim/").await;
    assert_eq!(world.get("/_sim").await, controls);
    for control in controls.as_array().unwrap() {
        assert!(
            control["summary"]
                .as_str()
                .is_some_and(|words| !words.is_empty())
        );
        // What answers at once, without more.
        let path = control["path"].as_str().unwrap();
        let is_plain = control["method"] == "GET" && control["query"] == json!([]);
        if is_plain && path != "/_sim/events" {
            world.get(path).await;
        }
    }
    let has = |path: &str| {
        let mut all = controls.as_array().unwrap().iter();
        all.any(|control| control["path"] == path)
    };
    assert!(has("/_sim/events") && has("/_sim/oauth") && has("/_sim/send"));
}

#[tokio::test]
async fn a_page_that_refuses_to_be_framed_is_found_out_before() {
    let world = World::start().await;
    let ask = async |url: &str| {
        let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        world.get(&format!("/_sim/frame?url={url}")).await
    };
    let own = ask(&format!("{}/", world.url)).await;
    assert_eq!(own["framable"], false);
    assert_eq!(
        own["why"],
        "Content-Security-Policy: frame-ancestors 'none'"
    );
    let script = ask(&format!("{}/open/js/jweixin-1.6.0.js", world.url)).await;
    assert_eq!(
        script,
        json!({"framable": true, "why": null, "status": 200})
    );
    let nobody = ask("http://127.0.0.1:9/").await;
    assert_eq!(nobody["status"], Value::Null);
    assert!(nobody["error"].is_string());
    let (status, _) = world
        .send("GET", "/_sim/frame?url=file:///etc", &Value::Null)
        .await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn what_the_fan_and_the_account_send_can_be_looked_at_by_its_id() {
    let world = World::start().await;
    let gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;";
    let upload = world
        .client
        .post(format!("{}/_sim/media?type=image", world.url));
    let kept: Value = upload
        .body(gif.to_vec())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let media_id = kept["media_id"].as_str().unwrap();
    let path = format!("{}/_sim/media?media_id=", world.url);
    let found = world
        .client
        .get(format!("{path}{media_id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(found.headers()["content-type"], "image/gif");
    let policy = found.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("sandbox"), "{policy}");
    assert_eq!(found.bytes().await.unwrap().as_ref(), gif);
    world.advance(3 * 24 * 3600).await;
    let dead = world
        .client
        .get(format!("{path}{media_id}"))
        .send()
        .await
        .unwrap();
    assert_eq!(dead.status(), 404);
}

#[tokio::test]
async fn the_codes_that_can_be_scanned_are_listed() {
    let world = World::start().await;
    let token = world.token().await;
    let create = json!({"action_name": "QR_LIMIT_STR_SCENE", "action_info": {"scene": {"scene_str": "shop-7"}}});
    let made = world
        .post(
            &format!("/cgi-bin/qrcode/create?access_token={token}"),
            &create,
        )
        .await;
    let codes = world.get("/_sim/qrcodes").await;
    assert_eq!(codes[0]["scene"], "shop-7");
    assert_eq!(codes[0]["ticket"], made["ticket"]);
}
