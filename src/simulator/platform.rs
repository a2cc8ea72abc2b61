//! The state of the simulated platform. One value behind one lock, changed only by sync code.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::Options;
use super::account::{Account, Limits};
use super::agents::Agents;
use super::articles::Articles;
use super::chat::Chat;
use super::clock::{Clock, Seconds};
use super::comments::Comments;
use super::fans::{Fan, Fans};
use super::faults::Faults;
use super::grants::Grants;
use super::mass::Mass;
use super::media::MediaLibrary;
use super::menu::Menu;
use super::mint::Mint;
use super::outbox::Outbox;
use super::qrcodes::QrCodes;
use super::quotas::Quotas;
use super::sends::Sends;
use super::tags::Tags;
use super::templates::Templates;
use super::tokens::Tokens;
use crate::wechat::id::{InvalidId, OpenId, UnionId};

/// How much of what happened is kept for `/_sim` to show.
const REMEMBERED: usize = 500;
/// The same of deliveries: tests make them by the thousand, and at once.
const REMEMBERED_PUSHES: usize = 5_000;

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
    /// Customer-service messages, sent or refused.
    pub(crate) sends: Sends,
    /// API calls, pushes and JS-SDK checks.
    pub(crate) requests: Recent,
    pub(crate) pushes: Recent,
    pub(crate) jssdk: Recent,
    /// What came of each visit to the consent page.
    pub(crate) oauth: Recent,
    /// Deliveries that are not over.
    pub(crate) under_way: Recent,
    /// How often everything went back to the start.
    pub(crate) resets: u64,
    /// Grows whenever `/_sim` changes account, fans, faults or clock.
    pub(crate) settings: u64,
    pub(crate) quotas: Quotas,
    pub(crate) outbox: Outbox,
    /// How the next jobs are to end, where not well.
    pub(crate) outcomes: Outcomes,
    pub(crate) tags: Tags,
    pub(crate) menu: Menu,
    pub(crate) qrcodes: QrCodes,
    pub(crate) agents: Agents,
    pub(crate) templates: Templates,
    pub(crate) mass: Mass,
    pub(crate) media: MediaLibrary,
    pub(crate) articles: Articles,
    pub(crate) comments: Comments,
    /// From whom events of jobs come that are about no fan.
    helper: OpenId,
    /// With a seed jobs end at once.
    seeded: bool,
}

/// How the next job of a kind ends; taken once.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// `Status` of TEMPLATESENDJOBFINISH.
    pub(crate) template: Option<String>,
    /// `Status` of MASSSENDJOBFINISH.
    pub(crate) mass: Option<String>,
    /// `publish_status` of PUBLISHJOBFINISH.
    pub(crate) publish: Option<i64>,
}

/// The last things of a kind, newest first, each with an `id` that counts.
#[derive(Debug)]
pub(crate) struct Recent {
    most: usize,
    list: VecDeque<Value>,
    last_id: u64,
    revision: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self::keeping(REMEMBERED)
    }
}

impl Recent {
    /// A list that keeps so many.
    fn keeping(most: usize) -> Self {
        Self {
            most,
            list: VecDeque::new(),
            last_id: 0,
            revision: 0,
        }
    }

    /// Adds one and gives its id.
    pub(crate) fn push(&mut self, mut entry: Value) -> u64 {
        self.last_id += 1;
        self.revision += 1;
        entry["id"] = json!(self.last_id);
        self.list.truncate(self.most - 1);
        self.list.push_front(entry);
        self.last_id
    }

    /// Changes one, where it is still kept.
    pub(crate) fn update(&mut self, id: u64, change: impl FnOnce(&mut Value)) {
        if let Some(place) = self.place(id) {
            change(&mut self.list[place]);
            self.revision += 1;
        }
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, id: u64) -> Option<Value> {
        let place = self.place(id)?;
        self.revision += 1;
        self.list.remove(place)
    }

    /// Ids fall along the list.
    fn place(&self, id: u64) -> Option<usize> {
        let by_id = |entry: &Value| id.cmp(&entry["id"].as_u64().unwrap_or(0));
        self.list.binary_search_by(by_id).ok()
    }

    /// Grows with each change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.list.iter()
    }

    /// The newest `limit` of them.
    pub(crate) fn to_json(&self, limit: usize) -> Value {
        self.iter().take(limit).cloned().collect()
    }
}

impl Platform {
    pub(crate) fn new(options: &Options, account: Account, origin: &str) -> Self {
        let mut mint = Mint::new(options.seed);
        let helper = made(OpenId::parse, &format!("o{}", mint.text("helper", 27)));
        let mut platform = Self {
            origin: origin.to_owned(),
            account,
            clock: Clock::default(),
            mint,
            helper,
            fans: Fans::default(),
            tokens: Tokens::default(),
            grants: Grants::default(),
            faults: Faults::default(),
            chat: Chat::default(),
            sends: Sends::default(),
            requests: Recent::default(),
            pushes: Recent::keeping(REMEMBERED_PUSHES),
            jssdk: Recent::default(),
            oauth: Recent::default(),
            under_way: Recent::keeping(REMEMBERED_PUSHES),
            resets: 0,
            settings: 0,
            quotas: Quotas::default(),
            outbox: Outbox::default(),
            outcomes: Outcomes::default(),
            tags: Tags::default(),
            menu: Menu::default(),
            qrcodes: QrCodes::default(),
            agents: Agents::default(),
            templates: Templates::default(),
            mass: Mass::default(),
            media: MediaLibrary::default(),
            articles: Articles::default(),
            comments: Comments::default(),
            seeded: options.seed.is_some(),
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
            scene: None,
            tags: Vec::new(),
            blacklisted: false,
            refuses_templates: false,
            client_platform_type: 1,
            former_openid: None,
            wrote_at: None,
            typing_until: 0,
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
        let now = self.now();
        if self.quotas.used(path, now) >= limit && self.account.limits == Limits::Real {
            return Err(45009);
        }
        self.quotas.count(path, now);
        Ok(())
    }

    /// From whom events of jobs come that are about no fan.
    pub(crate) fn helper(&self) -> OpenId {
        self.helper.clone()
    }

    /// Whether windows, counts and consents refuse.
    pub(crate) fn is_strict(&self) -> bool {
        self.account.limits == Limits::Real
    }

    /// When a job that takes `seconds` ends: with a seed at once.
    pub(crate) fn ends_in(&self, seconds: Seconds) -> Seconds {
        self.now() + if self.seeded { 0 } else { seconds }
    }

    /// An event about `openid` is pushed at `due`, with these members beside the common ones.
    pub(crate) fn announce(&mut self, due: Seconds, openid: &OpenId, event: &str, more: Value) {
        let mut members = match more {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        members.insert("openid".to_owned(), json!(openid));
        members.insert("MsgType".to_owned(), json!("event"));
        members.insert("Event".to_owned(), json!(event));
        self.outbox.leave(due, members);
    }

    /// The person with this openid.
    ///
    /// # Errors
    ///
    /// 40003 where there is nobody.
    pub(crate) fn fan(&mut self, openid: &str) -> Result<&mut Fan, i64> {
        self.fans.get_mut(openid).ok_or(40003)
    }

    /// The follower whom the account may write to.
    ///
    /// # Errors
    ///
    /// 40003 where there is nobody, 43004 where he does not follow, 43019 where he is blacklisted.
    pub(crate) fn receiver(&mut self, openid: &str) -> Result<&mut Fan, i64> {
        let fan = self.fan(openid)?;
        if !fan.subscribed {
            return Err(43004);
        }
        if fan.blacklisted {
            return Err(43019);
        }
        Ok(fan)
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
