//! What an operator takes from `templates/deploy`: it names what exists, and does what it says.

mod metrics;
mod proxies;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use offiaccount::Config;
use offiaccount::config::Settings;
use poem::http::StatusCode;
use serde_json::Value;

use crate::forward::downstream::Downstream;
use crate::helpers::*;

fn path(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/templates/deploy");
    Path::new(folder).join(name)
}

/// A file of `templates/deploy`.
fn file(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// A file of YAML, its merges done.
fn yaml(name: &str) -> Value {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&file(name)).unwrap();
    value.apply_merge().unwrap();
    serde_json::to_value(value).unwrap()
}

/// All first groups that a pattern matches in a text.
fn found(pattern: &str, text: &str) -> Vec<String> {
    let pattern = regex::Regex::new(pattern).unwrap();
    let found = pattern.captures_iter(text);
    found.map(|found| found[1].to_owned()).collect()
}

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_array().unwrap().iter();
    list.map(|each| each.as_str().unwrap()).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The instruction of the Dockerfile, its lines joined.
fn instruction(name: &str) -> String {
    let joined = file("Dockerfile").replace("\\\n", " ");
    let mut lines = joined
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = lines.next().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(lines.next(), None, "{name} once");
    line.trim().to_owned()
}

/// `NAME=value` of a unit or a Dockerfile.
fn assignments(text: &str) -> Vec<(String, String)> {
    let pattern = regex::Regex::new(r"\b([A-Z][A-Z_]+)=(\S+)").unwrap();
    let found = pattern.captures_iter(text);
    found.map(|f| (f[1].to_owned(), f[2].to_owned())).collect()
}

/// The values of a unit's key.
fn unit(key: &str) -> Vec<String> {
    found(&format!("(?m)^{key}=(.*)$"), &file("offiaccount.service"))
}

// Settings and addresses.

#[test]
fn every_setting_that_is_named_exists() {
    let compose = yaml("compose.yaml");
    let mut named: Vec<String> = keys(&compose["services"]["backend1"]["environment"])
        .into_iter()
        .map(str::to_owned)
        .collect();
    for (name, _) in assignments(&unit("Environment").join("\n")) {
        named.push(name);
    }
    for (name, _) in assignments(&instruction("ENV")) {
        named.push(name);
    }
    assert!(named.len() > 8, "{named:?}");
    // What else is written so: compose's own, and the log's.
    let own = [
        "MONGO_ADMIN_PASSWORD",
        "MONGO_PASSWORD",
        "MONGO_MEMBERS",
        "RUST_LOG",
    ];
    let mut in_text = vec![];
    for readme in ["README.md", "README.zh-CN.md"] {
        in_text.extend(found(r"\b([A-Z]{3,}(?:_[A-Z]+)+)\b", &file(readme)));
    }
    assert!(in_text.iter().any(|name| name == "STORE_KEY_PREVIOUS"));
    in_text.retain(|name| !own.contains(&name.as_str()));
    for name in named.iter().chain(&in_text) {
        let exists = Settings::NAMES.contains(&name.as_str());
        assert!(exists, "no setting {name}");
    }
}

#[test]
fn every_file_speaks_of_the_same_port() {
    let port = instruction("EXPOSE");
    let compose = yaml("compose.yaml");
    let services = &compose["services"];
    let listens = [
        assignments(&instruction("ENV")),
        assignments(&unit("Environment").join("\n")),
    ];
    let mut addresses: Vec<String> = listens
        .into_iter()
        .flatten()
        .filter(|(name, _)| name == "LISTEN")
        .map(|(_, address)| address)
        .collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    let environment = &services["backend1"]["environment"];
    addresses.push(environment["LISTEN"].as_str().unwrap().to_owned());
    let backends = services["caddy"]["environment"]["BACKENDS"].as_str();
    let backends: Vec<&str> = backends.unwrap().split(' ').collect();
    let instances: Vec<String> = keys(services)
        .into_iter()
        .filter(|name| name.starts_with("backend"))
        .map(|name| format!("{name}:{port}"))
        .collect();
    assert_eq!(backends, instances, "each instance gets its share");
    addresses.extend(found(r"(?m)^    server ([0-9.]+:\d+)", &file("nginx.conf")));
    addresses.extend(found(r"([0-9.]+:\d+)", &file("Caddyfile")));
    assert!(addresses.len() > 6, "{addresses:?}");
    for address in addresses {
        assert!(address.ends_with(&format!(":{port}")), "{address}");
    }
}

#[tokio::test]
async fn paths_that_proxies_speak_of_are_routes() {
    let world = World::start().await;
    let text = file("nginx.conf") + &file("Caddyfile");
    let paths: BTreeSet<String> = found(r"[ =](/(?:healthz|readyz|metrics|[a-z]+z)\b)", &text)
        .into_iter()
        .collect();
    assert_eq!(paths.len(), 3, "{paths:?}");
    for path in paths {
        expect_status(world.get(&path).await, StatusCode::OK).await;
    }
}

// compose.yaml.

