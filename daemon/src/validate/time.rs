//! RFC 3339 times, as PostgreSQL's `timestamptz` can hold them.
//!
//! The grammar is RFC 3339's `date-time`: `T` and `Z` in either case, no space between date and
//! time, one to nine digits of a fraction. What PostgreSQL cannot hold is cut, never rounded, so
//! that no time moves into the future: nanoseconds to microseconds.
//!
//! A leap second (`:60`) is taken where it can be, at 23:59 UTC, and is the first second of the
//! next day: what PostgreSQL makes of it. Everywhere else a 60 is refused, where PostgreSQL would
//! roll over. `24:00:00` is not RFC 3339.

/// Days from 0000-03-01 to 2000-01-01, in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 730_425;
const DAY_SECONDS: i64 = 86_400;
/// 0001-01-01T00:00:00Z and 10000-01-01T00:00:00Z, in seconds since 2000-01-01 UTC.
const SECONDS_MIN: i64 = -63_082_281_600;
const SECONDS_END: i64 = 252_455_616_000;

/// Microseconds since 2000-01-01T00:00:00Z, PostgreSQL's own unit.
///
/// `None`: not an RFC 3339 time, or not within the years 0001..9999 once it is converted to UTC.
#[must_use]
pub fn parse_rfc3339(text: &[u8]) -> Option<i64> {
    let (fixed, rest) = text.split_at_checked(19)?;
    let proper = fixed[4] == b'-'
        && fixed[7] == b'-'
        && fixed[10].eq_ignore_ascii_case(&b'T')
        && fixed[13] == b':'
        && fixed[16] == b':';
    if !proper {
        return None;
    }
    let (year, month) = (number(&fixed[0..4])?, number(&fixed[5..7])?);
    let (day, hour) = (number(&fixed[8..10])?, number(&fixed[11..13])?);
    let (minute, second) = (number(&fixed[14..16])?, number(&fixed[17..19])?);
    let (micros, rest) = fraction(rest)?;
    let offset_minutes = offset(rest)?;
    let in_range = (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour <= 23
        && minute <= 59
        && second <= 60;
    if !in_range {
        return None;
    }
    let minutes = hour * 60 + minute - offset_minutes;
    if second == 60 && minutes.rem_euclid(24 * 60) != 23 * 60 + 59 {
        return None;
    }
    let seconds = days(year, month, day) * DAY_SECONDS + minutes * 60 + second;
    (SECONDS_MIN..SECONDS_END).contains(&seconds).then_some(seconds * 1_000_000 + micros)
}

/// All of `digits` as one number.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

/// Microseconds of `.digits`, if there, and what comes behind.
fn fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let [b'.', rest @ ..] = text else {
        return Some((0, text));
    };
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let (digits, rest) = rest.split_at(count);
    let nanos = number(digits)? * 10_i64.pow(9 - count as u32);
    Some((nanos / 1000, rest))
}

/// Minutes east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hour, minute) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let minutes = hour * 60 + minute;
            (hour <= 23 && minute <= 59).then_some(if *sign == b'-' { -minutes } else { minutes })
        }
        _ => None,
    }
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 2000-01-01.
///
/// Source: the calendar that starts in March, as in Howard Hinnant's `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - EPOCH_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        parse_rfc3339(text.as_bytes()).map(|micros| micros as f64 / 1e6)
    }

    #[test]
    fn times_are_what_postgresql_makes_of_them() {
        // `extract(epoch from TEXT::timestamptz) - 946684800` of PostgreSQL 15 and 18.
        for (text, expected) in [
            ("2000-01-01T00:00:00Z", 0.0),
            ("1970-01-01T00:00:00Z", -946_684_800.0),
            ("0001-01-01T00:00:00Z", -63_082_281_600.0),
            ("9999-12-31T23:59:59.999999Z", 252_455_615_999.999_999),
            ("2016-01-01T00:00:00+15:59", 504_864_060.0),
            ("2016-12-31T23:59:60Z", 536_544_000.0),
            ("2017-01-01T00:59:60+01:00", 536_544_000.0),
            ("2000-02-29t12:00:00.5z", 5_140_800.5),
            ("1999-12-31T23:59:59.123456789Z", -0.876_544),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "2000-01-01",
            "2000-01-01T00:00:00",
            "2000-01-01 00:00:00Z",
            "2000-01-01T00:00Z",
            "2000-00-01T00:00:00Z",
            "2000-13-01T00:00:00Z",
            "2000-01-00T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2000-04-31T00:00:00Z",
            "2000-01-01T24:00:00Z",
            "2000-01-01T00:60:00Z",
            "2016-12-31T23:59:61Z",
            "2016-12-31T12:00:60Z",
            "2016-12-31T23:59:60+01:00",
            "2000-01-01T00:00:00.Z",
            "2000-01-01T00:00:00.1234567890Z",
            "2000-01-01T00:00:00,5Z",
            "2000-01-01T00:00:00+24:00",
            "2000-01-01T00:00:00+01:60",
            "2000-01-01T00:00:00+0100",
            "2000-01-01T00:00:00+01",
            "2000-01-01T00:00:00ZZ",
            "+000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "0000-12-31T23:59:59Z",
            "9999-12-31T23:59:60Z",
            "9999-12-31T23:59:59-00:01",
            "2000-01-01T00:00:00\u{661}Z",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_offset_may_lead_back_into_the_years_that_count() {
        assert_eq!(seconds("0000-12-31T23:00:00-01:00"), Some(-63_082_281_600.0));
        assert_eq!(seconds("9999-12-31T23:59:59.9999999Z"), Some(252_455_615_999.999_999));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = days(0, 12, 31);
        for year in 1..=9999 {
            for month in 1..=12 {
                for day in 1..=month_days(year, month) {
                    assert_eq!(days(year, month, day), before + 1, "{year}-{month}-{day}");
                    before += 1;
                }
            }
        }
    }
}
