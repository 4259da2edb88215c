//! The header `Retry-After`: seconds, or a date.

use std::time::Duration;

use bugle_model::{MAX_WAIT, Timestamp};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// How long to wait, at most a day. A date that has passed means no wait; what is neither seconds nor a date means nothing.
pub(crate) fn parse(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let wait = if digits {
        // More digits than fit are a very long wait, not an error.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        http_date(value)?.since(now)
    };
    Some(wait.min(MAX_WAIT))
}

/// Reads the one form of a date that senders may use (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: i64 = number(parts.next()?, 2, 1..=31)?;
    let name = parts.next()?;
    let month = i64::try_from(MONTHS.iter().position(|m| *m == name)?).ok()? + 1;
    let year = number(parts.next()?, 4, 1970..=9999)?;
    let mut time = parts.next()?.split(':');
    let hour = number(time.next()?, 2, 0..=23)?;
    let minute = number(time.next()?, 2, 0..=59)?;
    let second = number(time.next()?, 2, 0..=60)?;
    if parts.next()? != "GMT" || parts.next().is_some() || time.next().is_some() {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_secs(seconds))
}

fn number(text: &str, width: usize, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
    let plain = text.len() == width && text.bytes().all(|b| b.is_ascii_digit());
    let number = plain.then(|| text.parse().ok())??;
    range.contains(&number).then_some(number)
}

/// Days from 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day is a year's last.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const THEN: i64 = 784_111_777;

    fn secs(value: &str, now: i64) -> Option<u64> {
        parse(value, Timestamp::from_secs(now)).map(|d| d.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(secs("120", 0), Some(120));
        assert_eq!(secs(" 0 ", 0), Some(0));
        assert_eq!(secs("Sun, 06 Nov 1994 08:49:37 GMT", THEN - 30), Some(30));
        assert_eq!(secs("Tue, 29 Feb 2028 00:00:00 GMT", 1_835_395_200 - 5), Some(5));
    }

    #[test]
    fn a_date_that_has_passed_means_no_wait() {
        assert_eq!(secs("Sun, 06 Nov 1994 08:49:37 GMT", THEN + 5), Some(0));
    }

    #[test]
    fn no_wait_is_longer_than_a_day() {
        assert_eq!(secs("99999999999999999999999", 0), Some(86_400));
        assert_eq!(secs("Fri, 31 Dec 9999 23:59:59 GMT", 0), Some(86_400));
    }

    #[test]
    fn nonsense_means_nothing() {
        for odd in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 06 Foo 1994 08:49:37 GMT",
            "Sun, 6 Nov 1994 8:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(secs(odd, 0), None, "{odd}");
        }
    }
}
