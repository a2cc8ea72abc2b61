//! The web side as the phone at `/` uses it: who is asked for consent, what the JS-SDK was refused for,
//! and the files of pages.

use offiaccount::wechat::signature;
use serde_json::{Value, json};

use super::world::{APPID, World};

const BACK: &str = "http://127.0.0.1:3000/cb";
const PAGE: &str = "http://127.0.0.1:3000/shop?a=1&b=%E4%BD%A0";

fn authorize(scope: &str, more: &str) -> String {
    let back: String = url::form_urlencoded::byte_serialize(BACK.as_bytes()).collect();
    format!(
        "/connect/oauth2/authorize?appid={APPID}&redirect_uri={back}&response_type=code\
         &scope={scope}&state=s1{more}"
    )
}

impl World {
    /// Opens the consent page with these cookies: `None` where it asks, else where it leads.
    async fn visit(&self, path: &str, cookies: &str) -> Option<String> {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.header("cookie", cookies).send().await.unwrap();
        let location = response.headers().get("location")?;
        Some(location.to_str().unwrap().to_owned())
    }

    /// What the newest visit came to.
    async fn outcome(&self) -> Value {
        self.get("/_sim/oauth?limit=1").await[0].clone()
    }
}

#[tokio::test]
async fn a_follower_who_comes_from_the_chat_or_menu_is_not_asked() {
    let world = World::start().await;
    let fan = world.fan().await;
    let profile = authorize("snsapi_userinfo", "");
    let here = |from: &str| format!("sim_fan={fan}; sim_from={from}");
    for from in ["chat", "menu"] {
        let back = world.visit(&profile, &here(from)).await.unwrap();
        assert!(back.starts_with(BACK) && back.contains("code="), "{back}");
        let outcome = world.outcome().await;
        assert_eq!(outcome["outcome"], "silent");
        assert_eq!(outcome["from_account"], true);
        assert_eq!(outcome["openid"], fan);
    }
    // From anywhere else he is.
    assert_eq!(world.visit(&profile, &here("address")).await, None);
    assert_eq!(world.visit(&profile, &format!("sim_fan={fan}")).await, None);
    assert_eq!(world.outcome().await["outcome"], "consent");
    // `forcePopup` has no effect on the silent rule.
    let popup = authorize("snsapi_userinfo", "&forcePopup=true");
    assert!(world.visit(&popup, &here("chat")).await.is_some());
    // In the address both stand for tests, and are not taken for the link's own parameters.
    let own = authorize("snsapi_userinfo", &format!("&_fan={fan}&_from=chat"));
    assert!(world.visit(&own, "").await.is_some());
    let query = world.outcome().await["query"].as_str().unwrap().to_owned();
    assert!(
        !query.contains("_fan") && query.ends_with("state=s1"),
        "{query}"
    );

    world
        .post("/_sim/fans", &json!({"openid": fan, "subscribe": false}))
        .await;
    assert_eq!(world.visit(&profile, &here("chat")).await, None);
}

#[tokio::test]
async fn a_snapshot_leads_to_the_full_service_and_the_real_consent() {
    let world = World::start().await;
    let fan = world.fan().await;
    let cookies = format!("sim_fan={fan}");
    let forced = authorize("snsapi_userinfo", "&forceSnapShot=true");
    assert!(world.visit(&forced, &cookies).await.is_some());
    let outcome = world.outcome().await;
    assert_eq!(outcome["outcome"], "snapshot");
    let query = outcome["query"].as_str().unwrap();
    // 使用完整服务: the same link, and this time somebody is asked.
    let full = format!("/connect/oauth2/authorize?{query}&_full=1");
    assert_eq!(world.visit(&full, &cookies).await, None);
    let form = world.client.post(format!("{}{full}", world.url));
    let form = form.form(&[("_fan", fan.as_str()), ("_choice", "allow")]);
    let back = form.send().await.unwrap();
    let back = back.headers()["location"].to_str().unwrap().to_owned();
    let code = back
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let tokens = world
        .get(&format!(
            "/sns/oauth2/access_token?appid={APPID}&secret={}&code={code}&grant_type=authorization_code",
            super::world::SECRET
        ))
        .await;
    assert_eq!(tokens["openid"], fan);
    assert_eq!(tokens.get("is_snapshotuser"), None);

    // A fan who opens pages as snapshots is known when he comes from the account as a follower.
    world
        .post("/_sim/fans", &json!({"openid": fan, "snapshot": true}))
        .await;
    let profile = authorize("snsapi_userinfo", "");
    world.visit(&profile, &cookies).await.unwrap();
    assert_eq!(world.outcome().await["outcome"], "snapshot");
    let from_menu = format!("{cookies}; sim_from=menu");
    world.visit(&profile, &from_menu).await.unwrap();
    assert_eq!(world.outcome().await["outcome"], "silent");
    let popup = authorize("snsapi_userinfo", "&forcePopup=true");
    assert_eq!(world.visit(&popup, &cookies).await, None);
}

