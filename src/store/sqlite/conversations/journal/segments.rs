//! Tables `journal`, `journal_segments` and `journal_refs`: rows of entries, and where each user's and
//! each message's stand in them.
//!
//! An index of its own for each entry would cost ten times the entry. So a *segment* indexes thousands of
//! entries at once: their references, by their hashes in parts that share a page.

use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _};

use super::super::super::millis;
use super::entry::{Entry, entries};
use super::filter::Filter;
use super::{KEEP_WINDOWS, REMEMBER_MESSAGES};

/// References in one row of `journal_refs`, on average: three rows fill a page.
const PART: usize = 56;
/// The parts of a segment have these many numbers at most.
const MOST_BITS: u32 = 20;
/// The kind of a reference to a message. Others are a user's: the number of the trigger.
pub(super) const MESSAGE: u8 = u8::MAX;
/// Bytes of a reference.
const REF: usize = 19;
/// Parts that are written without a pause, and references that are worked on, each in a fraction of a
/// millisecond. A segment in one go would have the only core of a machine for so long that the messages under
/// way are late.
const PARTS_AT_ONCE: usize = 64;
pub(super) const REFS_AT_ONCE: usize = 16_384;
const PAUSE: Duration = Duration::from_micros(100);
/// From then on there are no pauses: on a busy machine each may last some milliseconds, and a transaction
/// must be far shorter than [`BELIEVE_FOR`](super::BELIEVE_FOR).
const PAUSE_WITHIN: Duration = Duration::from_millis(60);
/// What a transaction has changed is in SQLite's cache until the commit writes it in one go, or until the
/// cache is full.
const SMALL_CACHE: &str = "PRAGMA cache_size = 64";
/// SQLite's own default.
const USUAL_CACHE: &str = "PRAGMA cache_size = -2000";

/// Where something stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ref {
    pub(super) hash: u64,
    pub(super) at: i64,
    /// Counted from the segment's base.
    pub(super) row: u32,
    pub(super) position: u16,
    pub(super) kind: u8,
}

impl Ref {
    fn write(&self, first_at: i64, part: &mut Vec<u8>) {
        let at = u32::try_from(self.at - first_at).unwrap_or(if self.at < first_at {
            0
        } else {
            u32::MAX
        });
        part.extend_from_slice(&self.hash.to_le_bytes());
        part.extend_from_slice(&at.to_le_bytes());
        part.extend_from_slice(&self.row.to_le_bytes());
        part.extend_from_slice(&self.position.to_le_bytes());
        part.push(self.kind);
    }

    fn read(bytes: &[u8; REF], first_at: i64) -> Option<Self> {
        let (&hash, rest) = bytes.split_first_chunk()?;
        let (&at, rest) = rest.split_first_chunk()?;
        let (&row, rest) = rest.split_first_chunk()?;
        let (&position, rest) = rest.split_first_chunk()?;
        Some(Self {
            hash: u64::from_le_bytes(hash),
            at: first_at + i64::from(u32::from_le_bytes(at)),
            row: u32::from_le_bytes(row),
            position: u16::from_le_bytes(position),
            kind: *rest.first()?,
        })
    }
}

/// The references of an entry: its message's and its user's.
pub(super) fn refs_of(
    (message, person): (u64, u64),
    entry: &Entry<'_>,
    row: u32,
    position: u16,
) -> [Ref; 2] {
    [(message, MESSAGE), (person, entry.opens)].map(|(hash, kind)| Ref {
        hash,
        at: entry.first_seen,
        row,
        position,
        kind,
    })
}

/// How to find a segment's references.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: i64,
    first_at: i64,
    base: i64,
    bits: u32,
}

pub(super) struct Segment {
    pub(super) place: Place,
    pub(super) last_at: i64,
    /// Of the messages.
    filter: Option<Filter>,
    /// The messages in it are in [`Seen`](super::filter::Seen) too.
    pub(super) is_seen: bool,
}

