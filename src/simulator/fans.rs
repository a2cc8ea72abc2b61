//! The people of the simulated world, followers of the account or not.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::clock::Seconds;
use super::qrcodes::Scene;
use crate::wechat::id::{OpenId, UnionId};

/// One person as the account sees him.
#[derive(Clone, Debug)]
pub(crate) struct Fan {
    pub(crate) openid: OpenId,
    pub(crate) unionid: Option<UnionId>,
    pub(crate) nickname: String,
    pub(crate) headimgurl: String,
    pub(crate) subscribed: bool,
    pub(crate) subscribe_time: Seconds,
    pub(crate) subscribe_scene: String,
    pub(crate) remark: String,
    /// The code by whose scan he followed, if it was by one.
    pub(crate) scene: Option<Scene>,
    pub(crate) tags: Vec<u64>,
    /// On the account's 黑名单: what he says is not pushed, what he is sent is refused.
    pub(crate) blacklisted: bool,
    /// Switched the account's notices off: template messages end with `failed:user block`.
    pub(crate) refuses_templates: bool,
    /// What the phone is, as menus match it: 1 iOS, 2 Android, 3 another.
    pub(crate) client_platform_type: u8,
    /// His openid at the account whose followers moved here.
    pub(crate) former_openid: Option<String>,
    /// When he last wrote, for 正在输入.
    pub(crate) wrote_at: Option<Seconds>,
    /// Until then his phone shows that the account is writing.
    pub(crate) typing_until: Seconds,
    /// Opens pages as a snapshot: a virtual openid, no profile ("WeChat: 快照页").
    pub(crate) snapshot: bool,
    /// What the account may still say by customer-service messages.
    pub(crate) windows: Vec<Window>,
}

/// Leave to send `left` more customer-service messages until `until` ("WeChat: 客服消息").
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    trigger: Trigger,
    pub(crate) until: Seconds,
    pub(crate) left: u32,
}

/// What opens a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// A message of the fan's: 5 in 48 hours.
    Message,
    /// A menu click: 3 in a minute.
    Click,
    /// A follow: 3 in a minute.
    Follow,
    /// A scan: 3 in a minute.
    Scan,
}

impl Fan {
    /// As `/_sim/fans` shows him.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "openid": self.openid,
            "unionid": self.unionid,
            "nickname": self.nickname,
            "headimgurl": self.headimgurl,
            "subscribe": i32::from(self.subscribed),
            "subscribe_time": self.subscribe_time,
            "subscribe_scene": self.subscribe_scene,
            "remark": self.remark,
            "tagid_list": self.tags,
            "qr_scene": Scene::number(self.scene.as_ref()),
            "qr_scene_str": Scene::text(self.scene.as_ref()),
            "blacklisted": self.blacklisted,
            "refuses_templates": self.refuses_templates,
            "client_platform_type": self.client_platform_type,
            "former_openid": self.former_openid,
            "typing_until": self.typing_until,
            "windows": self.windows.iter().copied().map(Window::to_json).collect::<Vec<_>>(),
            "snapshot": self.snapshot,
        })
    }

    /// Follows or leaves. The openid stays the same when he comes back.
    pub(crate) fn follow(&mut self, now: Seconds) {
        self.subscribed = true;
        self.subscribe_time = now;
    }

    /// Leaves: the account may say no more.
    pub(crate) fn leave(&mut self) {
        self.subscribed = false;
        self.windows.clear();
        self.tags.clear();
        self.scene = None;
    }

    /// Opens a window in place of the last one of its kind.
    pub(crate) fn open_window(&mut self, trigger: Trigger, now: Seconds) {
        let window = match trigger {
            Trigger::Message => Window {
                trigger,
                until: now + 48 * 3600,
                left: 5,
            },
            Trigger::Click | Trigger::Follow | Trigger::Scan => Window {
                trigger,
                until: now + 60,
                left: 3,
            },
        };
        self.windows
            .retain(|open| now < open.until && open.trigger != trigger);
        self.windows.push(window);
    }

    /// Uses one message of the window that ends first.
    ///
    /// # Errors
    ///
    /// 45015 where no window is open, 45047 where the open ones are used up.
    pub(crate) fn use_window(&mut self, now: Seconds) -> Result<(), i64> {
        let mut open: Vec<_> = self
            .windows
            .iter_mut()
            .filter(|window| now < window.until)
            .collect();
        if open.is_empty() {
            return Err(45015);
        }
        open.sort_by_key(|window| window.until);
        let window = open
            .into_iter()
            .find(|window| window.left > 0)
            .ok_or(45047)?;
        window.left -= 1;
        Ok(())
    }
}

impl Window {
    fn to_json(self) -> Value {
        let trigger = match self.trigger {
            Trigger::Message => "message",
            Trigger::Click => "click",
            Trigger::Follow => "follow",
            Trigger::Scan => "scan",
        };
        json!({"trigger": trigger, "until": self.until, "left": self.left})
    }
}

/// Everybody, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Fans {
    list: Vec<Fan>,
    places: HashMap<String, usize>,
}

impl Fans {
    /// Adds one whose openid nobody has yet.
    pub(crate) fn push(&mut self, fan: Fan) {
        self.places
            .insert(fan.openid.as_str().to_owned(), self.list.len());
        self.list.push(fan);
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Fan> {
        self.list.iter_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Fan> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn followers(&self) -> impl Iterator<Item = &Fan> {
        self.iter().filter(|fan| fan.subscribed)
    }

    pub(crate) fn get(&self, openid: &str) -> Option<&Fan> {
        self.places.get(openid).map(|place| &self.list[*place])
    }

    pub(crate) fn get_mut(&mut self, openid: &str) -> Option<&mut Fan> {
        self.places.get(openid).map(|place| &mut self.list[*place])
    }
}
