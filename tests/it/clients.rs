//! Every method of clients that other people wrote for the real WeChat, against the simulator: PyPI's
//! wechatpy, npm's co-wechat-api and co-wechat-oauth. The scripts in `tests/foreign` look into the
//! packages for what there is, call it with what earlier calls made, and compare each answer with the
//! documented shape.

mod outside;
mod readme;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use serde_json::{Value, json};

use self::outside::{PRODUCTS, Product};
use crate::foreign::{Node, Python};
use crate::helpers::{APPID, World};

/// Methods that WeChat refuses too: client, method, errcode, why.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("wechatpy", "material.add_articles", "45106", STOPPED),
    ("wechatpy", "material.update_article", "45106", STOPPED),
    ("wechatpy", "material.update_articles", "45106", STOPPED),
    ("wechatpy", "misc.short_url", "45106", "stopped in 2021"),
    ("wechatpy", "message.send_link", "40008", "of mini programs"),
    ("co-wechat-api", "uploadNewsMaterial", "45106", STOPPED),
    ("co-wechat-api", "updateNewsMaterial", "45106", STOPPED),
    ("co-wechat-api", "shorturl", "45106", "stopped in 2021"),
    (
        "co-wechat-api",
        "getRecords",
        "40066",
        "getmsglist took its place",
    ),
];
const STOPPED: &str = "stopped in 2022, drafts took its place";

/// Answered in the documented shape, and called.
const COUNTS: [(&str, (usize, usize)); 3] = [
    ("wechatpy", (128, 133)),
    ("co-wechat-api", (117, 121)),
    ("co-wechat-oauth", (10, 10)),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_method_of_other_peoples_clients_is_answered_as_documented() {
    let (Some(python), Some(node)) = (Python::here(), Node::here()) else {
        return;
    };
    let worlds = (World::start().await, World::start().await);
    let (mut rows, of_node) = tokio::join!(
        python.run("wechatpy_methods.py", task(&worlds.0)),
        node.run("co_wechat_methods.js", task(&worlds.1)),
    );
    let rows = rows.as_array_mut().unwrap();
    rows.extend(of_node.as_array().unwrap().iter().cloned());

    let mut found = BTreeMap::new();
    let mut offered = BTreeSet::new();
    let mut wrong = Vec::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let (client, method) = (text("client"), text("method"));
        let (outcome, why) = (text("outcome"), text("why"));
        let expected = expected(&client, &method);
        if (outcome.as_str(), why.as_str()) != (expected.outcome, expected.errcode) {
            wrong.push(format!(
                "{client} {method}: {outcome} {why}; expected: {expected:?}"
            ));
        }
        let (answered, called) = found.entry(client.clone()).or_insert((0, 0));
        *answered += usize::from(outcome == "ok");
        *called += usize::from(outcome != "unused");
        offered.insert((client, method));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (client, method) in exceptions() {
        let is_offered = offered.contains(&(client.to_owned(), method.clone()));
        assert!(is_offered, "{client} has no {method}");
    }
    let counts = COUNTS.map(|(client, count)| (client.to_owned(), count));
    assert_eq!(found, BTreeMap::from(counts));
    let said = COUNTS.map(|(client, (answered, called))| format!("{client} {answered}/{called}"));
    let said = format!("clients: {}\n", said.join(", "));
    // Not `eprintln!`: of a test that passes the runner hides it.
    let _ = std::io::stderr().write_all(said.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_shape_is_not_counted() {
    let (Some(python), Some(node)) = (Python::here(), Node::here()) else {
        return;
    };
    let worlds = (World::start().await, World::start().await);
    let other = json!({"body": r#"{"ip_list":[1]}"#});
    let path = "/cgi-bin/getcallbackip";
    worlds.0.fault(path, other.clone(), 1).await;
    worlds.1.fault(path, other, 1).await;
    let (of_python, of_node) = tokio::join!(
        python.run("wechatpy_methods.py", task(&worlds.0)),
        node.run("co_wechat_methods.js", task(&worlds.1)),
    );
    for (rows, method) in [(of_python, "misc.get_wechat_ips"), (of_node, "getIp")] {
        let failed = rows.as_array().unwrap().iter();
        let failed: Vec<_> = failed.filter(|row| row["outcome"] == "failed").collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0]["method"], method);
        let why = failed[0]["why"].as_str().unwrap();
        assert!(why.starts_with("answer"), "{why}");
    }
}

fn task(world: &World) -> Value {
    json!({"platform": world.sim, "appid": APPID, "appsecret": "0".repeat(32)})
}

/// What is to become of a method.
#[derive(Debug)]
struct Expected {
    outcome: &'static str,
    errcode: &'static str,
    /// Why it is not to be answered.
    #[expect(dead_code, reason = "for the reader of a failure")]
    why: &'static str,
}

fn expected(client: &str, method: &str) -> Expected {
    let mut refused = REFUSED.iter();
    let refused = refused.find(|(of, name, ..)| (*of, *name) == (client, method));
    if let Some((_, _, errcode, why)) = refused {
        return Expected {
            outcome: "refused",
            errcode,
            why,
        };
    }
    let is_of =
        |product: &&Product| product.client == client && product.names().any(|name| name == method);
    let (outcome, why) = match PRODUCTS.iter().find(is_of) {
        Some(product) => ("unused", product.why),
        None => ("ok", ""),
    };
    Expected {
        outcome,
        errcode: "",
        why,
    }
}

/// Client and method of all that is not to be answered.
fn exceptions() -> impl Iterator<Item = (&'static str, String)> {
    let refused = REFUSED.iter();
    let refused = refused.map(|(client, method, ..)| (*client, (*method).to_owned()));
    let of = |product: &'static Product| product.names().map(|name| (product.client, name));
    refused.chain(PRODUCTS.iter().flat_map(of))
}