#[test]
fn compose_names_only_what_it_has() {
    let compose = yaml("compose.yaml");
    let services = keys(&compose["services"]);
    for (name, service) in compose["services"].as_object().unwrap() {
        if let Some(after) = service.get("depends_on") {
            assert!(keys(after).is_subset(&services), "{name}: {after}");
        }
        for (own, all) in [("networks", "networks"), ("secrets", "secrets")] {
            if let Some(used) = service.get(own) {
                let used: BTreeSet<&str> = texts(used).into_iter().collect();
                assert!(used.is_subset(&keys(&compose[all])), "{name}: {used:?}");
            }
        }
        for mount in service.get("volumes").map(texts).unwrap_or_default() {
            let source = mount.split(':').next().unwrap();
            // What the operator brings is in the first comment; all else is here.
            let is_there = match source.strip_prefix("./") {
                Some(file) => path(file).exists() || is_brought(&format!("{file}/")),
                None => keys(&compose["volumes"]).contains(source),
            };
            assert!(is_there, "{name}: {mount}");
        }
    }
    assert!(is_brought("offiaccount.env") && is_brought("mongo.key"));
    let variables = found(r"\$\{([A-Z_]+)", &file("compose.yaml"));
    for variable in variables {
        for readme in ["README.md", "README.zh-CN.md"] {
            assert!(file(readme).contains(&variable), "{readme}: {variable}");
        }
    }
}

/// Whether the first comment of `compose.yaml` asks for it.
fn is_brought(file: &str) -> bool {
    let text = self::file("compose.yaml");
    let comment = text.lines().take_while(|line| line.starts_with('#'));
    comment
        .into_iter()
        .any(|line| line.split_whitespace().nth(1) == Some(file))
}

#[test]
fn the_members_of_the_replica_set_agree() {
    let compose = yaml("compose.yaml");
    let services = &compose["services"];
    let init = &services["mongo-init"];
    let members: Vec<String> = keys(services)
        .into_iter()
        .filter(|name| name.starts_with("mongo") && *name != "mongo-init")
        .map(|name| format!("{name}:27017"))
        .collect();
    assert_eq!(members.len(), 3);
    let members = members.join(",");
    assert_eq!(init["environment"]["MONGO_MEMBERS"], members);
    let url = services["backend1"]["environment"]["DATABASE_URL"].as_str();
    let url = url.unwrap();
    assert!(url.contains(&format!("@{members}/")), "{url}");

    let script = file("mongo-init.js");
    let set = &found(r"SET = '(\w+)'", &script)[0];
    assert!(url.ends_with(&format!("replicaSet={set}")), "{url}");
    let command = services["mongo1"]["entrypoint"].to_string();
    assert!(command.contains(&format!("--replSet {set} ")), "{command}");
    // The script reads what it is given, and makes the user that the instances come as.
    let read = found(r"const \{ (.*) \} = process.env", &script);
    let read: BTreeSet<&str> = read[0].split(", ").collect();
    assert_eq!(read, keys(&init["environment"]));
    let user = &found(r"mongodb://(\w+):", url)[0];
    let database = &found(r"/(\w+)\?", url)[0];
    let made = format!("getSiblingDB('{database}'), '{user}', MONGO_PASSWORD");
    assert!(script.contains(&made), "{made}");
}

#[test]
fn the_backend_takes_the_settings_that_compose_gives() {
    let compose = yaml("compose.yaml");
    let environment = &compose["services"]["backend1"]["environment"];
    let variable = regex::Regex::new(r"\$\{[A-Z_]+:\?[^}]*\}").unwrap();
    let value = |name: &str| {
        let value = environment[name].as_str().unwrap();
        Some(variable.replace_all(value, "wx.example.com").into_owned())
    };
    let settings = Settings {
        wechat_appid: Some(APPID.into()),
        wechat_appsecret: Some("0".repeat(32)),
        wechat_token: Some(TOKEN.into()),
        store_key: Some("42".repeat(32)),
        listen: value("LISTEN"),
        database_url: value("DATABASE_URL"),
        public_url: value("PUBLIC_URL"),
        ..Settings::default()
    };
    let config = Config::from_settings(&settings).unwrap();
    let public_url = config.site.public_url(config.site.listen);
    assert_eq!(public_url.origin(), "https://wx.example.com");
    // The variables of the proxy are those that its file has.
    let read = found(r"\{\$([A-Z]+):", &file("Caddyfile"));
    let read: BTreeSet<&str> = read.iter().map(String::as_str).collect();
    let given = &compose["services"]["caddy"]["environment"];
    assert_eq!(read, keys(given));
}

// The end of a process.

#[test]
fn nobody_cuts_a_draining_instance_short() {
    let drain_s = 4.5;
    let compose = yaml("compose.yaml");
    let grace = compose["services"]["backend1"]["stop_grace_period"].as_str();
    let grace: f64 = grace.unwrap().trim_end_matches('s').parse().unwrap();
    let stop: f64 = unit("TimeoutStopSec")[0].parse().unwrap();
    assert!(grace > drain_s && stop > drain_s, "{grace} {stop}");
    assert_eq!(unit("KillSignal"), ["SIGTERM"]);
    assert_eq!(unit("Restart"), ["always"]);
}

