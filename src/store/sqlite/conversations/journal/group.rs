//! The journal's part in each transaction of the writer's thread: before its jobs, what is in memory is
//! written, as far as they, or time, ask for it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::super::millis;
use super::super::claim::Claim;
use super::segments::{self, Pauses, REFS_AT_ONCE, Ref};
use super::{
    BELIEVE_FOR, Batch, CLAIM_AGE, Claimed, FRESH, Journal, KEEP_WINDOWS, LOOK_EVERY, MOST_SPARE,
    Mode, State, Tail, entry, unix_millis,
};
use crate::hashed::Ready;
use crate::wechat::id::OpenId;

/// Messages that are learned while others wait for it, some microseconds.
const LEARNED_AT_ONCE: usize = 1_000;

/// How a transaction begins.
pub(in super::super::super) enum Begun {
    /// It may go on; to be handed to [`Journal::end`] when it is over.
    Step(Step),
    /// Another process goes the fast way. Nothing may be written before [`Journal::wait`].
    Elsewhere,
}

/// What a transaction has written of the memory.
pub(in super::super::super) struct Step {
    checked: Instant,
    batches: Vec<Batch>,
    claims: Vec<(u64, Claimed)>,
    /// The rows have their numbers. Else another process has been at the journal.
    is_numbered: bool,
    signs: bool,
    /// There may be rows that are in no segment.
    recovers: bool,
    /// To become a segment: how many references, their base and the last row.
    tail: Option<(usize, i64, i64)>,
    /// The newest segment that was known before.
    newest: i64,
    /// The fast way ends.
    leaves: bool,
}

impl Journal {
    /// Whether a transaction is due though there is no job.
    pub(in super::super::super) fn is_due(&self, db: &Connection) -> rusqlite::Result<bool> {
        let checked = Instant::now();
        let standing = self.right.standing(db)?;
        let mut state = self.lock();
        let is_old = |claimed: &Claimed| claimed.since.elapsed() >= CLAIM_AGE;
        let is_due = state.buffered > 0
            || state.claims.values().any(is_old)
            || self.is_segment_due(&state)
            || state.people.len() > self.limits.people
            || match state.mode {
                Mode::Fast { .. } => {
                    !standing.is_mine || !standing.is_fast || standing.is_asked || !state.is_in_step
                }
                Mode::Slow | Mode::Closed => standing.is_mine && standing.is_fast,
            };
        if !is_due && matches!(state.mode, Mode::Fast { .. }) {
            state.mode = Mode::Fast {
                until: checked + BELIEVE_FOR,
            };
        }
        Ok(is_due)
    }

    fn is_segment_due(&self, state: &State) -> bool {
        let refs = &state.tail.refs;
        refs.len() >= self.limits.segment * 2
            || refs
                .first()
                .is_some_and(|first| first.at <= unix_millis() - millis(self.limits.segment_age))
    }

    /// Writes what jobs that concern `people` must find in the tables, and what it is time for.
    pub(in super::super::super) fn begin(
        &self,
        db: &Connection,
        people: Vec<u64>,
    ) -> rusqlite::Result<Begun> {
        let checked = Instant::now();
        let has_work =
            |state: &State| !people.is_empty() || !state.claims.is_empty() || state.buffered > 0;
        if self.is_idle(&self.lock(), has_work) {
            return Ok(Begun::Step(Step::new(checked)));
        }
        let standing = self.right.standing(db)?;
        let mut state = self.lock();
        let is_numbered = standing.is_mine && standing.is_fast;
        if matches!(state.mode, Mode::Fast { .. }) {
            if !is_numbered || standing.is_asked {
                state.mode = Mode::Slow;
                self.right.calm_down();
            } else if state.people.len() > self.limits.people {
                state.mode = Mode::Slow;
                self.right.give_up();
                tracing::info!("too many users have conversations: messages go the slow way");
            } else if !state.is_in_step {
                state.mode = Mode::Slow;
            }
        }
        if !is_numbered {
            self.right.unlock();
            if !state.tail.refs.is_empty() {
                // They are in no segment.
                state.tail = Tail::default();
                state.is_in_step = false;
            }
            if !has_work(&state) {
                return Ok(Begun::Step(Step::new(checked)));
            }
        }
        if !standing.is_mine {
            state.is_in_step = false;
            if standing.is_fast {
                return Ok(Begun::Elsewhere);
            }
        }
        let mut step = Step::new(checked);
        step.is_numbered = is_numbered;
        step.recovers = !is_numbered && (!state.is_in_step || state.buffered > 0);
        step.leaves = is_numbered && !matches!(state.mode, Mode::Fast { .. });
        step.signs = step.leaves || !standing.is_mine;
        step.newest = state.newest();
        self.gather(&mut state, &people, &mut step);
        state.busy = people;
        drop(state);
        match self.write(db, &mut step) {
            Ok(()) => Ok(Begun::Step(step)),
            Err(error) => {
                self.end(step, false);
                Err(error)
            }
        }
    }

