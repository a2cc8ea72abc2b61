//! What the tables ask of the journal.

use rusqlite::Connection;

use super::super::super::millis;
use super::super::head::Head;
use super::super::ledger;
use super::entry::{Entry, entries, erase, message, person, trigger_of};
use super::segments::{self, MESSAGE, Place, Ref};
use super::{Asked, FRESH, Journal, KEEP_WINDOWS};
use crate::store::{Digest, REMEMBER_MESSAGES, Trigger, Turn};
use crate::wechat::id::OpenId;

/// The platform may still deliver what is younger. Longer than its deliveries last.
const MAY_COME_AGAIN: std::time::Duration = std::time::Duration::from_secs(60);

/// A message that was handled.
pub(in super::super) struct Found {
    pub(in super::super) reply: Vec<u8>,
    pub(in super::super) turn: Turn,
    pub(in super::super) first_seen: i64,
    /// The user was forgotten, and what he was told.
    pub(in super::super) is_erased: bool,
}

/// Segments in which a message may stand.
pub(in super::super) struct Search {
    places: Vec<Place>,
    newest: i64,
    message: u64,
    asked: Asked,
}

impl Search {
    pub(super) fn new(
        places: Vec<Place>,
        newest: i64,
        message: u64,
        of: &OpenId,
        key: &Digest,
    ) -> Self {
        Self {
            places,
            newest,
            message,
            asked: Asked {
                of: of.clone(),
                key: *key,
            },
        }
    }

