//! The fast way of the common message: one whose user has nothing in the tables, and whose handler ends
//! soon with a plain reply that a delivery carries.
//!
//! Rows under unique keys cost ten times what the rest of such a message costs. So it gets none. Its
//! delivery is decided in memory, where a *claim* holds the conversation. Its end is an *entry*, appended
//! to a buffer that the writer's thread puts into the file within some milliseconds, thousands of entries
//! in one row of the table `journal`. *Segments* index them later, in bulk.
//!
//! What is promised all the same:
//!
//! - All other operations on a user find the tables complete: the writer's thread turns his claim into
//!   ordinary rows before it runs them, and what it asks of the journal is looked up there. So the tables
//!   decide about everything but common messages.
//! - A claim that is some 50 ms old becomes rows too. A process killed before that loses messages that
//!   were delivered that lately, to a connection that breaks with it: the platform delivers them again. A
//!   process killed within 5 ms after the end of a message may lose its entry as well; where the platform
//!   has its answer by then, nobody asks again.
//! - An entry that the file does not take stays in memory and is tried again. While that lasts nothing
//!   goes the fast way, so who delivers learns of the fault.
//! - One process at a time goes the fast way: the one that is alone ([`right`]). It asks the file at least
//!   every 50 ms whether it still is, and stops by itself when it could not for 150 ms. Another process
//!   waits for it to stop, a second at most.
//! - Memory has bounds, whatever the traffic: [`Limits`].

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::{millis, unix_millis};
use crate::hashed::Ready;
use crate::store::{
    Conversation, Delivery, Digest, Handled, REMEMBER_MESSAGES, SessionChange, Turn,
};
use crate::wechat::id::OpenId;

mod entry;
mod filter;
mod group;
mod lookup;
mod right;
mod segments;

use entry::Entry;
use filter::Seen;
use right::Right;
use segments::{Place, Ref, Segment};

pub(in super::super) use entry::person;
pub(in super::super) use group::Begun;
pub(super) use lookup::{Found, Search};
pub(super) use segments::collect;

/// How long a delivery that [can't be old](Delivery::may_be_old) may have been seen before: such a message
/// is a minute old at most, give or take what clocks differ.
const FRESH: Duration = Duration::from_secs(90);
/// How long a window for customer-service messages is remembered: no longer one is there (WeChat: 客服消息).
const KEEP_WINDOWS: Duration = Duration::from_secs(48 * 3600);
/// A lease must be far longer than a claim stays in memory.
const LEAST_LEASE: Duration = Duration::from_secs(1);
/// Claims that are older become rows.
const CLAIM_AGE: Duration = Duration::from_millis(25);
/// How often the writer's thread looks after claims, and whether it is still alone.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long it may be believed that nobody else delivers, since the file last said so.
const BELIEVE_FOR: Duration = Duration::from_millis(150);
/// Buffers of rows that are kept for the next ones.
const MOST_SPARE: usize = 4;
/// How long entries gather before they are written.
pub(in super::super) const GATHER_FOR: Duration = Duration::from_millis(5);

/// What bounds the memory.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Limits {
    /// Users with something in the tables, 10 bytes each. Where there are more, nothing goes the fast way.
    pub(in super::super) people: usize,
    /// Entries in a segment; as many are in memory at most, some 80 bytes each.
    pub(in super::super) segment: usize,
    /// How long entries wait for being put into a segment.
    pub(in super::super) segment_age: Duration,
    /// Segments whose filters are in memory, 2 bytes for each entry.
    pub(in super::super) filters: usize,
    /// Messages of the last minute and a half that are known by a filter, 2 bytes each.
    pub(in super::super) seen: usize,
    /// Entries that wait for the file to take them, some 200 bytes each.
    pub(in super::super) buffered: usize,
    /// Entries in one row.
    pub(in super::super) row: usize,
    /// Claims at one time.
    pub(in super::super) claims: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            people: 450_000,
            segment: 32_768,
            segment_age: Duration::from_secs(600),
            // With `seen`, for 70,000 messages a second.
            filters: 192,
            seen: 4_000_000,
            buffered: 30_000,
            row: 1_000,
            claims: 10_000,
        }
    }
}

/// The fast way of one process, and what the writer's thread needs to keep it right.
pub(in super::super) struct Journal {
    state: Mutex<State>,
    right: Right,
    limits: Limits,
}

