//! LimitValue: the value of a limit, with its unit.

use std::{fmt, time::Duration};

use crate::base::short_text::Short;

/// The value of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitValue {
    /// A number of bytes.
    Bytes(u64),
    /// A number of calls, connections, callers or faults.
    Count(u64),
    /// A time.
    Time(Duration),
    /// There is no limit.
    Unlimited,
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => f.pad(&Short::bytes(*bytes).to_string()),
            Self::Count(count) => f.pad(&count.to_string()),
            Self::Time(time) => f.pad(&Short::time(Some(*time)).to_string()),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}
