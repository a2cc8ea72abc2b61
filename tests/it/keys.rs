//! Named keys: what each opens, how long, and what is noted of its use. Keys are made by the real program,
//! on the store of a backend that runs.

use std::path::Path;
use std::time::Duration;

use offiaccount::Bot;
use offiaccount::keys::{Scope, generate};
use offiaccount::store;
use offiaccount::telemetry::metrics::StoreMetrics;
use prometheus::Registry;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::helpers::{
    ADMIN_TOKEN, APPID, App, Setup, TOKEN, World, client, eventually, expect_status,
};
use crate::mongod::Mongod;
use crate::wire::Binary;

/// Each management route, and the scope that it needs.
const ROUTES: [(Method, &str, &str); 5] = [
    (Method::GET, "/getTokens", "tokens"),
    (Method::POST, "/refreshTokens", "tokens"),
    (Method::GET, "/getTickets?type=jsapi", "tickets"),
    (Method::GET, "/getTickets?type=wx_card", "tickets"),
    (Method::GET, "/getFollowers", "followers"),
];
const APPSECRET: &str = "00000000000000000000000000000000";
const STORE_KEY: &str = "4242424242424242424242424242424242424242424242424242424242424242";
/// How long a removed key may still open something, and the time of a slow machine.
const GONE_WITHIN: Duration = Duration::from_secs(15);

/// The program with the settings of a backend that runs on this store.
async fn program(world: &World, args: &[&str]) -> (i32, String) {
    let settings = &world.settings;
    let database_url = settings.database_url.as_deref().unwrap();
    run(database_url, args).await
}

async fn run(database_url: &str, args: &[&str]) -> (i32, String) {
    // The platform is not asked.
    let env = settings("http://127.0.0.1:1", database_url);
    Binary::run(args, &env).await
}

/// The settings of a backend that logs all it can.
fn settings<'a>(sim: &'a str, database_url: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", APPSECRET),
        ("WECHAT_TOKEN", TOKEN),
        ("WECHAT_API_URL", sim),
        ("DATABASE_URL", database_url),
        ("STORE_KEY", STORE_KEY),
        ("LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "trace"),
    ]
}

/// A new key.
async fn add(world: &World, name: &str, more: &[&str]) -> String {
    let args = [&["keys", "add", name], more].concat();
    let (code, output) = program(world, &args).await;
    assert_eq!(code, 0, "{output}");
    let key = output.trim();
    let form = regex::Regex::new("^oak_[A-Za-z0-9_-]{43}$").unwrap();
    assert!(form.is_match(key), "nothing else is printed: {output}");
    key.to_owned()
}

async fn visit(world: &World, method: Method, path: &str, key: &str) -> Response {
    let url = format!("{}{path}", world.app.url);
    let mut request = world.http.request(method.clone(), url).bearer_auth(key);
    if method == Method::POST {
        request = request.json(&json!({"access_token": "reported"}));
    }
    world.send(request).await
}

async fn get(world: &World, path: &str, key: &str) -> Response {
    visit(world, Method::GET, path, key).await
}

async fn expect_problem(answer: Response, status: StatusCode, code: &str) -> Value {
    let problem = expect_status(answer, status).await;
    assert_eq!(problem["code"], code, "{problem}");
    problem
}

