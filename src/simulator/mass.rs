//! Mass messages ("WeChat: 群发接口和原创校验"): jobs that take a while, and how often each fan got one.

use std::collections::BTreeMap;

use super::clock::{Day, Seconds};

/// One job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) msg_id: u64,
    pub(crate) msg_data_id: u64,
    pub(crate) started_at: Seconds,
    pub(crate) due: Seconds,
    /// What it comes to: `send success` or something else.
    pub(crate) outcome: String,
    pub(crate) is_deleted: bool,
    pub(crate) clientmsgid: Option<String>,
}

/// All jobs, the speed, and the counts.
#[derive(Debug, Default)]
pub(crate) struct Mass {
    jobs: Vec<Job>,
    /// 0 the fastest to 4 the slowest.
    pub(crate) speed: i64,
    /// Messages of this month by openid.
    received: BTreeMap<String, ((i64, i64), u64)>,
    /// Jobs of a subscription account today.
    today: Option<(Day, u64)>,
}

/// Jobs that are remembered.
const REMEMBERED: usize = 5000;
/// How long a `clientmsgid` stands for its job.
const ONCE_FOR: Seconds = 24 * 3600;
/// How soon the same `clientmsgid` is too soon.
const PAUSE: Seconds = 60;
/// Messages for a fan of a service account in a month.
const A_MONTH: u64 = 4;

impl Job {
    /// `msg_status` of `mass/get`.
    pub(crate) fn status(&self, now: Seconds) -> &'static str {
        if self.is_deleted {
            "DELETE"
        } else if now < self.due {
            "SENDING"
        } else if self.outcome == "send success" {
            "SEND_SUCCESS"
        } else {
            "SEND_FAIL"
        }
    }
}

impl Mass {
    pub(crate) fn add(&mut self, job: Job) {
        if self.jobs.len() >= REMEMBERED {
            self.jobs.remove(0);
        }
        self.jobs.push(job);
    }

    /// The job with this id.
    ///
    /// # Errors
    ///
    /// 40059 for one that is not there.
    pub(crate) fn find(&mut self, msg_id: u64) -> Result<&mut Job, i64> {
        let found = |job: &&mut Job| job.msg_id == msg_id;
        self.jobs.iter_mut().find(found).ok_or(40059)
    }

    /// The job that a `clientmsgid` already stands for, and what to say of it: 45066 within a minute,
    /// else 45065.
    pub(crate) fn duplicate(&self, clientmsgid: &str, now: Seconds) -> Option<(i64, &Job)> {
        let job = self.jobs.iter().rev().find(|job| {
            job.clientmsgid.as_deref() == Some(clientmsgid) && now < job.started_at + ONCE_FOR
        })?;
        let is_soon = now < job.started_at + PAUSE;
        Some((if is_soon { 45066 } else { 45065 }, job))
    }

    /// Whether this fan may still get one this month.
    pub(crate) fn may_receive(&self, openid: &str, now: Seconds) -> bool {
        self.received_in(openid, month(now)) < A_MONTH
    }

    fn received_in(&self, openid: &str, month: (i64, i64)) -> u64 {
        match self.received.get(openid) {
            Some((of, received)) if *of == month => *received,
            _ => 0,
        }
    }

    pub(crate) fn note_received(&mut self, openid: &str, now: Seconds) {
        let received = self.received_in(openid, month(now)) + 1;
        self.received
            .insert(openid.to_owned(), (month(now), received));
    }

    /// Jobs of today.
    pub(crate) fn today(&self, now: Seconds) -> u64 {
        match self.today {
            Some((day, jobs)) if day == Day::of(now) => jobs,
            _ => 0,
        }
    }

    pub(crate) fn note_job(&mut self, now: Seconds) {
        self.today = Some((Day::of(now), self.today(now) + 1));
    }
}

fn month(now: Seconds) -> (i64, i64) {
    let (year, month, _) = Day::of(now).date();
    (year, month)
}