struct State {
    mode: Mode,
    /// Users who have, or may have, something in the tables.
    people: HashSet<u64, Ready>,
    /// They are what the tables say.
    is_in_step: bool,
    /// Users whom the writer's thread is busy with.
    busy: Vec<u64>,
    claims: HashMap<u64, Claimed, Ready>,
    batches: Vec<Batch>,
    /// Entries that are in no committed row.
    buffered: usize,
    /// Of rows that are written, to be filled again: to the system large ones cost more than what is put
    /// into them.
    spare: Vec<Vec<u8>>,
    tail: Tail,
    seen: Seen,
    /// In their order.
    segments: Vec<Segment>,
    /// Nothing that is younger stands in a segment whose messages are not in `seen`.
    unseen_until: i64,
    /// When the next of these segments may be learned.
    learns_at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// The fast way, as long as that is believed.
    Fast {
        until: Instant,
    },
    Slow,
    /// The process ends.
    Closed,
}

/// A message that is being handled, of a user who has nothing else.
#[derive(Clone)]
struct Claimed {
    of: OpenId,
    delivery: Delivery,
    turn: Turn,
    lease: Duration,
    first_seen: i64,
    since: Instant,
    /// The writer's thread is making rows of it.
    is_leaving: bool,
}

/// Entries that are to be a row.
struct Batch {
    row: i64,
    at: i64,
    count: u16,
    entries: Vec<u8>,
}

/// What is in the journal, or will be, and in no segment.
#[derive(Default)]
struct Tail {
    refs: Vec<Ref>,
    /// Messages, as places in `refs`.
    messages: HashMap<u64, u32, Ready>,
    base: i64,
    next_row: i64,
}

/// What a delivery comes to without the tables.
pub(super) enum Fast {
    /// The caller holds the conversation.
    Held(Conversation),
    /// It can be said when this was searched for.
    Unsure(Search),
    /// The tables decide.
    No,
}

