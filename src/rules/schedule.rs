//! Times of the week, as a rule's `time` and `weekday` say, and moments, as its `from` and `until` do.
//!
//! A window may pass midnight. It belongs to the day on which it begins: with `weekday = "fri"` and
//! `time = "22:00-02:00"`, Saturday at one is in it and Friday at one is not.

use toml::value::{Datetime, Offset};

const DAY_S: i64 = 24 * 3600;
const DAY_MINUTES: usize = 24 * 60;
const WEEK_MINUTES: usize = 7 * DAY_MINUTES;
/// Bits of 64 for each minute of a week.
const WORDS: usize = WEEK_MINUTES.div_ceil(64);

/// How far local time is ahead of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UtcOffset {
    seconds: i64,
}

impl UtcOffset {
    /// China's, where the platform's own days begin.
    pub(super) const CHINA: Self = Self { seconds: 8 * 3600 };

    /// Reads `+08:00`, `-03:30` or `Z`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let moment: Datetime = format!("2000-01-01T00:00:00{text}").parse().ok()?;
        Some(Self {
            seconds: offset_s(moment.offset?),
        })
    }

    /// `Fri 2026-11-20 09:30 +08:00`.
    pub(super) fn tell(self, unix_s: i64) -> String {
        let local = unix_s.saturating_add(self.seconds);
        let days = local.div_euclid(DAY_S);
        let (year, month, day) = date_of(days);
        let minutes = local.rem_euclid(DAY_S) / 60;
        format!(
            "{} {year:04}-{month:02}-{day:02} {:02}:{:02} {self}",
            DAYS[weekday_of(days)].0,
            minutes / 60,
            minutes % 60,
        )
    }
}

impl std::fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.seconds < 0 { '-' } else { '+' };
        let minutes = self.seconds.abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

fn offset_s(offset: Offset) -> i64 {
    match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes) * 60,
    }
}

/// The minutes of a week in which something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Week([u64; WORDS]);

impl Week {
    /// The windows that begin on these days. No windows: the whole days.
    pub(super) fn new(days: &[Weekday], windows: &[Window]) -> Self {
        let whole_day = [Window {
            from: 0,
            to: DAY_MINUTES,
        }];
        let windows = if windows.is_empty() {
            &whole_day
        } else {
            windows
        };
        let mut bits = [0; WORDS];
        for day in days {
            for window in windows {
                for minute in window.from..window.to {
                    let minute = (day.0 * DAY_MINUTES + minute) % WEEK_MINUTES;
                    bits[minute / 64] |= 1 << (minute % 64);
                }
            }
        }
        Self(bits)
    }

    /// Whether it holds at this time.
    pub(super) fn holds(&self, unix_s: i64, offset: UtcOffset) -> bool {
        let local = unix_s.saturating_add(offset.seconds);
        let weekday = weekday_of(local.div_euclid(DAY_S));
        // Of a day: it fits.
        let minute = usize::try_from(local.rem_euclid(DAY_S) / 60).unwrap_or(0);
        let minute = weekday * DAY_MINUTES + minute;
        self.0[minute / 64] >> (minute % 64) & 1 == 1
    }

    /// Whether it holds whenever the other one does.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(here, there)| there & !here == 0)
    }
}

/// A day of the week, Monday 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weekday(usize);

/// How the days are written: English and its short form, Chinese in two ways.
const DAYS: [(&str, &str, &[&str]); 7] = [
    ("Mon", "monday", &["周一", "星期一"]),
    ("Tue", "tuesday", &["周二", "星期二"]),
    ("Wed", "wednesday", &["周三", "星期三"]),
    ("Thu", "thursday", &["周四", "星期四"]),
    ("Fri", "friday", &["周五", "星期五"]),
    ("Sat", "saturday", &["周六", "星期六"]),
    ("Sun", "sunday", &["周日", "周天", "星期日", "星期天"]),
];

impl Weekday {
    /// All seven.
    pub(super) const ALL: [Self; 7] = [
        Self(0),
        Self(1),
        Self(2),
        Self(3),
        Self(4),
        Self(5),
        Self(6),
    ];

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_it = |(short, long, chinese): &(&str, &str, &[&str])| {
            short.eq_ignore_ascii_case(text)
                || long.eq_ignore_ascii_case(text)
                || chinese.contains(&text)
        };
        DAYS.iter().position(is_it).map(Self)
    }

    /// Reads `mon`, or `fri-mon` for all days from the first to the last.
    pub(super) fn parse_range(text: &str) -> Option<Vec<Self>> {
        let Some((first, last)) = text.split_once(['-', '–', '至']) else {
            return Some(vec![Self::parse(text)?]);
        };
        let (first, last) = (Self::parse(first)?, Self::parse(last)?);
        let days = (last.0 + 7 - first.0) % 7;
        Some((0..=days).map(|day| Self((first.0 + day) % 7)).collect())
    }
}

