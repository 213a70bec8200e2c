//! Timestamps and durations as text: `2026-11-29T01:50:42.5Z` and `1.5s`.

use prost_types::{Duration, Timestamp};
use serde_core::{Deserializer, Serializer, ser::Error};

use super::{
    google::{Google, Parsed},
    mapping::Mapping,
};

impl Mapping<Timestamp> for Google {
    fn write<S: Serializer>(value: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        if !is_timestamp(value) {
            return Err(S::Error::custom(format!(
                "a Timestamp of {} s and {} ns is outside of the years 1 to 9999",
                value.seconds, value.nanos
            )));
        }
        to.collect_str(value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        from.deserialize_str(Parsed::new(
            "a time as in RFC 3339, of the years 1 to 9999, for example 2026-11-29T01:50:42Z",
            |text| {
                let parsed = has_shape(text).then(|| text.parse().ok()).flatten();
                parsed.filter(is_timestamp)
            },
        ))
    }
}

impl Mapping<Duration> for Google {
    fn write<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        if !is_duration(value) {
            return Err(S::Error::custom(format!(
                "a Duration of {} s and {} ns is longer than {MAX_SECONDS} s, or its parts have different signs",
                value.seconds, value.nanos
            )));
        }
        to.collect_str(value)
    }

    fn read<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        from.deserialize_str(Parsed::new("a duration such as 1.5s", |text| {
            parse_duration(text).filter(is_duration)
        }))
    }
}

/// True if the time is of the years 1 to 9999, as the mapping requires.
fn is_timestamp(time: &Timestamp) -> bool {
    (FIRST_SECOND..=LAST_SECOND).contains(&time.seconds) && (0..NANOS).contains(&time.nanos)
}

fn is_duration(duration: &Duration) -> bool {
    let Duration { seconds, nanos } = *duration;
    seconds.unsigned_abs() <= MAX_SECONDS
        && (-NANOS < nanos && nanos < NANOS)
        && !(seconds > 0 && nanos < 0)
        && !(seconds < 0 && nanos > 0)
}

/// True if `text` looks like `2026-11-29T01:50:42`, a fraction, and `Z` or an offset.
///
/// The parser of prost-types also reads dates without a time, and other forms.
fn has_shape(text: &str) -> bool {
    let Some((head, rest)) = text.split_at_checked(DATE_AND_TIME.len()) else {
        return false;
    };
    let is_head = head
        .bytes()
        .zip(DATE_AND_TIME.bytes())
        .all(|(byte, pattern)| match pattern {
            b'0' => byte.is_ascii_digit(),
            _ => byte == pattern,
        });
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => {
            let rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if !(1..=9).contains(&(fraction.len() - rest.len())) {
                return false;
            }
            rest
        }
        None => rest,
    };
    let is_offset = |bytes: &[u8]| match bytes {
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    is_head && (rest == "Z" || is_offset(rest.as_bytes()))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration {
        seconds: i64::from(sign) * seconds,
        nanos: sign * nanos,
    })
}

const DATE_AND_TIME: &str = "0000-00-00T00:00:00";
/// 0001-01-01T00:00:00Z.
const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST_SECOND: i64 = 253_402_300_799;
/// 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;
const NANOS: i32 = 1_000_000_000;
