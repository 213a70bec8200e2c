//! Log: the record of one request, and the messages that it carries.

use super::*;

/// The record of a request: what its caller and its handler did.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) one_way: bool,
    /// The number of times its handler was started.
    pub(super) started: usize,
    /// The lengths of the messages that the caller sent.
    pub(super) requests: Vec<usize>,
    /// True if the caller finished its stream.
    pub(super) finished: bool,
    /// The number of messages that the handler read.
    pub(super) read: usize,
    /// The lengths of the messages that the handler sent.
    pub(super) replies: Vec<usize>,
    /// The length of the handler's last message, if the handler succeeded.
    pub(super) replied: Option<usize>,
}

/// Makes message `number` of a stream.
pub(super) fn message(number: usize, len: usize) -> Vec<u8> {
    vec![number as u8; len]
}

/// Checks that `payload` is the message of `sent` after the first `read` ones.
pub(super) fn check_next(payload: Bytes, read: usize, sent: &[usize]) {
    let len = *sent.get(read).expect("a message that was never sent");
    check_message(payload, read, len);
}

/// Checks that `payload` is the message with this number and length.
pub(super) fn check_message(payload: Bytes, number: usize, len: usize) {
    let found = Vec::<u8>::decode(payload).expect("no message");
    assert_eq!(found.len(), len, "message {number}");
    assert!(found.iter().all(|&byte| byte == number as u8), "message {number}");
}
