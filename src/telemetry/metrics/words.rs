//! Counters whose label is a word of a closed set.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// A counter with one label, whose values are all known. Each is there from the start, at zero: of a
/// series that begins with its first count Prometheus sees no increase, and an alarm would miss it.
#[derive(Clone, Debug)]
pub(super) struct Words(Vec<(&'static str, IntCounter)>);

impl Words {
    pub(super) fn register(
        registry: &Registry,
        name: &str,
        help: &str,
        label: &str,
        known: &[&'static str],
    ) -> prometheus::Result<Self> {
        let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
        registry.register(Box::new(counter.clone()))?;
        let count = |word: &&'static str| (*word, counter.with_label_values(&[*word]));
        Ok(Self(known.iter().map(count).collect()))
    }

    pub(super) fn count(&self, word: &str) {
        self.count_many(word, 1);
    }

    pub(super) fn count_many(&self, word: &str, times: u64) {
        let counter = self.0.iter().find(|(known, _)| *known == word);
        debug_assert!(counter.is_some(), "{word} is not among {:?}", self.0);
        if let Some((_, counter)) = counter {
            counter.inc_by(times);
        }
    }
}
