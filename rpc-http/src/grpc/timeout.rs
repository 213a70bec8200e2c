//! The deadline of a call: the header grpc-timeout.

use std::time::Duration;

use http::HeaderMap;
use rpc_runtime::Status;

/// Reads how long the caller waits; none if it waits for ever.
///
/// # Errors
///
/// INTERNAL, as grpc-go has it, if the header is not one to eight digits and a unit.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    match headers.get("grpc-timeout") {
        None => Ok(None),
        Some(value) => match parse(value.as_bytes()) {
            Some(timeout) => Ok(Some(timeout)),
            None => Err(Status::internal("malformed grpc-timeout")),
        },
    }
}

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
