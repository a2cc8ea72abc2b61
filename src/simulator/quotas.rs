//! How often each call was made today ("WeChat: 接口调用频次限制").

use std::collections::BTreeMap;

use super::clock::{Day, Seconds};

/// Times a month that the counts may be set back.
const CLEARS_A_MONTH: u32 = 10;

/// Counts by path; days and months begin at 00:00 UTC+8.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    used: BTreeMap<&'static str, Used>,
    cleared: Option<((i64, i64), u32)>,
}

#[derive(Debug)]
struct Used {
    day: Day,
    calls: u64,
}

impl Quotas {
    /// Calls today.
    pub(crate) fn used(&self, path: &str, now: Seconds) -> u64 {
        match self.used.get(path) {
            Some(used) if used.day == Day::of(now) => used.calls,
            _ => 0,
        }
    }

    pub(crate) fn count(&mut self, path: &'static str, now: Seconds) {
        let calls = self.used(path, now) + 1;
        let day = Day::of(now);
        self.used.insert(path, Used { day, calls });
    }

    pub(crate) fn clear_one(&mut self, path: &str) {
        self.used.remove(path);
    }

    pub(crate) fn clear(&mut self) {
        self.used.clear();
    }

    /// Counts one of the clears of this month; false where they are used up.
    pub(crate) fn take_clear(&mut self, now: Seconds) -> bool {
        let (year, month, _) = Day::of(now).date();
        let taken = match self.cleared {
            Some((of, taken)) if of == (year, month) => taken,
            _ => 0,
        };
        if taken >= CLEARS_A_MONTH {
            return false;
        }
        self.cleared = Some(((year, month), taken + 1));
        true
    }
}