impl Segment {
    pub(super) fn may_hold(&self, message: u64) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.may_hold(message))
    }

    pub(super) fn drop_filter(&mut self) {
        self.filter = None;
    }
}

/// Adds a row to the journal. Over itself, where the commit of the last try failed late.
pub(super) fn append(db: &Connection, row: i64, at: i64, entries: &[u8]) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO journal (id, at, entries) VALUES (?1, ?2, ?3)")?
        .execute((row, at, entries))
        .map(drop)
}

/// The number of the next row: numbers stay unique while a segment knows them.
pub(super) fn next_row(db: &Connection) -> rusqlite::Result<i64> {
    let last: i64 = db.query_row(
        "SELECT max(ifnull((SELECT max(id) FROM journal), 0),
                    ifnull((SELECT max(last_row) FROM journal_segments), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(last + 1)
}

/// The pauses in the making of a segment.
pub(super) struct Pauses(Instant);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn pause(&self) {
        if self.0.elapsed() < PAUSE_WITHIN {
            thread::sleep(PAUSE);
        }
    }

    /// Some of the references after another, with a pause before each.
    fn between<'a>(&self, refs: &'a [Ref]) -> impl Iterator<Item = &'a [Ref]> {
        refs.chunks(REFS_AT_ONCE).inspect(|_| self.pause())
    }
}

