//! Expiry: when the certificate expires that this side shows, for metrics.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};

use super::{
    certificate::{SEQUENCE, take, take_any},
    identity::Identity,
};
use crate::metrics::{self, LiveCertificate, Side};

/// When the certificate expires that one side shows. It is shown in metrics as long as a configuration holds it.
pub(super) struct Expiry {
    side: Side,
    name: String,
    /// In seconds since 1970; [`UNKNOWN`] before the first certificate, and for one that cannot be read.
    not_after: AtomicI64,
}

impl Expiry {
    /// That of the certificate of `identity`, which is not read yet.
    pub(super) fn new(side: Side, identity: &Identity) -> Arc<Self> {
        let expiry = Arc::new(Self {
            side,
            name: identity.label(),
            not_after: AtomicI64::new(UNKNOWN),
        });
        let weak: Weak<Self> = Arc::downgrade(&expiry);
        metrics::add_certificate(weak);
        expiry
    }

    /// Notes when the certificate expires that is in use now.
    pub(super) fn note(&self, not_after: Option<i64>) {
        self.not_after.store(not_after.unwrap_or(UNKNOWN), Relaxed);
    }
}

/// Reads when the first certificate of a chain expires, in seconds since 1970.
pub(super) fn of_chain(chain: &[CertificateDer<'_>]) -> Option<i64> {
    not_after(chain.first()?)
}

impl LiveCertificate for Expiry {
    fn side(&self) -> Side {
        self.side
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn seconds_left(&self) -> Option<i64> {
        let not_after = self.not_after.load(Relaxed);
        let now = i64::try_from(UnixTime::now().as_secs()).ok()?;
        (not_after != UNKNOWN).then(|| not_after - now)
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expiry").field(&self.name).finish()
    }
}

const UNKNOWN: i64 = i64::MIN;

/// Reads when a certificate expires, in seconds since 1970.
///
/// A certificate is a sequence that begins with the signed part: version, serial number, algorithm, issuer, validity.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let mut whole = certificate;
    let mut signed = take(&mut whole, SEQUENCE)?;
    let mut signed = take(&mut signed, SEQUENCE)?;
    let (mut tag, _) = take_any(&mut signed)?;
    if tag == VERSION {
        (tag, _) = take_any(&mut signed)?;
    }
    if tag != INTEGER {
        return None;
    }
    take(&mut signed, SEQUENCE)?;
    take(&mut signed, SEQUENCE)?;
    let mut validity = take(&mut signed, SEQUENCE)?;
    take_any(&mut validity)?;
    let (tag, time) = take_any(&mut validity)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    match (tag, time.len()) {
        // Years from 1950 to 2049.
        (UTC_TIME, 12) => seconds(&format!("{}{time}", if time < "5" { "20" } else { "19" })),
        (GENERALIZED_TIME, 14) => seconds(time),
        _ => None,
    }
}

/// The seconds since 1970 at a time such as `20301231235959`.
fn seconds(time: &str) -> Option<i64> {
    if !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = |at: std::ops::Range<usize>| time.get(at)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
    let (hour, minute, second) = (number(8..10)?, number(10..12)?, number(12..14)?);
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// The days from 1970 to a day. Months are counted from March, so that a leap day is the last of its year: Hinnant, "chrono-compatible
/// low-level date algorithms".
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((1970, 3, 1), 59),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 30), 20_787),
            ((1969, 12, 31), -1),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
        assert_eq!(seconds("20010909014640"), Some(1_000_000_000));
        assert_eq!(seconds("2001090901464"), None);
        assert_eq!(seconds("2001090901464x"), None);
    }

    #[test]
    fn the_end_of_a_certificate_is_read_and_bytes_that_are_none_are_not() {
        for (year, expected) in [(2031, 1_924_992_000), (2100, 4_102_444_800)] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected));
            for len in 0..200 {
                not_after(&certificate.der()[..len]);
            }
        }
    }
}
