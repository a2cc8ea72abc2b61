//! What lasts: over a restart, between instances on one store, and past one that is killed.

use std::time::{Duration, Instant};

use offiaccount::Bot;
use offiaccount::config::Settings;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::helpers::{ADMIN_TOKEN, App, World, client, eventually, expect_status};
use crate::stored::Stored;
use crate::visitor::{Visitor, location};
use crate::wire::Binary;

const TOKEN: &str = "/cgi-bin/stable_token";
const TICKET: &str = "/cgi-bin/ticket/getticket";
const PROFILE: &str = "scope=snsapi_userinfo";

async fn start(settings: &Settings) -> App {
    App::start(settings, Bot::new(), CancellationToken::new()).await
}

async fn token_of(http: &Client, url: &str) -> String {
    let request = http.get(format!("{url}/getTokens"));
    let answer = request.bearer_auth(ADMIN_TOKEN).send().await.unwrap();
    let answer = expect_status(answer, StatusCode::OK).await;
    answer["access_token"].as_str().unwrap().to_owned()
}

async fn js_config(http: &Client, url: &str) -> Value {
    let request = http.get(format!("{url}/getJSConfig"));
    let request = request.query(&[("url", "http://127.0.0.1/")]);
    expect_status(request.send().await.unwrap(), StatusCode::OK).await
}

async fn expect_user(visitor: &Visitor, openid: &str) {
    let answer = visitor.open("/getUser").await;
    let user = expect_status(answer, StatusCode::OK).await;
    assert_eq!(user["openid"], openid);
}

#[tokio::test]
async fn what_was_signed_in_before_a_restart_is_signed_in_after_it() {
    let world = World::start().await;
    let fan = world.fan().await;
    let before = start(&world.settings).await;
    let profile = Visitor::at(&before.url).signed_in(PROFILE, &fan).await;
    let base = Visitor::at(&before.url)
        .signed_in("scope=snsapi_base", &fan)
        .await;
    let doubled = Visitor::at(&before.url);
    let callback = doubled.consent("next=/doubled", &fan).await;
    assert_eq!(location(&doubled.open(&callback).await), "/doubled");
    let begun = Visitor::at(&before.url);
    let consent = begun.consent("next=/begun", &fan).await;
    let token = token_of(&world.http, &before.url).await;
    js_config(&world.http, &before.url).await;
    let at_before = before.url.clone();
    before.stop().await;

    let after = start(&world.settings).await;
    let here = |url: &str| url.replace(&at_before, &after.url);
    expect_user(&profile.elsewhere(&after.url), &fan).await;
    expect_user(&base.elsewhere(&after.url), &fan).await;
    // A sign-in under way is finished, and a callback that comes again ends as before.
    assert_eq!(location(&begun.open(&here(&consent)).await), "/begun");
    assert_eq!(location(&doubled.open(&here(&callback)).await), "/doubled");
    assert_eq!(world.calls("/sns/oauth2/access_token").await, 4);
    // Nothing that is good is fetched again.
    assert_eq!(token_of(&world.http, &after.url).await, token);
    js_config(&world.http, &after.url).await;
    assert_eq!(world.calls(TOKEN).await, 1);
    assert_eq!(world.calls(TICKET).await, 1);
}

#[tokio::test]
async fn instances_share_sign_ins_sessions_and_web_tokens() {
    let world = World::start().await;
    let fan = world.fan().await;
    let (first, second) = (start(&world.settings).await, start(&world.settings).await);
    // Begun here, finished there.
    let visitor = Visitor::at(&first.url);
    let callback = visitor.consent(PROFILE, &fan).await;
    let there = visitor.elsewhere(&second.url);
    let at_second = callback.replace(&first.url, &second.url);
    assert_eq!(
        location(&there.open(&at_second).await),
        format!("/?openid={fan}")
    );
    expect_user(&visitor, &fan).await;
    expect_user(&there, &fan).await;
    // A web token refreshed there is not refreshed here.
    world.advance(7_201).await;
    expect_user(&there, &fan).await;
    expect_user(&visitor, &fan).await;
    assert_eq!(world.calls("/sns/oauth2/refresh_token").await, 1);
    // Forgotten there, forgotten here.
    let event = json!({"openid": fan, "MsgType": "event", "Event": "unsubscribe"});
    world.act(event).await;
    for browser in [&visitor, &there] {
        let answer = browser.open("/getUser").await;
        expect_status(answer, StatusCode::UNAUTHORIZED).await;
    }
}

