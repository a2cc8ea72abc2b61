//! The command line: what it asks for, what it says, and how it ends.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use offiaccount::config::Settings;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::helpers::*;
use crate::wire::Binary;

const APPSECRET: &str = "00000000000000000000000000000000";

/// The settings of a backend of this platform.
fn settings(sim: &str) -> Vec<(&'static str, &str)> {
    vec![
        ("WECHAT_APPID", APPID),
        ("WECHAT_APPSECRET", APPSECRET),
        ("WECHAT_TOKEN", TOKEN),
        ("WECHAT_API_URL", sim),
    ]
}

fn folder_with(dotenv: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), dotenv).unwrap();
    folder
}

async fn run_in(folder: tempfile::TempDir, args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let mut binary = Binary::start_in(folder, args, env);
    let (code, _) = binary.ended().await;
    (code, binary.output())
}

// Settings.

#[tokio::test]
async fn all_missing_settings_are_named_in_one_message_with_exit_code_2() {
    for command in [&[][..], &["serve"], &["check"]] {
        let (code, output) = Binary::run(command, &[]).await;
        assert_eq!(code, 2, "{output}");
        assert!(
            output.starts_with("offiaccount: 3 setting(s) to mend"),
            "{output}"
        );
        for name in ["WECHAT_APPID", "WECHAT_APPSECRET", "WECHAT_TOKEN"] {
            assert_eq!(
                output.matches(&format!("  - {name}: is missing")).count(),
                1,
                "{output}"
            );
        }
        assert!(
            output.contains("基本配置"),
            "where they are found: {output}"
        );
    }
}

#[tokio::test]
async fn all_malformed_settings_are_named_in_one_message_without_their_values() {
    let aes_key = format!("canary{}", "a".repeat(36));
    let malformed = [
        ("WECHAT_APPID", "wx canary"),
        ("WECHAT_APPSECRET", "canary canary"),
        ("WECHAT_TOKEN", "canary-token"),
        ("WECHAT_TOKEN_PREVIOUS", "ca"),
        ("WECHAT_ENCODING_AES_KEY", &aes_key),
        ("WECHAT_ENCODING_AES_KEY_PREVIOUS", "canary"),
        ("TOKEN_MODE", "canary"),
        ("PUBLIC_URL", "wx.canary.example"),
        ("LISTEN", "canary:http"),
        ("DATABASE_URL", "mysql://canary@localhost/"),
        ("STORE_KEY", "canary"),
        ("STORE_KEY_PREVIOUS", "canary"),
        ("ADMIN_TOKEN", "canary canary"),
        ("WECHAT_API_URL", "api.canary.example"),
        ("WECHAT_OPEN_URL", "ftp://canary.example"),
        ("WECHAT_JSSDK_URL", "canary.js"),
        ("LOG_FORMAT", "canary"),
        ("FORWARD_URL", "canary.example/bot"),
        ("FORWARD_SECRET", "whsec_canary!"),
    ];
    let (code, output) = Binary::run(&["serve"], &malformed).await;
    assert_eq!(code, 2, "{output}");
    for (name, _) in malformed {
        assert_eq!(
            output.matches(&format!("  - {name}: ")).count(),
            1,
            "{name}: {output}"
        );
    }
    assert!(
        output.starts_with(&format!("offiaccount: {} setting(s)", malformed.len())),
        "{output}"
    );
    assert!(!output.contains("canary"), "{output}");
}

