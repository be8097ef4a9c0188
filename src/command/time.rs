//! Times as people write them.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// `1h`, `30min`, `2 days`; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write 30min, 1h or 2days");
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let duration: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| wrong())?;
    Duration::try_from(duration)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(wrong)
}

/// A duration before `now`, or a time: RFC 3339, or a date with or without a time of day in UTC.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let before = duration(text)
        .ok()
        .and_then(|duration| now.checked_sub(duration).ok());
    before
        .or_else(|| text.parse().ok())
        .or_else(|| {
            let civil: DateTime = text.parse().ok()?;
            Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
        })
        .ok_or_else(|| {
            let duration = text.trim_start_matches('-');
            if duration != text && self::duration(duration).is_ok() {
                return format!(
                    "{text:?} would be in the future; write it without the minus: --since {duration}"
                );
            }
            format!(
                "{text:?} is neither a duration nor a time; write 1h, 2026-01-31 or 2026-01-31T08:00:00Z"
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("30min"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("2 days"), Ok(Duration::from_secs(172_800)));
        for text in ["", "1", "0s", "-1h", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_a_duration_ago_or_a_date() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("1h", "2026-01-31T11:00:00Z"),
            ("2026-01-30", "2026-01-30T00:00:00Z"),
            ("2026-01-30 08:30", "2026-01-30T08:30:00Z"),
            ("2026-01-30T08:30:00+02:00", "2026-01-30T06:30:00Z"),
        ] {
            assert_eq!(
                since(text, now).unwrap(),
                expected.parse().unwrap(),
                "{text}"
            );
        }
        assert!(since("yesterday-ish", now).is_err());
        let told = since("-1h", now).unwrap_err();
        assert!(
            told.ends_with("write it without the minus: --since 1h"),
            "{told}"
        );
    }
}