    /// The newest segment that there was.
    pub(in super::super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Whether the message stands in one of them.
    pub(in super::super) fn run(&self, db: &Connection, now: i64) -> rusqlite::Result<bool> {
        for place in &self.places {
            for (row, found) in place.find(db, self.message)? {
                if read(db, row, &found, &self.asked.of, &self.asked.key, now)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Journal {
    /// A message that was handled in the last day. On the writer's thread, as all that follows.
    pub(in super::super) fn find(
        &self,
        db: &Connection,
        of: &OpenId,
        key: &Digest,
        may_be_old: bool,
        now: i64,
    ) -> rusqlite::Result<Option<Found>> {
        let hash = message(person(of), key);
        let state = self.lock();
        let tail = state.tail.messages.get(&hash).map(|&place| {
            let found = state.tail.refs[place as usize];
            (state.tail.base + i64::from(found.row), found)
        });
        let places = if may_be_old {
            state.places(hash, now - millis(REMEMBER_MESSAGES), 0)
        } else {
            state.fresh_places(hash, now - millis(FRESH), 0)
        };
        drop(state);
        if let Some((row, found)) = tail
            && let Some(found) = read(db, row, &found, of, key, now)?
        {
            return Ok(Some(found));
        }
        for place in places {
            for (row, found) in place.find(db, hash)? {
                if let Some(found) = read(db, row, &found, of, key, now)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Makes an ordinary row of the ledger of a message in the journal. Returns whether it did.
    pub(in super::super) fn import(
        &self,
        db: &Connection,
        of: &OpenId,
        key: &Digest,
        now: i64,
    ) -> rusqlite::Result<bool> {
        let head = Head::find(db, of, now)?;
        if let Some(head) = &head
            && ledger::find(db, head.id, key, now)?.is_some()
        {
            return Ok(false);
        }
        let Some(found) = self.find(db, of, key, true, now)?.filter(|f| !f.is_erased) else {
            return Ok(false);
        };
        let head = match head {
            Some(head) => head,
            None => self.create(db, of)?,
        };
        ledger::import(db, head.id, key, &found)?;
        Ok(true)
    }

    fn create(&self, db: &Connection, of: &OpenId) -> rusqlite::Result<Head> {
        self.note_person(person(of));
        Head::create(db, of)
    }

    /// When windows were opened by messages in the journal, each by the last of its kind.
    pub(in super::super) fn windows(
        &self,
        db: &Connection,
        of: &OpenId,
        now: i64,
    ) -> rusqlite::Result<Vec<(Trigger, i64)>> {
        let mut windows: Vec<(Trigger, i64)> = Vec::new();
        for (_, found, _) in self.of_person(db, of, now)? {
            let Some(trigger) = trigger_of(found.kind) else {
                continue;
            };
            match windows.iter_mut().find(|(known, _)| *known == trigger) {
                Some((_, at)) => *at = found.at.max(*at),
                None => windows.push((trigger, found.at)),
            }
        }
        Ok(windows)
    }

    /// Has the tables know these windows.
    pub(in super::super) fn import_windows(
        &self,
        db: &Connection,
        of: &OpenId,
        now: i64,
    ) -> rusqlite::Result<()> {
        let windows = self.windows(db, of, now)?;
        if windows.is_empty() {
            return Ok(());
        }
        let head = match Head::find(db, of, now)? {
            Some(head) => head,
            None => self.create(db, of)?,
        };
        for (trigger, at) in windows {
            head.open_window(db, trigger, at)?;
        }
        Ok(())
    }

    /// Makes what the journal says of a user unreadable. What the platform may deliver again goes into the
    /// ledger first.
    pub(in super::super) fn forget(
        &self,
        db: &Connection,
        of: &OpenId,
        now: i64,
    ) -> rusqlite::Result<()> {
        let person = person(of);
        let mut places: Vec<Place> = Vec::new();
        let mut found = self.of_person(db, of, now)?;
        found.sort_by_key(|(row, found, _)| (*row, found.position));
        for of_row in found.chunk_by(|a, b| a.0 == b.0) {
            let row = of_row[0].0;
            let read = db
                .prepare_cached("SELECT entries FROM journal WHERE id = ?1")?
                .query_row([row], |row| row.get::<_, Vec<u8>>(0));
            let mut bytes = match read {
                // Its day is over.
                Err(rusqlite::Error::QueryReturnedNoRows) => continue,
                read => read?,
            };
            for (_, found, _) in of_row {
                let position = usize::from(found.position);
                let entry = entries(&bytes).nth(position).filter(|e| e.is_of(of));
                let Some(entry) = entry else { continue };
                if entry.first_seen > now - millis(MAY_COME_AGAIN) {
                    self.keep_young(db, of, &entry, now)?;
                }
                erase(&mut bytes, position);
            }
            db.prepare_cached("UPDATE journal SET entries = ?2 WHERE id = ?1")?
                .execute((row, bytes))?;
        }
        for place in found.iter().filter_map(|(_, _, place)| *place) {
            if places.iter().all(|known| known.id != place.id) {
                place.remove(db, person)?;
                places.push(place);
            }
        }
        for found in &mut self.lock().tail.refs {
            if found.hash == person && found.kind != MESSAGE {
                found.kind = 0;
            }
        }
        Ok(())
    }

    fn keep_young(
        &self,
        db: &Connection,
        of: &OpenId,
        entry: &Entry<'_>,
        now: i64,
    ) -> rusqlite::Result<()> {
        let head = match Head::find(db, of, now)? {
            Some(head) => head,
            None => self.create(db, of)?,
        };
        let found = Found {
            reply: entry.reply.to_vec(),
            turn: entry.turn,
            first_seen: entry.first_seen,
            is_erased: false,
        };
        ledger::import(db, head.id, &entry.key, &found)
    }

    /// What refers to a user: the row, the reference, and the segment that it stands in.
    fn of_person(
        &self,
        db: &Connection,
        of: &OpenId,
        now: i64,
    ) -> rusqlite::Result<Vec<(i64, Ref, Option<Place>)>> {
        let person = person(of);
        let state = self.lock();
        let is_his = |found: &&Ref| found.hash == person && found.kind != MESSAGE;
        let tail = state.tail.refs.iter().filter(is_his);
        let mut all: Vec<_> = tail
            .map(|found| (state.tail.base + i64::from(found.row), *found, None))
            .collect();
        let oldest = now - millis(KEEP_WINDOWS);
        let segments = state.segments.iter().filter(|s| s.last_at > oldest);
        let places: Vec<_> = segments.map(|segment| segment.place).collect();
        drop(state);
        for place in places {
            for (row, found) in place.find(db, person)? {
                if is_his(&&found) && found.at > oldest {
                    all.push((row, found, Some(place)));
                }
            }
        }
        Ok(all)
    }
}

/// The entry that a reference leads to, if it is the one, and of the last day.
fn read(
    db: &Connection,
    row: i64,
    found: &Ref,
    of: &OpenId,
    key: &Digest,
    now: i64,
) -> rusqlite::Result<Option<Found>> {
    if found.kind != MESSAGE {
        return Ok(None);
    }
    segments::with_entry(db, row, found.position, |entry| {
        let lives = entry.first_seen > now - millis(REMEMBER_MESSAGES);
        (lives && entry.is(of, key)).then(|| Found {
            reply: if entry.is_erased() {
                Vec::new()
            } else {
                entry.reply.to_vec()
            },
            turn: entry.turn,
            first_seen: entry.first_seen,
            is_erased: entry.is_erased(),
        })
    })
}
