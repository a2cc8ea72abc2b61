//! The simulator's page in a real Chromium: a newcomer's walk over the phone and every panel.
//!
//! Nothing may complain in the console, and no other host may be asked for anything. Pictures go to
//! `tests/.out`.

use fantoccini::key::Key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::browser::driver::{Browser, DESKTOP, LAPTOP, PHONE, walk};
use crate::helpers::{APPID, client};
use crate::program::Program;
use crate::simulator::world::{Answer, Callback};

const TABS: [&str; 9] = [
    "pushes", "requests", "jssdk", "oauth", "tokens", "faults", "clock", "account", "help",
];

/// The page in Chinese, once it knows who is there.
async fn open(demo: &Program, browser: &Browser) {
    browser.goto(&demo.simulator).await;
    browser
        .until("document.querySelectorAll('#fan option').length > 1")
        .await;
    if browser.text("#language").await == "中文" {
        browser.press("#language").await;
    }
    browser
        .until("document.documentElement.lang === 'zh-CN'")
        .await;
}

/// A call of the platform's API.
async fn api(demo: &Program, path: &str, body: Value) -> Value {
    let (http, simulator) = (client(), &demo.simulator);
    let secret = "0".repeat(32);
    let token = format!(
        "{simulator}/cgi-bin/token?grant_type=client_credential&appid={APPID}&secret={secret}"
    );
    let token: Value = http.get(token).send().await.unwrap().json().await.unwrap();
    let token = token["access_token"].as_str().unwrap();
    let call = http.post(format!("{simulator}{path}?access_token={token}"));
    let answer: Value = call.json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["errcode"], 0, "{path}: {answer}");
    answer
}

async fn holder(browser: &Browser) -> Value {
    browser.eval("document.getElementById('fan').value").await
}

/// Waits for a bubble that holds `css`.
async fn shows(browser: &Browser, css: &str) {
    browser.find(&format!("#chat .bubble {css}")).await;
}