#[tokio::test]
async fn settings_that_only_fail_together_are_refused_too() {
    let sim = World::start().await.sim.clone();
    for (name, value, expected) in [
        ("DATABASE_URL", "mongodb://127.0.0.1:1/a", "STORE_KEY"),
        (
            "WECHAT_ENCODING_AES_KEY_PREVIOUS",
            AES_KEY,
            "WECHAT_ENCODING_AES_KEY",
        ),
        ("STATIC_DIR", "/no/such/folder", "STATIC_DIR"),
        ("JSSDK_DOMAINS", "https://a.example", "JSSDK_DOMAINS"),
        ("JSSDK_DOMAINS", "a.example,b.example?c", "JSSDK_DOMAINS"),
        ("JSSDK_DOMAINS", "a.example:3000", "JSSDK_DOMAINS"),
        ("PUBLIC_URL", "https://:a@b.example", "PUBLIC_URL"),
        ("PUBLIC_URL", "https://b.example/path", "PUBLIC_URL"),
        ("WECHAT_TOKEN", "", "WECHAT_TOKEN: is missing"),
        ("WECHAT_APPSECRET", "  ", "WECHAT_APPSECRET: is missing"),
    ] {
        let mut env = settings(&sim);
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
        let (code, output) = Binary::run(&["serve"], &env).await;
        assert_eq!(code, 2, "{name}: {output}");
        assert!(output.contains(expected), "{name}: {output}");
    }
}

#[tokio::test]
async fn help_lists_every_setting_and_shows_no_value_of_the_environment() {
    let env: Vec<_> = Settings::NAMES
        .iter()
        .map(|name| (*name, "canary"))
        .collect();
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["check", "--help"],
        &["forward", "list", "--help"],
        &["forward", "replay", "--help"],
    ] {
        let (code, output) = Binary::run(args, &env).await;
        assert_eq!(code, 0, "{output}");
        // Wherever the lines are broken.
        let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
        for name in Settings::NAMES {
            let flag = format!("--{} ", name.to_lowercase().replace('_', "-"));
            assert!(
                output.contains(&format!("[env: {name}]")),
                "{args:?} {name}: {output}"
            );
            assert!(output.contains(&flag), "{args:?} {flag}: {output}");
        }
        assert!(!output.contains("canary"), "{output}");
    }
    for args in [
        &["demo", "--help"][..],
        &["simulate", "--help"],
        &["help"],
        &["-h"],
    ] {
        let (code, output) = Binary::run(args, &env).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("Usage: offiaccount"), "{output}");
        assert!(!output.contains("canary"), "{args:?} {output}");
    }
    let (_, simulate) = Binary::run(&["simulate", "--help"], &[]).await;
    for flag in [
        "--listen",
        "--callback",
        "--appid",
        "--appsecret",
        "--token",
        "--encoding-aes-key",
        "--mode",
        "--seed",
        "--limits",
    ] {
        assert!(simulate.contains(flag), "{flag}: {simulate}");
    }
}

