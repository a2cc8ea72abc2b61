//! What was certainly never seen: Bloom filters, each key's bits within one cache line.

use std::collections::VecDeque;

/// Words of 64 bits in a block: a cache line.
const BLOCK: usize = 8;
/// Bits of a block that a key sets.
const PROBES: u32 = 6;
/// At so many bits for each key about one stranger in three hundred is taken for known.
const BITS_FOR_KEY: usize = 14;

/// Keys, as hashes. It may take a stranger for one of them, never the other way round.
pub(super) struct Filter(Vec<u64>);

impl Filter {
    pub(super) fn with_room_for(keys: usize) -> Self {
        let blocks = (keys * BITS_FOR_KEY).div_ceil(BLOCK * 64).max(1);
        Self(vec![0; blocks * BLOCK])
    }

    /// As [`to_bytes`](Self::to_bytes) wrote it.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        (rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(BLOCK))
            .then_some(Self(words))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(super) fn insert(&mut self, hash: u64) {
        let block = self.block(hash);
        for (word, bit) in probes(hash) {
            self.0[block + word] |= bit;
        }
    }

    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let block = &self.0[self.block(hash)..][..BLOCK];
        probes(hash).all(|(word, bit)| block[word] & bit != 0)
    }

    fn block(&self, hash: u64) -> usize {
        let blocks = (self.0.len() / BLOCK) as u64;
        (((hash >> 32) * blocks) >> 32) as usize * BLOCK
    }
}

fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 10;
    (0..PROBES).map(move |n| {
        let probe = (mixed >> (9 * n)) & 511;
        ((probe >> 6) as usize, 1 << (probe & 63))
    })
}

/// The keys of the last while, in filters that grow with the traffic and are dropped with age.
pub(super) struct Seen {
    parts: VecDeque<Part>,
    /// For how long a key is known, in milliseconds.
    for_millis: i64,
    most_keys: usize,
}

struct Part {
    filter: Filter,
    size: usize,
    room: usize,
    first_at: i64,
    last_at: i64,
}

/// Keys in the first, and least, part.
const LEAST_KEYS: usize = 8192;

impl Seen {
    /// Beyond `most_keys` within its time it takes more and more strangers for known.
    pub(super) fn new(for_millis: i64, most_keys: usize) -> Self {
        Self {
            parts: VecDeque::new(),
            for_millis,
            most_keys: most_keys.max(LEAST_KEYS),
        }
    }

    pub(super) fn insert(&mut self, hash: u64, now: i64) {
        if self.parts.back().is_none_or(|part| part.room == 0) {
            self.make_room(now);
        }
        if let Some(part) = self.parts.back_mut() {
            part.filter.insert(hash);
            part.room -= 1;
            part.last_at = now;
        }
    }

    pub(super) fn may_hold(&self, hash: u64) -> bool {
        self.parts.iter().any(|part| part.filter.may_hold(hash))
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
    }

    fn make_room(&mut self, now: i64) {
        let oldest = now - self.for_millis;
        let size = match self.parts.back() {
            None => LEAST_KEYS,
            // One that lasts about as long as a key has to. Each further one is one more to be asked.
            Some(last) if last.first_at > oldest => (last.size * 8).min(self.most_keys / 2),
            Some(last) => last.size,
        };
        self.parts.retain(|part| part.last_at > oldest);
        let held: usize = self.parts.iter().map(|part| part.size).sum();
        match self.parts.back_mut() {
            Some(last) if held + size > self.most_keys => last.room = LEAST_KEYS,
            _ => self.parts.push_back(Part {
                filter: Filter::with_room_for(size),
                size,
                room: size,
                first_at: now,
                last_at: now,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }

    #[test]
    fn a_filter_knows_its_keys_and_few_strangers() {
        let mut filter = Filter::with_room_for(10_000);
        (0..10_000).for_each(|n| filter.insert(hash(n)));
        let read = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert!((0..10_000).all(|n| read.may_hold(hash(n))));
        let taken = (10_000..110_000).filter(|&n| read.may_hold(hash(n)));
        let taken = taken.count();
        assert!(taken < 1_000, "{taken} of 100,000");
        for torn in [&[0; 12][..], &[0; 8], &[]] {
            assert!(Filter::from_bytes(torn).is_none());
        }
    }

    #[test]
    fn what_was_seen_lately_is_known_however_much_it_is_and_stays_small() {
        let mut seen = Seen::new(1_000, 100_000);
        let strangers = |seen: &Seen| {
            let strangers = (2_000_000..2_010_000).map(hash);
            strangers
                .filter(|&stranger| seen.may_hold(stranger))
                .count()
        };
        // Fifty thousand a second, then four times that.
        for n in 0..200_000 {
            seen.insert(hash(n), n as i64 / 50);
        }
        assert!((150_000..200_000).all(|n| seen.may_hold(hash(n))));
        assert!(!(0..10).all(|n| seen.may_hold(hash(n))), "they are dropped");
        assert!(strangers(&seen) < 1_000, "{}", strangers(&seen));
        for n in 200_000..1_000_000 {
            seen.insert(hash(n), 4_000 + (n - 200_000) as i64 / 200);
        }
        assert!((800_000..1_000_000).all(|n| seen.may_hold(hash(n))));
        let words: usize = seen.parts.iter().map(|part| part.filter.0.len()).sum();
        assert!(words * 64 <= 110_000 * BITS_FOR_KEY, "{words}");
        // In a quiet time it is right again.
        for n in 0..100_000 {
            seen.insert(hash(n), 10_000 + n as i64);
        }
        assert!(strangers(&seen) < 1_000, "{}", strangers(&seen));
    }
}
