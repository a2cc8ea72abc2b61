//! Groups, as clients of before 2016 call them: other names for tags.

use serde_json::{Value, json};

use super::world::World;

async fn followers(world: &World) -> Vec<Value> {
    let list = world.ask("/cgi-bin/user/get").await;
    list["data"]["openid"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_group_is_a_tag_that_a_follower_is_moved_to() {
    let world = World::start().await;
    let fans = followers(&world).await;
    let made = json!({"group": {"name": "朋友"}});
    let made = world.must("/cgi-bin/groups/create", &made).await;
    let group = &made["group"]["id"];
    assert_eq!(made["group"]["name"], "朋友");
    let renamed = json!({"group": {"id": group, "name": "老友"}});
    world.must("/cgi-bin/groups/update", &renamed).await;

    let tag = json!({"openid_list": [fans[0]], "tagid": 2});
    world.must("/cgi-bin/tags/members/batchtagging", &tag).await;
    let one = json!({"openid": fans[0], "to_groupid": group});
    world.must("/cgi-bin/groups/members/update", &one).await;
    let two = json!({"openid_list": [fans[0], fans[1]], "to_groupid": group});
    world
        .must("/cgi-bin/groups/members/batchupdate", &two)
        .await;
    let who = json!({"openid": fans[0]});
    let id = world.must("/cgi-bin/groups/getid", &who).await;
    assert_eq!(id, json!({"groupid": group}));
    let tags = world.must("/cgi-bin/tags/getidlist", &who).await;
    assert_eq!(tags["tagid_list"], json!([group]));
    let blocked = json!({"openid": fans[2], "to_groupid": 1});
    world.must("/cgi-bin/groups/members/update", &blocked).await;
    let groups = world.ask("/cgi-bin/groups/get").await;
    assert_eq!(
        groups["groups"],
        json!([
            {"id": 0, "name": "未分组", "count": fans.len() - 3},
            {"id": 1, "name": "黑名单", "count": 1},
            {"id": 2, "name": "星标组", "count": 0},
            {"id": group, "name": "老友", "count": 2},
        ])
    );
    let out = json!({"openid": fans[2], "to_groupid": 0});
    world.must("/cgi-bin/groups/members/update", &out).await;

    let gone = json!({"group": {"id": group}});
    world.must("/cgi-bin/groups/delete", &gone).await;
    let id = world.must("/cgi-bin/groups/getid", &who).await;
    assert_eq!(id, json!({"groupid": 0}));
}

#[tokio::test]
async fn calls_about_groups_refuse_as_the_platform_does() {
    let world = World::start().await;
    let fans = followers(&world).await;
    let path = |name: &str| format!("/cgi-bin/groups/{name}");
    let named = |name: &str| json!({"group": {"name": name}});
    world.must(&path("create"), &named("一")).await;
    let long = "长".repeat(31);
    for name in ["", "一", &long] {
        world.refuses(&path("create"), &named(name), 40051).await;
    }
    for (id, name, errcode) in [(2, "二", 40050), (999, "二", 40050), (100, "", 40051)] {
        let body = json!({"group": {"id": id, "name": name}});
        world.refuses(&path("update"), &body, errcode).await;
    }
    for id in [json!(0), json!(999), json!("x")] {
        let body = json!({"group": {"id": id}});
        world.refuses(&path("delete"), &body, 40050).await;
    }
    let stranger = json!("oStranger0000000000000000000");
    for (openid, errcode) in [(json!("nobody"), 40003), (stranger, 49003)] {
        let body = json!({"openid": openid, "to_groupid": 2});
        world.refuses(&path("getid"), &body, errcode).await;
        let one = &path("members/update");
        world.refuses(one, &body, errcode).await;
        let body = json!({"openid_list": [openid], "to_groupid": 2});
        let many = &path("members/batchupdate");
        world.refuses(many, &body, errcode).await;
    }
    let nowhere = json!({"openid": fans[0], "openid_list": [fans[0]], "to_groupid": 999});
    for name in ["members/update", "members/batchupdate"] {
        world.refuses(&path(name), &nowhere, 40050).await;
    }
    let nobody = json!({"openid_list": [], "to_groupid": 2});
    let many = path("members/batchupdate");
    world.refuses(&many, &nobody, 40032).await;
    for place in 0..99 {
        world
            .must(&path("create"), &named(&format!("组{place}")))
            .await;
    }
    world.refuses(&path("create"), &named("满"), 45056).await;
    let who = json!({"openid": fans[0], "to_groupid": 2});
    world.must(&path("members/update"), &who).await;
    let body = json!({"openid_list": [fans[0]], "to_groupid": 0});
    world.must(&path("members/batchupdate"), &body).await;
    world.must(&path("getid"), &who).await;
    world.ask(&path("get")).await;
    let body = json!({"group": {"id": 100, "name": "改"}});
    world.must(&path("update"), &body).await;
    world.must(&path("delete"), &body).await;
    world.has_shown_all(&["/cgi-bin/groups/"], &[]).await;
}