#[tokio::test]
async fn the_key_made_beside_the_embedded_store_is_found_again() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.db");
    let mut settings = world.settings.clone();
    settings.database_url = Some(format!("sqlite://{}", file.display()));
    settings.store_key = None;
    let fan = world.fan().await;
    let before = start(&settings).await;
    let visitor = Visitor::at(&before.url).signed_in(PROFILE, &fan).await;
    let token = token_of(&world.http, &before.url).await;
    before.stop().await;
    let key = folder.path().join("own.db.key");
    for file in [&file, &key] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
    let stored = Stored::of(&settings).await;
    assert!(!stored.holds(&token).await);

    let after = start(&settings).await;
    expect_user(&visitor.elsewhere(&after.url), &fan).await;
    assert_eq!(token_of(&world.http, &after.url).await, token);
    assert_eq!(world.calls(TOKEN).await, 1);
    after.stop().await;
    // Without the key: signed in, but the user's tokens are gone; the account's is fetched anew.
    std::fs::remove_file(key).unwrap();
    let forgetful = start(&settings).await;
    token_of(&world.http, &forgetful.url).await;
    assert_eq!(world.calls(TOKEN).await, 2);
    let answer = visitor.elsewhere(&forgetful.url).open("/getUser").await;
    let problem = expect_status(answer, StatusCode::UNAUTHORIZED).await;
    assert_eq!(problem["code"], "authorization_expired");
}

/// The program itself, in a process of its own that can be killed.
async fn serve(settings: &Settings) -> (Binary, String) {
    let value = |setting: &Option<String>| setting.clone().unwrap();
    let mut binary = Binary::start(
        &["serve"],
        &[
            ("LISTEN", "127.0.0.1:0"),
            ("LOG_FORMAT", "json"),
            ("WECHAT_APPID", &value(&settings.wechat_appid)),
            ("WECHAT_APPSECRET", &value(&settings.wechat_appsecret)),
            ("WECHAT_TOKEN", &value(&settings.wechat_token)),
            ("WECHAT_API_URL", &value(&settings.wechat_api_url)),
            ("WECHAT_OPEN_URL", &value(&settings.wechat_open_url)),
            ("DATABASE_URL", &value(&settings.database_url)),
            ("STORE_KEY", &value(&settings.store_key)),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
        ],
    );
    let url = binary.url().await;
    (binary, url)
}

#[tokio::test]
async fn after_the_fetching_instance_is_killed_another_has_a_token_within_8_seconds() {
    let world = World::start().await;
    let (holder, at_holder) = serve(&world.settings).await;
    let (_heir, at_heir) = serve(&world.settings).await;
    world.fault(TOKEN, json!({"delay_ms": 20_000}), 1).await;
    let http = client();
    let request = http.get(format!("{at_holder}/getTokens"));
    let asking = tokio::spawn(request.bearer_auth(ADMIN_TOKEN).send());
    eventually(Duration::from_secs(2), async || {
        world.calls(TOKEN).await == 1
    })
    .await;
    holder.signal("KILL");
    let killed = Instant::now();
    assert!(asking.await.unwrap().is_err(), "its caller lost it");
    token_of(&http, &at_heir).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    // It waited for the lease, which the dead one held.
    assert!(took > Duration::from_secs(2), "{took:?}");
    assert_eq!(world.calls(TOKEN).await, 2);
}
