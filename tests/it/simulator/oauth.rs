//! Web OAuth and the JS-SDK: the consent page without JavaScript, codes, tokens, config checks.

use offiaccount::simulator::Options;
use offiaccount::wechat::signature;
use reqwest::Response;
use serde_json::{Value, json};
use url::Url;

use super::world::{APPID, SECRET, World};

const BACK: &str = "http://127.0.0.1:3000/wxCallback?a=1";

fn authorize(scope: &str, more: &str) -> String {
    let back: String = url::form_urlencoded::byte_serialize(BACK.as_bytes()).collect();
    format!(
        "/connect/oauth2/authorize?appid={APPID}&redirect_uri={back}&response_type=code\
         &scope={scope}&state=abc123{more}"
    )
}

impl World {
    async fn open(&self, path: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.url));
        request.send().await.unwrap()
    }

    /// Presses a button of the consent page, as a browser without JavaScript does.
    async fn press(&self, page: &str, fan: &str, choice: &str) -> Response {
        let action = page
            .split("action=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let action = action.replace("&#38;", "&").replace("&amp;", "&");
        let form = self.client.post(format!("{}{action}", self.url));
        form.form(&[("_fan", fan), ("_choice", choice)])
            .send()
            .await
            .unwrap()
    }

    /// A code for the first fan.
    async fn code(&self, scope: &str) -> String {
        let page = self.open(&authorize(scope, "&forcePopup=true")).await;
        let page = page.text().await.unwrap();
        let answer = self.press(&page, &self.fan().await, "allow").await;
        parameter(&answer, "code").expect("a code")
    }

    async fn exchange(&self, code: &str) -> Value {
        self.get(&format!(
            "/sns/oauth2/access_token?appid={APPID}&secret={SECRET}&code={code}\
             &grant_type=authorization_code"
        ))
        .await
    }
}

fn location(answer: &Response) -> Url {
    assert_eq!(answer.status(), 302);
    Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap()
}

fn parameter(answer: &Response, name: &str) -> Option<String> {
    let url = location(answer);
    assert!(url.as_str().starts_with(BACK), "{url}");
    let mut pairs = url.query_pairs().filter(|(key, _)| key == name);
    pairs.next().map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_fan_signs_in_by_a_form_without_javascript() {
    let world = World::start().await;
    let fans = world.get("/_sim/fans").await;
    let page = world.open(&authorize("snsapi_userinfo", "")).await;
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains("允许") && page.contains("拒绝"));
    assert!(!page.contains("<script"));
    let second = fans[1]["openid"].as_str().unwrap();
    let answer = world.press(&page, second, "allow").await;
    assert_eq!(parameter(&answer, "state").as_deref(), Some("abc123"));
    let code = parameter(&answer, "code").unwrap();
    assert_eq!(code.len(), 32);

    let tokens = world.exchange(&code).await;
    assert_eq!(tokens["openid"], second);
    assert_eq!(tokens["scope"], "snsapi_userinfo");
    assert_eq!(tokens["expires_in"], 7200);
    assert_eq!(tokens["unionid"], fans[1]["unionid"]);
    assert_eq!(tokens.get("is_snapshotuser"), None);
    let token = tokens["access_token"].as_str().unwrap();
    let userinfo =
        |openid: &str| format!("/sns/userinfo?access_token={token}&openid={openid}&lang=zh_CN");
    let profile = world.get(&userinfo(second)).await;
    assert_eq!(profile["nickname"], fans[1]["nickname"]);
    assert_eq!(profile["headimgurl"], fans[1]["headimgurl"]);
    assert_eq!(
        (&profile["sex"], &profile["privilege"]),
        (&json!(0), &json!([]))
    );
    let other = fans[0]["openid"].as_str().unwrap();
    assert_eq!(world.get(&userinfo(other)).await["errcode"], 40003);
}

#[tokio::test]
async fn a_refusal_brings_the_state_back_and_no_code() {
    let world = World::start().await;
    let page = world
        .open(&authorize("snsapi_userinfo", ""))
        .await
        .text()
        .await
        .unwrap();
    let answer = world.press(&page, &world.fan().await, "deny").await;
    assert_eq!(parameter(&answer, "state").as_deref(), Some("abc123"));
    assert_eq!(parameter(&answer, "code"), None);
}

#[tokio::test]
async fn the_base_scope_is_silent_once_the_fan_is_known() {
    let world = World::start().await;
    let unknown = world.open(&authorize("snsapi_base", "")).await;
    assert_eq!(unknown.status(), 200);
    let fan = world.fan().await;
    let known = world
        .open(&authorize("snsapi_base", &format!("&_fan={fan}")))
        .await;
    let tokens = world.exchange(&parameter(&known, "code").unwrap()).await;
    assert_eq!(
        (&tokens["openid"], &tokens["scope"]),
        (&json!(fan), &json!("snsapi_base"))
    );
    assert_eq!(tokens.get("unionid"), None);
    let cookie = known.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let again = world
        .client
        .get(format!("{}{}", world.url, authorize("snsapi_base", "")));
    let again = again.header("cookie", cookie).send().await.unwrap();
    assert!(parameter(&again, "code").is_some());

    let token = tokens["access_token"].as_str().unwrap();
    let userinfo = format!("/sns/userinfo?access_token={token}&openid={fan}");
    assert_eq!(world.get(&userinfo).await["errcode"], 48001);
    let auth = world
        .get(&format!("/sns/auth?access_token={token}&openid={fan}"))
        .await;
    assert_eq!(auth, json!({"errcode": 0, "errmsg": "ok"}));
}

