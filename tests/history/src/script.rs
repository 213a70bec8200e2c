//! Script: the actions of a handler with streams, which its caller sends.

use std::fmt;

use rpc_runtime::Bytes;

use crate::api::v1::{Ending, Item};

/// The actions of a handler with streams.
///
/// A call without a stream of requests sends it in the metadata, under [`Script::KEY`], as one line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// The call.
    pub token: u64,
    /// The number of messages after which the handler ends: messages that it sends, or reads from a stream of requests.
    pub count: u32,
    /// The length of each payload that it makes.
    pub len: u32,
    /// The pause before each message, in microseconds.
    pub micros: u32,
    /// Its end.
    pub ending: Ending,
    /// True if a task of its own reads the messages. That task outlives a dropped handler.
    pub apart: bool,
}

impl Script {
    /// The key of the metadata entry.
    pub const KEY: &'static str = "script";

    /// Parses the text that `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let script = Self {
            token: words.next()?.parse().ok()?,
            count: words.next()?.parse().ok()?,
            len: words.next()?.parse().ok()?,
            micros: words.next()?.parse().ok()?,
            ending: Ending::try_from(words.next()?.parse::<i32>().ok()?).ok()?,
            apart: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(script)
    }
}

/// `4294967297 10 100 0 1 false`.
impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            token,
            count,
            len,
            micros,
            ending,
            apart,
        } = self;
        write!(f, "{token} {count} {len} {micros} {} {apart}", *ending as i32)
    }
}

/// Makes message `number` of the stream of a call.
pub fn item(token: u64, number: u32, len: u32) -> Item {
    Item {
        token,
        number,
        payload: payload(token, len as usize),
    }
}

/// True if the message belongs to the call and is unchanged.
pub fn is_of(item: &Item, token: u64) -> bool {
    item.token == token && item.payload == payload(token, item.payload.len())
}

/// Repeats the bytes of the token.
pub fn payload(token: u64, len: usize) -> Bytes {
    let mut bytes = token.to_le_bytes().repeat(len.div_ceil(8));
    bytes.truncate(len);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_is_written() {
        let script = Script {
            token: 1 << 40,
            count: 3,
            len: 100,
            micros: 5,
            ending: Ending::Crash,
            apart: true,
        };
        assert_eq!(Script::parse(&script.to_string()), Some(script));
        for wrong in [
            "",
            "1 2 3 4 0",
            "1 2 3 4 9 true",
            "1 2 3 4 0 true 5",
            "a 2 3 4 0 true",
        ] {
            assert_eq!(Script::parse(wrong), None, "{wrong:?}");
        }
    }
}