/// A part of a day, in minutes from midnight; `to` is not in it and may lie in the next day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    from: usize,
    to: usize,
}

impl Window {
    /// Reads `09:00-18:00`. One that ends before it begins passes midnight.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (from, to) = text.split_once(['-', '–', '至'])?;
        let (from, to) = (minute_of_day(from)?, minute_of_day(to)?);
        if from == to || from == DAY_MINUTES {
            return None;
        }
        let to = if to < from { to + DAY_MINUTES } else { to };
        Some(Self { from, to })
    }
}

/// Reads `9:00`, `09:00` or `24:00`.
fn minute_of_day(text: &str) -> Option<usize> {
    let (hours, minutes) = text.trim().split_once([':', '：'])?;
    let number = |digits: &str| {
        let is_number =
            (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse::<usize>().ok())?
    };
    let minute = number(hours)? * 60 + number(minutes).filter(|_| minutes.len() == 2)?;
    (number(minutes)? < 60 && minute <= DAY_MINUTES).then_some(minute)
}

/// The first second of a date or time, in Unix seconds. What has no offset of its own is local.
pub(super) fn begins(moment: &Datetime, local: UtcOffset) -> Option<i64> {
    let date = moment.date?;
    let time = moment.time.map_or(0, |time| {
        i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second.unwrap_or(0))
    });
    let offset = moment.offset.map_or(local.seconds, offset_s);
    Some(days_of(date.year.into(), date.month.into(), date.day.into()) * DAY_S + time - offset)
}

/// The first second past it: a date lasts for the whole day, a time is over when it begins.
pub(super) fn ends(moment: &Datetime, local: UtcOffset) -> Option<i64> {
    let begins = begins(moment, local)?;
    Some(match moment.time {
        None => begins + DAY_S,
        Some(_) => begins,
    })
}

