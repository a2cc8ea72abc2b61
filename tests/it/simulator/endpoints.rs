//! The tables behind both sides, and the document made of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::world::World;

#[tokio::test]
async fn the_document_names_every_call_and_every_control_once() {
    let world = World::start().await;
    let document = world.get("/_sim/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["servers"][0]["url"], world.url);
    let paths = document["paths"].as_object().unwrap();
    let endpoints = world.get("/_sim/endpoints").await;
    for endpoint in endpoints.as_array().unwrap() {
        let method = endpoint["method"].as_str().unwrap().to_ascii_lowercase();
        let operation = &paths[endpoint["path"].as_str().unwrap()][&method];
        assert_eq!(operation["summary"], endpoint["summary"]);
        let codes = endpoint["errors"].as_array().unwrap().iter();
        let codes: Vec<_> = codes.map(|error| error["errcode"].clone()).collect();
        assert_eq!(operation["x-errcodes"], json!(codes));
    }
    let mut ids = BTreeSet::new();
    for operation in paths
        .values()
        .flat_map(|path| path.as_object().unwrap().values())
    {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()));
        assert!(operation["responses"]["200"].is_object());
    }
    let upload = &paths["/cgi-bin/media/upload"]["post"];
    let form = &upload["requestBody"]["content"]["multipart/form-data"]["schema"];
    assert_eq!(form["properties"]["media"]["format"], "binary");
    assert_eq!(upload["parameters"][0]["name"], "type");
    let tags = &paths["/cgi-bin/tags/create"]["post"];
    let body = &tags["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["required"], json!(["tag"]));
    assert_eq!(tags["security"], json!([{"access_token": []}]));
}

#[tokio::test]
async fn every_documented_path_is_served() {
    let world = World::start().await;
    let document = world.get("/_sim/openapi.json").await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            // A stream goes on for a minute.
            if path == "/_sim/events" {
                continue;
            }
            // Waiting is told from not being there by its answer, too.
            let (status, answer) = world.send(&method.to_uppercase(), path, &json!({})).await;
            if path.starts_with("/_sim/") {
                assert_ne!(answer["error"], "no such control", "{method} {path}");
                assert_ne!(status, 405, "{method} {path}");
            } else {
                assert_ne!(answer["errcode"], 40066, "{method} {path}");
                assert_ne!(answer["errcode"], 43001, "{method} {path}");
                assert_ne!(answer["errcode"], 43002, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn every_call_needs_the_rights_it_names() {
    let world = World::start().await;
    let endpoints = world.get("/_sim/endpoints").await;
    for (kind, granted) in [
        ("unverified", &["basic"][..]),
        ("subscription", &["basic", "certified", "mass_by_tag"]),
        (
            "sandbox",
            &["basic", "certified", "service_account", "web_authorization"],
        ),
    ] {
        world.put("/_sim/account", &json!({"kind": kind})).await;
        for endpoint in endpoints.as_array().unwrap() {
            let path = endpoint["path"].as_str().unwrap();
            let lacks = !granted.contains(&endpoint["right"].as_str().unwrap());
            let answer = match endpoint["method"].as_str().unwrap() {
                "GET" if path == "/cgi-bin/showqrcode" => continue,
                "GET" => world.ask(path).await,
                _ => world.call(path, &Value::Null).await,
            };
            assert_eq!(answer["errcode"] == 48001, lacks, "{kind} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn every_call_is_of_an_area_whose_refusals_are_tested() {
    let world = World::start().await;
    let areas = [
        "/cgi-bin/token",
        "/cgi-bin/stable_token",
        "/cgi-bin/ticket/",
        "/cgi-bin/getcallbackip",
        "/cgi-bin/get_api_domain_ip",
        "/cgi-bin/callback/",
        "/cgi-bin/clear_quota",
        "/cgi-bin/openapi/",
        "/cgi-bin/get_current_autoreply_info",
        "/cgi-bin/user/",
        "/cgi-bin/changeopenid",
        "/cgi-bin/tags/",
        "/cgi-bin/groups/",
        "/cgi-bin/menu/",
        "/cgi-bin/get_current_selfmenu_info",
        "/cgi-bin/qrcode/",
        "/cgi-bin/showqrcode",
        "/cgi-bin/short",
        "/cgi-bin/message/custom/",
        "/cgi-bin/message/mass/",
        "/cgi-bin/message/template/",
        "/cgi-bin/message/subscribe/bizsend",
        "/cgi-bin/customservice/",
        "/customservice/",
        "/cgi-bin/template/",
        "/wxaapi/newtmpl/",
        "/cgi-bin/media/",
        "/cgi-bin/material/",
        "/cgi-bin/draft/",
        "/cgi-bin/freepublish/",
        "/cgi-bin/comment/",
        "/datacube/",
        "/sns/",
    ];
    let endpoints = world.get("/_sim/endpoints").await;
    for endpoint in endpoints.as_array().unwrap() {
        let path = endpoint["path"].as_str().unwrap();
        let of_area = areas.iter().any(|area| path.starts_with(area));
        assert!(of_area, "{path}: add it to a test of refusals, then here");
    }
    assert!(endpoints.as_array().unwrap().len() > 120);
}

#[tokio::test]
async fn waiting_for_a_push_ends_with_its_time() {
    let world = World::start().await;
    assert_eq!(
        world.get("/_sim/pushes?wait_s=1&event=none").await,
        json!([])
    );
    let (status, _) = world
        .send("GET", "/_sim/pushes?wait_s=x", &Value::Null)
        .await;
    assert_eq!(status, 400);
}
