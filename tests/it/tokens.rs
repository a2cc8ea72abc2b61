//! The token centre: one token and one ticket for all, fetched once, renewed when refused, never lost.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use offiaccount::Bot;
use reqwest::{Response, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::helpers::{ADMIN_TOKEN, App, Setup, World, eventually, expect_status};
use crate::mongod::Mongod;
use crate::stored::{CREDENTIAL_EXPIRES, CREDENTIAL_LEASE, CREDENTIAL_PUBLISHED, Stored, When};

const STABLE: &str = "/cgi-bin/stable_token";
const CLASSIC: &str = "/cgi-bin/token";
const TICKET: &str = "/cgi-bin/ticket/getticket";
const FOLLOWERS: &str = "/cgi-bin/user/get";
/// The life of the platform's tokens.
const LIFE_S: u64 = 7200;

impl World {
    /// `GET /getTokens` of an instance.
    async fn tokens_at(&self, url: &str) -> Response {
        let request = self.http.get(format!("{url}/getTokens"));
        self.send(request.bearer_auth(ADMIN_TOKEN)).await
    }

    async fn token_at(&self, url: &str) -> String {
        let answer = expect_status(self.tokens_at(url).await, StatusCode::OK).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn token(&self) -> String {
        self.token_at(&self.app.url).await
    }

    async fn refreshed(&self, failed: &str) -> String {
        let answer = expect_status(self.refresh(failed).await, StatusCode::OK).await;
        answer["access_token"].as_str().unwrap().to_owned()
    }

    async fn js_config_at(&self, url: &str) -> Response {
        let request = self.http.get(format!("{url}/getJSConfig"));
        self.send(request.query(&[("url", "http://127.0.0.1/")]))
            .await
    }

    /// How often a new token was forced from the platform.
    async fn forced(&self) -> usize {
        let requests = self.sim("requests", None).await;
        let requests = requests.as_array().unwrap().iter();
        let forced = requests.filter(|it| {
            let body = it["request_body"].as_str().unwrap_or_default();
            it["path"] == STABLE && body.contains("\"force_refresh\":true")
        });
        forced.count()
    }

    async fn clear_faults(&self) {
        let request = self.http.delete(format!("{}/_sim/faults", self.sim));
        assert!(self.send(request).await.status().is_success());
    }

    /// Another backend on the same store.
    async fn second(&self) -> App {
        App::start(&self.settings, Bot::new(), CancellationToken::new()).await
    }
}

fn classic() -> Setup {
    Setup::new().settings(|settings| settings.token_mode = Some("classic".into()))
}

#[tokio::test]
async fn a_good_token_is_served_without_a_fetch_and_its_life_runs_down() {
    let world = World::start().await;
    assert_eq!(world.calls(STABLE).await, 0, "nothing is fetched unasked");
    let answer = world.manage("/getTokens").await;
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let first = expect_status(answer, StatusCode::OK).await;
    assert_eq!(first.as_object().unwrap().len(), 2, "{first}");
    let life = first["expires_in"].as_u64().unwrap();
    assert!((LIFE_S - 5..=LIFE_S).contains(&life), "{life}");
    eventually(Duration::from_secs(4), async || {
        let again = expect_status(world.manage("/getTokens").await, StatusCode::OK).await;
        assert_eq!(again["access_token"], first["access_token"]);
        again["expires_in"].as_u64().unwrap() < life
    })
    .await;
    assert_eq!(world.calls(STABLE).await, 1);
    assert_eq!(world.forced().await, 0);
    assert_eq!(world.calls(CLASSIC).await, 0, "stable is the default");
}

#[tokio::test]
async fn hundreds_of_cold_callers_of_two_backends_share_one_token_and_one_ticket() {
    let world = World::start().await;
    let other = world.second().await;
    let tokens = (0..80).flat_map(|_| [&world.app.url, &other.url]);
    let configs = (0..60).flat_map(|_| [&world.app.url, &other.url]);
    let (tokens, configs) = tokio::join!(
        join_all(tokens.map(|url| world.token_at(url))),
        join_all(configs.map(|url| world.js_config_at(url))),
    );
    assert_eq!(tokens.into_iter().collect::<HashSet<_>>().len(), 1);
    for config in configs {
        expect_status(config, StatusCode::OK).await;
    }
    assert_eq!(world.calls(STABLE).await, 1);
    assert_eq!(world.calls(TICKET).await, 1);
}

#[tokio::test]
async fn classic_mode_fetches_by_the_classic_call() {
    let world = classic().start().await;
    assert_eq!(world.token().await, world.token().await);
    assert_eq!(world.calls(CLASSIC).await, 1);
    assert_eq!(world.calls(STABLE).await, 0);
}

#[tokio::test]
async fn a_call_that_is_refused_for_its_token_is_repeated_once_with_a_new_one() {
    for errcode in [40001, 40014, 42001] {
        let world = World::start().await;
        let before = world.token().await;
        world.fault(FOLLOWERS, json!({"errcode": errcode}), 1).await;
        expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
        assert_eq!(world.calls(FOLLOWERS).await, 2, "{errcode}");
        assert_ne!(world.token().await, before, "{errcode}");
        // The platform thinks the refused token good, so a new one must be forced out, once.
        assert_eq!(world.forced().await, 1, "{errcode}");

        // Refused twice: the platform's word is passed on, and there is no third try.
        let world = World::start().await;
        world.fault(FOLLOWERS, json!({"errcode": errcode}), 9).await;
        let problem =
            expect_status(world.manage("/getFollowers").await, StatusCode::BAD_GATEWAY).await;
        assert_eq!(problem["errcode"], errcode);
        assert_eq!(world.calls(FOLLOWERS).await, 2, "{errcode}");
    }
}

#[tokio::test]
async fn an_expired_token_is_fetched_anew_without_force() {
    let world = World::start().await;
    let before = world.token().await;
    world.advance(LIFE_S + 100).await;
    expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
    assert_eq!(world.calls(FOLLOWERS).await, 2);
    assert_eq!(world.calls(STABLE).await, 2);
    assert_eq!(world.forced().await, 0);
    assert_ne!(world.token().await, before);
}

#[tokio::test]
async fn a_classic_token_killed_by_another_program_is_fetched_anew() {
    let world = classic().start().await;
    let killed = world.token().await;
    let appid = crate::helpers::APPID;
    let secret = "0".repeat(32);
    let foreign = format!(
        "{}{CLASSIC}?grant_type=client_credential&appid={appid}&secret={secret}",
        world.sim
    );
    world.send(world.http.get(foreign)).await;
    // The one before the newest works 300 s longer.
    world.advance(301).await;
    expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
    assert_ne!(world.token().await, killed);
    assert_eq!(world.calls(CLASSIC).await, 3, "ours, the other's, ours");
}

#[tokio::test]
async fn many_refused_callers_of_two_backends_share_one_refresh() {
    let world = World::start().await;
    let other = world.second().await;
    world.token().await;
    world.token_at(&other.url).await;
    world.advance(LIFE_S + 100).await;
    let callers = (0..20).flat_map(|_| [&world.app.url, &other.url]);
    let answers = join_all(callers.map(|url| {
        let request = world.http.get(format!("{url}/getFollowers"));
        world.send(request.bearer_auth(ADMIN_TOKEN))
    }));
    for answer in answers.await {
        expect_status(answer, StatusCode::OK).await;
    }
    assert!(world.calls(FOLLOWERS).await > 40, "some were refused");
    assert_eq!(world.calls(STABLE).await, 2);
}

#[tokio::test]
async fn a_token_reported_twice_is_replaced_once() {
    let world = World::start().await;
    let other = world.second().await;
    let old = world.token().await;
    assert_eq!(world.token_at(&other.url).await, old);
    // Normal mode would hand out the same one again.
    let new = world.refreshed(&old).await;
    assert_ne!(new, old);
    let fetches = world.calls(STABLE).await;
    assert_eq!(world.refreshed(&old).await, new);
    assert_eq!(world.token().await, new);
    let reports = (0..40).flat_map(|_| [&world.app.url, &other.url]);
    let answers = join_all(reports.map(|url| {
        let request = world.http.post(format!("{url}/refreshTokens"));
        let request = request.bearer_auth(ADMIN_TOKEN);
        world.send(request.json(&json!({"access_token": old})))
    }));
    for answer in answers.await {
        let answer = expect_status(answer, StatusCode::OK).await;
        assert_eq!(answer["access_token"], new.as_str());
    }
    assert_eq!(world.calls(STABLE).await, fetches);
    assert_eq!(world.forced().await, 1);
    expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
}

#[tokio::test]
async fn many_reports_at_once_are_one_refresh() {
    for setup in [Setup::new(), classic()] {
        let world = setup.start().await;
        let other = world.second().await;
        let old = world.token().await;
        let fetches = world.calls(STABLE).await + world.calls(CLASSIC).await;
        let reports = (0..30).flat_map(|_| [&world.app.url, &other.url]);
        let answers = join_all(reports.map(|url| {
            let request = world.http.post(format!("{url}/refreshTokens"));
            let request = request.bearer_auth(ADMIN_TOKEN);
            world.send(request.json(&json!({"access_token": old})))
        }));
        let mut new = HashSet::new();
        for answer in answers.await {
            let answer = expect_status(answer, StatusCode::OK).await;
            new.insert(answer["access_token"].to_string());
        }
        assert_eq!(new.len(), 1);
        assert!(!new.contains(&json!(old).to_string()));
        let forced = world.forced().await;
        let fetched = world.calls(STABLE).await + world.calls(CLASSIC).await;
        assert_eq!(fetched - forced - fetches, 1);
    }
}

#[tokio::test]
async fn a_report_without_a_token_is_refused() {
    let world = World::start().await;
    let good = world.token().await;
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "not json",
        r#"{"access_token":""}"#,
        r#"{"access_token":5}"#,
        r#"{"access_token":null}"#,
        r#"{"token":"x"}"#,
    ] {
        let request = world.http.post(format!("{}/refreshTokens", world.app.url));
        let request = request.bearer_auth(ADMIN_TOKEN).body(body);
        let problem = expect_status(world.send(request).await, StatusCode::BAD_REQUEST).await;
        assert_eq!(problem["code"], "missing_access_token", "{body}");
    }
    assert_eq!(world.calls(STABLE).await, 1);
    assert_eq!(world.token().await, good);
}

#[tokio::test]
async fn while_the_platform_refuses_a_new_token_the_old_one_stays_in_service() {
    let world = World::start().await;
    let old = world.token().await;
    world.fault(STABLE, json!({"errcode": -1}), 99).await;
    let problem = expect_status(world.refresh(&old).await, StatusCode::BAD_GATEWAY).await;
    assert_eq!(problem["errcode"], -1);
    assert!(problem["errmsg"].as_str().unwrap().contains("system error"));
    assert_eq!(world.token().await, old);
    let other = world.second().await;
    assert_eq!(world.token_at(&other.url).await, old);
    world.clear_faults().await;
    assert_ne!(world.refreshed(&old).await, old);
}

#[tokio::test]
async fn while_the_platform_is_silent_the_old_token_is_served_without_a_wait() {
    let world = World::start().await;
    let old = world.token().await;
    // One that knows no token yet when it is told that the stored one failed.
    let cold = world.second().await;
    world.fault(STABLE, json!({"delay_ms": 20_000}), 9).await;
    let report = async {
        let request = world.http.post(format!("{}/refreshTokens", cold.url));
        let request = request.bearer_auth(ADMIN_TOKEN);
        let began = Instant::now();
        let answer = world.send(request.json(&json!({"access_token": old})));
        expect_status(answer.await, StatusCode::GATEWAY_TIMEOUT).await;
        let took = began.elapsed().as_secs();
        assert!((6..9).contains(&took), "two tries of 3 s: {took} s");
    };
    let serve = async {
        eventually(Duration::from_secs(2), async || {
            world.calls(STABLE).await == 2
        })
        .await;
        for url in [&cold.url, &world.app.url, &cold.url] {
            let asked = Instant::now();
            assert_eq!(world.token_at(url).await, old);
            assert!(asked.elapsed() < Duration::from_secs(1), "a caller waited");
        }
    };
    tokio::join!(report, serve);
    assert_eq!(world.calls(STABLE).await, 3);
    assert_eq!(world.token_at(&cold.url).await, old);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_nothing_bad_is_stored() {
    for fault in [
        json!({"errcode": -1}),
        json!({"status": 503}),
        json!({"status": 500, "body": "{\"access_token\":\"bad\",\"expires_in\":7200}"}),
        json!({"status": 302}),
        json!({"body": "<html><body>502 Bad Gateway</body></html>"}),
        json!({"body": "{\"access_token\":\"bad\",\"expires_"}),
        json!({"body": ""}),
        json!({"body": "[]"}),
        json!({"body": "{}"}),
        json!({"body": "{\"access_token\":\"bad\"}"}),
        json!({"body": "{\"access_token\":\"\",\"expires_in\":7200}"}),
        json!({"body": "{\"access_token\":\"bad\",\"expires_in\":0}"}),
        json!({"body": "{\"access_token\":\"bad\",\"expires_in\":-1}"}),
    ] {
        let world = World::start().await;
        world.fault(STABLE, fault.clone(), 1).await;
        assert_ne!(world.token().await, "bad", "{fault}");
        assert_eq!(world.calls(STABLE).await, 2, "{fault}");
        expect_status(world.manage("/getFollowers").await, StatusCode::OK).await;
    }
}

#[tokio::test]
async fn a_fetch_that_is_not_answered_in_time_is_tried_again() {
    let world = World::start().await;
    world.fault(STABLE, json!({"delay_ms": 20_000}), 1).await;
    let began = Instant::now();
    world.token().await;
    let took = began.elapsed();
    assert!((3..6).contains(&took.as_secs()), "{took:?}");
    assert_eq!(world.calls(STABLE).await, 2);
}

#[tokio::test]
async fn what_only_the_operator_can_mend_is_not_tried_again_and_the_cure_is_told() {
    for errcode in [
        40001, 40002, 40013, 40125, 40164, 40243, 45009, 89501, 89503, 89506, 89507,
    ] {
        let world = World::start().await;
        world.fault(STABLE, json!({"errcode": errcode}), 99).await;
        for _ in 0..3 {
            let answer = world.manage("/getTokens").await;
            let problem = expect_status(answer, StatusCode::BAD_GATEWAY).await;
            assert_eq!(problem["errcode"], errcode);
            assert!(problem["errmsg"].as_str().unwrap().contains("rid"));
            let detail = problem["detail"].as_str().unwrap();
            assert!(!detail.starts_with("try again"), "{errcode}: {detail}");
        }
        let ticket = world.js_config_at(&world.app.url).await;
        let problem = expect_status(ticket, StatusCode::BAD_GATEWAY).await;
        assert_eq!(problem["errcode"], errcode);
        let ready = world.get("/readyz").await;
        let problem = expect_status(ready, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(problem["errcode"], errcode);
        assert_eq!(world.calls(STABLE).await, 1, "{errcode}");
    }
}

#[tokio::test]
async fn a_wrong_secret_is_told_as_such() {
    let setup = Setup::new().settings(|it| it.wechat_appsecret = Some("f".repeat(32)));
    let world = setup.start().await;
    let answer = world.manage("/getTokens").await;
    let problem = expect_status(answer, StatusCode::BAD_GATEWAY).await;
    assert_eq!(problem["errcode"], 40125);
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("WECHAT_APPSECRET")
    );
    assert!(!problem.to_string().contains(&"f".repeat(32)));
}

#[tokio::test]
async fn a_token_near_its_end_is_replaced_while_callers_are_served() {
    let world = World::start().await;
    let old = world.token().await;
    let stored = Stored::of(&world.settings).await;
    // As if it had been fetched long ago, with 6 s left: a quarter of that is kept in hand.
    let minute = When::Ago(Duration::from_secs(60));
    stored.set(CREDENTIAL_PUBLISHED, minute).await;
    stored
        .set(CREDENTIAL_EXPIRES, When::In(Duration::from_secs(6)))
        .await;
    world.advance(LIFE_S - 100).await;
    let other = world.second().await;
    world.fault(STABLE, json!({"delay_ms": 700}), 1).await;
    eventually(Duration::from_secs(8), async || {
        let asked = Instant::now();
        let token = world.token_at(&other.url).await;
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "a caller waited"
        );
        token != old
    })
    .await;
    assert_eq!(world.calls(STABLE).await, 2);
    // The other backend has it from the store.
    eventually(Duration::from_secs(4), async || world.token().await != old).await;
    assert_eq!(world.calls(STABLE).await, 2);
}

#[tokio::test]
async fn a_token_is_not_fetched_again_within_45_seconds() {
    let world = World::start().await;
    let body = json!({"access_token": "short", "expires_in": 30}).to_string();
    world.fault(STABLE, json!({"body": body}), 1).await;
    assert_eq!(world.token().await, "short");
    let stored = Stored::of(&world.settings).await;
    // Its end is near, and yet it is too young to be replaced.
    stored
        .set(CREDENTIAL_EXPIRES, When::In(Duration::from_secs(2)))
        .await;
    let other = world.second().await;
    let until = Instant::now() + Duration::from_millis(1_800);
    while Instant::now() < until {
        assert_eq!(world.token_at(&other.url).await, "short");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.calls(STABLE).await, 1);
    // Over is over.
    eventually(Duration::from_secs(2), async || {
        world.token_at(&other.url).await != "short"
    })
    .await;
}

#[tokio::test]
async fn a_ticket_follows_the_token() {
    let world = World::start().await;
    world.token().await;
    world.advance(LIFE_S + 100).await;
    // The stored token is dead by now, which the ticket's fetch learns.
    let config = world.js_config_at(&world.app.url).await;
    expect_status(config, StatusCode::OK).await;
    assert_eq!(world.calls(TICKET).await, 2);
    assert_eq!(world.calls(STABLE).await, 2);

    for fault in [
        json!({"errcode": -1}),
        json!({"errcode": 40001}),
        json!({"status": 502}),
        json!({"body": "{\"errcode\":0,\"ticket\":\"\",\"expires_in\":7200}"}),
    ] {
        let world = World::start().await;
        world.fault(TICKET, fault, 1).await;
        let config = world.js_config_at(&world.app.url).await;
        expect_status(config, StatusCode::OK).await;
        let config = world.js_config_at(&world.app.url).await;
        expect_status(config, StatusCode::OK).await;
        assert_eq!(world.calls(TICKET).await, 2);
    }
}

#[tokio::test]
async fn an_account_without_the_right_to_tickets_asks_once() {
    let world = World::start().await;
    world.fault(TICKET, json!({"errcode": 48001}), 99).await;
    for _ in 0..3 {
        let config = world.js_config_at(&world.app.url).await;
        let problem = expect_status(config, StatusCode::BAD_GATEWAY).await;
        assert_eq!(problem["errcode"], 48001);
    }
    assert_eq!(world.calls(TICKET).await, 1);
    world.token().await;
}

#[tokio::test]
async fn numbers_may_come_as_strings_and_a_life_is_never_longer_than_two_hours() {
    let world = World::start().await;
    let body = json!({"access_token": "t", "expires_in": "86400"}).to_string();
    world.fault(STABLE, json!({"body": body}), 1).await;
    let answer = expect_status(world.manage("/getTokens").await, StatusCode::OK).await;
    assert_eq!(answer["access_token"], "t");
    assert!(answer["expires_in"].as_u64().unwrap() <= LIFE_S);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_cut_a_fetch_short() {
    let world = classic().start().await;
    world.fault(CLASSIC, json!({"delay_ms": 600}), 1).await;
    let request = world.http.get(format!("{}/getTokens", world.app.url));
    let request = request
        .bearer_auth(ADMIN_TOKEN)
        .timeout(Duration::from_millis(200));
    assert!(request.send().await.unwrap_err().is_timeout());
    world.token().await;
    assert_eq!(world.calls(CLASSIC).await, 1);
}

#[tokio::test]
async fn a_holder_that_lost_its_lease_writes_over_nothing() {
    let world = classic().start().await;
    let other = world.second().await;
    world.fault(CLASSIC, json!({"delay_ms": 1_500}), 1).await;
    let heir = async {
        eventually(Duration::from_secs(10), async || {
            world.calls(CLASSIC).await == 1
        })
        .await;
        // As if the holder had stood still for so long.
        let stored = Stored::of(&world.settings).await;
        let past = When::Ago(Duration::from_secs(1));
        stored.set(CREDENTIAL_LEASE, past).await;
        world.token_at(&other.url).await
    };
    let (late, heirs) = tokio::join!(world.token(), heir);
    assert_eq!(world.calls(CLASSIC).await, 2);
    assert_eq!(late, heirs, "what was published first is everybody's");
    let third = world.second().await;
    assert_eq!(world.token_at(&third.url).await, heirs);
}

/// A store that takes no writes until this is dropped.
enum Stuck<'a> {
    Sqlite { _lock: rusqlite::Connection },
    Mongo(&'a Mongod),
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        if let Self::Mongo(server) = self {
            server.signal("CONT");
        }
    }
}

#[tokio::test]
async fn while_the_store_is_stuck_all_callers_share_one_failure() {
    let is_mongo = std::env::var("OFFIACCOUNT_TEST_STORE").as_deref() == Ok("mongodb");
    // A server of its own: the other tests' goes on.
    let server = is_mongo.then(|| Mongod::start(&[]));
    let url = server
        .as_ref()
        .map(|it| format!("mongodb://{}/it", it.host()));
    let world = Setup::new()
        .settings(|settings| settings.database_url = url)
        .start()
        .await;
    let stuck = match (&server, Stored::of(&world.settings).await) {
        (Some(server), _) => {
            server.signal("STOP");
            Stuck::Mongo(server)
        }
        (None, Stored::Sqlite(path)) => {
            let lock = rusqlite::Connection::open(path).unwrap();
            lock.execute_batch("BEGIN IMMEDIATE").unwrap();
            Stuck::Sqlite { _lock: lock }
        }
        (None, Stored::Mongo(_)) => unreachable!("a server was started"),
    };
    let began = Instant::now();
    let answers = join_all((0..30).map(|_| world.manage("/getTokens"))).await;
    for answer in answers {
        let problem = expect_status(answer, StatusCode::SERVICE_UNAVAILABLE).await;
        assert_eq!(problem["code"], "store_unavailable");
    }
    // A second or five for one of them, and the others with it.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(13), "{took:?}");
    assert_eq!(
        world.calls(STABLE).await,
        0,
        "nobody fetches without a lease"
    );
    drop(stuck);
    eventually(Duration::from_secs(15), async || {
        world.manage("/getTokens").await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn tokens_and_tickets_are_sealed_at_rest() {
    let world = World::start().await;
    let token = world.token().await;
    let config = world.js_config_at(&world.app.url).await;
    expect_status(config, StatusCode::OK).await;
    let ticket = world.sim("tokens", None).await["jsapi"][0]["value"].clone();
    let stored = Stored::of(&world.settings).await;
    for sealed in [token.as_str(), ticket.as_str().unwrap(), &"0".repeat(32)] {
        assert!(!stored.holds(sealed).await);
    }
    assert!(stored.holds("access_token").await, "this is not the store");
}

#[tokio::test]
async fn a_changed_store_key_opens_what_the_previous_one_sealed() {
    let world = World::start().await;
    let body = json!({"access_token": "sealed-before", "expires_in": 7200}).to_string();
    world.fault(STABLE, json!({"body": body}), 1).await;
    assert_eq!(world.token().await, "sealed-before");
    let mut settings = world.settings.clone();
    settings.store_key_previous = settings.store_key.replace("43".repeat(32));
    let rotated = App::start(&settings, Bot::new(), CancellationToken::new()).await;
    assert_eq!(world.token_at(&rotated.url).await, "sealed-before");
    assert_eq!(world.calls(STABLE).await, 1);

    // Without it the token is lost, and another is fetched.
    settings.store_key_previous = None;
    let forgetful = App::start(&settings, Bot::new(), CancellationToken::new()).await;
    assert_ne!(world.token_at(&forgetful.url).await, "sealed-before");
    assert_eq!(world.calls(STABLE).await, 2);
}

#[tokio::test]
async fn readiness_tells_of_the_token() {
    let world = World::start().await;
    world.fault(STABLE, json!({"errcode": -1}), 2).await;
    let answer = world.get("/readyz").await;
    let problem = expect_status(answer, StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(problem["errcode"], -1);
    expect_status(world.get("/readyz").await, StatusCode::OK).await;
    // A platform slower than the probe is not asked anew by each probe.
    let world = World::start().await;
    world.fault(STABLE, json!({"delay_ms": 2_000}), 1).await;
    let answer = world.get("/readyz").await;
    expect_status(answer, StatusCode::SERVICE_UNAVAILABLE).await;
    eventually(Duration::from_secs(3), async || {
        world.get("/readyz").await.status() == StatusCode::OK
    })
    .await;
    assert_eq!(world.calls(STABLE).await, 1);
}
