//! The state of the simulated platform. One value behind one lock, changed only by sync code.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::Options;
use super::account::{Account, Limits};
use super::chat::Chat;
use super::clock::{Clock, Seconds};
use super::fans::{Fan, Fans};
use super::faults::Faults;
use super::grants::Grants;
use super::mint::Mint;
use super::tokens::Tokens;
use crate::wechat::id::{InvalidId, OpenId, UnionId};

/// How much of what happened is kept for `/_sim` to show.
const REMEMBERED: usize = 500;

/// Everything the platform knows.
pub(crate) struct Platform {
    /// The address of this simulator, for links to itself.
    pub(crate) origin: String,
    pub(crate) account: Account,
    pub(crate) clock: Clock,
    pub(crate) mint: Mint,
    pub(crate) fans: Fans,
    pub(crate) tokens: Tokens,
    pub(crate) grants: Grants,
    pub(crate) faults: Faults,
    pub(crate) chat: Chat,
    /// API calls, pushes and JS-SDK checks.
    pub(crate) requests: Recent,
    pub(crate) pushes: Recent,
    pub(crate) jssdk: Recent,
    /// What came of each visit to the consent page.
    pub(crate) oauth: Recent,
    /// How often everything went back to the start.
    pub(crate) resets: u64,
    /// Grows whenever `/_sim` changes account, fans, faults or clock.
    pub(crate) settings: u64,
    quotas: BTreeMap<&'static str, Used>,
}

/// The last things of a kind, newest first, each with an `id` that counts.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    list: VecDeque<Value>,
    last_id: u64,
    revision: u64,
}

#[derive(Debug, Default)]
struct Used {
    day: Seconds,
    calls: u64,
}

impl Recent {
    /// Adds one and gives its id.
    pub(crate) fn push(&mut self, mut entry: Value) -> u64 {
        self.last_id += 1;
        self.revision += 1;
        entry["id"] = json!(self.last_id);
        self.list.truncate(REMEMBERED - 1);
        self.list.push_front(entry);
        self.last_id
    }

    /// Changes one, where it is still kept.
    pub(crate) fn update(&mut self, id: u64, change: impl FnOnce(&mut Value)) {
        let entry = self.list.iter_mut().find(|entry| entry["id"] == id);
        if let Some(entry) = entry {
            change(entry);
            self.revision += 1;
        }
    }

    /// Grows with each change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The newest `limit` of them.
    pub(crate) fn to_json(&self, limit: usize) -> Value {
        self.list.iter().take(limit).cloned().collect()
    }
}

impl Platform {
    pub(crate) fn new(options: &Options, account: Account, origin: &str) -> Self {
        let mut platform = Self {
            origin: origin.to_owned(),
            account,
            clock: Clock::default(),
            mint: Mint::new(options.seed),
            fans: Fans::default(),
            tokens: Tokens::default(),
            grants: Grants::default(),
            faults: Faults::default(),
            chat: Chat::default(),
            requests: Recent::default(),
            pushes: Recent::default(),
            jssdk: Recent::default(),
            oauth: Recent::default(),
            resets: 0,
            settings: 0,
            quotas: BTreeMap::new(),
        };
        for nickname in ["小明", "小红", "Alice"] {
            let openid = platform.new_openid();
            platform.add_fan(openid, nickname);
        }
        platform
    }

    pub(crate) fn now(&self) -> Seconds {
        self.clock.now()
    }

    /// An openid: 28 characters, the first an `o`.
    pub(crate) fn new_openid(&mut self) -> OpenId {
        made(OpenId::parse, &format!("o{}", self.mint.text("openid", 27)))
    }

    /// The fan, made where nobody has this openid yet: the world is larger than what we have met.
    pub(crate) fn meet(&mut self, openid: OpenId) -> &mut Fan {
        if self.fans.get(openid.as_str()).is_none() {
            let nickname = format!("微信用户{}", self.fans.len() + 1);
            self.add_fan(openid.clone(), &nickname);
        }
        #[expect(
            clippy::expect_used,
            reason = "it was added above where it was missing"
        )]
        self.fans
            .get_mut(openid.as_str())
            .expect("the fan is there")
    }

    /// A follower with everything a person has.
    fn add_fan(&mut self, openid: OpenId, nickname: &str) {
        let now = self.now();
        let unionid = made(
            UnionId::parse,
            &format!("o{}", self.mint.text("unionid", 27)),
        );
        self.fans.push(Fan {
            headimgurl: format!("{}/mmopen/{openid}/132", self.origin),
            openid,
            unionid: Some(unionid),
            nickname: nickname.to_owned(),
            subscribed: true,
            subscribe_time: now,
            subscribe_scene: "ADD_SCENE_SEARCH".to_owned(),
            remark: String::new(),
            snapshot: false,
            windows: Vec::new(),
        });
    }

    /// Counts one call against a daily quota; days begin at 00:00 UTC+8.
    ///
    /// # Errors
    ///
    /// 45009 when the quota is used up and limits are real.
    pub(crate) fn count(&mut self, path: &'static str, limit: u64) -> Result<(), i64> {
        let day = (self.now() + 8 * 3600).div_euclid(24 * 3600);
        let used = self.quotas.entry(path).or_default();
        if used.day != day {
            *used = Used { day, calls: 0 };
        }
        if used.calls >= limit && self.account.limits == Limits::Real {
            return Err(45009);
        }
        used.calls += 1;
        Ok(())
    }

    /// The mark that each refusal carries: `hex(now)-hex8-hex8`.
    pub(crate) fn rid(&mut self) -> String {
        let random = self.mint.hex("rid", 16);
        format!("{:08x}-{}-{}", self.now(), &random[..8], &random[8..])
    }

    /// The clock as `/_sim/clock` answers.
    pub(crate) fn clock_json(&self) -> Value {
        json!({"now": self.now(), "advanced_s": self.clock.advanced()})
    }
}

fn made<T>(parse: impl Fn(&str) -> Result<T, InvalidId>, text: &str) -> T {
    #[expect(
        clippy::expect_used,
        reason = "the mint writes only letters, digits, - and _"
    )]
    parse(text).expect("a made id is well-formed")
}
