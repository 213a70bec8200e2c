//! Moved: the messages that a handler with streams has read and sent.

use std::fmt;

/// The messages that a handler with streams has read and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// The number of the caller's messages that it has read.
    pub got: u32,
    /// The number of messages that it has sent or was about to send.
    pub gave: u32,
    /// The state of the caller's stream, as the handler has read it.
    pub reading: Reading,
}

/// The state of a caller's stream, as its handler has read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The end was not read.
    #[default]
    Open,
    /// All messages and the end were read.
    Whole,
    /// A message was wrong or out of order.
    Disordered,
}

impl Reading {
    pub(super) const ALL: [Self; 3] = [Self::Open, Self::Whole, Self::Disordered];

    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Whole => "whole",
            Self::Disordered => "disordered",
        }
    }
}

impl Moved {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let got = words.next()?.parse().ok()?;
        let gave = words.next()?.parse().ok()?;
        let word = words.next()?;
        let reading = Reading::ALL.into_iter().find(|reading| reading.word() == word)?;
        words.next().is_none().then_some(Self { got, gave, reading })
    }
}

/// `3 0 whole`.
impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.got, self.gave, self.reading.word())
    }
}
