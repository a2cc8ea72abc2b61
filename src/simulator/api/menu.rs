//! The menu: `/cgi-bin/menu/…`, `get_current_selfmenu_info`.

use serde_json::{Map, Value, json};

use super::{Answer, Call, Endpoint, Members, Refusal, get, ok, post};
use crate::simulator::menu::{BUTTON_ERRORS, as_console, shown};
use crate::simulator::platform::Platform;

pub(crate) const ENDPOINTS: &[Endpoint] = &[
    post(
        "/cgi-bin/menu/create",
        "创建自定义菜单: up to 3 buttons with up to 5 under each",
        &["button"],
        create,
    )
    .errors(BUTTON_ERRORS)
    .daily(1000, 100),
    get(
        "/cgi-bin/menu/get",
        "获取自定义菜单配置: the default menu and those with a rule",
        &[],
        read,
    )
    .errors(&[46003])
    .daily(10_000, 1000),
    get(
        "/cgi-bin/menu/delete",
        "删除自定义菜单: all of them",
        &[],
        delete,
    )
    .daily(1000, 100),
    post(
        "/cgi-bin/menu/addconditional",
        "创建个性化菜单: for the fans of a tag or a kind of phone",
        &["button", "matchrule"],
        add_conditional,
    )
    .errors(&[
        40007, 40013, 40016, 40017, 40018, 40019, 40020, 40022, 40023, 40024, 40025, 40026, 40027,
        40033, 40035, 40054, 40055, 40119, 40120, 45159, 53600, 65303, 65304, 65307,
    ]),
    post(
        "/cgi-bin/menu/delconditional",
        "删除个性化菜单",
        &["menuid"],
        delete_conditional,
    )
    .errors(&[65301]),
    post(
        "/cgi-bin/menu/trymatch",
        "测试个性化菜单匹配结果: what this fan sees",
        &["user_id"],
        try_match,
    )
    .errors(&[46003, 65302]),
    get(
        "/cgi-bin/get_current_selfmenu_info",
        "查询自定义菜单信息: in the console's form",
        &[],
        console,
    )
    .daily(10_000, 1000),
];

fn create(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = wanted(call)?;
    let buttons = platform.check_buttons(&body)?;
    platform.menu.create(buttons, &mut platform.mint);
    Ok(ok())
}

/// A menu in the body; letters must stand as they are, or the phone shows the escapes.
fn wanted(call: &Call) -> Result<Members, Refusal> {
    let body = call.json()?;
    if call.has_escapes() {
        return Err(40033.into());
    }
    Ok(body)
}

fn read(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(platform.menu.to_json().ok_or(46003)?.into())
}

fn delete(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    platform.menu.delete();
    Ok(ok())
}

fn add_conditional(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = wanted(call)?;
    if !platform.menu.has_default() {
        return Err(65303.into());
    }
    if body.list("button").is_none_or(Vec::is_empty) {
        return Err(65307.into());
    }
    let buttons = platform.check_buttons(&body)?;
    let rule = rule(platform, &body.object("matchrule").unwrap_or_default())?;
    let menuid = platform
        .menu
        .add_conditional(buttons, rule, &mut platform.mint);
    Ok(json!({"menuid": menuid.to_string()}).into())
}

/// What of a rule still counts: sex and region went in 2021.
fn rule(platform: &Platform, given: &Members) -> Result<Value, Refusal> {
    let names = ["tag_id", "group_id", "client_platform_type", "language"];
    let rule: Map<_, _> = names
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), given.get(name)?.clone())))
        .filter(|(_, value)| value != "")
        .collect();
    if rule.is_empty() {
        return Err(65304.into());
    }
    let rule = Members(rule);
    for name in ["tag_id", "group_id"] {
        if rule.get(name).is_some() {
            let tag = rule.number(name).and_then(|tag| u64::try_from(tag).ok());
            if !tag.is_some_and(|tag| platform.tags.has(tag)) {
                return Err(45159.into());
            }
        }
    }
    if rule.get("client_platform_type").is_some() {
        let number = rule.number("client_platform_type");
        if !number.is_some_and(|number| (1..=3).contains(&number)) {
            return Err(40035.into());
        }
    }
    Ok(Value::Object(rule.0))
}

fn delete_conditional(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let menuid = body.number("menuid").and_then(|id| u64::try_from(id).ok());
    let deleted = menuid.is_some_and(|menuid| platform.menu.delete_conditional(menuid));
    if !deleted {
        return Err(65301.into());
    }
    Ok(ok())
}

fn try_match(platform: &mut Platform, call: &Call) -> Result<Answer, Refusal> {
    let body = call.json()?;
    let fan = platform.fans.get(body.need("user_id", 65302)?);
    let fan = fan.filter(|fan| fan.subscribed).ok_or(65302)?;
    let buttons = platform.menu.of(fan).ok_or(46003)?;
    Ok(json!({"button": shown(&buttons.list)}).into())
}

fn console(platform: &mut Platform, _: &Call) -> Result<Answer, Refusal> {
    Ok(match platform.menu.default_buttons() {
        Some(buttons) => {
            json!({"is_menu_open": 1, "selfmenu_info": {"button": as_console(&buttons.list)}})
        }
        None => json!({"is_menu_open": 0, "selfmenu_info": {"button": []}}),
    }
    .into())
}
