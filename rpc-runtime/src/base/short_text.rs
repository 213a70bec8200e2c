//! Short text: numbers and times as people read them, in a few letters.

use std::{fmt, time::Duration};

/// A number of bytes or a time, in a few letters.
pub(crate) enum Short {
    Bytes(u64),
    Time(Duration),
    /// There is none.
    Nothing,
}

impl Short {
    pub(crate) fn bytes(bytes: u64) -> Self {
        Self::Bytes(bytes)
    }

    pub(crate) fn time(time: Option<Duration>) -> Self {
        time.map_or(Self::Nothing, Self::Time)
    }

    fn text(&self) -> String {
        match *self {
            Self::Bytes(bytes) => in_bytes(bytes),
            Self::Time(time) => in_time(time),
            Self::Nothing => "-".to_owned(),
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text())
    }
}

fn in_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1 << 10 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let value = format!("{value:.1}");
    format!("{}{}", value.strip_suffix(".0").unwrap_or(&value), UNITS[unit])
}

fn in_time(time: Duration) -> String {
    let micros = time.as_micros();
    let seconds = time.as_secs();
    match micros {
        0..1_000 => format!("{micros}us"),
        1_000..1_000_000 => format!("{}ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{:.1}s", (time.as_millis() / 100) as f64 / 10.0),
        _ if seconds < 3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_take_few_letters() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            ((1 << 20) - 1, "1MiB"),
            (64 << 20, "64MiB"),
            (5 << 40, "5TiB"),
        ] {
            assert_eq!(Short::bytes(bytes).to_string(), text);
        }
        for (micros, text) in [
            (0, "0us"),
            (999, "999us"),
            (1_999, "1ms"),
            (999_999, "999ms"),
            (1_550_000, "1.5s"),
            (59_999_999, "59.9s"),
            (61_000_000, "1m01s"),
            (3_600_000_000, "1h00m"),
            (90_000_000_000, "1d01h"),
        ] {
            assert_eq!(Short::time(Some(Duration::from_micros(micros))).to_string(), text);
        }
        assert_eq!(format!("{:<4}|", Short::time(None)), "-   |");
    }
}