/// What `offiaccount audit --json` lists.
async fn audit(world: &World, more: &[&str]) -> Vec<Value> {
    let args = [&["audit", "--json"], more].concat();
    let (code, output) = program(world, &args).await;
    assert_eq!(code, 0, "{output}");
    let lines = output.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn each_scope_opens_its_routes_and_no_other() {
    // Without ADMIN_TOKEN: a key alone is enough.
    let setup = Setup::new().settings(|settings| settings.admin_token = None);
    let world = setup.start().await;
    for scope in ["tokens", "tickets", "followers"] {
        let key = add(&world, &format!("for-{scope}"), &["--scope", scope]).await;
        for (method, path, needed) in ROUTES {
            let answer = visit(&world, method, path, &key).await;
            if scope == needed {
                assert_eq!(answer.status(), StatusCode::OK, "{scope} {path}");
                continue;
            }
            let challenge = answer.headers()["www-authenticate"].to_str().unwrap();
            assert!(challenge.contains("insufficient_scope"), "{challenge}");
            assert!(challenge.contains(needed), "{challenge}");
            let code = format!("needs_scope_{needed}");
            let problem = expect_problem(answer, StatusCode::FORBIDDEN, &code).await;
            assert!(problem["detail"].as_str().unwrap().contains(needed));
        }
    }
    let both = add(
        &world,
        "both",
        &["--scope", "tokens", "--scope", "followers"],
    )
    .await;
    for (method, path, needed) in ROUTES {
        let answer = visit(&world, method, path, &both).await;
        assert_eq!(answer.status() == StatusCode::OK, needed != "tickets");
    }
    // Nobody at all is told how to turn it on; a key that is none is not.
    let nobody = world.get("/getTokens").await;
    let off = expect_problem(nobody, StatusCode::FORBIDDEN, "management_off").await;
    for way in ["ADMIN_TOKEN", "offiaccount keys add"] {
        assert!(off["detail"].as_str().unwrap().contains(way), "{off}");
    }
    let invented = format!("oak_{}", "A".repeat(43));
    let answer = get(&world, "/getTokens", &invented).await;
    expect_problem(answer, StatusCode::UNAUTHORIZED, "unauthorized").await;
}

#[tokio::test]
async fn the_admin_token_opens_all_routes_beside_the_keys() {
    let world = World::start().await;
    let key = add(&world, "billing", &["--scope", "tokens"]).await;
    for (method, path, _) in ROUTES {
        let answer = visit(&world, method, path, ADMIN_TOKEN).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
    }
    let token = expect_status(get(&world, "/getTokens", &key).await, StatusCode::OK).await;
    let same = expect_status(world.manage("/getTokens").await, StatusCode::OK).await;
    assert_eq!(token["access_token"], same["access_token"]);
    // A key is as strict as the token: the whole of it, and nowhere else.
    for wrong in [
        &key[..46],
        &key[1..],
        &key.to_uppercase(),
        &format!("{key}x"),
    ] {
        let answer = get(&world, "/getTokens", wrong).await;
        expect_problem(answer, StatusCode::UNAUTHORIZED, "unauthorized").await;
    }
    let in_query = world.get(&format!("/getTokens?access_token={key}")).await;
    expect_problem(in_query, StatusCode::UNAUTHORIZED, "unauthorized").await;
}

#[tokio::test]
async fn a_new_key_opens_its_routes_at_every_instance_at_once() {
    let world = World::start().await;
    let other = App::start(&world.settings, Bot::new(), CancellationToken::new()).await;
    let urls = [&world.app.url, &other.url];
    let at = async |url: &str, path: &str, key: &str| {
        let request = world.http.get(format!("{url}{path}")).bearer_auth(key);
        world.send(request).await
    };
    let key = add(&world, "billing", &["--scope", "tokens"]).await;
    let mut tokens = Vec::new();
    for url in urls {
        let answer = expect_status(at(url, "/getTokens", &key).await, StatusCode::OK).await;
        tokens.push(answer["access_token"].clone());
        let refused = at(url, "/getTickets?type=jsapi", &key).await;
        expect_problem(refused, StatusCode::FORBIDDEN, "needs_scope_tickets").await;
    }
    assert_eq!(tokens[0], tokens[1]);
    assert_eq!(world.calls("/cgi-bin/stable_token").await, 1);
    // What each instance has noted stands in one list.
    eventually(Duration::from_secs(10), async || {
        let uses = audit(&world, &["--key", "billing"]).await;
        let of = |status: u64| uses.iter().filter(|use_| use_["status"] == status).count();
        (of(200), of(403)) == (2, 2)
    })
    .await;
    let (code, output) = program(&world, &["keys", "remove", "billing"]).await;
    assert_eq!(code, 0, "{output}");
    for url in urls {
        eventually(GONE_WITHIN, async || {
            at(url, "/getTokens", &key).await.status() == StatusCode::UNAUTHORIZED
        })
        .await;
    }
}

#[tokio::test]
async fn tickets_are_the_centres_own_and_fetched_once() {
    let world = World::start().await;
    let key = add(&world, "cards", &["--scope", "tickets"]).await;
    let mut tickets = Vec::new();
    for kind in ["jsapi", "wx_card", "jsapi", "wx_card"] {
        let answer = get(&world, &format!("/getTickets?type={kind}"), &key).await;
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let ticket = expect_status(answer, StatusCode::OK).await;
        let left = ticket["expires_in"].as_u64().unwrap();
        assert!((7000..=7200).contains(&left), "{ticket}");
        tickets.push(ticket["ticket"].as_str().unwrap().to_owned());
    }
    assert_eq!(tickets[..2], tickets[2..]);
    assert_ne!(tickets[0], tickets[1]);
    assert_eq!(world.calls("/cgi-bin/ticket/getticket").await, 2);
    for wrong in ["", "?type=", "?type=JSAPI", "?ticket=jsapi"] {
        let answer = get(&world, &format!("/getTickets{wrong}"), &key).await;
        expect_problem(answer, StatusCode::BAD_REQUEST, "bad_ticket_type").await;
    }
}

#[tokio::test]
async fn a_removed_key_and_one_whose_life_is_over_are_refused_as_one_that_never_was() {
    let world = World::start().await;
    let key = add(&world, "billing", &["--scope", "tokens"]).await;
    assert_eq!(
        get(&world, "/getTokens", &key).await.status(),
        StatusCode::OK
    );
    let (code, output) = program(&world, &["keys", "remove", "billing"]).await;
    assert_eq!(code, 0, "{output}");
    // In use all the time, as a program that knows nothing of it would.
    eventually(GONE_WITHIN, async || {
        get(&world, "/getTokens", &key).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;

    // A life of days is too long to wait for: the store is told a shorter one.
    let (over, digest) = generate();
    let metrics = StoreMetrics::register(&Registry::new()).unwrap();
    let url = world.settings.database_url.as_deref().unwrap();
    let store = store::open(url, metrics).await.unwrap();
    let scopes = [Scope::Tokens];
    let life = Duration::from_secs(2);
    let name = "brief".parse().unwrap();
    assert_eq!(
        store.add_key(&name, &digest, &scopes, Some(life)).await,
        Ok(true)
    );
    let over = over.expose();
    assert_eq!(
        get(&world, "/getTokens", over).await.status(),
        StatusCode::OK
    );
    eventually(GONE_WITHIN, async || {
        get(&world, "/getTokens", over).await.status() == StatusCode::UNAUTHORIZED
    })
    .await;

    let never = format!("oak_{}", "A".repeat(43));
    let mut answers = Vec::new();
    for key in [key.as_str(), over, &never] {
        let answer = get(&world, "/getTokens", key).await;
        assert_eq!(answer.headers()["www-authenticate"], "Bearer");
        answers.push(answer.text().await.unwrap());
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
}

#[tokio::test]
async fn each_use_of_a_route_is_noted_and_so_is_what_is_done_to_keys() {
    let world = World::start().await;
    let key = add(&world, "billing", &["--scope", "tokens"]).await;
    let taken = get(&world, "/getTokens", &key).await;
    let request = taken.headers()["x-request-id"].to_str().unwrap().to_owned();
    get(&world, "/getFollowers?next_openid=oSecret", &key).await;
    world.manage("/getFollowers?next_openid=oNobody").await;
    get(&world, "/getTokens", "nobody").await;
    program(&world, &["keys", "remove", "billing"]).await;
    eventually(Duration::from_secs(10), async || {
        audit(&world, &[]).await.len() >= 5
    })
    .await;

    let entries = audit(&world, &[]).await;
    let mut seen: Vec<_> = entries
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            (text("key"), text("action"), entry["status"].as_u64())
        })
        .collect();
    seen.sort();
    let expected = [
        ("ADMIN_TOKEN", "GET /getFollowers", Some(502)),
        ("billing", "GET /getFollowers", Some(403)),
        ("billing", "GET /getTokens", Some(200)),
        ("billing", "keys add", None),
        ("billing", "keys remove", None),
    ];
    let expected =
        expected.map(|(key, action, status)| (key.to_owned(), action.to_owned(), status));
    assert_eq!(seen, expected);
    let of = |key: &str, action: &str| {
        let mut entries = entries.iter();
        let found = entries.find(|entry| entry["key"] == key && entry["action"] == action);
        found.unwrap().clone()
    };
    assert_eq!(of("billing", "GET /getTokens")["request_id"], request);
    assert_eq!(of("ADMIN_TOKEN", "GET /getFollowers")["errcode"], 40003);
    let everything = serde_json::to_string(&entries).unwrap();
    for secret in [key.as_str(), ADMIN_TOKEN, "nobody", "oSecret", "oNobody"] {
        assert!(!everything.contains(secret), "{secret}");
    }

    assert_eq!(audit(&world, &["--key", "ADMIN_TOKEN"]).await.len(), 1);
    let (_, newest) = program(&world, &["audit", "--key", "billing", "--limit", "2"]).await;
    assert!(
        newest.contains("keys remove") && !newest.contains("keys add"),
        "{newest}"
    );
    assert!(newest.contains("there are more: --limit"), "{newest}");
    assert_eq!(audit(&world, &["--since", "0s"]).await.len(), 0);
    let (code, table) = program(&world, &["audit", "--key", "billing"]).await;
    assert_eq!(code, 0);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains(&request) && table.contains("403"), "{table}");
}

#[tokio::test]
async fn what_is_noted_last_is_written_before_the_process_ends() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("last.db");
    let database_url = format!("sqlite://{}", file.display());
    let mut env = settings(&world.sim, &database_url);
    env.push(("ADMIN_TOKEN", ADMIN_TOKEN));
    let mut server = Binary::start(&["serve"], &env);
    let url = server.url().await;
    // Under way when the end comes, and longer than connections are taken then.
    let slow = json!({"delay_ms": 2_000});
    world.fault("/cgi-bin/user/get", slow, 1).await;
    let request = client().get(format!("{url}/getFollowers"));
    let asking = tokio::spawn(request.bearer_auth(ADMIN_TOKEN).send());
    eventually(Duration::from_secs(10), async || {
        world.calls("/cgi-bin/user/get").await == 1
    })
    .await;
    server.signal("TERM");
    // Another process writes for a while: the entry takes longer than its answer.
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(asking.await.unwrap().unwrap().status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(500)).await;
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(server.ended().await.0, 0);
    let (_, noted) = Binary::run(&["audit"], &env).await;
    assert!(noted.contains("GET /getFollowers"), "{noted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_away_a_key_works_for_seconds_and_its_uses_are_written_later() {
    let server = tokio::task::spawn_blocking(|| Mongod::start(&[]))
        .await
        .unwrap();
    let database_url = format!("mongodb://{}/keys", server.host());
    let setup = Setup::new().settings(|settings| settings.database_url = Some(database_url));
    let world = setup.start().await;
    let key = add(&world, "billing", &["--scope", "tokens"]).await;
    let status = async |key: &str| get(&world, "/getTokens", key).await.status();
    assert_eq!(status(&key).await, StatusCode::OK);
    let unseen = add(&world, "unseen", &["--scope", "tokens"]).await;

    server.signal("STOP");
    assert_eq!(status(&key).await, StatusCode::OK);
    let answer = get(&world, "/getTokens", &unseen).await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    expect_problem(answer, unavailable, "store_unavailable").await;
    eventually(GONE_WITHIN, async || status(&key).await == unavailable).await;
    assert_eq!(status(ADMIN_TOKEN).await, StatusCode::OK);

    server.signal("CONT");
    eventually(GONE_WITHIN, async || status(&key).await == StatusCode::OK).await;
    let noted = async || {
        let entries = audit(&world, &[]).await;
        let of = |key: &str| {
            let uses = entries.iter().filter(|entry| entry["key"] == key);
            uses.filter_map(|entry| entry["status"].as_u64()).count()
        };
        // Those of an unknown key are nobody's.
        (of("billing"), of("ADMIN_TOKEN"), of("unseen"))
    };
    eventually(GONE_WITHIN, async || {
        let (billing, admin, unseen) = noted().await;
        billing >= 3 && admin == 1 && unseen == 0
    })
    .await;
}

#[tokio::test]
async fn the_list_shows_keys_and_never_what_opens() {
    let world = World::start().await;
    let (code, none) = program(&world, &["keys", "list"]).await;
    assert!(code == 0 && none.contains("keys add"), "{none}");
    let billing = add(&world, "billing", &["--scope", "tokens", "--expires", "30"]).await;
    add(
        &world,
        "crm",
        &["--scope", "followers", "--scope", "tickets"],
    )
    .await;
    get(&world, "/getTokens", &billing).await;
    eventually(Duration::from_secs(10), async || {
        let (_, table) = program(&world, &["keys", "list"]).await;
        table.contains(" ago")
    })
    .await;
    let (code, table) = program(&world, &["keys", "list"]).await;
    assert_eq!(code, 0);
    let rows: Vec<Vec<_>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0], ["NAME", "SCOPES", "MADE", "ENDS", "LAST", "USED"]);
    assert_eq!(rows[1][..2], ["billing", "tokens"]);
    assert_eq!(rows[1][4..], ["1m", "ago"]);
    assert!(
        rows[1][2] < rows[1][3],
        "it ends after it was made: {table}"
    );
    assert_eq!(rows[2][..2], ["crm", "tickets,followers"]);
    assert_eq!(rows[2][3..], ["never", "never"]);
    assert!(!table.contains("oak_"), "{table}");
}

