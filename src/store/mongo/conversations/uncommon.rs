//! Users of whom it is known that a claim would be refused, so that their messages are spared the try.
//!
//! A hint of fixed size: a user may push another one out, and nothing depends on it but a round trip.

use std::sync::atomic::{AtomicU32, Ordering};

use ahash::RandomState;

use crate::wechat::id::OpenId;

/// A power of two. Four bytes each.
const SLOTS: usize = 1 << 16;

pub(super) struct Uncommon {
    hasher: RandomState,
    slots: Box<[AtomicU32]>,
}

impl Uncommon {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            slots: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// His slot, and what stands in it if he is in it. An empty one holds 0.
    fn slot(&self, of: &OpenId) -> (&AtomicU32, u32) {
        let hash = self.hasher.hash_one(of);
        let slot = &self.slots[hash as usize % SLOTS];
        (slot, (hash >> 32) as u32 | 1)
    }

    pub(super) fn note(&self, of: &OpenId, is_uncommon: bool) {
        let (slot, user) = self.slot(of);
        if is_uncommon {
            slot.store(user, Ordering::Relaxed);
        } else {
            // Another's stays.
            let _ = slot.compare_exchange(user, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    pub(super) fn holds(&self, of: &OpenId) -> bool {
        let (slot, user) = self.slot(of);
        slot.load(Ordering::Relaxed) == user
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_uncommon_until_he_is_common_again() {
        let uncommon = Uncommon::new();
        let [alice, bob] = ["oAlice", "oBob"].map(|of| OpenId::parse(of).unwrap());
        assert!(!uncommon.holds(&alice));
        uncommon.note(&alice, true);
        uncommon.note(&bob, false);
        assert!(uncommon.holds(&alice));
        assert!(!uncommon.holds(&bob));
        uncommon.note(&alice, false);
        assert!(!uncommon.holds(&alice));
    }
}
