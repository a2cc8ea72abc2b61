//! What a row of the journal holds, and the hashes that it is found by. Both lie in the file: never
//! change them, but by a step of the schema.

use crate::store::{Digest, Trigger, Turn};
use crate::wechat::id::OpenId;

/// Openid's length, key, turn, time, trigger, reply's length.
const FIXED: usize = 1 + 32 + 16 + 8 + 1 + 4;

/// A message that was handled, and its reply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    /// Zeroes where the user was forgotten; then the reply is empty.
    open_id: &'a [u8],
    pub(super) key: Digest,
    pub(super) turn: Turn,
    pub(super) first_seen: i64,
    /// A number of [`trigger_of`].
    pub(super) opens: u8,
    pub(super) reply: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn new(
        of: &'a OpenId,
        key: &Digest,
        turn: Turn,
        first_seen: i64,
        opens: Option<Trigger>,
        reply: &'a [u8],
    ) -> Self {
        Self {
            open_id: of.as_str().as_bytes(),
            key: *key,
            turn,
            first_seen,
            opens: number_of(opens),
            reply,
        }
    }

    pub(super) fn write(&self, row: &mut Vec<u8>) {
        // An openid has 64 characters at most.
        row.push(self.open_id.len() as u8);
        row.extend_from_slice(self.open_id);
        row.extend_from_slice(&self.key.0);
        row.extend_from_slice(&self.turn.0);
        row.extend_from_slice(&self.first_seen.to_le_bytes());
        row.push(self.opens);
        row.extend_from_slice(&(self.reply.len() as u32).to_le_bytes());
        row.extend_from_slice(self.reply);
    }

    /// Reads one off the front of a row.
    fn read(row: &mut &'a [u8]) -> Option<Self> {
        let (&[length], rest) = row.split_first_chunk()?;
        let (open_id, rest) = rest.split_at_checked(length.into())?;
        let (&key, rest) = rest.split_first_chunk()?;
        let (&turn, rest) = rest.split_first_chunk()?;
        let (&first_seen, rest) = rest.split_first_chunk()?;
        let (&[opens], rest) = rest.split_first_chunk()?;
        let (&length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        let (reply, rest) = rest.split_at_checked(length)?;
        *row = rest;
        Some(Self {
            open_id,
            key: Digest(key),
            turn: Turn(turn),
            first_seen: i64::from_le_bytes(first_seen),
            opens,
            reply,
        })
    }

    pub(super) fn is_erased(&self) -> bool {
        self.open_id.first() == Some(&0)
    }

    pub(super) fn is_of(&self, of: &OpenId) -> bool {
        self.open_id == of.as_str().as_bytes()
    }

    /// Whether it is this message of this user. One that was erased is told by its key alone.
    pub(super) fn is(&self, of: &OpenId, key: &Digest) -> bool {
        (self.is_erased() || self.is_of(of)) && self.key == *key
    }

    /// The hashes of its message and of its user; none if it was erased.
    pub(super) fn hashes(&self) -> Option<(u64, u64)> {
        let person = (!self.is_erased()).then(|| hash_bytes(self.open_id))?;
        Some((message(person, &self.key), person))
    }
}

/// The entries of a row, in their order.
pub(super) fn entries(mut row: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || Entry::read(&mut row))
}

/// Makes one entry of a row unreadable: who, what he was told, what he did. That there was a message stays.
pub(super) fn erase(row: &mut [u8], position: usize) {
    let before: usize = entries(row)
        .take(position)
        .map(|entry| FIXED + entry.open_id.len() + entry.reply.len())
        .sum();
    let Some(entry) = entries(&row[before..]).next() else {
        return;
    };
    let (name, reply) = (entry.open_id.len(), entry.reply.len());
    let from = before + 1;
    row[from..from + name].fill(0);
    row[before + name + FIXED - 5] = 0;
    row[before + name + FIXED..][..reply].fill(0);
}

/// By which a user is found. It need not withstand chosen names: WeChat chooses them.
pub(in super::super::super) fn person(of: &OpenId) -> u64 {
    hash_bytes(of.as_str().as_bytes())
}

/// By which a user's message is found.
pub(super) fn message(person: u64, key: &Digest) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = key.0;
    // The key is a digest.
    mix(person ^ u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let mut hash = bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        hash = mix(hash ^ u64::from_le_bytes(*word));
    }
    hash
}

/// The finisher of `MurmurHash3`.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

fn number_of(trigger: Option<Trigger>) -> u8 {
    match trigger {
        None => 0,
        Some(Trigger::Message) => 1,
        Some(Trigger::Click) => 2,
        Some(Trigger::Follow) => 3,
        Some(Trigger::Scan) => 4,
    }
}

/// What a number in an entry, or in a reference to one, stands for.
pub(super) fn trigger_of(number: u8) -> Option<Trigger> {
    Trigger::ALL
        .into_iter()
        .find(|&trigger| number_of(Some(trigger)) == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_an_erased_one_tells_nothing() {
        let names = ["oAlice", "o6_bmjrPTlm6_2sgVt7hMZOPfL2M", "oBob"];
        let people = names.map(|name| OpenId::parse(name).unwrap());
        let key = Digest(std::array::from_fn(|n| n as u8));
        let mut row = Vec::new();
        let written: Vec<_> = people
            .iter()
            .zip(Trigger::ALL)
            .map(|(of, trigger)| {
                Entry::new(of, &key, Turn([7; 16]), -5, Some(trigger), b"secret text")
            })
            .collect();
        written.iter().for_each(|entry| entry.write(&mut row));
        assert!(entries(&row).eq(written.iter().copied()));
        let torn = row.len() - 1;
        assert_eq!(entries(&row[..torn]).count(), 2);

        let mut erased = row.clone();
        erase(&mut erased, 1);
        erase(&mut erased, 3);
        let read: Vec<_> = entries(&erased).collect();
        assert_eq!((&read[0], &read[2]), (&written[0], &written[2]));
        assert!(read[1].is_erased() && read[1].is(&people[1], &key));
        assert_eq!((read[1].opens, read[1].hashes()), (0, None));
        assert!(read[1].reply.iter().all(|&byte| byte == 0));
        assert!(!read[1].is(&people[1], &Digest([1; 32])));
        assert!(!read[0].is(&people[1], &key));
    }

    #[test]
    fn hashes_stay_as_they_lie_in_files() {
        let alice = OpenId::parse("o6_bmjrPTlm6_2sgVt7hMZOPfL2M").unwrap();
        let person = person(&alice);
        assert_eq!(person, PERSON, "{person:#x}");
        let message = message(person, &Digest([3; 32]));
        assert_eq!(message, MESSAGE, "{message:#x}");
    }

    // Computed by another program.
    const PERSON: u64 = 0x2bda_1630_f178_6e9c;
    const MESSAGE: u64 = 0x6fb3_9d53_8dde_b6ea;
}
