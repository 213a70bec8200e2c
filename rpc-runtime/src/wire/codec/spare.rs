//! Spare: the read buffer of a thread, lent to the connection that reads on it.

use std::cell::Cell;

use bytes::BytesMut;

use super::FrameCodec;

thread_local! {
    /// A thread reads one connection at a time, so one buffer serves all its connections, and idle ones hold none.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Takes the buffer of this thread; empty if it has none.
#[inline]
pub(super) fn take() -> BytesMut {
    let spare = SPARE.try_with(Cell::take);
    spare.ok().flatten().unwrap_or_default()
}

/// Drops the buffer. Its length would otherwise differ between simulations, by those that this thread ran before.
#[cfg(feature = "sim")]
pub(crate) fn forget() {
    drop(take());
}

/// Gives the buffer back. If slices of it are still held, it is replaced once it is used up.
#[inline]
pub(super) fn put(buffer: BytesMut) {
    if buffer.capacity() > FrameCodec::READ_BUFFER {
        return;
    }
    // This fails only while the thread ends; then the buffer is dropped.
    let _ = SPARE.try_with(|spare| match spare.take() {
        Some(other) if other.capacity() >= buffer.capacity() => spare.set(Some(other)),
        _ => spare.set(Some(buffer)),
    });
}