#[tokio::test]
async fn every_number_of_the_error_page_can_be_seen() {
    let world = World::start().await;
    let good = authorize("snsapi_userinfo", "");
    let glossary = world.get("/_sim/glossary").await.to_string();
    for code in [
        10003, 10004, 10005, 10006, 10009, 10010, 10011, 10012, 10013, 10015, 10016,
    ] {
        let fault = json!({"path": "/connect/oauth2/authorize", "errcode": code});
        world.post("/_sim/faults", &fault).await;
        let page = world
            .client
            .get(format!("{}{good}", world.url))
            .send()
            .await;
        let page = page.unwrap().text().await.unwrap();
        assert!(page.contains(&format!("错误码：{code}")), "{page}");
        assert!(!page.contains("<p>error</p>"), "{code} has no words");
        assert_eq!(world.outcome().await["outcome"], "fault");
        assert!(glossary.contains(&format!("\"oauth:{code}\"")), "{code}");
    }
    let platform = format!("{good}&component_appid=wxplatform");
    assert_eq!(world.visit(&platform, "").await, None);
    let outcome = world.outcome().await;
    assert_eq!(
        (&outcome["outcome"], &outcome["errcode"]),
        (&json!("error"), &json!(10015))
    );
    world
        .visit(&good.replace("127.0.0.1", "evil.test"), "")
        .await;
    assert_eq!(world.outcome().await["topic"], "10003");
    let unordered = good
        .replace("&state=s1", "")
        .replace("&scope=", "&state=s1&scope=");
    world.visit(&unordered, "").await;
    assert_eq!(world.outcome().await["topic"], "order");
    assert!(glossary.contains("\"oauth:order\"") && glossary.contains("\"oauth:fragment\""));
}

#[tokio::test]
async fn a_refused_signature_stands_beside_what_was_signed_instead() {
    let world = World::start().await;
    let token = world.token().await;
    let path = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
    let old = world.get(&path).await["ticket"]
        .as_str()
        .unwrap()
        .to_owned();
    world.advance(7200).await;
    let token = world.token().await;
    let path = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
    let ticket = world.get(&path).await["ticket"]
        .as_str()
        .unwrap()
        .to_owned();

    let refused = async |ticket: &str, url: &str| {
        let signed = signature::jssdk(ticket, "n", 1_700_000_000, url);
        let config = json!({
            "appId": APPID, "timestamp": 1_700_000_000, "nonceStr": "n",
            "signature": signed.as_str(), "jsApiList": [], "url": format!("{PAGE}#top"),
        });
        world.post("/sdk/preVerifyJSAPI", &config).await;
        let entry = world.get("/_sim/jssdk?limit=1").await[0].clone();
        (entry["errMsg"].clone(), entry["signed"].clone())
    };
    let string = |ticket: &str, url: &str| {
        json!(format!(
            "jsapi_ticket={ticket}&noncestr=n&timestamp=1700000000&url={url}"
        ))
    };
    assert_eq!(
        refused(&ticket, PAGE).await,
        (json!("config:ok"), Value::Null)
    );
    let fragment = format!("{PAGE}#top");
    for mistake in [
        fragment.as_str(),
        "http://127.0.0.1:3000/shop",
        "http://127.0.0.1:3000/",
        "https://127.0.0.1:3000/shop?a=1&b=%E4%BD%A0",
        "http://127.0.0.1:3000/shop?a=1&b=你",
    ] {
        let (message, signed) = refused(&ticket, mistake).await;
        assert_eq!(message, "config:invalid signature");
        assert_eq!(signed, string(&ticket, mistake));
    }
    assert_eq!(refused(&old, PAGE).await.1, string(&old, PAGE));
    assert_eq!(refused("no such ticket", PAGE).await.1, Value::Null);
}

#[tokio::test]
async fn a_picture_of_a_page_becomes_temporary_media() {
    let world = World::start().await;
    let gif = b"GIF89a\x01\x00\x01\x00\x00\x00\x00;";
    let kept = world.client.post(format!("{}/sdk/picture", world.url));
    let kept: Value = kept
        .body(gif.to_vec())
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    // A page can show it by its localId.
    let shown = world.client.get(kept["localId"].as_str().unwrap());
    assert_eq!(
        shown.send().await.unwrap().bytes().await.unwrap().as_ref(),
        gif
    );
    let data = world.post("/sdk/data", &kept).await;
    let data = data["localData"].as_str().unwrap();
    assert!(data.starts_with("data:image/gif;base64,R0lGODlh"), "{data}");
    let uploaded = world.post("/sdk/upload", &kept).await;
    let media_id = uploaded["serverId"].as_str().unwrap();
    let token = world.token().await;
    let path = format!(
        "{}/cgi-bin/media/get?access_token={token}&media_id={media_id}",
        world.url
    );
    let fetched = world.client.get(path).send().await.unwrap();
    assert_eq!(fetched.bytes().await.unwrap().as_ref(), gif);
    assert_eq!(world.post("/sdk/download", &uploaded).await, kept);

    let voice = world.post("/sdk/voice", &json!({})).await;
    let voice = world.post("/sdk/upload", &voice).await;
    let media_id = voice["serverId"].as_str().unwrap();
    let path = format!(
        "{}/cgi-bin/media/get?access_token={token}&media_id={media_id}",
        world.url
    );
    let fetched = world
        .client
        .get(path)
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert!(fetched.starts_with(b"#!AMR\n"));

    for (path, asked) in [
        (
            "/sdk/upload",
            json!({"localId": "http://127.0.0.1:9/mmbiz/x/0"}),
        ),
        ("/sdk/download", json!({"serverId": "none"})),
        ("/sdk/data", json!({})),
    ] {
        assert_eq!(
            world.post(path, &asked).await,
            json!({"error": "fail"}),
            "{path}"
        );
    }
    let text = world.client.post(format!("{}/sdk/picture", world.url));
    let text: Value = text
        .body("not a picture")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(text, json!({"error": "fail"}));
}

#[tokio::test]
async fn what_a_page_calls_is_listed_with_its_answer() {
    let world = World::start().await;
    let call =
        json!({"call": "getLocation", "page": PAGE, "errMsg": "getLocation:permission denied"});
    world.post("/sdk/call", &call).await;
    let listed = world.get("/_sim/jssdk").await;
    assert_eq!(listed[0]["errMsg"], "getLocation:permission denied");
    assert_eq!(listed[0]["page"], PAGE);
}
