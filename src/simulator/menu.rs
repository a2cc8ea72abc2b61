//! The account's menu: the default one, and those for some fans ("WeChat: 自定义菜单").

use serde_json::{Value, json};

use super::api::{Members, Refusal};
use super::fans::Fan;
use super::mint::Mint;
use super::platform::Platform;

/// The default menu and those with a rule, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Menu {
    default: Option<Buttons>,
    conditional: Vec<Conditional>,
}

/// The buttons of a menu, checked.
#[derive(Clone, Debug)]
pub(crate) struct Buttons {
    pub(crate) menuid: u64,
    pub(crate) list: Vec<Value>,
}

#[derive(Debug)]
struct Conditional {
    buttons: Buttons,
    rule: Value,
}

/// Buttons beside each other.
const TOP: usize = 3;
/// Buttons above one another.
const SUB: usize = 5;
/// Bytes of a button's key.
const KEY: usize = 128;
/// Bytes of a button's URL.
const URL: usize = 1024;

/// The codes for a fault of a button: of the top row, and of a sub-menu.
struct Faults {
    kind: i64,
    retired: i64,
    name: i64,
    key: i64,
    url: i64,
    domain: i64,
    name_bytes: usize,
}

const OF_TOP: Faults = Faults {
    kind: 40017,
    retired: 40119,
    name: 40018,
    key: 40019,
    url: 40020,
    domain: 40055,
    name_bytes: 16,
};

const OF_SUB: Faults = Faults {
    kind: 40024,
    retired: 40120,
    name: 40025,
    key: 40026,
    url: 40027,
    domain: 40054,
    name_bytes: 60,
};

/// All codes that [`Platform::check_buttons`] answers.
pub(crate) const BUTTON_ERRORS: &[i64] = &[
    40007, 40013, 40016, 40017, 40018, 40019, 40020, 40022, 40023, 40024, 40025, 40026, 40027,
    40033, 40054, 40055, 40119, 40120, 53600,
];

impl Menu {
    pub(crate) fn create(&mut self, list: Vec<Value>, mint: &mut Mint) {
        let menuid = new_id(mint);
        self.default = Some(Buttons { menuid, list });
    }

