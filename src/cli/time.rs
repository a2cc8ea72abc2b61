//! Times and spans as the commands write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time, so many seconds from now, as in RFC 3339, in UTC.
pub(crate) fn utc(from_now: i64) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.map_or(0, |since| since.as_secs().cast_signed());
    rfc_3339(now + from_now)
}

/// The day of such a time.
pub(crate) fn day(time: &str) -> &str {
    time.split('T').next().unwrap_or(time)
}

fn rfc_3339(unix_seconds: i64) -> String {
    let (days, seconds) = (
        unix_seconds.div_euclid(86_400),
        unix_seconds.rem_euclid(86_400),
    );
    // The Gregorian calendar, in spans of 400 years that begin with a March: leap days end years then.
    let days = days + 719_468;
    let (span, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = span * 400 + year + next_year;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A span in its largest unit. Uses are noted once a minute, so a shorter one says nothing.
pub(crate) fn rough(span: Duration) -> String {
    match span.as_secs() / 60 {
        0 => "1m".to_owned(),
        minutes @ 1..120 => format!("{minutes}m"),
        minutes @ 120..2_880 => format!("{}h", minutes / 60),
        minutes => format!("{}d", minutes / 1_440),
    }
}

/// Reads `90s`, `30m`, `24h` or `7d`.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let expected = || "expected a number and a unit: 90s, 30m, 24h or 7d".to_owned();
    let unit = text.chars().last().ok_or_else(expected)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_in_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_795_132_800, "2026-11-20T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc_3339(seconds), expected);
        }
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "h", "24", "1y", "-1h", "1时", "99999999999d"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
        let rough = |seconds| rough(Duration::from_secs(seconds));
        assert_eq!(
            [rough(5), rough(3_660), rough(7_300), rough(300_000)],
            ["1m", "61m", "2h", "3d"]
        );
    }
}
