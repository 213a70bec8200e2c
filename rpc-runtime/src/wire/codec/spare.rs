//! Spare: the read buffer of a thread, lent to whichever connection reads on it.

use std::cell::Cell;

use bytes::BytesMut;

use super::FrameCodec;

thread_local! {
    /// A thread reads one connection at a time, so all of them need but one buffer, and those that are idle none.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// The buffer of this thread, or an empty one.
#[inline]
pub(super) fn take() -> BytesMut {
    let spare = SPARE.try_with(Cell::take);
    spare.ok().flatten().unwrap_or_default()
}

/// Drops the buffer: how long it is would tell a simulation of those that this thread has run before.
#[cfg(feature = "sim")]
pub(crate) fn forget() {
    drop(take());
}

/// Gives the buffer back. Slices of it may still be held: then it is made anew when it is used up.
#[inline]
pub(super) fn put(buffer: BytesMut) {
    if buffer.capacity() > FrameCodec::READ_BUFFER {
        return;
    }
    // Not possible while the thread ends: then it is dropped.
    let _ = SPARE.try_with(|spare| match spare.take() {
        Some(other) if other.capacity() >= buffer.capacity() => spare.set(Some(other)),
        _ => spare.set(Some(buffer)),
    });
}
