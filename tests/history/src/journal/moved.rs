//! Moved: what a handler with streams has read and sent.

use std::fmt;

/// What a handler with streams has read and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many messages of the caller it has read.
    pub got: u32,
    /// How many messages it has sent, or was about to send.
    pub gave: u32,
    /// How far it has come with those of the caller.
    pub reading: Reading,
}

/// How far a handler has come with the messages of its caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// It has not seen their end.
    #[default]
    Open,
    /// It has read all of them, and their end.
    Whole,
    /// They were not the right ones, or not in order.
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