#[tokio::test]
async fn what_the_command_line_does_not_know_is_exit_code_2() {
    for args in [
        &["--novel"][..],
        &["novel"],
        &["serve", "--wechat-tokn", "x"],
        &["--wechat-token", "abc", "serve"],
    ] {
        let (code, output) = Binary::run(args, &[]).await;
        assert_eq!(code, 2, "{args:?} {output}");
        assert!(output.contains("error:"), "{output}");
    }
    let (code, output) = Binary::run(&["--version"], &[]).await;
    assert_eq!(
        (code, &*output),
        (0, concat!("offiaccount ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[tokio::test]
async fn flags_are_settings_and_win_over_the_environment() {
    let world = World::start().await;
    let flags = [
        "check",
        "--wechat-appid",
        APPID,
        "--wechat-appsecret",
        APPSECRET,
        "--wechat-token",
        TOKEN,
        "--wechat-api-url",
        &world.sim,
    ];
    let (code, output) = Binary::run(&flags, &[]).await;
    assert_eq!(code, 0, "{output}");
    let wrong = [
        ("WECHAT_APPSECRET", "wrong"),
        ("WECHAT_TOKEN", "-"),
        ("WECHAT_API_URL", "-"),
    ];
    let (code, output) = Binary::run(&flags, &wrong).await;
    assert_eq!(code, 0, "{output}");
    // Without a subcommand they are those of `serve`.
    let mut binary = Binary::start(
        &["--listen", "127.0.0.1:0", "--log-format", "json"],
        &settings(&world.sim),
    );
    let url = binary.url().await;
    let health = world.http.get(format!("{url}/healthz"));
    assert_eq!(world.send(health).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_dotenv_file_is_read_and_the_environment_wins() {
    let world = World::start().await;
    let dotenv = format!(
        "# comment\nWECHAT_APPID={APPID}\nWECHAT_APPSECRET=\"{APPSECRET}\"\nexport WECHAT_TOKEN={TOKEN}\n\
         WECHAT_API_URL={}\nTHINKING_TEXT='想一想 …'\nADMIN_TOKEN=\n",
        world.sim
    );
    let (code, output) = run_in(folder_with(&dotenv), &["check"], &[]).await;
    assert_eq!(code, 0, "{output}");
    let wins = [("WECHAT_APPSECRET", "11111111111111111111111111111111")];
    let (code, output) = run_in(folder_with(&dotenv), &["check"], &wins).await;
    assert_eq!(code, 1, "{output}");
}

#[tokio::test]
async fn a_dotenv_file_that_can_not_be_read_is_named_without_its_content() {
    for malformed in [
        "WECHAT_APPSECRET=canary secret with blanks\n",
        "canary\n",
        "WECHAT_TOKEN=\"canary\n",
        "WECHAT_APPID=wx\n\n1canary=2\n",
    ] {
        for command in [&["serve"][..], &["check"], &[]] {
            let (code, output) = run_in(folder_with(malformed), command, &[]).await;
            assert_eq!(code, 2, "{malformed}: {output}");
            assert!(output.contains(".env"), "{output}");
            assert!(!output.contains("canary"), "{output}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".env")).unwrap();
    let (code, output) = run_in(folder, &["serve"], &[]).await;
    assert_eq!(code, 2, "{output}");
    assert!(output.contains(".env"), "{output}");
}

// check.

#[tokio::test]
async fn check_says_ok_to_what_works() {
    let world = World::start().await;
    let (code, output) = Binary::run(&["check"], &settings(&world.sim)).await;
    assert_eq!(code, 0, "{output}");
    for subject in [
        "settings",
        "store",
        "access_token",
        "callback IPs",
        "jsapi_ticket",
    ] {
        let line = output
            .lines()
            .find(|line| line.starts_with("ok") && line.contains(subject));
        assert!(line.is_some(), "{subject}: {output}");
    }
    assert!(!output.contains("FAIL"), "{output}");
    assert!(
        !output.contains(APPSECRET) && !output.contains(TOKEN),
        "{output}"
    );
}

#[tokio::test]
async fn check_names_the_cure_of_what_fails_and_ends_with_1() {
    let world = World::start().await;
    let no_store = ("DATABASE_URL", "sqlite:///no/such/folder/a.db");
    let nobody = ("WECHAT_API_URL", "http://127.0.0.1:1");
    let other_app = ("WECHAT_APPID", "wx0000000000000two");
    let other_secret = ("WECHAT_APPSECRET", "11111111111111111111111111111111");
    for (wrong, subject, cure) in [
        (other_secret, "access_token", "WECHAT_APPSECRET"),
        (other_app, "access_token", "WECHAT_APPID"),
        (no_store, "store", "DATABASE_URL"),
        (nobody, "access_token", "refused"),
    ] {
        let mut env = settings(&world.sim);
        env.retain(|(name, _)| *name != wrong.0);
        env.push(wrong);
        let (code, output) = Binary::run(&["check"], &env).await;
        assert_eq!(code, 1, "{wrong:?}: {output}");
        let line = output
            .lines()
            .find(|line| line.starts_with("FAIL") && line.contains(subject));
        assert!(
            line.is_some_and(|line| line.contains(cure)),
            "{wrong:?}: {output}"
        );
        assert!(
            !output.contains(APPSECRET) && !output.contains(other_secret.1),
            "{output}"
        );
    }
    world
        .fault("/cgi-bin/stable_token", json!({"errcode": 40164}), 1)
        .await;
    let (code, output) = Binary::run(&["check"], &settings(&world.sim)).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("白名单"),
        "the console's name of it: {output}"
    );
}

#[tokio::test]
async fn check_asks_the_platform_about_the_secret_even_while_a_stored_token_is_good() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}/a.db", folder.path().display());
    let mut env = settings(&world.sim);
    env.push(("DATABASE_URL", &database));
    let (code, output) = Binary::run(&["check"], &env).await;
    assert_eq!(code, 0, "{output}");
    env.retain(|(name, _)| *name != "WECHAT_APPSECRET");
    env.push(("WECHAT_APPSECRET", "11111111111111111111111111111111"));
    let (code, output) = Binary::run(&["check"], &env).await;
    assert_eq!(code, 1, "{output}");
    let line = output.lines().find(|line| line.starts_with("FAIL"));
    assert!(
        line.is_some_and(|line| line.contains("access_token") && line.contains("WECHAT_APPSECRET")),
        "{output}"
    );
}

#[tokio::test]
async fn serve_names_the_missing_folder_of_the_database() {
    let mut env = settings("http://127.0.0.1:1");
    env.push(("DATABASE_URL", "sqlite:///no/such/folder/a.db"));
    env.push(("LISTEN", "127.0.0.1:0"));
    let (code, output) = Binary::run(&["serve"], &env).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains("DATABASE_URL") && output.contains("`/no/such/folder`"),
        "{output}"
    );
}

#[tokio::test]
async fn check_warns_of_what_is_legal_and_risky() {
    let world = World::start().await;
    let mut env = settings(&world.sim);
    env.retain(|(name, _)| *name != "WECHAT_TOKEN");
    env.push(("WECHAT_TOKEN", "abc"));
    let (code, output) = Binary::run(&["check"], &env).await;
    assert_eq!(code, 0, "{output}");
    let warned = |what: &str| {
        output
            .lines()
            .any(|line| line.starts_with("warn") && line.contains(what))
    };
    assert!(warned("WECHAT_TOKEN is under 8"), "{output}");
}

// rules.

/// A folder with this file of rules.
fn folder_with_rules(rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("replies.toml"), rules).unwrap();
    folder
}

const BROKEN: &str =
    "[[rule]]\nkeywrd = \"a\"\ntext = \"{{nme}}\"\n\n[[rule]]\n  event = \"click\"\n";

/// The faults of [`BROKEN`].
const FAULTS: [&str; 4] = [
    "replies.toml:2:1: unknown key `keywrd`; did you mean `keyword`?",
    "replies.toml:3:9: there is no `{{nme}}`",
    "replies.toml:5:1: the rule says nothing; give it `text`",
    "replies.toml:6:11: WeChat writes it `CLICK`",
];

#[tokio::test]
async fn rules_check_says_what_a_sound_file_has() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/replies.toml");
    let (code, output) = Binary::run(&["rules", "check", fixture], &[]).await;
    assert_eq!(code, 0, "{output}");
    assert_eq!(
        output,
        format!("{fixture}: 22 rules, 4 media files, no fault\n")
    );
    let doubtful = "[[rule]]\ntext = \"a\"\n[[rule]]\nkeyword = \"a\"\ntext = \"b\"\n";
    let args = ["rules", "check", "replies.toml"];
    let (code, output) = run_in(folder_with_rules(doubtful), &args, &[]).await;
    assert_eq!(code, 0, "{output}");
    assert!(
        output.starts_with("warning: replies.toml:3:1: rule 2 never answers: rule 1, line 1,"),
        "{output}"
    );
}

#[tokio::test]
async fn rules_check_names_all_faults_with_line_and_column() {
    let env = [("REPLIES", "replies.toml")];
    let by_argument = ["rules", "check", "replies.toml"];
    for (args, env) in [(&by_argument[..], &[][..]), (&["rules", "check"], &env)] {
        let (code, output) = run_in(folder_with_rules(BROKEN), args, env).await;
        assert_eq!(code, 1, "{output}");
        let lines: Vec<_> = output.lines().collect();
        assert_eq!(lines.len(), FAULTS.len(), "{output}");
        for (line, fault) in lines.iter().zip(FAULTS) {
            assert!(line.starts_with(fault), "{line} is not {fault}");
        }
    }
    let (code, output) = Binary::run(&["rules", "check", "none.toml"], &[]).await;
    assert_eq!(code, 1, "{output}");
    assert!(output.starts_with("none.toml: can't be read: "), "{output}");
    for none in [&[][..], &[("REPLIES", "")]] {
        let (code, output) = Binary::run(&["rules", "check"], none).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains("REPLIES"), "{output}");
    }
}

#[tokio::test]
async fn rules_try_says_which_rule_answers_and_why() {
    let rules = "[[rule]]\nname = \"night\"\ntime = \"22:00-06:00\"\nthen = \"next\"\ntext = \"late\"\n\
                 [[rule]]\nregex = '^no (\\d+)$'\ntext = \"{{1}} for {{openid}}\"\n\
                 [[rule]]\nkey = \"MENU\"\nnews = [{ title = \"t\", url = \"https://a.example/{{EventKey}}\" }]\n\
                 [[rule]]\nscene = 7\nevent = \"subscribe\"\ntext = \"hi\"\n";
    let env = [("REPLIES", "replies.toml")];
    for (args, expected) in [
        (
            &["no 42", "--at", "2026-11-20 23:00", "--from", "oMe"][..],
            &[
                "fits replies.toml:1 rule 1 `night`: Fri 2026-11-20 23:00 +08:00 is in 22:00-06:00",
                "     then = \"next\": later rules are tried",
                "fits replies.toml:6 rule 2: regex `^no (\\d+)$` with {{0}} = `no 42`, {{1}} = `42`",
                "say  rule 1 `night`: text",
                "     | late",
                "say  rule 2: text",
                "     | 42 for oMe",
            ][..],
        ),
        (
            &[
                "--event",
                "CLICK",
                "--key",
                "MENU",
                "--at",
                "2026-11-20 12:00",
            ],
            &[
                "no   replies.toml:1 rule 1 `night`: it is an event, and the rule names no event, key or scene",
                "no   replies.toml:6 rule 2: it is no text",
                "fits replies.toml:9 rule 3: key `MENU`",
                "say  rule 3: news",
                "     | title: t",
                "     | url: https://a.example/MENU",
            ],
        ),
        (
            &["--event", "subscribe", "--scene", "7"],
            &[
                "fits replies.toml:12 rule 4: event `subscribe`; scene `7`",
                "     | hi",
            ],
        ),
        (
            &["--type", "image", "--at", "2026-11-20T12:00:00Z"],
            &["say  nothing by rules: FORWARD_URL answers or, without one, the fallback"],
        ),
    ] {
        let args: Vec<_> = ["rules", "try"].iter().chain(args).copied().collect();
        let (code, output) = run_in(folder_with_rules(rules), &args, &env).await;
        assert_eq!(code, 0, "{output}");
        for line in expected {
            assert!(
                output.lines().any(|said| said == *line),
                "{args:?}: no {line} in\n{output}"
            );
        }
    }
    for (args, why) in [
        (&["rules", "try"][..], "give it a text"),
        (&["rules", "try", "a", "--at", "noon"], "2026-11-20 09:30"),
    ] {
        let (code, output) = run_in(folder_with_rules(rules), args, &env).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains(why), "{output}");
    }
    let args = ["rules", "try", "a", "--replies", "replies.toml"];
    let (code, output) = run_in(folder_with_rules(BROKEN), &args, &[]).await;
    assert_eq!(
        (code, output.lines().count()),
        (1, FAULTS.len()),
        "{output}"
    );
}

#[tokio::test]
async fn serve_does_not_start_with_rules_that_are_missing_or_broken() {
    let mut env = settings("http://127.0.0.1:1");
    env.push(("REPLIES", "replies.toml"));
    for command in ["serve", "check"] {
        let (code, output) = run_in(folder_with_rules(BROKEN), &[command], &env).await;
        assert_eq!(code, 2, "{output}");
        for fault in FAULTS {
            assert!(
                output.contains(&format!("  - REPLIES: {fault}")),
                "{fault}: {output}"
            );
        }
    }
    let (code, output) = Binary::run(&["serve"], &env).await;
    assert_eq!(code, 2, "{output}");
    assert!(
        output.contains("REPLIES: replies.toml: can't be read"),
        "{output}"
    );
}

#[tokio::test]
async fn check_looks_at_the_rules_too() {
    let world = World::start().await;
    let doubtful = "[[rule]]\ntext = \"a\"\n[[rule]]\nkeyword = \"a\"\ntext = \"b\"\n";
    let mut env = settings(&world.sim);
    env.push(("REPLIES", "replies.toml"));
    let (code, output) = run_in(folder_with_rules(doubtful), &["check"], &env).await;
    assert_eq!(code, 0, "{output}");
    for line in [
        "ok    rules         2 rules, 0 media files",
        "warn  rules         replies.toml:3:1",
    ] {
        assert!(output.contains(line), "{output}");
    }
}

#[tokio::test]
async fn serve_tells_the_faults_of_changed_rules_once_and_ends_at_once() {
    let world = World::start().await;
    let mut env = settings(&world.sim);
    env.extend([("REPLIES", "replies.toml"), ("LISTEN", "127.0.0.1:0")]);
    let folder = folder_with_rules("[[rule]]\nkeyword = \"a\"\ntext = \"b\"\n");
    let mut binary = Binary::start_in(folder, &["serve", "--log-format", "json"], &env);
    binary.url().await;
    std::fs::write(binary.folder().join("replies.toml"), BROKEN).unwrap();
    binary.says("(the last good ones stay in service)").await;
    // Long enough for several more looks.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let output = binary.output();
    for fault in FAULTS {
        assert_eq!(output.matches(fault).count(), 1, "{fault}: {output}");
    }
    binary.signal("TERM");
    let (code, took) = binary.ended().await;
    assert_eq!(code, 0, "{}", binary.output());
    assert!(took < Duration::from_secs(3), "{took:?}");
}

// demo and simulate.

/// The two addresses that `demo` prints.
async fn demo_urls(binary: &mut Binary) -> [String; 2] {
    let page = binary.says(r"demo page +(http://127\.0\.0\.1:\d+)/").await;
    let simulator = binary.says(r"simulator +(http://127\.0\.0\.1:\d+)/").await;
    [page, simulator]
}

#[tokio::test]
async fn demo_needs_nothing_and_answers_at_two_addresses_at_once() {
    let began = Instant::now();
    // Not even a .env that can be read.
    let folder = folder_with("WECHAT_APPSECRET=two words\n");
    let ports = ["demo", "--port", "0", "--simulator-port", "0"];
    let mut binary = Binary::start_in(folder, &ports, &[("WECHAT_TOKEN", "-")]);
    let [page, simulator] = demo_urls(&mut binary).await;
    let http = client();
    for url in [&page, &simulator] {
        let response = http.get(format!("{url}/")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{url}");
        assert!(response.text().await.unwrap().contains("<html"), "{url}");
    }
    // A release build takes a tenth of it.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");

    let fans: Value = http
        .get(format!("{simulator}/_sim/fans"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let message = json!({"openid": fans[0]["openid"], "MsgType": "text", "Content": "demo"});
    let said = http
        .post(format!("{simulator}/_sim/send"))
        .json(&message)
        .send()
        .await
        .unwrap();
    let said: Value = said.json().await.unwrap();
    assert_eq!(said["shown_to_user"], "Hello demo");

    binary.signal("INT");
    let (code, _) = binary.ended().await;
    assert_eq!(code, 0, "{}", binary.output());
    let left: Vec<_> = std::fs::read_dir(binary.folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".env"], "its folder is gone");
}

#[tokio::test]
async fn demo_takes_other_ports_where_its_own_are_taken() {
    let taken = [
        TcpListener::bind("127.0.0.1:0").unwrap(),
        TcpListener::bind("127.0.0.1:0").unwrap(),
    ];
    let [port, simulator_port] = taken
        .each_ref()
        .map(|listener| listener.local_addr().unwrap().port().to_string());
    let ports = ["demo", "--port", &port, "--simulator-port", &simulator_port];
    let mut binary = Binary::start(&ports, &[]);
    for url in demo_urls(&mut binary).await {
        assert!(
            !url.ends_with(&format!(":{port}")) && !url.ends_with(&format!(":{simulator_port}")),
            "{url}"
        );
        assert_eq!(
            client()
                .get(format!("{url}/"))
                .send()
                .await
                .unwrap()
                .status(),
            StatusCode::OK
        );
    }
}

#[tokio::test]
async fn serve_says_which_address_is_taken_and_ends_with_1() {
    let world = World::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut env = settings(&world.sim);
    env.push(("LISTEN", &address));
    let (code, output) = Binary::run(&["serve"], &env).await;
    assert_eq!(code, 1, "{output}");
    assert!(
        output.contains(&format!("can't listen on {address}")),
        "{output}"
    );
}

#[tokio::test]
async fn to_the_simulator_too_an_empty_setting_counts_as_none() {
    let folder = folder_with(include_str!("../../.env.example"));
    let args = ["simulate", "--listen", "127.0.0.1:0"];
    let mut binary = Binary::start_in(folder, &args, &[("WECHAT_ENCODING_AES_KEY", "")]);
    let url = binary.says(r"simulator +(http://127\.0\.0\.1:\d+)").await;
    let account = client().get(format!("{url}/_sim/account")).send().await;
    let account: Value = account.unwrap().json().await.unwrap();
    assert_eq!(account["appid"], "wx0000000000000sim");
    assert_eq!(account["token"], "simtoken2026");
    assert_eq!(account["mode"], "plain");
}

#[tokio::test]
async fn the_simulator_runs_alone_as_its_flags_and_the_environment_say() {
    let env = [
        ("WECHAT_APPID", "wx0123456789abcdef"),
        ("WECHAT_ENCODING_AES_KEY", AES_KEY),
        ("LISTEN", "127.0.0.1:0"),
    ];
    let args = [
        "simulate",
        "--token",
        "another1",
        "--callback",
        "http://127.0.0.1:9/wechat",
        "--limits",
        "relaxed",
        "--mode",
        "compatible",
    ];
    let mut binary = Binary::start(&args, &env);
    let url = binary.says(r"simulator +(http://127\.0\.0\.1:\d+)").await;
    let account: Value = client()
        .get(format!("{url}/_sim/account"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for (name, value) in [
        ("appid", "wx0123456789abcdef"),
        ("encoding_aes_key", AES_KEY),
        ("token", "another1"),
        ("callback_url", "http://127.0.0.1:9/wechat"),
        ("mode", "compatible"),
        ("limits", "relaxed"),
        ("kind", "service"),
    ] {
        assert_eq!(account[name], value, "{account}");
    }
    binary.signal("TERM");
    assert_eq!(binary.ended().await.0, 0);
    let (code, output) = Binary::run(
        &["simulate", "--listen", "127.0.0.1:0", "--mode", "safe"],
        &[],
    )
    .await;
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("encoding_aes_key"), "{output}");
}
