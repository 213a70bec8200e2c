//! Account: the outcomes of the one-way calls of one connection, as its server counts them.

use std::fmt;

/// The outcomes of the one-way calls of one connection, since it began.
///
/// [`Client::barrier`](crate::Client::barrier) and [`Client::settled`](crate::Client::settled) return it. Each call that the
/// server has received is in exactly one of the other numbers, or is still [`pending`](Account::pending).
///
/// ```
/// # async fn check(client: &rpc_runtime::Client) -> Result<(), rpc_runtime::Error> {
/// let account = client.settled().await?;
/// if account.handled() < account.received() {
///     eprintln!("{account}"); // received 5: 3 handled, 1 failed, 0 expired, 1 dropped (overload: 1), 0 pending
///     for (reason, count) in account.dropped() {
///         eprintln!("{count} dropped: {reason}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    received: u64,
    handled: u64,
    failed: u64,
    expired: u64,
    dropped: Vec<(DropReason, u64)>,
}

impl Account {
    /// Creates an account of these numbers. Reasons that dropped nothing are left out.
    pub(crate) fn new(
        received: u64,
        handled: u64,
        failed: u64,
        expired: u64,
        dropped: impl IntoIterator<Item = (DropReason, u64)>,
    ) -> Self {
        Self {
            received,
            handled,
            failed,
            expired,
            dropped: dropped.into_iter().filter(|&(_, count)| count > 0).collect(),
        }
    }

    /// Adds the numbers of another connection.
    pub(crate) fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.received, other.received),
            (&mut self.handled, other.handled),
            (&mut self.failed, other.failed),
            (&mut self.expired, other.expired),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        for &(reason, more) in &other.dropped {
            match self.dropped.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum = sum.saturating_add(more),
                None => self.dropped.push((reason, more)),
            }
        }
    }

    /// The number of one-way calls that the server has read whole.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The number of handlers that succeeded.
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// The number of handlers that returned an error or panicked.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// The number of calls whose deadline passed, before the handler began or while it ran.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// The number of dropped calls for each reason; reasons that dropped none are left out.
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.dropped.iter().copied()
    }

    /// The number of calls that wait for their handler to begin or to end.
    pub fn pending(&self) -> u64 {
        // Wrong numbers of a peer must not cause a panic.
        let dropped = self.dropped.iter().map(|(_, count)| *count);
        [self.handled, self.failed, self.expired]
            .into_iter()
            .chain(dropped)
            .fold(self.received, u64::saturating_sub)
    }
}

/// `received 5: 3 handled, 1 failed, 0 expired, 1 dropped (unknown procedure: 1), 0 pending`
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dropped = self
            .dropped
            .iter()
            .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let Self {
            received,
            handled,
            failed,
            expired,
            ..
        } = self;
        write!(
            f,
            "received {received}: {handled} handled, {failed} failed, {expired} expired, {dropped} dropped"
        )?;
        for (i, (reason, count)) in self.dropped.iter().enumerate() {
            write!(f, "{}{reason}: {count}", if i == 0 { " (" } else { ", " })?;
        }
        let close = if self.dropped.is_empty() { "" } else { ")" };
        write!(f, "{close}, {} pending", self.pending())
    }
}

/// The reason why the server dropped a one-way call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The server has no such procedure.
    UnknownProcedure,
    /// The request cannot be decoded as the procedure's type, or its arguments were refused.
    BadPayload,
    /// The server had no room for it.
    Overload,
    /// The server was draining.
    Draining,
    /// A drain or a disconnect dropped its handler before the end, or a server of another [protocol](crate::protocol) did not say whether it ran.
    Aborted,
    /// A rule of the server refused it, such as a right that its caller lacks.
    Refused,
    /// A reason of a newer server, by its number.
    Other(u32),
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProcedure => f.write_str("unknown procedure"),
            Self::BadPayload => f.write_str("bad payload"),
            Self::Overload => f.write_str("overload"),
            Self::Draining => f.write_str("draining"),
            Self::Aborted => f.write_str("aborted"),
            Self::Refused => f.write_str("refused"),
            Self::Other(number) => write!(f, "reason {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(handled: u64, overload: u64) -> Account {
        let dropped = [
            (DropReason::UnknownProcedure, 1),
            (DropReason::BadPayload, 0),
            (DropReason::Other(77), overload),
        ];
        Account::new(9, handled, 1, 1, dropped)
    }

    #[test]
    fn an_account_is_one_readable_line() {
        assert_eq!(
            account(3, 1).to_string(),
            "received 9: 3 handled, 1 failed, 1 expired, 2 dropped (unknown procedure: 1, reason 77: 1), 2 pending"
        );
        assert_eq!(
            Account::default().to_string(),
            "received 0: 0 handled, 0 failed, 0 expired, 0 dropped, 0 pending"
        );
    }

    #[test]
    fn wrong_counts_of_a_peer_do_no_harm() {
        let account = account(u64::MAX, u64::MAX);
        assert_eq!(account.pending(), 0);
        assert_eq!(
            account.dropped().collect::<Vec<_>>(),
            [
                (DropReason::UnknownProcedure, 1),
                (DropReason::Other(77), u64::MAX)
            ]
        );
    }
}
