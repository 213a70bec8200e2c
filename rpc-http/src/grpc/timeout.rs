//! The deadline of a call: the header grpc-timeout.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use rpc_runtime::Status;

use super::names;

/// Reads how long the caller waits; none if it waits for ever.
///
/// # Errors
///
/// INTERNAL, as grpc-go has it, if the header is not one to eight digits and a unit.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    match headers.get(&names::TIMEOUT) {
        None => Ok(None),
        Some(value) => match parse(value.as_bytes()) {
            Some(timeout) => Ok(Some(timeout)),
            None => Err(Status::internal("malformed grpc-timeout")),
        },
    }
}

/// Writes how long a caller waits: in the smallest unit that has eight digits for it, rounded up.
pub(crate) fn write(time: Duration) -> HeaderValue {
    let nanos = time.as_nanos();
    let fits = |(unit, each): &(char, u128)| {
        let count = nanos.div_ceil(*each);
        (count <= MOST).then(|| format!("{count}{unit}"))
    };
    let text = UNITS.iter().find_map(fits);
    // Eight digits of hours are 11,000 years.
    let text = text.unwrap_or_else(|| format!("{MOST}H"));
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("99999999H"))
}

/// Rounds a time up to three digits, so by less than one percent.
pub(crate) fn rounded(time: Duration) -> Duration {
    // Longer ones are centuries.
    let Ok(nanos) = u64::try_from(time.as_nanos()) else {
        return time;
    };
    let mut each = 1;
    while nanos / each > 999 {
        each *= 10;
    }
    nanos
        .div_ceil(each)
        .checked_mul(each)
        .map_or(time, Duration::from_nanos)
}

/// The most that eight digits say.
const MOST: u128 = 99_999_999;
/// The units, the smallest first, in nanoseconds.
const UNITS: [(char, u128); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60_000_000_000),
    ('H', 3_600_000_000_000),
];

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_written_in_eight_digits_and_never_shorter_than_it_is() {
        for (time, expected) in [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(20), "20000000n"),
            (Duration::from_millis(100), "100000u"),
            (Duration::from_nanos(100_000_001), "100001u"),
            (Duration::from_secs(30), "30000000u"),
            (Duration::from_secs(3600), "3600000m"),
            (Duration::from_secs(365 * 86_400), "31536000S"),
            (Duration::MAX, "99999999H"),
        ] {
            let written = write(time);
            assert_eq!(written, expected);
            assert!(time == Duration::MAX || parse(written.as_bytes()).unwrap() >= time);
        }
    }

    #[test]
    fn a_timeout_is_rounded_up_to_three_digits() {
        for (nanos, rounded_nanos) in [
            (0, 0),
            (999, 999),
            (1000, 1000),
            (1001, 1010),
            (29_999_999_999, 30_000_000_000),
            (999_000_001, 1_000_000_000),
        ] {
            let expected = Duration::from_nanos(rounded_nanos);
            assert_eq!(rounded(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
        assert_eq!(rounded(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn digits_and_a_unit_are_a_timeout() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("0u", Some(Duration::ZERO)),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1.5S", None),
            ("123456789m", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }
}
