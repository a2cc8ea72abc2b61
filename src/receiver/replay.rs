//! Remembers which message each signed pair of timestamp and nonce came with.
//!
//! In plain mode the signature does not cover the body, so whoever sees one delivery could send any
//! body under it. The same pair with the same message is the platform's retry; with another it is not.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;

use crate::hashed::Ready;

/// Timestamps of fresh signatures differ by no more than this, in seconds: each is as far from now at most
/// as a signature is fresh, on either side.
const KEPT_FOR: i64 = 600;
/// At least so many of the last pairs are kept, whatever their age.
const KEPT: usize = 100_000;
/// Beyond them the oldest go so many at a time. Each lies where the processor's cache has nothing; one by
/// one it would wait for each.
const GO_AT_ONCE: usize = 256;

#[derive(Default)]
pub(super) struct ReplayGuard(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    messages: HashMap<u64, u64, Ready>,
    in_order: VecDeque<(i64, u64)>,
    hasher: RandomState,
}

impl ReplayGuard {
    /// Whether the pair came with another message before. `at` is the timestamp, in Unix seconds.
    pub(super) fn is_replay(
        &self,
        timestamp: &str,
        nonce: &str,
        ledger_key: &[u8; 32],
        at: i64,
    ) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = &mut *seen;
        if seen.in_order.len() >= KEPT + GO_AT_ONCE {
            for (_, pair) in seen.in_order.drain(..GO_AT_ONCE) {
                seen.messages.remove(&pair);
            }
        }
        while let Some(&(oldest, pair)) = seen.in_order.front()
            && oldest + KEPT_FOR < at
        {
            seen.in_order.pop_front();
            seen.messages.remove(&pair);
        }
        // Keyed hashes: nobody outside can make two of them collide, and the pairs stay small.
        let pair = seen.hasher.hash_one((timestamp, nonce));
        let message = seen.hasher.hash_one(ledger_key);
        match seen.messages.entry(pair) {
            Entry::Occupied(known) => *known.get() != message,
            Entry::Vacant(place) => {
                place.insert(message);
                seen.in_order.push_back((at, pair));
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
        let guard = ReplayGuard::default();
        let most = KEPT + GO_AT_ONCE;
        for n in 0..most {
            guard.is_replay("2", &n.to_string(), &[1; 32], 0);
        }
        let kept = || guard.0.lock().unwrap().messages.len();
        assert_eq!(kept(), most);
        assert!(!guard.is_replay("3", "1", &[1; 32], 0));
        assert_eq!(kept(), KEPT + 1);
        let last = (most - 1).to_string();
        assert!(guard.is_replay("2", &last, &[2; 32], 0), "one of the last");
    }
}