impl Journal {
    /// Of the file at `path`.
    pub(in super::super) fn new(path: &Path, limits: Limits) -> Self {
        Self {
            state: Mutex::new(State {
                mode: Mode::Slow,
                people: HashSet::default(),
                is_in_step: false,
                busy: Vec::new(),
                claims: HashMap::default(),
                batches: Vec::new(),
                buffered: 0,
                spare: Vec::new(),
                tail: Tail::default(),
                seen: Seen::new(millis(FRESH), limits.seen),
                segments: Vec::new(),
                unseen_until: i64::MIN,
                learns_at: Instant::now(),
            }),
            right: Right::new(path),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a delivery that `began` just now, if it is a common one. `searched` is the segment up to which the message was
    /// searched for in vain, 0 at first.
    pub(super) fn deliver(
        &self,
        of: &OpenId,
        delivery: &Delivery,
        turn: Turn,
        lease: Duration,
        began: Instant,
        searched: i64,
    ) -> Fast {
        if delivery.is_farewell || lease < LEAST_LEASE {
            return Fast::No;
        }
        let person = person(of);
        let message = entry::message(person, &delivery.key);
        let now = unix_millis();
        let mut state = self.lock();
        if !state.is_fast(began)
            || state.people.contains(&person)
            || state.claims.contains_key(&person)
            || state.busy.contains(&person)
            || state.claims.len() >= self.limits.claims
            || state.buffered >= self.limits.buffered
            || state.tail.messages.contains_key(&message)
        {
            return Fast::No;
        }
        let places = if delivery.may_be_old {
            state.places(message, now - millis(REMEMBER_MESSAGES), searched)
        } else {
            state.fresh_places(message, now - millis(FRESH), searched)
        };
        if !places.is_empty() {
            let newest = state.newest();
            drop(state);
            return Fast::Unsure(Search::new(places, newest, message, of, &delivery.key));
        }
        let claimed = Claimed {
            of: of.clone(),
            delivery: delivery.clone(),
            turn,
            lease,
            first_seen: now,
            since: began,
            is_leaving: false,
        };
        state.claims.insert(person, claimed);
        drop(state);
        Fast::Held(Conversation::of_new(&delivery.key))
    }

    /// Takes the end of a common message. `None` where the tables decide; else whether the writer's thread
    /// has to be woken.
    pub(super) fn finish(
        &self,
        of: &OpenId,
        handled: &Handled,
        turn: Turn,
        began: Instant,
    ) -> Option<bool> {
        let reply = handled.reply.as_deref()?;
        let is_plain = handled.given
            && handled.taken.is_empty()
            && handled.kept.is_empty()
            && handled.session == SessionChange::Unchanged;
        if !is_plain {
            return None;
        }
        let person = person(of);
        let mut state = self.lock();
        if !state.is_fast(began) || state.buffered >= self.limits.buffered {
            return None;
        }
        let claimed = state.claims.get(&person)?;
        let is_his = claimed.of == *of
            && claimed.delivery.key == handled.key
            && claimed.turn == turn
            && !claimed.is_leaving;
        if !is_his {
            return None;
        }
        let claimed = state.claims.remove(&person)?;
        let opens = claimed.delivery.opens;
        let entry = Entry::new(of, &handled.key, turn, claimed.first_seen, opens, reply);
        let message = entry::message(person, &handled.key);
        Some(state.append(&entry, (message, person), self.limits.row))
    }

    /// Whether a message is being handled, and nothing of it is in the tables yet.
    pub(super) fn is_claimed(&self, of: &OpenId, key: &Digest) -> bool {
        let state = self.lock();
        let claimed = state.claims.get(&person(of));
        claimed.is_some_and(|claimed| claimed.of == *of && claimed.delivery.key == *key)
    }

    /// Notes that a user has something in the tables, or may have.
    pub(super) fn note_person(&self, person: u64) {
        self.lock().people.insert(person);
    }

    /// Notes that users have nothing in the tables any more. They are forgotten when they are many.
    pub(super) fn note_freed(&self, freed: usize) {
        let mut state = self.lock();
        if freed > 1_000.max(state.people.len() / 4) {
            state.is_in_step = false;
        }
    }
}

impl State {
    fn is_fast(&self, now: Instant) -> bool {
        matches!(self.mode, Mode::Fast { until } if now < until)
    }

    fn newest(&self) -> i64 {
        self.segments.last().map_or(0, |segment| segment.place.id)
    }

    /// The segments behind `searched` in which something may stand that is no older than `oldest`.
    fn places(&self, message: u64, oldest: i64, searched: i64) -> Vec<Place> {
        self.segments
            .iter()
            .rev()
            .take_while(|segment| segment.place.id > searched)
            .filter(|segment| segment.last_at >= oldest && segment.may_hold(message))
            .map(|segment| segment.place)
            .collect()
    }

    /// The same of a message that was not made long ago.
    fn fresh_places(&self, message: u64, oldest: i64, searched: i64) -> Vec<Place> {
        let may_be_seen = searched > 0 || self.seen.may_hold(message);
        if !may_be_seen && self.unseen_until < oldest {
            return Vec::new();
        }
        self.segments
            .iter()
            .rev()
            // They are many on a busy day.
            .take_while(|segment| segment.place.id > searched && segment.last_at >= oldest)
            .filter(|segment| (may_be_seen || !segment.is_seen) && segment.may_hold(message))
            .map(|segment| segment.place)
            .collect()
    }

    fn add_segments(&mut self, segments: impl IntoIterator<Item = Segment>) {
        self.segments.extend(segments);
        self.look_for_unseen();
    }

    fn look_for_unseen(&mut self) {
        let unseen = self.segments.iter().filter(|segment| !segment.is_seen);
        self.unseen_until = unseen
            .map(|segment| segment.last_at)
            .max()
            .unwrap_or(i64::MIN);
    }

    /// Returns whether it is the first one since the last that were written.
    fn append(&mut self, entry: &Entry<'_>, hashes: (u64, u64), row_entries: usize) -> bool {
        let is_first = self.batches.is_empty();
        if self
            .batches
            .last()
            .is_none_or(|batch| usize::from(batch.count) >= row_entries)
        {
            self.batches.push(Batch {
                row: self.tail.next_row,
                at: entry.first_seen,
                count: 0,
                entries: self.spare.pop().unwrap_or_default(),
            });
            self.tail.next_row += 1;
        }
        let Some(batch) = self.batches.last_mut() else {
            return false;
        };
        entry.write(&mut batch.entries);
        let row = u32::try_from(batch.row - self.tail.base).unwrap_or(u32::MAX);
        let refs = segments::refs_of(hashes, entry, row, batch.count);
        batch.count += 1;
        self.buffered += 1;
        let place = self.tail.refs.len() as u32;
        self.tail.messages.insert(hashes.0, place);
        self.tail.refs.extend(refs);
        self.seen.insert(hashes.0, entry.first_seen);
        is_first
    }
}

impl Tail {
    /// Takes out what a segment holds now: the first of the references.
    fn cut(&mut self, segmented: usize) {
        self.refs.drain(..segmented.min(self.refs.len()));
        self.messages.clear();
        for (place, found) in (0..).zip(&self.refs) {
            if found.kind == segments::MESSAGE {
                self.messages.insert(found.hash, place);
            }
        }
    }
}

/// A key as it was asked for, with its user.
#[derive(Clone)]
struct Asked {
    of: OpenId,
    key: Digest,
}

#[cfg(test)]
mod tests;