#[tokio::test]
async fn a_wrong_command_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let database_url = format!("sqlite://{}/keys.db", folder.path().display());
    let run = |args: &'static [&'static str]| {
        let database_url = database_url.clone();
        async move { run(&database_url, args).await }
    };
    let (code, _) = run(&["keys", "add", "billing", "--scope", "tokens"]).await;
    assert_eq!(code, 0);
    for (args, expected_code, expected) in [
        (
            &["keys", "add", "billing", "--scope", "tickets"][..],
            1,
            "billing is taken",
        ),
        (&["keys", "remove", "crm"], 1, "no key crm"),
        (
            &["keys", "add", "crm", "--scope", "token"],
            2,
            "tokens, tickets and followers",
        ),
        (&["keys", "add", "crm"], 2, "--scope"),
        (
            &["keys", "add", "a b", "--scope", "tokens"],
            2,
            "1 to 64 letters",
        ),
        (
            &["keys", "add", "ADMIN_TOKEN", "--scope", "tokens"],
            2,
            "setting of that name",
        ),
        (
            &["keys", "add", "crm", "--scope", "tokens", "--expires", "0"],
            2,
            "1..=36500",
        ),
        (&["keys"], 2, "remove"),
        (&["audit", "--since", "soon"], 2, "30m"),
    ] {
        let (code, output) = run(args).await;
        assert_eq!(code, expected_code, "{args:?}: {output}");
        assert!(output.contains(expected), "{args:?}: {output}");
    }
    let missing = "sqlite:///nowhere/keys.db";
    for args in [&["keys", "list"][..], &["audit"]] {
        let (code, output) = self::run(missing, args).await;
        assert_eq!(code, 1);
        assert!(
            output.starts_with("offiaccount: DATABASE_URL: "),
            "{output}"
        );
        let (code, output) = Binary::run(args, &[]).await;
        assert_eq!(code, 2);
        assert!(output.contains("WECHAT_APPID: is missing"), "{output}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_key_that_can_not_be_shown_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let database_url = format!("sqlite://{}/keys.db", folder.path().display());
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_offiaccount"))
        .args(["keys", "add", "billing", "--scope", "tokens"])
        .env_clear()
        .envs(settings("http://127.0.0.1:1", &database_url))
        .current_dir(folder.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("removed again"), "{said}");
    let (_, listed) = run(&database_url, &["keys", "list"]).await;
    assert!(!listed.contains("billing"), "{listed}");
}

#[tokio::test]
async fn a_key_is_in_no_log_and_not_in_the_store() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let database_url = format!("sqlite://{}/canary.db", folder.path().display());
    let env = settings(&world.sim, &database_url);
    let mut server = Binary::start(&["serve"], &env);
    let url = server.url().await;
    let args = ["keys", "add", "canary", "--scope", "tokens"];
    let (code, output) = Binary::run(&args, &env).await;
    assert_eq!(code, 0, "{output}");
    let key = output.trim().to_owned();
    // A new one opens at once.
    for (path, status) in [
        ("/getTokens", StatusCode::OK),
        ("/getFollowers", StatusCode::FORBIDDEN),
    ] {
        let request = client().get(format!("{url}{path}")).bearer_auth(&key);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(!format!("{:?}", answer.headers()).contains(&key));
        assert!(!answer.text().await.unwrap().contains(&key));
    }
    let (_, listed) = Binary::run(&["keys", "list"], &env).await;
    assert!(listed.contains("canary"), "{listed}");
    server.signal("TERM");
    assert_eq!(server.ended().await.0, 0);
    let (_, noted) = Binary::run(&["audit"], &env).await;
    assert!(noted.contains("GET /getFollowers"), "{noted}");

    let log = server.output();
    assert!(log.contains("\"level\":\"DEBUG\""), "the log is talkative");
    let (_, random) = key.split_once('_').unwrap();
    for text in [&log, &listed, &noted] {
        assert!(!text.contains(random));
    }
    let files = files_of(folder.path());
    assert!(
        files.iter().any(|bytes| holds(bytes, b"canary")),
        "looked at"
    );
    for bytes in files {
        assert!(!holds(&bytes, random.as_bytes()));
    }
}

fn files_of(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