#[tokio::test]
async fn picking_a_fan_in_the_address_does_not_consent_for_him() {
    let world = World::start().await;
    let fan = world.fan().await;
    let page = world
        .open(&authorize("snsapi_userinfo", &format!("&_fan={fan}")))
        .await;
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    assert!(page.contains(&format!("value=\"{fan}\" checked")));
    assert_eq!(page.matches(" checked").count(), 1);
}

#[tokio::test]
async fn what_is_wrong_with_the_link_is_said_on_a_page() {
    let world = World::start().await;
    let good = authorize("snsapi_userinfo", "");
    for (from, to, said) in [
        ("127.0.0.1", "evil.test", "10003"),
        ("snsapi_userinfo", "", "10010"),
        ("state=abc123", "state=", "10013"),
        (APPID, "", "10012"),
        (
            "&response_type=code&scope=snsapi_userinfo",
            "&scope=snsapi_userinfo&response_type=code",
            "该链接无法访问",
        ),
    ] {
        let page = world.open(&good.replace(from, to)).await;
        assert_eq!(page.status(), 200);
        let page = page.text().await.unwrap();
        assert!(page.contains(said), "{from} to {to}: {page}");
        assert!(!page.contains("<form"), "{from} to {to}");
    }
    world
        .put(
            "/_sim/account",
            &json!({"oauth_domains": ["127.0.0.1:3001"]}),
        )
        .await;
    let page = world.open(&good).await.text().await.unwrap();
    assert!(page.contains("10003"));
    world
        .put("/_sim/account", &json!({"kind": "subscription"}))
        .await;
    let page = world.open(&good).await.text().await.unwrap();
    assert!(page.contains("10005"));
}

#[tokio::test]
async fn a_code_is_good_once_and_for_five_minutes() {
    let world = World::start().await;
    let code = world.code("snsapi_userinfo").await;
    assert!(world.exchange(&code).await["access_token"].is_string());
    assert_eq!(world.exchange(&code).await["errcode"], 40163);
    let late = world.code("snsapi_userinfo").await;
    world.advance(300).await;
    assert_eq!(world.exchange(&late).await["errcode"], 40029);
    assert_eq!(world.exchange("never").await["errcode"], 40029);
    assert_eq!(world.exchange("").await["errcode"], 41008);
}

#[tokio::test]
async fn a_web_token_dies_after_two_hours_and_its_refresh_token_after_thirty_days() {
    let world = World::start().await;
    let tokens = world.exchange(&world.code("snsapi_userinfo").await).await;
    let openid = tokens["openid"].as_str().unwrap();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let auth = async |tokens: &Value| {
        let token = tokens["access_token"].as_str().unwrap();
        let answer = world
            .get(&format!("/sns/auth?access_token={token}&openid={openid}"))
            .await;
        answer["errcode"].clone()
    };
    let renew = async || {
        let path = "/sns/oauth2/refresh_token";
        world
            .get(&format!(
                "{path}?appid={APPID}&grant_type=refresh_token&refresh_token={refresh}"
            ))
            .await
    };
    assert_eq!(auth(&tokens).await, 0);
    world.advance(7200).await;
    assert_eq!(auth(&tokens).await, 42001);
    let renewed = renew().await;
    assert_eq!(renewed["refresh_token"], refresh);
    assert_eq!(renewed["scope"], "snsapi_userinfo");
    assert_eq!(auth(&renewed).await, 0);
    assert_eq!(auth(&json!({"access_token": "never"})).await, 40001);
    world.advance(30 * 24 * 3600).await;
    assert_eq!(renew().await["errcode"], 42002);
}

#[tokio::test]
async fn a_snapshot_gives_a_virtual_openid_and_no_profile() {
    let world = World::start().await;
    let fan = world.fan().await;
    world
        .post("/_sim/fans", &json!({"openid": fan, "snapshot": true}))
        .await;
    let answer = world
        .open(&authorize("snsapi_userinfo", &format!("&_fan={fan}")))
        .await;
    let tokens = world.exchange(&parameter(&answer, "code").unwrap()).await;
    assert_eq!(tokens["is_snapshotuser"], 1);
    let openid = tokens["openid"].as_str().unwrap();
    assert_ne!(openid, fan);
    let token = tokens["access_token"].as_str().unwrap();
    let profile = world
        .get(&format!(
            "/sns/userinfo?access_token={token}&openid={openid}"
        ))
        .await;
    assert_eq!(profile["errcode"], 48001);
}

