//! Numbers of calls, which travel as metadata within this process.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;

/// Returns a number that a native peer, which can send any metadata, cannot guess.
pub(crate) fn next() -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    SECRET.hash_one(COUNT.fetch_add(1, Relaxed))
}

/// Writes a number as the value of a metadata entry.
pub(crate) fn write(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Reads the value of a metadata entry; none if it is no number.
pub(crate) fn read(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(value.try_into().ok()?))
}
