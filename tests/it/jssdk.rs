//! JS-SDK configs: signed for our own pages alone, in all the forms that pages ask for them.

use offiaccount::wechat::signature;
use reqwest::{RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::helpers::{APPID, Setup, World, expect_status, now};

const PATHS: [&str; 2] = ["/getJSConfig", "/getJsConfig"];
const PAGE: &str = "http://127.0.0.1:3000/shop?item=1&from=singlemessage&isappinstalled=0";

impl World {
    async fn config(&self, url: &str) -> Response {
        let request = self.http.get(format!("{}/getJSConfig", self.app.url));
        self.send(request.query(&[("url", url)])).await
    }

    async fn config_by(
        &self,
        path: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Value {
        let request = with(self.http.post(format!("{}{path}", self.app.url)));
        expect_status(self.send(request).await, StatusCode::OK).await
    }

    /// What the phone says to a config on the page at `url`.
    async fn phone_says(&self, config: &Value, url: &str) -> String {
        let mut asked = config.clone();
        asked["url"] = json!(url);
        let request = self.http.post(format!("{}/sdk/preVerifyJSAPI", self.sim));
        let answer = self.send(request.json(&asked)).await;
        let answer = expect_status(answer, StatusCode::OK).await;
        answer["errMsg"].as_str().unwrap().to_owned()
    }

    async fn expect_refused(&self, url: &str, code: &str) {
        let answer = self.config(url).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{url:?}");
        let problem = expect_status(answer, StatusCode::BAD_REQUEST).await;
        assert_eq!(problem["code"], code, "{url:?}");
    }
}

#[tokio::test]
async fn a_config_has_what_wx_config_takes() {
    let world = World::start().await;
    let answer = world.config(PAGE).await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let config = expect_status(answer, StatusCode::OK).await;
    let names: Vec<_> = config.as_object().unwrap().keys().collect();
    let mut expected = vec![
        "debug",
        "appId",
        "timestamp",
        "nonceStr",
        "signature",
        "jsApiList",
        "openTagList",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(config["debug"], false);
    assert_eq!(config["appId"], APPID);
    let timestamp = config["timestamp"].as_u64().expect("a number, in seconds");
    assert!(now().abs_diff(timestamp) < 5, "{timestamp}");
    let nonce = config["nonceStr"].as_str().unwrap();
    assert!(nonce.len() >= 16 && nonce.bytes().all(|b| b.is_ascii_alphanumeric()));
    for (list, one) in [
        ("jsApiList", "updateAppMessageShareData"),
        ("jsApiList", "getNetworkType"),
        ("openTagList", "wx-open-launch-weapp"),
    ] {
        let list = config[list].as_array().unwrap();
        assert!(list.contains(&json!(one)), "{one}");
    }
    let again = expect_status(world.config(PAGE).await, StatusCode::OK).await;
    assert_ne!(again["nonceStr"], config["nonceStr"]);
}

#[tokio::test]
async fn all_forms_sign_the_url_exactly_as_given() {
    let world = World::start().await;
    for url in [
        PAGE,
        "http://127.0.0.1:3000",
        "http://127.0.0.1/%E4%B8%AD?q=%20a+b&c=%23",
        "http://127.0.0.1/中文?名=值",
        "HTTP://127.0.0.1/A/../b//c?x=1?y=2",
        "https://127.0.0.1:8443/?jsapi_ticket=x&noncestr=y",
    ] {
        let mut configs = Vec::new();
        for path in PATHS {
            let get = world.http.get(format!("{}{path}", world.app.url));
            let get = world.send(get.query(&[("url", url)])).await;
            configs.push(expect_status(get, StatusCode::OK).await);
            let body = json!({"url": url});
            configs.push(world.config_by(path, |it| it.json(&body)).await);
            configs.push(world.config_by(path, |it| it.form(&[("url", url)])).await);
            // As some pages do: JSON without saying so, or, as `curl -d` does, saying that it is a form.
            let body = body.to_string();
            configs.push(world.config_by(path, |it| it.body(body.clone())).await);
            let form = "application/x-www-form-urlencoded";
            let as_form =
                |it: RequestBuilder| it.header(header::CONTENT_TYPE, form).body(body.clone());
            configs.push(world.config_by(path, as_form).await);
        }
        let ticket = world.sim("tokens", None).await["jsapi"][0]["value"].clone();
        for config in &configs {
            let nonce = config["nonceStr"].as_str().unwrap();
            let timestamp = config["timestamp"].as_u64().unwrap();
            let expected = signature::jssdk(ticket.as_str().unwrap(), nonce, timestamp, url);
            assert_eq!(config["signature"], expected.to_string(), "{url}");
            assert_eq!(world.phone_says(config, url).await, "config:ok", "{url}");
        }
        // The check can fail: another page, another signature.
        let elsewhere = format!("{url}/x");
        let said = world.phone_says(&configs[0], &elsewhere).await;
        assert_eq!(said, "config:invalid signature");
    }
    assert_eq!(world.calls("/cgi-bin/ticket/getticket").await, 1);
}

#[tokio::test]
async fn the_fragment_is_not_signed() {
    let world = World::start().await;
    for fragment in ["#", "#top", "#/route?q=1", "#a#b"] {
        let config = world.config(&format!("{PAGE}{fragment}")).await;
        let config = expect_status(config, StatusCode::OK).await;
        assert_eq!(world.phone_says(&config, PAGE).await, "config:ok");
    }
}

#[tokio::test]
async fn a_form_says_so_in_any_case_and_with_parameters() {
    let world = World::start().await;
    for content_type in [
        "application/x-www-form-urlencoded; charset=utf-8",
        "Application/X-WWW-Form-Urlencoded",
    ] {
        let body = "url=http%3A%2F%2F127.0.0.1%2F&more=1";
        let config = world
            .config_by("/getJSConfig", |it| {
                it.header(header::CONTENT_TYPE, content_type).body(body)
            })
            .await;
        let said = world.phone_says(&config, "http://127.0.0.1/").await;
        assert_eq!(said, "config:ok");
    }
}

#[tokio::test]
async fn a_missing_or_doubled_url_is_refused() {
    let world = World::start().await;
    let refused = async |request: RequestBuilder, code: &str| {
        let answer = world.send(request).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem = expect_status(answer, StatusCode::BAD_REQUEST).await;
        assert_eq!(problem["code"], code);
        assert_eq!(problem["status"], 400);
    };
    let get = |query: &str| {
        world
            .http
            .get(format!("{}/getJSConfig{query}", world.app.url))
    };
    refused(get(""), "missing_url").await;
    refused(get("?url="), "missing_url").await;
    let twice = "?url=http://127.0.0.1/a&url=http://127.0.0.1/b";
    refused(get(twice), "duplicate_parameter").await;

    let post = || world.http.post(format!("{}/getJSConfig", world.app.url));
    let page = "http://127.0.0.1/";
    refused(post(), "bad_body").await;
    refused(post().body("not json"), "bad_body").await;
    refused(post().json(&json!(page)), "bad_body").await;
    refused(post().json(&json!({"url": 5})), "bad_body").await;
    refused(post().json(&json!({"url": [page]})), "bad_body").await;
    let doubled = format!(r#"{{"url":"{page}","url":"{page}"}}"#);
    refused(post().body(doubled), "bad_body").await;
    refused(post().json(&json!({})), "missing_url").await;
    refused(post().json(&json!({"url": ""})), "missing_url").await;
    refused(post().form(&[("other", page)]), "missing_url").await;
    refused(
        post().form(&[("url", page), ("url", page)]),
        "duplicate_parameter",
    )
    .await;
    assert_eq!(world.calls("/cgi-bin/ticket/getticket").await, 0);
}

#[tokio::test]
async fn only_hosts_of_ours_are_signed_for() {
    let setup = Setup::new().settings(|settings| {
        settings.jssdk_domains = Some("wx.example.com, M.example.com".into());
    });
    let world = setup.start().await;
    for ours in [
        "https://wx.example.com",
        "https://wx.example.com/",
        "http://wx.example.com:8080/",
        "https://WX.Example.COM/",
        "https://m.example.com/?u=https://evil.example/",
        "https://wx.example.com?a=@evil.example",
        "https://wx.example.com/@evil.example\\",
    ] {
        expect_status(world.config(ours).await, StatusCode::OK).await;
    }
    for foreign in [
        "https://evil.example/",
        "https://example.com/",
        "https://a.wx.example.com/",
        "https://wx.example.com.evil.example/",
        "https://wx.example.com./",
        "https://wxxexample.com/",
        "https://evil.example/wx.example.com",
        "https://evil.example?wx.example.com",
        "https://evil.example#wx.example.com",
        // Where no domains are set, PUBLIC_URL's host is ours; here they are.
        "http://127.0.0.1/",
    ] {
        world.expect_refused(foreign, "foreign_host").await;
    }
    for trick in [
        "https://wx.example.com@evil.example/",
        "https://evil.example@wx.example.com/",
        "https://wx.example.com:pass@evil.example/",
        "https://evil.example\\@wx.example.com/",
        "https://wx.example.com\\.evil.example/",
        "https:\\\\wx.example.com/",
        "https:/wx.example.com/",
        "https:wx.example.com/",
        "//wx.example.com/",
        "/shop",
        "wx.example.com",
        "https://",
        "https:///wx.example.com/",
        "https://wx.example.com:port/",
        "https://wx.exa\tmple.com/",
        "https://wx.example.com/\r\nx",
        " https://wx.example.com/",
        "ftp://wx.example.com/",
        "javascript://wx.example.com/%0aalert(1)",
        "file://wx.example.com/",
        "data:text/html,https://wx.example.com/",
    ] {
        world.expect_refused(trick, "bad_url").await;
    }
    assert_eq!(world.calls("/cgi-bin/ticket/getticket").await, 1);
}

#[tokio::test]
async fn a_platform_that_gives_no_ticket_is_told_of() {
    let world = World::start().await;
    let ticket = "/cgi-bin/ticket/getticket";
    world.fault(ticket, json!({"errcode": 45009}), 9).await;
    let problem = expect_status(world.config(PAGE).await, StatusCode::BAD_GATEWAY).await;
    assert_eq!(problem["code"], "wechat_refused");
    assert_eq!(problem["errcode"], 45009);
}

#[tokio::test]
async fn a_url_that_is_not_utf8_is_refused_and_not_signed_as_another() {
    let world = World::start().await;
    let answer = world
        .get(&format!("/getJSConfig?url={}/%ff", world.app.url))
        .await;
    let problem = expect_status(answer, StatusCode::BAD_REQUEST).await;
    assert_eq!(problem["code"], "bad_parameter");
}