#[tokio::test]
async fn the_sandbox_signs_in_its_followers_only() {
    let world = World::with(Options {
        kind: offiaccount::simulator::Kind::Sandbox,
        ..Options::default()
    })
    .await;
    let fan = world.fan().await;
    world
        .post("/_sim/fans", &json!({"openid": fan, "subscribe": 0}))
        .await;
    let page = world
        .open(&authorize("snsapi_base", &format!("&_fan={fan}")))
        .await;
    assert!(page.text().await.unwrap().contains("10006"));
}

#[tokio::test]
async fn a_js_config_is_checked_for_its_domain_then_its_signature_then_rights() {
    let world = World::start().await;
    let token = world.token().await;
    let ticket = format!("/cgi-bin/ticket/getticket?access_token={token}&type=jsapi");
    let ticket = world.get(&ticket).await;
    let ticket = ticket["ticket"].as_str().unwrap();
    let page = "http://127.0.0.1:3000/?a=1";
    let signed = signature::jssdk(ticket, "nonce", 1_700_000_000, page);
    let good = json!({
        "appId": APPID,
        "timestamp": 1_700_000_000,
        "nonceStr": "nonce",
        "signature": signed.as_str(),
        "jsApiList": ["getNetworkType"],
        "url": format!("{page}#top"),
    });
    let verify = async |config: &Value| {
        let request = world
            .client
            .post(format!("{}/sdk/preVerifyJSAPI", world.url));
        let request = request.header("origin", "http://127.0.0.1:3000");
        let answer = request.body(config.to_string()).send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        let answer: Value = answer.json().await.unwrap();
        answer["errMsg"].as_str().unwrap().to_owned()
    };
    let with = |name: &str, value: Value| {
        let mut config = good.clone();
        config[name] = value;
        config
    };
    assert_eq!(verify(&good).await, "config:ok");
    assert_eq!(
        verify(&with("timestamp", json!("1700000000"))).await,
        "config:ok"
    );
    assert_eq!(
        verify(&with("nonceStr", json!("x"))).await,
        "config:invalid signature"
    );
    assert_eq!(
        verify(&with("url", json!("http://127.0.0.1:3000/"))).await,
        "config:invalid signature"
    );
    assert_eq!(
        verify(&with("url", json!("http://evil.test/"))).await,
        "config:invalid url domain"
    );
    assert_eq!(
        verify(&with("appId", json!("wxother"))).await,
        "config:invalid appid"
    );

    // Why stands on the control side: the string that should have been signed.
    let checks = world.get("/_sim/jssdk").await;
    let signature_failed = &checks[3];
    assert_eq!(signature_failed["errMsg"], "config:invalid signature");
    assert_eq!(
        signature_failed["string1"],
        format!("jsapi_ticket={ticket}&noncestr=x&timestamp=1700000000&url={page}")
    );
    world
        .put("/_sim/account", &json!({"kind": "unverified"}))
        .await;
    assert_eq!(verify(&good).await, "config:permission denied");
    world.advance(7200).await;
    assert_eq!(verify(&good).await, "config:invalid signature");
}

#[tokio::test]
async fn the_script_is_served_under_every_version_and_can_be_made_to_fail() {
    let world = World::start().await;
    for version in ["1.6.0", "1.4.0"] {
        let script = world.open(&format!("/open/js/jweixin-{version}.js")).await;
        assert_eq!(script.status(), 200);
        assert_eq!(
            script.headers()["content-type"],
            "application/javascript; charset=utf-8"
        );
        let script = script.text().await.unwrap();
        assert!(script.contains("window.wx = window.jWeixin") && !script.contains("eval("));
    }
    assert_eq!(world.open("/open/js/other.js").await.status(), 404);
    let path = "/open/js/jweixin-1.6.0.js";
    world
        .post("/_sim/faults", &json!({"path": path, "status": 503}))
        .await;
    assert_eq!(world.open(path).await.status(), 503);
    assert_eq!(world.open(path).await.status(), 200);
}

#[tokio::test]
async fn a_shared_card_is_kept_for_the_phone() {
    let world = World::start().await;
    let card =
        json!({"call": "updateAppMessageShareData", "title": "标题", "link": "http://127.0.0.1/"});
    world.post("/sdk/share", &card).await;
    let kept = world.get("/_sim/jssdk").await;
    assert_eq!(kept[0]["card"]["title"], "标题");
    assert_eq!(kept[0]["call"], "updateAppMessageShareData");
}

/// Web tokens of a fan, by the silent scope.
pub(crate) async fn tokens_of(world: &World, fan: &str) -> Value {
    world.post("/_sim/fans", &json!({"openid": fan})).await;
    let answer = world
        .open(&authorize("snsapi_base", &format!("&_fan={fan}")))
        .await;
    world.exchange(&parameter(&answer, "code").unwrap()).await
}
