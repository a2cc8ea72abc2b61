//! Events that calls have caused and that are still to be pushed.
//!
//! An event has a time on the platform's clock. So it comes by itself after a while, or at once when
//! the clock is moved past it. With a seed nothing waits: a test has its event as soon as the answer.

use serde_json::{Map, Value};

use super::clock::Seconds;

/// An event to push at `due` or later.
#[derive(Debug)]
struct Event {
    due: Seconds,
    members: Map<String, Value>,
}

/// What is left to be pushed.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Vec<Event>);

impl Outbox {
    /// Leaves an event with the members of `/_sim/send`.
    pub(crate) fn leave(&mut self, due: Seconds, members: Map<String, Value>) {
        self.0.push(Event { due, members });
    }

    /// Takes what is due, in the order of time.
    pub(crate) fn take(&mut self, now: Seconds) -> Vec<Map<String, Value>> {
        let (mut due, later): (Vec<_>, Vec<_>) =
            self.0.drain(..).partition(|event| event.due <= now);
        self.0 = later;
        due.sort_by_key(|event| event.due);
        due.into_iter().map(|event| event.members).collect()
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Seconds> {
        self.0.iter().map(|event| event.due).min()
    }
}