/// Opens the sheet of an action, fills in its fields, and sends it.
async fn act(browser: &Browser, name: &str, fields: &[(&str, &str)]) {
    browser.press("#more").await;
    browser.press(&format!("#act-{name}")).await;
    browser.find("#sheet[open]").await;
    for (field, value) in fields {
        browser
            .write(&format!("#sheet [name={field}]"), value)
            .await;
    }
    browser.press("#sheet [type=submit]").await;
    browser
        .until("!document.getElementById('sheet').open")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fan_sends_and_gets_every_type_of_message() {
    walk("types", async |demo, browser| {
        open(demo, browser).await;
        let fan = holder(browser).await;
        act(browser, "image", &[]).await;
        shows(browser, ".picture").await;
        browser
            .until("document.querySelector('.picture').naturalWidth === 480")
            .await;
        act(browser, "voice", &[("words", "今天天气怎么样")]).await;
        shows(browser, ".voice").await;
        assert_eq!(browser.text(".words").await, "今天天气怎么样");
        act(browser, "location", &[("Label", "广州塔")]).await;
        shows(browser, ".place").await;
        act(browser, "link", &[("Title", "开发文档")]).await;
        shows(browser, "a.linkcard").await;
        browser.press("#more").await;
        browser.press("#act-video").await;
        shows(browser, ".film").await;
        act(browser, "event", &[]).await;
        browser
            .until("document.querySelectorAll('#pushes > li').length === 6")
            .await;

        let page = format!("{}/", demo.page().trim_end_matches('/'));
        let article = json!({"title": "新茶上市", "description": "三款", "url": page, "picurl": format!("{page}share.png")});
        for message in [
            json!({"msgtype": "news", "news": {"articles": [article]}}),
            json!({"msgtype": "msgmenu", "msgmenu": {"head_content": "满意吗？", "list": [
                {"id": "101", "content": "满意"}, {"id": "102", "content": "不满意"}], "tail_content": "谢谢"}}),
            json!({"msgtype": "text", "text": {"content":
                format!("看<a href=\"{page}\">演示页</a>或 https://example.com/ <b>不是标签</b>")}}),
            json!({"msgtype": "music", "music": {"title": "茉莉花", "description": "民乐", "musicurl": "http://127.0.0.1/a.mp3", "hqmusicurl": "http://127.0.0.1/a.mp3"}}),
        ] {
            let mut message = message;
            message["touser"] = fan.clone();
            api(demo, "/cgi-bin/message/custom/send", message).await;
        }
        shows(browser, ".news a").await;
        shows(browser, ".song").await;
        let links = browser.eval(
            "[...document.querySelectorAll('.bubble.account > a')].map((a) => a.textContent).join()",
        );
        assert_eq!(links.await, "演示页,https://example.com/");
        assert_eq!(browser.eval("document.querySelectorAll('#chat b').length").await, 0);
        browser
            .pictures("sim-chat", &[("laptop", LAPTOP), ("laptop-dark", LAPTOP.dark()), ("phone", PHONE)])
            .await;

        // A tap on an entry of a `msgmenu` says it, with its id.
        browser.press(".msgmenu .link").await;
        browser
            .until("document.querySelector('#pushes .what').textContent.includes('满意')")
            .await;
        let pushes = demo.sim("pushes").await;
        assert_eq!(pushes[0]["message"]["bizmsgmenuid"], 101);
        // At the newest message, whatever has grown meanwhile.
        browser
            .until("chat.scrollHeight - chat.scrollTop - chat.clientHeight < 2")
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_slow_answer_is_told_in_the_list_of_pushes() {
    walk("late", async |demo, browser| {
        open(demo, browser).await;
        browser.look_on(LAPTOP).await;
        let fan = holder(browser).await;
        let reply = |content: &str| {
            let to = fan.as_str().unwrap();
            format!(
                "<xml><ToUserName>{to}</ToUserName><FromUserName>gh_000000000sim</FromUserName>\
                 <CreateTime>1700000000</CreateTime><MsgType>text</MsgType>\
                 <Content>{content}</Content></xml>"
            )
        };
        let callback = Callback::answering([
            Answer::from(&*reply("马上就有")),
            Answer::late(),
            Answer::from(&*reply("第二次才有")),
            Answer::status(500),
            Answer::status(500),
            Answer::from("success"),
            Answer::status(500),
            Answer::status(500),
            Answer::from(&*reply("正在想…")),
        ])
        .await;
        demo.control(
            Method::PUT,
            "account",
            json!({"callback_url": callback.url}),
        )
        .await;
        let outcome = async |words: &str| {
            let newest = "#pushes > li:first-child .outcome";
            browser
                .until(&format!(
                    "document.querySelector('{newest}').textContent.includes('{words}')"
                ))
                .await;
            browser.text(newest).await
        };
        let say = async |text: &str| {
            browser.write("#message", text).await;
            browser.press("#send").await;
        };
        let custom = json!({"touser": fan, "msgtype": "text", "text": {"content": "终于想好了"}});

        say("快").await;
        outcome("第 1 次推送带回了回复，").await;
        say("慢").await;
        let second = outcome("第 2 次推送带回了回复，5.").await;
        assert!(second.ends_with(" 秒"), "{second}");
        say("更慢").await;
        assert_eq!(outcome("没有一次").await, "没有一次推送带回回复");
        api(demo, "/cgi-bin/message/custom/send", custom.clone()).await;
        let after = outcome("没有一次推送带回回复；").await;
        assert!(after.ends_with(" 后发了客服消息"), "{after}");
        say("很慢").await;
        outcome("第 3 次推送带回了回复，").await;
        let fault = json!({"path": "/cgi-bin/message/custom/send", "errcode": 45047, "times": 1});
        demo.control(Method::POST, "faults", fault).await;
        let call = format!("{}/cgi-bin/message/custom/send", demo.simulator);
        client().post(call).json(&custom).send().await.unwrap();
        outcome("；客服消息被拒（45047）").await;

        browser.press("#pushes > li:nth-child(2) summary").await;
        let inside = "#pushes > li:nth-child(2) .inside";
        browser.find(inside).await;
        let attempts = browser.text(inside).await;
        assert!(attempts.contains("不说话"), "{attempts}");
        assert!(attempts.contains("之后的客服消息"), "{attempts}");
        assert!(attempts.contains("终于想好了"), "{attempts}");
        let last = format!("document.querySelector('{inside} .attempt:last-child')");
        browser.eval(&format!("({last}.scrollIntoView(), 1)")).await;
        browser
            .pictures(
                "sim-late",
                &[
                    ("laptop", LAPTOP),
                    ("laptop-dark", LAPTOP.dark()),
                    ("phone", PHONE),
                ],
            )
            .await;
        browser.press("#pushes > li:nth-child(2) summary").await;
        browser.press("#language").await;
        browser
            .until("document.documentElement.lang === 'en'")
            .await;
        let newest = outcome("; customer-service message refused (45047)").await;
        assert!(
            newest.starts_with("answered by delivery 3 after "),
            "{newest}"
        );
        browser
            .pictures("sim-late-english", &[("laptop", LAPTOP)])
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_panel_of_the_inspector_shows_what_happened_and_explains_what_failed() {
    walk("panels", async |demo, browser| {
        open(demo, browser).await;
        browser.look_on(LAPTOP).await;
        browser.write("#message", "你好").await;
        browser.press("#send").await;
        shows(browser, "").await;
        // A token that differs on both sides.
        demo.control(Method::PUT, "account", json!({"token": "another1"}))
            .await;
        browser.write("#message", "在吗").await;
        browser.press("#send").await;
        browser.press(".line.failed .link").await;
        let why = "#pushes details[open]";
        browser.find(&format!("{why} .advice")).await;
        assert!(
            browser
                .text(&format!("{why} .advice"))
                .await
                .contains("403")
        );
        assert!(
            browser
                .text(&format!("{why} .attempt"))
                .await
                .contains("signature=")
        );
        browser.pictures("sim-pushes", &[("laptop", LAPTOP)]).await;
        // The explanation is one step away.
        browser.press(&format!("{why} .advice a")).await;
        browser.find("#panel-help:not([hidden])").await;
        assert_eq!(
            browser.text("#glossary > li:first-child code").await,
            "push:status"
        );

        // An API call that fails as ordered on the page.
        browser.press("#tab-faults").await;
        browser.write("#fault-path", "/cgi-bin/menu/get").await;
        browser
            .eval("document.getElementById('fault-kind').value = 'quota'")
            .await;
        browser.press("#fault-add").await;
        browser.find("#fault-list code").await;
        browser.pictures("sim-faults", &[("laptop", LAPTOP)]).await;
        browser.press("#tab-requests").await;
        let call = format!("{}/cgi-bin/menu/get?access_token=x", demo.simulator);
        client().get(call).send().await.unwrap();
        browser.find("#requests .bad").await;
        assert!(browser.text("#requests .bad").await.contains("45009"));
        browser.press("#requests summary").await;
        assert!(browser.text("#requests .advice").await.contains("次数用完"));
        browser.press("#requests-failed").await;
        browser.write("#requests-filter", "/nothing").await;
        browser
            .until("document.querySelectorAll('#requests > li').length === 0")
            .await;
        browser.press("#tab-faults").await;
        browser
            .until("!document.querySelector('#fault-list code')")
            .await;

        // The clock: a token dies.
        api(demo, "/cgi-bin/clear_quota", json!({"appid": APPID})).await;
        browser.press("#tab-tokens").await;
        browser.find(".tokens .alive").await;
        browser.press("#tab-clock").await;
        browser.press("#jump-2h").await;
        browser
            .until("document.getElementById('clock-ahead').textContent.includes('2 小时')")
            .await;
        browser.pictures("sim-clock", &[("laptop", LAPTOP)]).await;
        browser.press("#tab-tokens").await;
        browser
            .until("!document.querySelector('.tokens .alive')")
            .await;
        browser.pictures("sim-tokens", &[("laptop", LAPTOP)]).await;

        // 提交 with the wrong token, and with the right one.
        browser.press("#tab-account").await;
        browser.press("#account-save").await;
        browser.find("#account-said .advice").await;
        browser
            .pictures("sim-account", &[("laptop", LAPTOP), ("phone", PHONE)])
            .await;
        browser.write("#account-token", "simtoken2026").await;
        browser.press("#account-save").await;
        browser.find("#account-said .good").await;
        browser.write("#account-token", "x").await;
        browser.press("#account-save").await;
        browser.find("#account-said .bad").await;
        assert!(browser.text("#account-said").await.contains("token"));
        browser.expect_complaint("400").await;

        // Every panel in English, too.
        browser.press("#language").await;
        for tab in TABS {
            browser.press(&format!("#tab-{tab}")).await;
            browser
                .find(&format!("#panel-{tab}:not([hidden]) .lead"))
                .await;
            let lead = browser.text(&format!("#panel-{tab} .lead")).await;
            assert!(
                lead.chars().filter(|letter| !letter.is_ascii()).count() < 12,
                "{lead}"
            );
            browser
                .pictures(
                    &format!("sim-{tab}-en"),
                    &[("laptop-dark", LAPTOP.dark()), ("phone", PHONE)],
                )
                .await;
            browser.look_on(LAPTOP).await;
        }
        // The language is remembered.
        browser.reload().await;
        browser
            .until("document.documentElement.lang === 'en'")
            .await;
    })
    .await;
}

/// Opens an address in the phone, as from the account's chat or as from elsewhere.
async fn browse(browser: &Browser, url: &str, from: &str) {
    browser.press("#browse").await;
    browser.write("#sheet [name=url]", url).await;
    browser
        .eval(&format!(
            "document.querySelector('#sheet [name=from]').value = '{from}'"
        ))
        .await;
    browser.press("#sheet [type=submit]").await;
    browser.find("#webview:not([hidden])").await;
}

const FRAME: &str = "#web-page iframe";

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_the_phone_signs_in_silently_and_shares_its_card() {
    walk("webview", async |demo, browser| {
        open(demo, browser).await;
        let page = demo.page().trim_end_matches('/').to_owned();
        let menu = json!({"button": [
            {"type": "click", "name": "今日推荐", "key": "TODAY"},
            {"name": "更多", "sub_button": [{"type": "view", "name": "演示页", "url": format!("{page}/")}]},
        ]});
        api(demo, "/cgi-bin/menu/create", menu).await;
        browser.press(".menu-top .menu-button").await;
        browser.pictures("sim-menu", &[("laptop", LAPTOP)]).await;
        browser.press(".submenu button").await;

        browser.step_into(FRAME).await;
        browser.press("#wx-login").await;
        // A follower from the menu: nobody asks.
        browser.find("#user[data-state=signed-in]").await;
        browser.press("#get-jssdk-config").await;
        browser.find("#jssdk-state[data-state=ready]").await;
        browser.press("#share").await;
        browser
            .until("document.querySelectorAll('[data-call^=\"wx.update\"][data-ok=true]').length === 2")
            .await;
        browser.step_out().await;
        assert_eq!(browser.text("#web-title").await, "公众号演示页 · offiaccount");
        browser.pictures("sim-web", &[("laptop", LAPTOP), ("laptop-dark", LAPTOP.dark()), ("phone", PHONE)]).await;
        browser.press("#web-more").await;
        let card = browser.text(".card-preview .linkcard").await;
        assert!(card.contains("offiaccount · 公众号演示页"), "{card}");
        browser.pictures("sim-share", &[("laptop", LAPTOP), ("phone", PHONE)]).await;
        browser.press("#share-friend").await;
        browser.find(".toast").await;
        browser.press("#tab-jssdk").await;
        browser
            .until("document.querySelector('#jssdk .what')?.textContent.startsWith('sendAppMessage')")
            .await;
        browser.press("#tab-oauth").await;
        browser.press("#oauth summary").await;
        assert!(browser.text("#oauth .inside").await.contains("不再询问"));

        // What the page hides is not offered.
        browser.step_into(FRAME).await;
        browser
            .eval("wx.hideMenuItems({menuList: ['menuItem:copyUrl', 'menuItem:share:timeline']})")
            .await;
        browser.step_out().await;
        browser.press("#tab-jssdk").await;
        browser
            .until("document.querySelector('#jssdk .what')?.textContent.startsWith('hideMenuItems')")
            .await;
        browser.press("#web-more").await;
        browser.find("#share-friend").await;
        let hidden = browser.eval("document.querySelectorAll('#share-copy, #share-timeline').length");
        assert_eq!(hidden.await, 0);
        browser.keys(&Key::Escape.to_string()).await;
        browser.until("!document.getElementById('sheet').open").await;

        // Back to the page before the sign-in, then out; the focus is where it was.
        browser.press("#web-back").await;
        browser.step_into(FRAME).await;
        browser.until("location.search === '' && document.readyState === 'complete'").await;
        browser.step_out().await;
        browser.press("#web-back").await;
        browser.find("#webview[hidden]").await;
        browser.until("document.activeElement.closest('.phone') !== null").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asks_the_phone_for_pictures_places_and_codes() {
    walk("bridge", async |demo, browser| {
        open(demo, browser).await;
        browse(browser, demo.page(), "chat").await;
        browser.step_into(FRAME).await;
        browser.press("#get-jssdk-config").await;
        browser.find("#jssdk-state[data-state=ready]").await;
        let ask = async |name: &str, more: &str| {
            let done = format!(
                "(window.said = null, wx.{name}({{{more} complete: (result) => {{ window.said = result; }}}}), 1)"
            );
            browser.eval(&done).await;
        };
        let said = async || {
            browser.until("window.said !== null").await;
            browser.eval("window.said").await
        };
        ask("chooseImage", "count: 1,").await;
        browser.step_out().await;
        browser.press("#sheet [type=submit]").await;
        browser.step_into(FRAME).await;
        let chosen = said().await;
        assert_eq!(chosen["errMsg"], "chooseImage:ok");
        let local_id = chosen["localIds"][0].as_str().unwrap().to_owned();
        ask("uploadImage", &format!("localId: '{local_id}',")).await;
        let uploaded = said().await;
        assert_eq!(uploaded["errMsg"], "uploadImage:ok");
        let media_id = uploaded["serverId"].as_str().unwrap();
        let kept = format!("{}/_sim/media?media_id={media_id}", demo.simulator);
        let kept = client().get(kept).send().await.unwrap();
        assert_eq!(kept.headers()["content-type"], "image/jpeg");
        ask("getLocalImgData", &format!("localId: '{local_id}',")).await;
        let data = said().await["localData"].as_str().unwrap().to_owned();
        assert!(data.starts_with("data:image/jpeg;base64,"), "{data:.40}");

        ask("scanQRCode", "needResult: 1,").await;
        browser.step_out().await;
        browser.write("#sheet [name=scanned]", "EAN_13,6901234567892").await;
        browser.press("#sheet [type=submit]").await;
        browser.step_into(FRAME).await;
        assert_eq!(said().await["resultStr"], "EAN_13,6901234567892");

        ask("getLocation", "").await;
        browser.step_out().await;
        browser.press("#sheet .quiet").await;
        browser.step_into(FRAME).await;
        assert_eq!(said().await["errMsg"], "getLocation:cancel");

        // What there is not says so in the platform's words.
        ask("chooseWXPay", "").await;
        let message = said().await["errMsg"].as_str().unwrap().to_owned();
        assert!(
            ["chooseWXPay:permission denied", "chooseWXPay:function not exist"].contains(&message.as_str()),
            "{message}"
        );
        browser.eval("(wx.closeWindow(), 1)").await;
        browser.step_out().await;
        browser.find("#webview[hidden]").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_scripts_order_of_error_and_ready_is_kept() {
    walk("ready", async |demo, browser| {
        demo.control(Method::PUT, "account", json!({"js_domains": ["elsewhere.example"]}))
            .await;
        browser.goto(demo.page()).await;
        browser.press("#get-jssdk-config").await;
        browser.find("#jssdk-state[data-state=error]").await;
        // `ready` runs after a refusal too, and from then on at once.
        browser.eval("(window.order = [], wx.ready(() => order.push('ready')), 1)").await;
        assert_eq!(browser.eval("order.join()").await, "ready");
        browser
            .eval(
                "(window.said = null, wx.getNetworkType({fail: (result) => { window.said = result.errMsg; }}), 1)",
            )
            .await;
        browser.until("window.said !== null").await;
        assert_eq!(
            browser.eval("window.said").await,
            "getNetworkType:the permission value is offline verifying"
        );
        // From the start: what waits for `ready` runs after what waits for `error`.
        browser.reload().await;
        let script = format!("{}/open/js/jweixin-1.6.0.js", demo.simulator);
        browser
            .eval(&format!(
                "(document.head.append(Object.assign(document.createElement('script'), {{src: '{script}'}})), 1)"
            ))
            .await;
        browser.until("window.wx !== undefined").await;
        browser
            .eval(
                "(window.order = [], wx.ready(() => order.push('ready')), \
                 wx.error((result) => order.push(result.errMsg)), \
                 wx.config({appId: 'wxother', timestamp: 1, nonceStr: 'n', signature: 's', jsApiList: []}), 1)",
            )
            .await;
        browser.until("order.length === 2").await;
        assert_eq!(browser.eval("order.join()").await, "config:invalid appid,ready");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_visitor_goes_on_to_the_full_service() {
    walk("snapshot", async |demo, browser| {
        open(demo, browser).await;
        browser.press("#add-fan").await;
        browser.write("#sheet [name=nickname]", "路人").await;
        browser.press("#sheet [name=subscribe]").await;
        browser.press("#sheet [name=snapshot]").await;
        browser.pictures("sim-fan", &[("laptop", LAPTOP)]).await;
        browser.press("#sheet [type=submit]").await;
        browser
            .until("document.getElementById('fan').selectedOptions[0].textContent.includes('路人')")
            .await;
        let fan = holder(browser).await;
        browse(browser, demo.page(), "address").await;
        browser.step_into(FRAME).await;
        browser.press("#wx-login").await;
        browser.step_out().await;
        browser.find("#web-full:not([hidden])").await;
        assert_eq!(demo.sim("oauth").await[0]["outcome"], "snapshot");
        browser.press("#full-service").await;
        browser.find("#web-full[hidden]").await;
        browser.step_into(FRAME).await;
        // The site begins anew, and knows nobody yet.
        browser.expect_complaint("401").await;
        browser.press("#wx-login").await;
        browser.press("form .allow").await;
        browser.find("#user[data-state=signed-in]").await;
        assert_eq!(browser.text("#user-name").await, "路人");
        browser.step_out().await;
        let newest = demo.sim("oauth").await[0].clone();
        assert_eq!(newest["outcome"], "code");
        assert_eq!(newest["openid"], fan);
        browser
            .pictures("sim-consented", &[("laptop", LAPTOP)])
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_be_shown_is_explained() {
    walk("refused", async |demo, browser| {
        open(demo, browser).await;
        browse(browser, &demo.simulator, "address").await;
        browser.find("#web-note:not([hidden])").await;
        let note = browser.text("#web-note").await;
        assert!(note.contains("frame-ancestors 'none'"), "{note}");
        let link = browser
            .eval("document.querySelector('#web-note a').href")
            .await;
        assert_eq!(link, format!("{}/", demo.simulator.trim_end_matches('/')));
        browser
            .pictures("sim-refused", &[("laptop", LAPTOP), ("phone", PHONE)])
            .await;
        browser.press("#web-close").await;

        browse(browser, "http://127.0.0.1:9/", "address").await;
        browser.find("#web-note:not([hidden])").await;
        assert!(browser.text("#web-note").await.contains("连不上"));
        browser.press("#web-close").await;

        let link = format!("{}/connect/oauth2/authorize?appid={APPID}", demo.simulator);
        browse(browser, &link, "chat").await;
        browser.find("#web-note:not([hidden])").await;
        assert!(browser.text("#web-note").await.contains("该链接无法访问"));
        // And the explanation is a link.
        browser.press("#web-note .help").await;
        browser.find("#panel-help:not([hidden])").await;
        assert_eq!(
            browser.text("#glossary > li:first-child code").await,
            "oauth:fragment"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_is_enough() {
    walk("keyboard", async |demo, browser| {
        open(demo, browser).await;
        let (tab, enter) = (Key::Tab.to_string(), Key::Enter.to_string());
        let until_focused = async |css: &str| {
            for _ in 0..60 {
                let there = browser
                    .eval(&format!(
                        "document.activeElement?.matches({css:?}) ?? false"
                    ))
                    .await;
                if there == true {
                    return;
                }
                browser.keys(&tab).await;
            }
            panic!("{css} is never reached");
        };
        until_focused("#message").await;
        browser.keys(&format!("你好{enter}")).await;
        browser.find("#chat .bubble.account").await;
        // The sheet of an action: opened, left by Escape, opened again and sent.
        until_focused("#more").await;
        browser.keys(&enter).await;
        until_focused("#act-location").await;
        browser.keys(&enter).await;
        browser.find("#sheet[open]").await;
        browser.keys(&Key::Escape.to_string()).await;
        browser
            .until("!document.getElementById('sheet').open")
            .await;
        assert_eq!(
            browser
                .eval("document.querySelectorAll('.place').length")
                .await,
            0
        );
        until_focused("#more").await;
        browser.keys(&enter).await;
        until_focused("#act-location").await;
        browser.keys(&enter).await;
        until_focused("#sheet [type=submit]").await;
        browser.keys(&enter).await;
        shows(browser, ".place").await;

        // Tabs: one stop, arrows go round, Home and End.
        until_focused("#tab-pushes").await;
        for (key, id) in [
            (Key::Right, "requests"),
            (Key::Left, "pushes"),
            (Key::Left, "help"),
            (Key::Home, "pushes"),
            (Key::End, "help"),
            (Key::Right, "pushes"),
        ] {
            browser.keys(&key.to_string()).await;
            let selected = "document.querySelector('[role=tab][aria-selected=true]')";
            assert_eq!(
                browser.eval(&format!("{selected}.id")).await,
                format!("tab-{id}")
            );
            assert_eq!(
                browser.eval("document.activeElement.id").await,
                format!("tab-{id}")
            );
            let shown = "document.querySelectorAll('[role=tabpanel]:not([hidden])').length";
            assert_eq!(browser.eval(shown).await, 1);
            let stops = "document.querySelectorAll('[role=tab][tabindex=\"0\"]').length";
            assert_eq!(browser.eval(stops).await, 1);
        }
        until_focused("#pushes summary").await;
        browser.keys(&enter).await;
        browser.find("#pushes details[open] pre").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_follows_what_happens_elsewhere_and_asks_where_no_stream_is_to_be_had() {
    walk("live", async |demo, browser| {
        open(demo, browser).await;
        browser.find("#live[data-state=live]").await;
        let fan = holder(browser).await;
        let say = async |text: &str| {
            let message = json!({"openid": fan, "MsgType": "text", "Content": text});
            demo.control(Method::POST, "send", message).await;
        };
        let heard = |text: &str| {
            format!("document.getElementById('chat').textContent.includes('Hello {text}')")
        };
        say("一").await;
        browser.until(&heard("一")).await;
        demo.control(
            Method::POST,
            "fans",
            json!({"openid": fan, "nickname": "改名"}),
        )
        .await;
        browser
            .until("document.getElementById('fan').selectedOptions[0].textContent === '改名'")
            .await;
        browser.press("#reset").await;
        browser.press("#sheet [autofocus]").await;
        browser
            .until("document.querySelectorAll('#chat .bubble').length === 0")
            .await;
        browser
            .until("document.getElementById('fan').selectedOptions[0].textContent === '小明'")
            .await;

        // All places taken: a page that comes now asks instead.
        browser.goto("about:blank").await;
        let mut others = Vec::new();
        let url = format!("{}/_sim/events", demo.simulator);
        loop {
            let response = client().get(&url).send().await.unwrap();
            if response.status() != 200 {
                break;
            }
            others.push(response);
        }
        open(demo, browser).await;
        browser.expect_complaint("503").await;
        let fan = holder(browser).await;
        let message = json!({"openid": fan, "MsgType": "text", "Content": "二"});
        demo.control(Method::POST, "send", message).await;
        browser.until(&heard("二")).await;
        drop(others);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_open_pages_share_one_stream_and_wait_for_nobody() {
    walk("many", async |demo, browser| {
        open(demo, browser).await;
        let fan = holder(browser).await;
        // A browser opens six connections to a host, and no more.
        for at in 0..8 {
            browser.open_window().await;
            open(demo, browser).await;
            browser.find("#live[data-state=live]").await;
            let message = json!({"openid": fan, "MsgType": "text", "Content": format!("第{at}")});
            demo.control(Method::POST, "send", message).await;
            browser
                .until(&format!(
                    "document.getElementById('chat').textContent.includes('Hello 第{at}')"
                ))
                .await;
        }
        // Of 64 places they take one.
        let mut others = Vec::new();
        for _ in 0..63 {
            let url = format!("{}/_sim/events", demo.simulator);
            let response = client().get(url).send().await.unwrap();
            assert_eq!(response.status(), 200);
            others.push(response);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_reads_well_on_a_desktop_and_on_a_phone() {
    walk("first", async |demo, browser| {
        open(demo, browser).await;
        browser.write("#message", "你好").await;
        browser.press("#send").await;
        browser.find("#chat .bubble.account").await;
        browser.press("#pushes summary").await;
        browser.find("#pushes pre").await;
        browser
            .pictures(
                "sim-first",
                &[
                    ("desktop", DESKTOP),
                    ("phone", PHONE),
                    ("phone-dark", PHONE.dark()),
                ],
            )
            .await;
    })
    .await;
}