#[tokio::test]
async fn settings_to_mend_end_with_the_status_that_systemd_does_not_restart_at() {
    let (code, _) = crate::wire::Binary::run(&["serve"], &[]).await;
    assert_eq!(unit("RestartPreventExitStatus"), [code.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_check_of_the_image_tells_a_backend_from_one_that_drains() {
    let check = instruction("HEALTHCHECK");
    let (_, command) = check.split_once("CMD ").unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    let is_healthy = |address: &str| {
        let status = Command::new(&command[0])
            .args(&command[1..])
            .env("LISTEN", address)
            .stderr(std::process::Stdio::null())
            .status();
        status.unwrap().success()
    };
    let world = World::start().await;
    let here = world.app.addr.to_string();
    assert!(is_healthy(&here));
    let draining = Downstream::start(async |_| StatusCode::SERVICE_UNAVAILABLE.into()).await;
    let address = draining.address();
    assert!(!is_healthy(&address), "503");
    let request = &draining.received()[0];
    assert_eq!((&*request.method, &*request.path), ("GET", "/healthz"));
    draining.stop().await;
    assert!(!is_healthy(&address), "nobody there");
}

// The image.

#[test]
fn what_the_builder_gets_is_a_whole_package() {
    let ignore = file("Dockerfile.dockerignore");
    let lines = || ignore.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines().next(), Some("*"));
    let sent = |path: &Path| {
        let rules = lines().skip(1);
        rules.fold(false, |is_sent, rule| match rule.strip_prefix('!') {
            Some(kept) => is_sent || path.starts_with(kept),
            None => is_sent && !path.starts_with(rule),
        })
    };
    for kept in ["Cargo.lock", "src/main.rs", "static/app.css"] {
        assert!(sent(Path::new(kept)), "{kept}");
    }
    for left in [
        ".env",
        ".git/HEAD",
        "target/debug",
        "tests/.parts/mongod",
        "offiaccount.db",
    ] {
        assert!(!sent(Path::new(left)), "{left}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let context = tempfile::tempdir().unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if !sent(&path) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                std::fs::create_dir(context.path().join(&path)).unwrap();
                folders.push(path);
            } else {
                std::os::unix::fs::symlink(root.join(&path), context.path().join(path)).unwrap();
            }
        }
    }
    // Cargo reads the manifest, and looks for every program and test that it names.
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--no-deps"])
        .args(["--format-version", "1"])
        .current_dir(context.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&metadata.stderr);
    assert!(metadata.status.success(), "{said}");
    // Pages and scripts are built in.
    let source = found(
        r#"include_(?:str|bytes)!\("(?:\.\./)+((?:static|templates)/[^"]+)"\)"#,
        &all_sources(&root.join("src")),
    );
    assert!(!source.is_empty());
    for path in source {
        assert!(sent(Path::new(&path)), "{path} is built in");
    }
}

fn all_sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &all_sources(&path);
        } else {
            all += &std::fs::read_to_string(path).unwrap();
        }
    }
    all
}

// The operator's page.

#[test]
fn every_alarm_has_its_row_in_both_languages() {
    let rules = yaml("alerts.yaml");
    let groups = rules["groups"].as_array().unwrap().iter();
    let alarms: BTreeSet<&str> = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    for readme in ["README.md", "README.zh-CN.md"] {
        let rows = found(r"(?m)^\| `(Offiaccount\w+)` \|", &file(readme));
        let rows: BTreeSet<&str> = rows.iter().map(String::as_str).collect();
        assert_eq!(rows, alarms, "{readme}");
    }
}

#[test]
fn both_languages_give_the_same_commands() {
    let commands = |name: &str| {
        let text = file(name);
        let blocks = found(r"(?s)```\w+\n(.*?)```", &text);
        let without_comments = regex::Regex::new(r"(?m)\s*(?:^|\s)# .*$").unwrap();
        let blocks: Vec<String> = blocks
            .iter()
            .map(|block| without_comments.replace_all(block, "").into_owned())
            .collect();
        assert!(blocks.len() > 8, "{name}");
        blocks
    };
    assert_eq!(commands("README.md"), commands("README.zh-CN.md"));
}

#[test]
fn links_of_the_readmes_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deploy = root.join("templates/deploy");
    for (folder, name) in [
        (root, "README.md"),
        (root, "README.zh-CN.md"),
        (&deploy, "README.md"),
        (&deploy, "README.zh-CN.md"),
    ] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let links = found(r"\]\(([^)]+)\)", &text);
        assert!(!links.is_empty(), "{name}");
        for link in links.iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = match target {
                "" => folder.join(name),
                _ => folder.join(target),
            };
            assert!(target.exists(), "{}: {link}", folder.join(name).display());
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let anchors: Vec<String> = found(r"(?m)^#+ (.*)$", &text)
                    .iter()
                    .map(|heading| anchor_of(heading))
                    .collect();
                assert!(anchors.contains(&anchor.to_owned()), "{name}: {link}");
            }
        }
    }
}

/// As GitHub makes it of a heading.
fn anchor_of(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
