//! Remembers which message each signed pair of timestamp and nonce came with.
//!
//! In plain mode the signature does not cover the body, so whoever sees one delivery could send any
//! body under it. The same pair with the same message is the platform's retry; with another it is not.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::hashed::Ready;

/// A signature is fresh this long, either side of now, in seconds.
const KEPT_FOR: i64 = 600;
const KEPT_AT_MOST: usize = 100_000;

#[derive(Default)]
pub(super) struct ReplayGuard(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    messages: HashMap<u64, u64, Ready>,
    in_order: VecDeque<(i64, u64)>,
    hasher: std::hash::RandomState,
}

impl ReplayGuard {
    /// Whether the pair came with another message before. `now` is in Unix seconds.
    pub(super) fn is_replay(
        &self,
        timestamp: &str,
        nonce: &str,
        ledger_key: &[u8; 32],
        now: i64,
    ) -> bool {
        use std::hash::BuildHasher as _;
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        while let Some(&(at, pair)) = seen.in_order.front()
            && (at + KEPT_FOR < now || seen.in_order.len() >= KEPT_AT_MOST)
        {
            seen.in_order.pop_front();
            seen.messages.remove(&pair);
        }
        // Keyed hashes: nobody outside can make two of them collide, and 100,000 pairs stay small.
        let pair = seen.hasher.hash_one((timestamp, nonce));
        let message = seen.hasher.hash_one(ledger_key);
        match seen.messages.entry(pair) {
            Entry::Occupied(known) => *known.get() != message,
            Entry::Vacant(place) => {
                place.insert(message);
                seen.in_order.push_back((now, pair));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_belongs_to_its_first_message() {
        let guard = ReplayGuard::default();
        assert!(!guard.is_replay("1700000000", "1", &[1; 32], 0));
        assert!(!guard.is_replay("1700000000", "1", &[1; 32], 5), "a retry");
        assert!(
            guard.is_replay("1700000000", "1", &[2; 32], 5),
            "another message"
        );
        assert!(
            !guard.is_replay("1700000000", "2", &[2; 32], 5),
            "another pair"
        );
    }

    #[test]
    fn pairs_are_forgotten_by_age_and_by_number() {
        let guard = ReplayGuard::default();
        assert!(!guard.is_replay("1", "1", &[1; 32], 0));
        assert!(
            !guard.is_replay("1", "1", &[2; 32], KEPT_FOR + 1),
            "stale signatures are refused before"
        );
        for n in 0..KEPT_AT_MOST + 10 {
            guard.is_replay("2", &n.to_string(), &[1; 32], KEPT_FOR + 2);
        }
        assert!(guard.0.lock().unwrap().messages.len() <= KEPT_AT_MOST);
    }
}
