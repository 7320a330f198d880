//! Times and durations for people.

use std::time::{Duration, SystemTime};

/// `3 m ago`; a time that is not over yet is `in 3 m`.
pub(crate) fn relative(at: SystemTime, now: SystemTime) -> String {
    match (now.duration_since(at), at.duration_since(now)) {
        (Ok(since), _) if since < Duration::from_secs(1) => "just now".to_owned(),
        (Ok(since), _) => format!("{} ago", coarse(since)),
        (_, Ok(until)) => format!("in {}", coarse(until)),
        _ => "just now".to_owned(),
    }
}

/// The largest unit only, which is what one wants of something that was long ago.
fn coarse(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// How long something took, to three digits or so: `12 ms`, `1.25 s`, `3 m 5 s`, `2 h 10 m`, `3 d 4 h`.
pub(crate) fn took(duration: Duration) -> String {
    let millis = duration.as_millis();
    let seconds = duration.as_secs();
    match seconds {
        0 if millis == 0 => format!("{:.2} ms", duration.as_secs_f64() * 1_000.0),
        0 => format!("{millis} ms"),
        1..10 => format!("{:.2} s", duration.as_secs_f64()),
        10..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3_600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `2026-11-23 12:03:04`, in UTC.
pub(crate) fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string().replace('T', " ").replace('Z', "")
}

/// `12:03:04`, in UTC.
pub(crate) fn clock(at: SystemTime) -> String {
    date(at).split(' ').nth(1).unwrap_or_default().to_owned()
}

/// As JSON has it: RFC 3339, to the microsecond.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

/// From one time to another; nothing where a clock was set back between the two.
pub(crate) fn between(from: SystemTime, to: SystemTime) -> Duration {
    to.duration_since(from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn times_are_told_by_their_largest_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let told = |seconds: u64| relative(now - Duration::from_secs(seconds), now);
        assert_eq!([0, 1, 59, 60].map(told), ["just now", "1 s ago", "59 s ago", "1 m ago"]);
        assert_eq!([3_599, 3_600, 86_399, 86_400].map(told), ["59 m ago", "1 h ago", "23 h ago", "1 d ago"]);
        assert_eq!(relative(now + Duration::from_secs(61), now), "in 1 m");
    }

    #[test]
    fn durations_have_about_three_digits() {
        let told = |millis: u64| took(Duration::from_millis(millis));
        assert_eq!([0, 1, 999, 1_250].map(told), ["0.00 ms", "1 ms", "999 ms", "1.25 s"]);
        assert_eq!([59_900, 60_000, 3_600_000].map(told), ["59.9 s", "1 m 0 s", "1 h 0 m"]);
        assert_eq!(told(86_400_000 + 3_600_000 * 4), "1 d 4 h");
        assert_eq!(took(Duration::from_micros(17)), "0.02 ms");
    }

    #[test]
    fn dates_are_utc() {
        let at = UNIX_EPOCH + Duration::from_millis(1_000);
        assert_eq!((date(at), clock(at)), ("1970-01-01 00:00:01".to_owned(), "00:00:01".to_owned()));
        assert_eq!(rfc3339(at), "1970-01-01T00:00:01.000000Z");
    }
}