    /// Whether nothing is in memory that has to be written, now or soon.
    fn is_idle(&self, state: &State, has_work: impl FnOnce(&State) -> bool) -> bool {
        state.mode == Mode::Slow && !self.right.is_locked() && !has_work(state)
    }

    /// How long the writer's thread may wait for jobs.
    pub(in super::super::super) fn patience(&self) -> Option<Duration> {
        let has_work = |state: &State| !state.claims.is_empty() || state.buffered > 0;
        let is_idle = self.is_idle(&self.lock(), has_work);
        (!is_idle).then_some(LOOK_EVERY)
    }

    fn gather(&self, state: &mut State, people: &[u64], step: &mut Step) {
        step.batches = std::mem::take(&mut state.batches);
        let all = !matches!(state.mode, Mode::Fast { .. });
        for person in people {
            if let Some(claimed) = state.claims.get_mut(person) {
                claimed.is_leaving = true;
            }
        }
        for (person, claimed) in &mut state.claims {
            claimed.is_leaving |= all || claimed.since.elapsed() >= CLAIM_AGE;
            if claimed.is_leaving {
                step.claims.push((*person, claimed.clone()));
            }
        }
        let tail = &state.tail;
        if !tail.refs.is_empty() && (step.leaves || self.is_segment_due(state)) {
            step.tail = Some((tail.refs.len(), tail.base, tail.next_row - 1));
        }
    }

    fn write(&self, db: &Connection, step: &mut Step) -> rusqlite::Result<()> {
        if step.signs {
            self.right.sign(db, false)?;
        }
        if !step.is_numbered && !step.batches.is_empty() {
            let first = segments::next_row(db)?;
            for (row, batch) in (first..).zip(&mut step.batches) {
                batch.row = row;
            }
        }
        for batch in &step.batches {
            segments::append(db, batch.row, batch.at, &batch.entries)?;
        }
        for (_, claimed) in &step.claims {
            // As it would have been at once.
            let claim = Claim {
                db,
                turn: claimed.turn,
                lease: claimed.lease,
                now: claimed.first_seen,
            };
            claim.deliver(&claimed.of, &claimed.delivery)?;
        }
        if let Some((count, base, last_row)) = step.tail {
            let pauses = Pauses::new();
            let refs = self.copy_tail(count, &pauses);
            let mut segment = segments::write(db, &refs, base, last_row, &pauses)?;
            segment.is_seen = !step.leaves;
            // The jobs look into it.
            self.lock().add_segments([segment]);
        }
        if step.recovers {
            segments::write_missing(db, self.limits.segment)?;
            let found = segments::load(db, step.newest, self.limits.filters, unix_millis())?;
            self.lock().add_segments(found);
        }
        Ok(())
    }

    /// The first references of the tail. Others may be added meanwhile, behind them.
    fn copy_tail(&self, count: usize, pauses: &Pauses) -> Vec<Ref> {
        let mut refs: Vec<Ref> = Vec::with_capacity(count);
        while refs.len() < count {
            let (from, until) = (refs.len(), count.min(refs.len() + REFS_AT_ONCE));
            refs.extend_from_slice(&self.lock().tail.refs[from..until]);
            pauses.pause();
        }
        refs
    }

    /// Notes how a transaction ended.
    pub(in super::super::super) fn end(&self, step: Step, is_committed: bool) {
        let mut state = self.lock();
        let state = &mut *state;
        state.busy.clear();
        if !is_committed {
            for (person, _) in &step.claims {
                if let Some(claimed) = state.claims.get_mut(person) {
                    claimed.is_leaving = false;
                }
            }
            state.batches.splice(0..0, step.batches);
            let newest = step.newest;
            state.segments.retain(|segment| segment.place.id <= newest);
            return;
        }
        for (person, _) in &step.claims {
            state.claims.remove(person);
            state.people.insert(*person);
        }
        for mut written in step.batches {
            state.buffered -= usize::from(written.count);
            if state.spare.len() < MOST_SPARE {
                written.entries.clear();
                state.spare.push(written.entries);
            }
        }
        if let Some((count, ..)) = step.tail {
            state.tail.cut(count);
        }
        if state.newest() > step.newest {
            self.bound_segments(state);
        }
        if step.leaves {
            state.tail = Tail::default();
            self.right.unlock();
        }
        if let Mode::Fast { until } = &mut state.mode {
            *until = step.checked + BELIEVE_FOR;
        }
    }

    fn bound_segments(&self, state: &mut State) {
        let oldest = unix_millis() - millis(KEEP_WINDOWS);
        state.segments.retain(|segment| segment.last_at > oldest);
        let without = state.segments.len().saturating_sub(self.limits.filters);
        // Nearly all of them have none already.
        for segment in &mut state.segments[..without] {
            segment.drop_filter();
        }
    }

    /// Waits until no other process goes the fast way. In no transaction.
    pub(in super::super::super) fn wait(&self, db: &Connection) -> rusqlite::Result<()> {
        self.right.wait(db)
    }