    /// Removes all menus.
    pub(crate) fn delete(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    pub(crate) fn default_buttons(&self) -> Option<&Buttons> {
        self.default.as_ref()
    }

    /// Adds a menu for the fans that match `rule`.
    pub(crate) fn add_conditional(
        &mut self,
        list: Vec<Value>,
        rule: Value,
        mint: &mut Mint,
    ) -> u64 {
        let menuid = new_id(mint);
        let buttons = Buttons { menuid, list };
        self.conditional.push(Conditional { buttons, rule });
        menuid
    }

    /// Removes a menu with a rule; false where there is none with that id.
    pub(crate) fn delete_conditional(&mut self, menuid: u64) -> bool {
        let before = self.conditional.len();
        self.conditional
            .retain(|menu| menu.buttons.menuid != menuid);
        self.conditional.len() < before
    }

    /// What this fan sees: the newest menu whose rule he matches, else the default one.
    pub(crate) fn of(&self, fan: &Fan) -> Option<&Buttons> {
        let mut newest_first = self.conditional.iter().rev();
        newest_first
            .find(|menu| matches(&menu.rule, fan))
            .map(|menu| &menu.buttons)
            .or(self.default.as_ref())
    }

    /// As `menu/get` answers.
    pub(crate) fn to_json(&self) -> Option<Value> {
        let default = self.default.as_ref()?;
        let mut json = json!({"menu": {"button": shown(&default.list), "menuid": default.menuid}});
        if !self.conditional.is_empty() {
            let one = |menu: &Conditional| {
                json!({
                    "button": shown(&menu.buttons.list),
                    "matchrule": menu.rule,
                    "menuid": menu.buttons.menuid,
                })
            };
            let newest_first = self.conditional.iter().rev();
            json["conditionalmenu"] = newest_first.map(one).collect();
        }
        Some(json)
    }

    /// Whether a button shows this file.
    pub(crate) fn uses(&self, media_id: &str) -> bool {
        let menus = self.conditional.iter().map(|menu| &menu.buttons);
        menus
            .chain(&self.default)
            .flat_map(|buttons| leaves(&buttons.list))
            .any(|button| button["media_id"] == media_id)
    }
}

fn new_id(mint: &mut Mint) -> u64 {
    208_379_000 + mint.next("menuid")
}

/// The buttons that do something.
pub(crate) fn leaves(list: &[Value]) -> Vec<&Value> {
    let mut leaves = Vec::new();
    for button in list {
        match button["sub_button"].as_array() {
            Some(sub) if !sub.is_empty() => leaves.extend(sub),
            _ => leaves.push(button),
        }
    }
    leaves
}

fn matches(rule: &Value, fan: &Fan) -> bool {
    let rule = Members::of(rule);
    let tag = rule.number("tag_id").or_else(|| rule.number("group_id"));
    let carries = |tag: i64| fan.tags.iter().any(|own| i64::try_from(*own) == Ok(tag));
    let platform = rule.number("client_platform_type");
    tag.is_none_or(carries)
        && platform.is_none_or(|platform| platform == i64::from(fan.client_platform_type))
}

/// Buttons as `menu/get` lists them: each with a `sub_button`, be it empty.
pub(crate) fn shown(list: &[Value]) -> Vec<Value> {
    list.iter()
        .map(|button| {
            let mut button = button.clone();
            let sub = button["sub_button"].as_array().map(|sub| shown(sub));
            button["sub_button"] = json!(sub.unwrap_or_default());
            button
        })
        .collect()
}

/// Buttons as `get_current_selfmenu_info` lists them: sub-menus under `list`.
pub(crate) fn as_console(list: &[Value]) -> Vec<Value> {
    list.iter()
        .map(|button| {
            let mut button = button.clone();
            let sub = button["sub_button"].as_array().map(|sub| as_console(sub));
            match (sub, button.as_object_mut()) {
                (Some(sub), _) if !sub.is_empty() => button["sub_button"] = json!({"list": sub}),
                (_, Some(members)) => {
                    members.remove("sub_button");
                }
                (_, None) => {}
            }
            button
        })
        .collect()
}

impl Platform {
    /// Checks `button` of a menu and gives its items.
    ///
    /// # Errors
    ///
    /// One of [`BUTTON_ERRORS`].
    pub(crate) fn check_buttons(&self, menu: &Members) -> Result<Vec<Value>, Refusal> {
        let list = menu.list("button").ok_or(40016)?;
        if !(1..=TOP).contains(&list.len()) {
            return Err(40016.into());
        }
        for button in list {
            let button = Members::of(button);
            match button.list("sub_button").filter(|sub| !sub.is_empty()) {
                None => self.check_button(&button, &OF_TOP)?,
                Some(sub) if sub.len() > SUB => return Err(40023.into()),
                Some(sub) => {
                    check_name(&button, &OF_TOP)?;
                    for button in sub {
                        let button = Members::of(button);
                        if button.list("sub_button").is_some_and(|sub| !sub.is_empty()) {
                            return Err(40022.into());
                        }
                        self.check_button(&button, &OF_SUB)?;
                    }
                }
            }
        }
        Ok(list.clone())
    }

    /// A button that does something.
    fn check_button(&self, button: &Members, faults: &Faults) -> Result<(), Refusal> {
        check_name(button, faults)?;
        match button.text("type") {
            Some(
                "click" | "scancode_push" | "scancode_waitmsg" | "pic_sysphoto"
                | "pic_photo_or_album" | "pic_weixin" | "location_select",
            ) => {
                let key = button.text("key").filter(|key| key.len() <= KEY);
                key.ok_or(faults.key)?;
            }
            Some("view") => check_url(button, faults)?,
            Some("miniprogram") => {
                check_url(button, faults)?;
                button.need("appid", 40013)?;
                button.need("pagepath", faults.key)?;
            }
            Some("media_id") => {
                self.media.find_permanent(button.need("media_id", 40007)?)?;
            }
            Some("article_id" | "article_view_limited") => {
                let article_id = button.need("article_id", 53600)?;
                self.articles.article(article_id, self.now())?;
            }
            // Retired with permanent news; article_view_limited took its place.
            Some("view_limited") => return Err(faults.retired.into()),
            _ => return Err(faults.kind.into()),
        }
        Ok(())
    }
}

fn check_name(button: &Members, faults: &Faults) -> Result<(), Refusal> {
    let name = button.text("name");
    let name = name.filter(|name| name.len() <= faults.name_bytes);
    name.map(drop).ok_or(faults.name.into())
}

fn check_url(button: &Members, faults: &Faults) -> Result<(), Refusal> {
    let url = button.text("url").filter(|url| url.len() <= URL);
    let url = url::Url::parse(url.ok_or(faults.url)?);
    match url {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
        _ => Err(faults.domain.into()),
    }
}
