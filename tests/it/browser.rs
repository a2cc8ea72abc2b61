//! What a person sees: the demo's pages and the simulator's page in a real Chromium.
//!
//! Pictures of each go to `tests/.out`.

pub(crate) mod driver;

use reqwest::Method;
use serde_json::{Value, json};

use crate::program::Program;
use driver::{Browser, DESKTOP, PHONE, walk};

/// The newest answer of the demo page.
const NEWEST: &str = ".entry:first-of-type";

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_signs_in_and_all_five_buttons_answer() {
    walk("buttons", async |demo, browser| {
        let fans = demo.sim("fans").await;
        let fan = &fans[1];
        browser.goto(demo.page()).await;
        assert_eq!(browser.text("#user-name").await, "未登录");
        assert_eq!(browser.text("#jssdk-state").await, "未配置");
        browser
            .pictures(
                "demo-new",
                &[
                    ("desktop", DESKTOP),
                    ("phone", PHONE),
                    ("phone-dark", PHONE.dark()),
                ],
            )
            .await;

        sign_in(browser, fan).await;
        assert_eq!(
            browser.address().await.as_str(),
            format!("{}/", demo.page())
        );
        browser
            .until("document.getElementById('user-picture').naturalWidth > 0")
            .await;

        let user = answer_of(browser, "#get-user", "获取用户信息").await;
        assert_eq!(user["nickname"], fan["nickname"]);
        assert_eq!(user["openid"], fan["openid"]);

        let tokens = answer_of(browser, "#get-tokens", "getTokens").await;
        let held = demo.sim("tokens").await;
        assert!(
            held.to_string().contains(str(&tokens["access_token"])),
            "{held}"
        );
        assert!(tokens["expires_in"].as_u64().unwrap() > 7000, "{tokens}");

        let followers = answer_of(browser, "#get-followers", "getFollowers").await;
        let following = |fan: &&Value| fan["subscribe"] == 1;
        let expected = fans.as_array().unwrap().iter().filter(following).count();
        assert_eq!(followers["total"], expected);
        assert_eq!(
            followers["user_info_list"].as_array().unwrap().len(),
            expected
        );

        let config = answer_of(browser, "#get-jssdk-config", "获取JSSDKConfig").await;
        assert_eq!(str(&config["signature"]).len(), 40);
        assert!(config["timestamp"].is_u64());
        browser.find("#jssdk-state[data-state=ready]").await;
        assert_eq!(browser.text("#jssdk-state").await, "已就绪");

        let network = answer_of(browser, "#get-network-type", "wx.getNetworkType").await;
        assert_eq!(network["networkType"], "wifi");

        browser
            .pictures("demo-ready", &[("desktop-dark", DESKTOP.dark())])
            .await;
        browser.keep_picture_of_the_readme("demo.png").await;
        browser
            .pictures(
                "demo-ready",
                &[("phone", PHONE), ("phone-dark", PHONE.dark())],
            )
            .await;

        browser.press("#share").await;
        browser
            .until("document.querySelectorAll('[data-call^=\"wx.update\"]').length === 2")
            .await;
        browser
            .until("document.querySelectorAll('[data-ok=false]').length === 0")
            .await;
        // On a phone the answers are below: a press brings them into sight.
        browser.look_on(PHONE).await;
        let supported = answer_of(browser, "#check-js-api", "wx.checkJsApi").await;
        let place = "document.querySelector('.entry').getBoundingClientRect().top / innerHeight";
        browser
            .until(&format!("{place} >= 0 && {place} < 0.9"))
            .await;
        browser.keep_picture("demo-answers-phone.png").await;
        browser.look_on(DESKTOP).await;
        assert_eq!(supported["checkResult"]["getNetworkType"], true);

        // What comes back after a reload is the session, not the page's memory.
        browser.goto(demo.page()).await;
        browser.find("#user[data-state=signed-in]").await;
        assert_eq!(browser.text("#user-name").await, str(&fan["nickname"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visitor_who_declines_is_told_so_and_may_sign_in_again() {
    walk("declined", async |demo, browser| {
        let fans = demo.sim("fans").await;
        browser.goto(demo.page()).await;
        browser.press("#wx-login").await;
        browser.find("form .deny").await;
        browser
            .pictures(
                "consent",
                &[
                    ("desktop", DESKTOP),
                    ("phone", PHONE),
                    ("phone-dark", PHONE.dark()),
                ],
            )
            .await;
        browser.press("form .deny").await;
        browser.until("document.title === '未授权'").await;
        assert_eq!(browser.text("h1").await, "未授权");
        assert!(
            browser
                .text(".notice-message")
                .await
                .contains("你拒绝了授权")
        );
        browser
            .pictures(
                "notice",
                &[
                    ("desktop", DESKTOP),
                    ("phone", PHONE),
                    ("phone-dark", PHONE.dark()),
                ],
            )
            .await;

        browser.press("#retry").await;
        allow(browser, &fans[0]).await;
        assert_eq!(browser.text("#user-name").await, str(&fans[0]["nickname"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_wechat_refuses_is_told_with_what_support_asks_for() {
    walk("refused", async |demo, browser| {
        let fans = demo.sim("fans").await;
        // WeChat takes no code.
        let fault = json!({"path": "/sns/oauth2/access_token", "errcode": 40029, "times": 1});
        demo.control(Method::POST, "faults", fault).await;
        browser.goto(demo.page()).await;
        browser.press("#wx-login").await;
        consent(browser, &fans[0]).await;
        browser.until("document.title === '登录失败'").await;
        let foot = browser.text(".notice-foot").await;
        assert!(
            foot.contains("errcode 40029") && foot.contains("请求编号"),
            "{foot}"
        );
        browser.expect_complaint("502").await;
        browser
            .pictures("notice-errcode", &[("phone", PHONE)])
            .await;

        // The page's host is not among the account's 网页授权域名: WeChat's own page says so.
        let elsewhere = json!({"oauth_domains": ["elsewhere.example"]});
        demo.control(Method::PUT, "account", elsewhere).await;
        browser.press("#retry").await;
        browser
            .until("document.body.textContent.includes('10003')")
            .await;
        browser
            .pictures(
                "consent-refused",
                &[("phone", PHONE), ("desktop-dark", DESKTOP.dark())],
            )
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_page_says_what_went_wrong_and_what_to_do() {
    walk("wrong", async |demo, browser| {
        browser.goto(demo.page()).await;

        // Nobody is signed in.
        browser.press("#get-user").await;
        browser.find(&format!("{NEWEST}[data-ok=false]")).await;
        assert!(
            browser
                .text(&format!("{NEWEST} .problem"))
                .await
                .contains("还没有登录")
        );
        browser
            .find(&format!("{NEWEST} .problem a[href*='/wxAuthorize']"))
            .await;
        browser.expect_complaint("401").await;

        // WeChat refuses.
        let fault = json!({"path": "/cgi-bin/user/get", "errcode": 48001, "times": 1});
        demo.control(Method::POST, "faults", fault).await;
        browser.press("#get-followers").await;
        browser
            .find(&format!("{NEWEST}[data-call=getFollowers][data-ok=false]"))
            .await;
        let problem = browser.text(&format!("{NEWEST} .problem")).await;
        assert!(
            problem.contains("微信拒绝了这次调用") && problem.contains("48001"),
            "{problem}"
        );
        browser.expect_complaint("502").await;

        // The page's host is not among the account's JS接口安全域名.
        let elsewhere = json!({"js_domains": ["elsewhere.example"]});
        demo.control(Method::PUT, "account", elsewhere).await;
        browser.press("#get-jssdk-config").await;
        browser.find("#jssdk-state[data-state=error]").await;
        let state = browser.text("#jssdk-state").await;
        assert!(state.contains("invalid url domain"), "{state}");
        assert_eq!(
            browser
                .eval("document.getElementById('share').disabled")
                .await,
            true
        );

        // A wrong admin token.
        browser.write("#admin-token", "guessed").await;
        browser.press("#get-tokens").await;
        browser.find("#admin-token[aria-invalid=true]").await;
        assert!(
            browser
                .text(&format!("{NEWEST} .problem"))
                .await
                .contains("ADMIN_TOKEN")
        );
        browser.expect_complaint("401").await;

        browser
            .pictures(
                "demo-wrong",
                &[
                    ("desktop", DESKTOP),
                    ("desktop-dark", DESKTOP.dark()),
                    ("phone", PHONE),
                ],
            )
            .await;

        // Mended, the same page gets to ready.
        demo.control(Method::PUT, "account", json!({"js_domains": ["127.0.0.1"]}))
            .await;
        browser.press("#get-jssdk-config").await;
        browser.find("#jssdk-state[data-state=ready]").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_chats_with_the_account_on_the_simulators_page() {
    walk("chat", async |demo, browser| {
        let fans = demo.sim("fans").await;
        let fan = str(&fans[1]["nickname"]).to_owned();
        browser.goto(demo.page()).await;
        // So that the simulator has something to tell of.
        answer_of(browser, "#get-followers", "getFollowers").await;
        answer_of(browser, "#get-jssdk-config", "获取JSSDKConfig").await;
        browser.find("#jssdk-state[data-state=ready]").await;
        browser.press("#open-simulator").await;
        browser.follow_to_new_window().await;
        browser.look_on(DESKTOP).await;
        assert_eq!(
            browser.address().await.as_str(),
            format!("{}/", demo.simulator)
        );
        browser
            .until("document.querySelectorAll('#fan option').length > 1")
            .await;
        browser
            .find("#fan")
            .await
            .select_by_label(&fan)
            .await
            .unwrap();

        say(browser, "你好").await;
        said(browser, 1, "Hello 你好").await;
        say(browser, "今天几点开门？").await;
        said(browser, 2, "Hello 今天几点开门？").await;
        browser
            .until("document.querySelectorAll('#pushes li').length === 2")
            .await;

        browser.press("#unfollow").await;
        browser.find("#unfollow:disabled").await;
        assert_eq!(subscribe(demo, 1).await, 0);
        browser.press("#follow").await;
        browser.find("#follow:disabled").await;
        assert_eq!(subscribe(demo, 1).await, 1);
        browser
            .until("document.querySelectorAll('#pushes li').length === 4")
            .await;

        browser
            .pictures("simulator", &[("desktop-dark", DESKTOP.dark())])
            .await;
        browser.keep_picture_of_the_readme("simulator.png").await;
        browser
            .pictures(
                "simulator",
                &[("phone", PHONE), ("phone-dark", PHONE.dark())],
            )
            .await;

        // Markup is text on its way there and back.
        say(browser, "<b>bold</b> & more").await;
        said(browser, 3, "Hello <b>bold</b> & more").await;
        let bold = browser.eval("document.querySelectorAll('#chat b').length");
        assert_eq!(bold.await, 0);

        // Another fan has said nothing; the first one's chat is kept.
        let other = str(&fans[0]["nickname"]);
        browser
            .find("#fan")
            .await
            .select_by_label(other)
            .await
            .unwrap();
        browser
            .until("document.querySelectorAll('#chat .bubble').length === 0")
            .await;
        browser.reload().await;
        browser
            .until("document.querySelectorAll('#fan option').length > 1")
            .await;
        browser
            .find("#fan")
            .await
            .select_by_label(&fan)
            .await
            .unwrap();
        said(browser, 3, "Hello <b>bold</b> & more").await;
    })
    .await;
}

/// Signs in from the demo page as this fan.
async fn sign_in(browser: &Browser, fan: &Value) {
    browser.press("#wx-login").await;
    allow(browser, fan).await;
}

/// Chooses the fan on the consent page, consents, and waits for the demo page to know who it is.
async fn allow(browser: &Browser, fan: &Value) {
    consent(browser, fan).await;
    browser.find("#user[data-state=signed-in]").await;
}

async fn consent(browser: &Browser, fan: &Value) {
    let choice = format!("input[value='{}']", str(&fan["openid"]));
    browser.press(&choice).await;
    browser.press("form .allow").await;
}

/// Presses a button of the demo page: the body of the good answer that it brings.
async fn answer_of(browser: &Browser, button: &str, call: &str) -> Value {
    let count = format!("document.querySelectorAll('[data-call=\"{call}\"][data-ok=true]').length");
    let before = browser.eval(&count).await;
    browser.press(button).await;
    browser.until(&format!("{count} === {before} + 1")).await;
    let json = browser
        .eval(&format!(
            "document.querySelector('{NEWEST} .json').textContent"
        ))
        .await;
    serde_json::from_str(str(&json)).unwrap()
}

async fn say(browser: &Browser, text: &str) {
    browser.write("#message", text).await;
    browser.press("#send").await;
}

/// Waits for the account's answer number `count`, and checks it.
async fn said(browser: &Browser, count: usize, text: &str) {
    browser
        .until(&format!(
            "document.querySelectorAll('#chat .bubble.account').length === {count}"
        ))
        .await;
    let last = "[...document.querySelectorAll('#chat .bubble.account')].at(-1).textContent";
    assert_eq!(browser.eval(last).await, text);
}

/// Whether the fan at this place follows, as WeChat says it.
async fn subscribe(demo: &Program, place: usize) -> Value {
    demo.sim("fans").await[place]["subscribe"].clone()
}

#[track_caller]
fn str(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}