/// 1970-01-01 was a Thursday.
fn weekday_of(days: i64) -> usize {
    // Of seven: it fits.
    usize::try_from((days + 3).rem_euclid(7)).unwrap_or(0)
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap
/// day is a year's last one.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// Year, month and day: the opposite of [`days_of`].
fn date_of(days: i64) -> (i64, i64, i64) {
    // The calendar repeats after 400 years, which have 146,097 days.
    let mut year = 1970 + days.div_euclid(146_097) * 400;
    while days_of(year + 1, 1, 1) <= days {
        year += 1;
    }
    let month = (1..=12)
        .rev()
        .find(|&month| days_of(year, month, 1) <= days);
    let month = month.unwrap_or(1);
    (year, month, days - days_of(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20 was a Friday.
    const FRIDAY: i64 = 20_777 * DAY_S;
    const UTC: UtcOffset = UtcOffset { seconds: 0 };

    fn week(days: &str, windows: &[&str]) -> Week {
        let days = Weekday::parse_range(days).unwrap();
        let windows: Vec<_> = windows.iter().map(|w| Window::parse(w).unwrap()).collect();
        Week::new(&days, &windows)
    }

    #[track_caller]
    fn check(week: &Week, days_on: i64, time: &str, expected: bool) {
        let minute = i64::try_from(minute_of_day(time).unwrap()).unwrap();
        for second in [0, 59] {
            let at = FRIDAY + days_on * DAY_S + minute * 60 + second;
            assert_eq!(week.holds(at, UTC), expected, "{}", UTC.tell(at));
        }
    }

    #[test]
    fn a_window_holds_from_its_first_minute_until_before_its_last() {
        let week = week("mon-sun", &["09:00-18:00"]);
        check(&week, 0, "08:59", false);
        check(&week, 0, "9:00", true);
        check(&week, 0, "17:59", true);
        check(&week, 0, "18:00", false);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let friday = week("fri", &["22:00-02:00"]);
        check(&friday, 0, "01:00", false);
        check(&friday, 0, "22:00", true);
        check(&friday, 1, "01:59", true);
        check(&friday, 1, "02:00", false);
        check(&friday, 1, "22:00", false);
        let sunday = week("sun", &["23:00-01:00"]);
        check(&sunday, 3, "00:30", true);
        check(&sunday, 2, "00:30", false);
    }

    #[test]
    fn days_are_ranges_that_may_pass_sunday() {
        let weekend = week("sat-mon", &[]);
        check(&weekend, 0, "23:59", false);
        check(&weekend, 1, "00:00", true);
        check(&weekend, 3, "23:59", true);
        check(&weekend, 4, "00:00", false);
        assert_eq!(Weekday::parse_range("周五至周六").unwrap().len(), 2);
        assert_eq!(
            Weekday::parse_range(" Friday "),
            Weekday::parse_range("星期五")
        );
        for bad in ["", "fr", "mon-", "mon-fri-sun", "8"] {
            assert_eq!(Weekday::parse_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_window_has_two_times_that_differ() {
        for good in ["9:00-18:00", "00:00-24:00", "22:00 - 6:30", "09:00–18:00"] {
            assert!(Window::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "9-18",
            "09:00",
            "09:00-09:00",
            "24:00-06:00",
            "09:60-10:00",
            "25:00-26:00",
            "9:0-10:00",
            "-1:00-2:00",
            "09:00-18:00-19:00",
            "24:01-25:00",
            "+9:00-10:00",
        ] {
            assert_eq!(Window::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_offset_moves_the_day() {
        let friday = week("fri", &[]);
        let early = FRIDAY - 8 * 3600;
        assert!(
            friday.holds(early, UtcOffset::CHINA) && !friday.holds(early - 1, UtcOffset::CHINA)
        );
        assert!(!friday.holds(early, UTC));
        assert_eq!(UtcOffset::CHINA.tell(early), "Fri 2026-11-20 00:00 +08:00");
        assert_eq!(UtcOffset::parse("-03:30").unwrap().to_string(), "-03:30");
        assert_eq!(UtcOffset::parse("Z"), Some(UTC));
        for bad in ["", "8", "+8", "+08", "+25:00", "08:00", "+08:00 "] {
            assert_eq!(UtcOffset::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_date_lasts_the_whole_day_and_a_time_no_longer_than_it_says() {
        let at = |text: &str| text.parse::<Datetime>().unwrap();
        let begin = |text: &str| begins(&at(text), UtcOffset::CHINA).unwrap();
        let end = |text: &str| ends(&at(text), UtcOffset::CHINA).unwrap();
        assert_eq!(begin("2026-11-20"), FRIDAY - 8 * 3600);
        assert_eq!(end("2026-11-20"), FRIDAY + 16 * 3600);
        assert_eq!(begin("2026-11-20 08:00"), FRIDAY);
        assert_eq!(end("2026-11-20T08:00:30"), FRIDAY + 30);
        assert_eq!(begin("2026-11-20T00:00:00Z"), FRIDAY);
        assert_eq!(begins(&at("09:00"), UTC), None);
    }

    #[test]
    fn one_week_covers_another() {
        let office = week("mon-fri", &["09:00-18:00"]);
        assert!(week("mon-sun", &[]).covers(&office));
        assert!(office.covers(&week("mon", &["10:00-11:00", "12:00-13:00"])));
        assert!(!office.covers(&week("mon-sun", &["10:00-11:00"])));
        assert!(!office.covers(&week("mon", &["17:00-18:01"])));
    }

    proptest! {
        #[test]
        fn a_date_is_its_day_and_back(days in -800_000i64..3_000_000) {
            let (year, month, day) = date_of(days);
            prop_assert_eq!(days_of(year, month, day), days);
            prop_assert!((1..=12).contains(&month) && (1..=31).contains(&day));
        }

        #[test]
        fn any_moment_of_any_clock_has_a_minute(at: i64) {
            let always = Week::new(&Weekday::ALL, &[]);
            prop_assert!(always.holds(at, UtcOffset::CHINA));
            prop_assert!(UtcOffset::CHINA.tell(at).ends_with("+08:00"));
        }

        #[test]
        fn a_window_is_as_long_as_the_way_round_the_clock(from in 0usize..1440, to in 0usize..1440, at in 0usize..1440) {
            prop_assume!(from != to);
            let text = format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60);
            let daily = week("mon-sun", &[&text]);
            let inside = if from < to { (from..to).contains(&at) } else { at >= from || at < to };
            let unix_s = FRIDAY + i64::try_from(at).unwrap() * 60;
            prop_assert_eq!(daily.holds(unix_s, UTC), inside);
        }
    }
}
