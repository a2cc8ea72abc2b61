//! What stands in the chats: one list per fan, in order, as his phone shows it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clock::machine_millis;
use crate::wechat::id::OpenId;

/// No chat keeps more than this.
const REMEMBERED: usize = 500;

/// Who a bubble is from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// The fan, on the right.
    Fan,
    /// The account, on the left.
    Account,
    /// A grey line in the middle.
    System,
}

/// All chats.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    last_id: u64,
    by_fan: BTreeMap<String, Vec<Value>>,
}

impl Chat {
    /// Adds a bubble; `shown` is its text, `message` the whole with WeChat's names.
    pub(crate) fn say(&mut self, fan: &OpenId, from: From, shown: &str, message: &Value) {
        self.last_id += 1;
        let from = match from {
            From::Fan => "fan",
            From::Account => "account",
            From::System => "system",
        };
        let chat = self.by_fan.entry(fan.as_str().to_owned()).or_default();
        if chat.len() >= REMEMBERED {
            chat.remove(0);
        }
        chat.push(json!({
            "id": self.last_id,
            "at": machine_millis(),
            "openid": fan,
            "from": from,
            "shown": shown,
            "message": message,
        }));
    }

    /// The id of the newest bubble of all chats.
    pub(crate) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// The bubbles of one chat, or of all, with an id above `after`, oldest first.
    pub(crate) fn since(&self, fan: Option<&str>, after: u64) -> Vec<&Value> {
        let id = |bubble: &Value| bubble["id"].as_u64().unwrap_or(0);
        let mut bubbles: Vec<_> = match fan {
            Some(fan) => self.by_fan.get(fan).into_iter().flatten().collect(),
            None => self.by_fan.values().flatten().collect(),
        };
        bubbles.retain(|bubble| id(bubble) > after);
        bubbles.sort_by_key(|bubble| id(bubble));
        bubbles
    }
}
