//! The people who answer for the account ("WeChat: 客服管理"), whom they serve, and what was said.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::clock::Seconds;

/// One customer-service account.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) kf_account: String,
    pub(crate) nickname: String,
    pub(crate) id: u64,
    pub(crate) headimgurl: String,
    /// The WeChat id behind it; without one nobody can work with it.
    pub(crate) wx: Option<String>,
    /// Who was asked to be behind it, and until when he may agree.
    pub(crate) invitation: Option<(String, Seconds)>,
    pub(crate) is_online: bool,
}

#[derive(Debug)]
struct Session {
    kf_account: String,
    created_at: Seconds,
}

/// One line of the record.
#[derive(Debug)]
struct Line {
    id: u64,
    openid: String,
    opercode: u16,
    text: String,
    time: Seconds,
    worker: String,
}

/// All of them, their sessions, who waits, and the record.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    list: Vec<Agent>,
    sessions: BTreeMap<String, Session>,
    waiting: Vec<(String, Seconds)>,
    record: Vec<Line>,
    lines: u64,
}

/// Accounts in all.
const MOST: usize = 100;
/// The lines that are kept.
const REMEMBERED: usize = 10_000;
/// Fans in one answer of `getwaitcase`.
const WAITING: usize = 100;
/// 客服发送信息
const AGENT_SAID: u16 = 2002;
/// 客服接收消息
const FAN_SAID: u16 = 2003;
/// How long an invitation stands.
const INVITATION: Seconds = 7 * 24 * 3600;

impl Agents {
    /// Adds an account.
    ///
    /// # Errors
    ///
    /// 65406 for one that is there, 65405 beyond 100.
    pub(crate) fn add(&mut self, kf_account: &str, nickname: &str) -> Result<(), i64> {
        if self.find(kf_account).is_ok() {
            return Err(65406);
        }
        if self.list.len() >= MOST {
            return Err(65405);
        }
        let id = self.list.last().map_or(1000, |agent| agent.id) + 1;
        self.list.push(Agent {
            kf_account: kf_account.to_owned(),
            nickname: nickname.to_owned(),
            id,
            headimgurl: String::new(),
            wx: None,
            invitation: None,
            is_online: false,
        });
        Ok(())
    }

    /// The account of that name.
    ///
    /// # Errors
    ///
    /// 65401 for one that is not there.
    pub(crate) fn find(&mut self, kf_account: &str) -> Result<&mut Agent, i64> {
        let found = |agent: &&mut Agent| agent.kf_account == kf_account;
        self.list.iter_mut().find(found).ok_or(65401)
    }

    /// Removes an account; its sessions end.
    ///
    /// # Errors
    ///
    /// 65401 for one that is not there.
    pub(crate) fn delete(&mut self, kf_account: &str) -> Result<(), i64> {
        self.find(kf_account)?;
        self.list.retain(|agent| agent.kf_account != kf_account);
        self.sessions
            .retain(|_, session| session.kf_account != kf_account);
        Ok(())
    }

    /// Asks a person to be behind an account.
    ///
    /// # Errors
    ///
    /// 65401 for an account that is not there, 65407 for somebody who is behind another, 65408 for one
    /// who was asked, 65411 where somebody else was asked, 65412 where somebody is behind it.
    pub(crate) fn invite(&mut self, kf_account: &str, wx: &str, now: Seconds) -> Result<(), i64> {
        let agent = self.find(kf_account)?;
        if agent.wx.is_some() {
            return Err(65412);
        }
        let is_standing =
            |agent: &Agent| matches!(&agent.invitation, Some((_, until)) if now < *until);
        if is_standing(agent) {
            return Err(65411);
        }
        for other in &self.list {
            if other.wx.as_deref() == Some(wx) {
                return Err(65407);
            }
            let asked = other
                .invitation
                .as_ref()
                .is_some_and(|(asked, _)| asked == wx);
            if asked && is_standing(other) {
                return Err(65408);
            }
        }
        self.find(kf_account)?.invitation = Some((wx.to_owned(), now + INVITATION));
        Ok(())
    }

    /// As `getkflist` answers.
    pub(crate) fn to_json(&self, now: Seconds) -> Value {
        let one = |agent: &Agent| {
            let mut json = json!({
                "kf_account": agent.kf_account,
                "kf_nick": agent.nickname,
                "kf_id": agent.id.to_string(),
                "kf_headimgurl": agent.headimgurl,
            });
            if let Some(wx) = &agent.wx {
                json["kf_wx"] = json!(wx);
            } else if let Some((wx, until)) = &agent.invitation {
                json["invite_wx"] = json!(wx);
                json["invite_expire_time"] = json!(until);
                json["invite_status"] = json!(if now < *until { "waiting" } else { "expired" });
            }
            json
        };
        self.list.iter().map(one).collect()
    }

