//! LimitView: one limit in force, where it came from, and how much of it is used.

use std::{fmt, sync::Arc};

use super::Side;
use crate::api::limit_value::LimitValue;

/// One limit in force, from [`limits`](super::limits).
///
/// `Display` shows it in one line, with columns that stand below each other.
#[derive(Clone, Debug)]
pub struct LimitView {
    pub(super) side: Side,
    pub(super) owner: Arc<str>,
    pub(super) name: &'static str,
    pub(super) value: LimitValue,
    pub(super) source: LimitSource,
    pub(super) used: Option<u64>,
    pub(super) used_by: Option<u64>,
}

/// Where the value of a limit came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitSource {
    /// Nobody has set it.
    Default,
    /// The program has set it: by a builder or by [`Limits`](crate::Limits).
    Program,
    /// Nobody has set it, and it depends on the machine: its memory, or how many files the process may open.
    Machine,
}

impl LimitSource {
    /// Returns the word for it, such as `default`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Program => "program",
            Self::Machine => "machine",
        }
    }
}

impl fmt::Display for LimitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl LimitView {
    /// Returns whether it is a limit of a server or of a client.
    pub fn side(&self) -> Side {
        self.side
    }

    /// Returns the addresses of the server, or those that the client connects to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Returns the name of the setting: the method of [`Limits`](crate::Limits), of
    /// [`ServerBuilder`](crate::server::ServerBuilder) or of [`ClientBuilder`](crate::client::ClientBuilder). The name of a setting of a
    /// guest begins with its type, such as `Http::max_streams`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns its value.
    pub fn value(&self) -> LimitValue {
        self.value
    }

    /// Returns where the value came from.
    pub fn source(&self) -> LimitSource {
        self.source
    }

    /// Returns how much of it is used now, in the unit of its value; none where that is not known.
    ///
    /// Of a limit of one connection it is the use of the connection that uses most.
    pub fn used(&self) -> Option<u64> {
        self.used
    }

    /// Returns the number of the connection that uses most of it; none if none uses any, or if connections do not use it.
    ///
    /// Of `max_buffered_bytes` it is the connection that holds most, and of `max_waiting_handlers` the one with most running handlers.
    pub fn used_by(&self) -> Option<u64> {
        self.used_by
    }

    /// Returns the part that is used, between 0 and 1, or more if it is exceeded; none where that is not known.
    pub fn used_part(&self) -> Option<f64> {
        let max = match self.value {
            LimitValue::Bytes(max) | LimitValue::Count(max) if max > 0 => max,
            _ => return None,
        };
        Some(self.used? as f64 / max as f64)
    }
}

impl fmt::Display for LimitView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<6} {:<28} {:<24} {:<10} from={:<8}",
            self.side, self.owner, self.name, self.value, self.source
        )?;
        if let Some(used) = self.used {
            let used = match self.value {
                LimitValue::Bytes(_) => LimitValue::Bytes(used),
                _ => LimitValue::Count(used),
            };
            write!(f, " used={used:<10}")?;
        }
        if let Some(part) = self.used_part() {
            write!(f, " {:>3.0}%", part * 100.0)?;
        }
        if let Some(connection) = self.used_by {
            write!(f, " by=#{connection}")?;
        }
        Ok(())
    }
}