/// Makes a segment of the rows from `base` to `last_row`.
pub(super) fn write(
    db: &Connection,
    refs: &[Ref],
    base: i64,
    last_row: i64,
    pauses: &Pauses,
) -> rusqlite::Result<Segment> {
    let (mut first_at, mut last_at) = (i64::MAX, i64::MIN);
    let mut filter = Filter::with_room_for(refs.len() / 2);
    for some in pauses.between(refs) {
        for found in some {
            (first_at, last_at) = (first_at.min(found.at), last_at.max(found.at));
            if found.kind == MESSAGE {
                filter.insert(found.hash);
            }
        }
    }
    let bits = (refs.len() / PART).max(1).ilog2().min(MOST_BITS);
    db.prepare_cached(
        "INSERT INTO journal_segments (first_at, last_at, base_row, last_row, bits, filter)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((first_at, last_at, base, last_row, bits, filter.to_bytes()))?;
    let place = Place {
        id: db.last_insert_rowid(),
        first_at,
        base,
        bits,
    };
    db.execute_batch(SMALL_CACHE)?;
    let written = write_refs(db, refs, &place, pauses);
    db.execute_batch(USUAL_CACHE)?;
    written?;
    Ok(Segment {
        place,
        last_at,
        filter: Some(filter),
        is_seen: false,
    })
}

fn write_refs(
    db: &Connection,
    refs: &[Ref],
    place: &Place,
    pauses: &Pauses,
) -> rusqlite::Result<()> {
    let bits = place.bits;
    let refs = by_part(refs, bits, pauses);
    let mut insert = db.prepare_cached("INSERT INTO journal_refs (id, refs) VALUES (?1, ?2)")?;
    let mut bytes = Vec::with_capacity(PART * REF * 2);
    let parts = refs.chunk_by(|a, b| part_of(a.hash, bits) == part_of(b.hash, bits));
    for (n, part) in parts.enumerate() {
        if n % PARTS_AT_ONCE == 0 {
            pauses.pause();
        }
        bytes.clear();
        part.iter()
            .for_each(|found| found.write(place.first_at, &mut bytes));
        insert.execute((place.part(part[0].hash), &bytes))?;
    }
    Ok(())
}

/// The part of a segment in which a hash stands.
fn part_of(hash: u64, bits: u32) -> usize {
    // At most `MOST_BITS`.
    hash.unbounded_shr(64 - bits) as usize
}

/// The references in the order of their parts. What is sorted by so few numbers need not be compared.
fn by_part(refs: &[Ref], bits: u32, pauses: &Pauses) -> Vec<Ref> {
    let mut next = vec![0; 1 << bits];
    for found in pauses.between(refs).flatten() {
        next[part_of(found.hash, bits)] += 1;
    }
    let mut before = 0;
    for part in &mut next {
        before += std::mem::replace(part, before);
    }
    pauses.pause();
    let mut sorted = refs.to_vec();
    for found in pauses.between(refs).flatten() {
        let place = &mut next[part_of(found.hash, bits)];
        sorted[*place] = *found;
        *place += 1;
    }
    sorted
}

/// Makes segments of the rows that are in none: somebody who wrote them has died. Returns how many.
pub(super) fn write_missing(db: &Connection, most_entries: usize) -> rusqlite::Result<usize> {
    let mut made = 0;
    loop {
        let segmented: i64 = db.query_row(
            "SELECT ifnull(max(last_row), 0) FROM journal_segments",
            [],
            |row| row.get(0),
        )?;
        let mut refs = Vec::new();
        let mut rows = db.prepare_cached("SELECT id, entries FROM journal WHERE id > ?1")?;
        let mut rows = rows.query([segmented])?;
        let (mut base, mut last_row) = (None, 0);
        while refs.len() < most_entries * 2
            && let Some(row) = rows.next()?
        {
            last_row = row.get(0)?;
            let base = *base.get_or_insert(last_row);
            let number = u32::try_from(last_row - base).unwrap_or(u32::MAX);
            for (position, entry) in (0..).zip(entries(row.get_ref(1)?.as_blob()?)) {
                if let Some(hashes) = entry.hashes() {
                    refs.extend(refs_of(hashes, &entry, number, position));
                }
            }
        }
        let Some(base) = base else {
            return Ok(made);
        };
        write(db, &refs, base, last_row, &Pauses::new())?;
        made += 1;
    }
}

/// The segments behind `behind` of which something lives, the newest with their filters.
pub(super) fn load(
    db: &Connection,
    behind: i64,
    most_filters: usize,
    now: i64,
) -> rusqlite::Result<Vec<Segment>> {
    let mut segments: Vec<Segment> = db
        .prepare_cached(
            "SELECT id, first_at, last_at, base_row, bits FROM journal_segments
             WHERE id > ?1 AND last_at > ?2 ORDER BY id",
        )?
        .query_map((behind, now - millis(KEEP_WINDOWS)), |row| {
            Ok(Segment {
                place: Place {
                    id: row.get(0)?,
                    first_at: row.get(1)?,
                    base: row.get(3)?,
                    bits: row.get(4)?,
                },
                last_at: row.get(2)?,
                filter: None,
                is_seen: false,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut filter = db.prepare_cached("SELECT filter FROM journal_segments WHERE id = ?1")?;
    for segment in segments.iter_mut().rev().take(most_filters) {
        segment.filter = filter.query_row([segment.place.id], |row| {
            Ok(Filter::from_bytes(row.get_ref(0)?.as_blob()?))
        })?;
    }
    Ok(segments)
}

impl Place {
    /// The row of `journal_refs` in which a hash stands.
    fn part(&self, hash: u64) -> i64 {
        (self.id << MOST_BITS) | part_of(hash, self.bits) as i64
    }

    /// The rows of `journal_refs` that belong to a segment.
    pub(super) fn parts_of(id: i64) -> std::ops::Range<i64> {
        id << MOST_BITS..(id + 1) << MOST_BITS
    }

    /// What stands under a hash, the row's own number with it.
    pub(super) fn find(&self, db: &Connection, hash: u64) -> rusqlite::Result<Vec<(i64, Ref)>> {
        let mut read = db.prepare_cached("SELECT refs FROM journal_refs WHERE id = ?1")?;
        let found = read
            .query_row([self.part(hash)], |row| {
                let (refs, _) = row.get_ref(0)?.as_blob()?.as_chunks::<REF>();
                Ok(refs
                    .iter()
                    .filter(|bytes| bytes.starts_with(&hash.to_le_bytes()))
                    .filter_map(|bytes| Ref::read(bytes, self.first_at))
                    .map(|found| (self.base + i64::from(found.row), found))
                    .collect())
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// The hashes of all messages in it.
    pub(super) fn messages(&self, db: &Connection) -> rusqlite::Result<Vec<u64>> {
        let parts = Self::parts_of(self.id);
        let mut read =
            db.prepare_cached("SELECT refs FROM journal_refs WHERE id >= ?1 AND id < ?2")?;
        let mut rows = read.query((parts.start, parts.end))?;
        let mut messages = Vec::new();
        while let Some(row) = rows.next()? {
            let (refs, _) = row.get_ref(0)?.as_blob()?.as_chunks::<REF>();
            let refs = refs
                .iter()
                .filter_map(|bytes| Ref::read(bytes, self.first_at));
            let hashes = refs
                .filter(|found| found.kind == MESSAGE)
                .map(|found| found.hash);
            messages.extend(hashes);
        }
        Ok(messages)
    }

    /// Takes out what stands under a hash.
    pub(super) fn remove(&self, db: &Connection, hash: u64) -> rusqlite::Result<()> {
        let part = self.part(hash);
        let refs: Option<Vec<u8>> = db
            .prepare_cached("SELECT refs FROM journal_refs WHERE id = ?1")?
            .query_row([part], |row| row.get(0))
            .optional()?;
        let (refs, _) = refs.as_deref().unwrap_or_default().as_chunks::<REF>();
        let left: Vec<u8> = refs
            .iter()
            .filter(|bytes| !bytes.starts_with(&hash.to_le_bytes()))
            .flatten()
            .copied()
            .collect();
        db.prepare_cached("UPDATE journal_refs SET refs = ?2 WHERE id = ?1")?
            .execute((part, left))
            .map(drop)
    }
}

/// Looks at one entry, if its row is still there.
pub(super) fn with_entry<T>(
    db: &Connection,
    row: i64,
    position: u16,
    look: impl FnOnce(Entry<'_>) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let found = db
        .prepare_cached("SELECT entries FROM journal WHERE id = ?1")?
        .query_row([row], |row| {
            let entry = entries(row.get_ref(0)?.as_blob()?).nth(position.into());
            Ok(entry.and_then(look))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Deletes some of what has expired. Returns whether there may be more.
pub(in super::super) fn collect(db: &Connection, now: i64, step: usize) -> rusqlite::Result<bool> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM journal WHERE id IN
                 (SELECT id FROM (SELECT id, at FROM journal ORDER BY id LIMIT ?2)
                  WHERE at <= ?1)",
        )?
        .execute((now - millis(REMEMBER_MESSAGES), step as i64))?;
    if deleted == step {
        return Ok(true);
    }
    // While rows of it are left, it says that they are in a segment.
    let expired: Option<i64> = db
        .prepare_cached(
            "SELECT id FROM journal_segments
             WHERE last_at <= ?1 AND last_row < ifnull((SELECT min(id) FROM journal), last_row + 1)
             ORDER BY id LIMIT 1",
        )?
        .query_row([now - millis(KEEP_WINDOWS)], |row| row.get(0))
        .optional()?;
    let Some(id) = expired else {
        return Ok(false);
    };
    let parts = Place::parts_of(id);
    db.prepare_cached("DELETE FROM journal_refs WHERE id >= ?1 AND id < ?2")?
        .execute((parts.start, parts.end))?;
    db.prepare_cached("DELETE FROM journal_segments WHERE id = ?1")?
        .execute([id])?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_sorted_by_their_part_and_keep_their_order_in_it() {
        let refs: Vec<Ref> = (0..5_000)
            .map(|n: u32| Ref {
                hash: u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                at: 0,
                row: n,
                position: 0,
                kind: MESSAGE,
            })
            .collect();
        for bits in [0, 1, 6, 10] {
            let mut expected = refs.clone();
            expected.sort_by_key(|found| part_of(found.hash, bits));
            assert_eq!(by_part(&refs, bits, &Pauses::new()), expected, "{bits}");
            let most = part_of(u64::MAX, bits);
            assert_eq!(most, (1 << bits) - 1);
        }
        assert!(by_part(&[], 0, &Pauses::new()).is_empty());
    }
}