    /// As `getonlinekflist` answers.
    pub(crate) fn online_json(&self) -> Value {
        let online = self.list.iter().filter(|agent| agent.is_online);
        online
            .map(|agent| {
                json!({
                    "kf_account": agent.kf_account,
                    "status": 1,
                    "kf_id": agent.id.to_string(),
                    "accepted_case": self.served_by(&agent.kf_account).count(),
                })
            })
            .collect()
    }

    /// Fans whom this account serves, with the beginning of each session.
    pub(crate) fn served_by(&self, kf_account: &str) -> impl Iterator<Item = (&str, Seconds)> {
        let sessions = self.sessions.iter();
        sessions
            .filter(move |(_, session)| session.kf_account == kf_account)
            .map(|(openid, session)| (openid.as_str(), session.created_at))
    }

    /// Who serves this fan, and since when.
    pub(crate) fn session(&self, openid: &str) -> Option<(&str, Seconds)> {
        let session = self.sessions.get(openid)?;
        Some((&session.kf_account, session.created_at))
    }

    /// An account takes a fan; true where this is new.
    ///
    /// # Errors
    ///
    /// 65401 for an account that is not there, 65402 for one without a person behind it, 65415 for one
    /// that is away, 65414 where another serves him.
    pub(crate) fn open_session(
        &mut self,
        kf_account: &str,
        openid: &str,
        now: Seconds,
    ) -> Result<bool, i64> {
        let agent = self.find(kf_account)?;
        if agent.wx.is_none() {
            return Err(65402);
        }
        if !agent.is_online {
            return Err(65415);
        }
        match self.sessions.get(openid) {
            Some(session) if session.kf_account == kf_account => return Ok(false),
            Some(_) => return Err(65414),
            None => {}
        }
        let session = Session {
            kf_account: kf_account.to_owned(),
            created_at: now,
        };
        self.sessions.insert(openid.to_owned(), session);
        self.waiting.retain(|(waiting, _)| waiting != openid);
        Ok(true)
    }

    /// An account lets a fan go.
    ///
    /// # Errors
    ///
    /// 65401 for an account that is not there, 65413 where nobody serves him, 65414 where another does.
    pub(crate) fn close_session(&mut self, kf_account: &str, openid: &str) -> Result<(), i64> {
        self.find(kf_account)?;
        match self.sessions.get(openid) {
            None => Err(65413),
            Some(session) if session.kf_account != kf_account => Err(65414),
            Some(_) => {
                self.sessions.remove(openid);
                Ok(())
            }
        }
    }

    /// A fan was handed over and waits for somebody.
    pub(crate) fn wait(&mut self, openid: &str, now: Seconds) {
        if self.sessions.contains_key(openid) {
            return;
        }
        self.waiting.retain(|(waiting, _)| waiting != openid);
        self.waiting.push((openid.to_owned(), now));
    }

    /// As `getwaitcase` answers.
    pub(crate) fn waiting_json(&self) -> Value {
        let list: Vec<_> = self
            .waiting
            .iter()
            .take(WAITING)
            .map(|(openid, at)| json!({"latest_time": at, "openid": openid}))
            .collect();
        json!({"count": self.waiting.len(), "waitcaselist": list})
    }

    /// A fan wrote.
    pub(crate) fn note_fan(&mut self, openid: &str, text: &str, now: Seconds) {
        let worker = self.session(openid).map_or("", |(worker, _)| worker);
        let worker = worker.to_owned();
        self.note(openid, FAN_SAID, text, worker, now);
    }

    /// The account wrote, by the mouth of `worker` or by itself.
    pub(crate) fn note_account(&mut self, openid: &str, text: &str, worker: &str, now: Seconds) {
        self.note(openid, AGENT_SAID, text, worker.to_owned(), now);
    }

    fn note(&mut self, openid: &str, opercode: u16, text: &str, worker: String, now: Seconds) {
        if self.record.len() >= REMEMBERED {
            self.record.remove(0);
        }
        self.lines += 1;
        self.record.push(Line {
            id: self.lines,
            openid: openid.to_owned(),
            opercode,
            text: text.to_owned(),
            time: now,
            worker,
        });
    }

    /// As `getmsglist` answers: lines of that time from the id on, and the id to go on with.
    pub(crate) fn record_json(
        &self,
        (start, end): (Seconds, Seconds),
        from: u64,
        most: usize,
    ) -> Value {
        let lines = self.record.iter();
        let lines: Vec<_> = lines
            .filter(|line| (start..=end).contains(&line.time) && line.id >= from)
            .take(most)
            .collect();
        let next = lines.last().map_or(from, |line| line.id + 1);
        let list: Vec<_> = lines
            .iter()
            .map(|line| {
                json!({
                    "openid": line.openid,
                    "opercode": line.opercode,
                    "text": line.text,
                    "time": line.time,
                    "worker": line.worker,
                })
            })
            .collect();
        json!({"recordlist": list, "number": list.len(), "msgid": next})
    }
}