    /// Begins to go the fast way, if this process is alone and it is time for it. In no transaction.
    pub(in super::super::super) fn rise(&self, db: &Connection) -> rusqlite::Result<()> {
        let state = self.lock();
        let is_free = state.mode == Mode::Slow && state.claims.is_empty() && state.buffered == 0;
        let (is_in_step, newest) = (state.is_in_step, state.newest());
        drop(state);
        if self.limits.people == 0 || !is_free || !self.right.may_rise() {
            return Ok(());
        }
        if !self.right.try_lock() {
            self.right.try_later();
            return Ok(());
        }
        let risen = self.write_risen(db, is_in_step, newest);
        match &risen {
            Ok(true) => self.right.note_risen(),
            Ok(false) => {
                self.right.give_up();
                self.right.unlock();
            }
            Err(_) => {
                self.right.try_later();
                self.right.unlock();
            }
        }
        risen.map(drop)
    }

    fn write_risen(
        &self,
        db: &Connection,
        is_in_step: bool,
        newest: i64,
    ) -> rusqlite::Result<bool> {
        let checked = Instant::now();
        let transaction =
            rusqlite::Transaction::new_unchecked(db, rusqlite::TransactionBehavior::Immediate)?;
        let people = if is_in_step && self.right.standing(db)?.is_mine {
            None
        } else {
            segments::write_missing(db, self.limits.segment)?;
            let people = people(db, self.limits.people)?;
            if people.len() > self.limits.people {
                tracing::info!("too many users have conversations: messages go the slow way");
                return Ok(false);
            }
            Some(people)
        };
        self.right.sign(db, true)?;
        let next_row = segments::next_row(db)?;
        let loaded = segments::load(db, newest, self.limits.filters, unix_millis())?;
        transaction.commit()?;

        let mut state = self.lock();
        if let Some(people) = people {
            state.people = people;
        }
        state.is_in_step = true;
        state.tail = Tail {
            base: next_row,
            next_row,
            ..Tail::default()
        };
        state.seen.clear();
        for segment in &mut state.segments {
            segment.is_seen = false;
        }
        state.add_segments(loaded);
        self.bound_segments(&mut state);
        state.mode = Mode::Fast {
            until: checked + BELIEVE_FOR,
        };
        Ok(true)
    }

    /// Has `seen` know the messages of one more segment that was there before, so that nobody has to look
    /// for each new message in all of them. In no transaction.
    pub(in super::super::super) fn learn(&self, db: &Connection) -> rusqlite::Result<()> {
        let oldest = unix_millis() - millis(FRESH);
        let mut state = self.lock();
        let now = Instant::now();
        if !state.is_fast(now) || state.unseen_until < oldest || now < state.learns_at {
            return Ok(());
        }
        state.learns_at = now + LOOK_EVERY;
        let mut newest = state.segments.iter().rev();
        let unseen = newest.find(|segment| !segment.is_seen && segment.last_at >= oldest);
        let Some(place) = unseen.map(|segment| segment.place) else {
            return Ok(());
        };
        drop(state);
        let messages = place.messages(db)?;
        for some in messages.chunks(LEARNED_AT_ONCE) {
            let mut state = self.lock();
            // As if they came now: they may be known for longer than need be.
            let now = unix_millis();
            some.iter().for_each(|hash| state.seen.insert(*hash, now));
        }
        let mut state = self.lock();
        // Where it went the slow way meanwhile, `seen` may have begun anew.
        if state.is_fast(Instant::now())
            && let Some(segment) = state.segments.iter_mut().find(|s| s.place.id == place.id)
        {
            segment.is_seen = true;
            state.look_for_unseen();
        }
        Ok(())
    }

    /// Goes no fast way any more: the next transaction writes all that is in memory.
    pub(in super::super::super) fn close(&self) {
        self.lock().mode = Mode::Closed;
    }

    /// How many messages the file has not taken.
    pub(in super::super::super) fn unwritten(&self) -> usize {
        let state = self.lock();
        state.buffered + state.claims.len()
    }
}

impl Step {
    /// Of the journal's rows in it.
    pub(in super::super::super) fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.entries.len()).sum()
    }

    fn new(checked: Instant) -> Self {
        Self {
            checked,
            batches: Vec::new(),
            claims: Vec::new(),
            is_numbered: true,
            signs: false,
            recovers: false,
            tail: None,
            newest: i64::MAX,
            leaves: false,
        }
    }
}

/// Users with something in the tables; one more than `most` where they are too many.
fn people(db: &Connection, most: usize) -> rusqlite::Result<HashSet<u64, Ready>> {
    let mut people = HashSet::default();
    let mut rows = db.prepare_cached("SELECT openid FROM conversations LIMIT ?1")?;
    let mut rows = rows.query([most as i64 + 1])?;
    while let Some(row) = rows.next()? {
        if let Ok(of) = OpenId::parse(row.get_ref(0)?.as_str()?) {
            people.insert(entry::person(&of));
        }
    }
    Ok(people)
}
