//! End: how a connection comes to its end.

pub(super) mod age;
pub(super) mod drain;

use self::drain::Drain;
use super::{Cause, Cut, Tally, Time};

/// How far the connection is on the way to its end.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) life: Life,
    /// Boxed, because few connections are at their end.
    pub(super) drain: Option<Box<Drain>>,
    /// Why this side has ended the connection, if the peer is to blame.
    pub(super) cut: Option<Cut>,
    pub(super) tally: Tally,
}

/// Where the connection stands, with what is true only there.
#[derive(Debug)]
pub(super) enum Life {
    /// The peer's HELLO is not here.
    Handshaking,
    /// Frames go both ways.
    Open,
    /// Nothing new goes out; what is in the output is written, then the peer is given time to do the same.
    Closing(Closing),
    /// It is over.
    Closed(Cause),
}

/// What is left to do before the connection is closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) cause: Cause,
    /// When it is closed, done or not.
    pub(super) until: Time,
    /// Whether everything is written, so that only the peer's end of file is awaited.
    pub(super) lingering: bool,
}

impl Lifecycle {
    /// The beginning.
    pub(super) fn new() -> Self {
        Self {
            life: Life::Handshaking,
            drain: None,
            cut: None,
            tally: Tally::default(),
        }
    }
}
