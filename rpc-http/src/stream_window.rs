//! StreamWindow: how much the peer of a connection may send of a stream before it is read.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

/// How much the peer of a connection may send of a stream before it is read. All streams of the connection have the same window.
///
/// It is short at first. Once a stream is read as fast as it comes, it is to be wider, so that the peer does not wait for room after each
/// second message. It does not become wider while a stream is not read, because that one counts its whole window as held.
#[derive(Debug)]
pub(crate) struct StreamWindow {
    /// Changes only under the lock of `unread`.
    len: AtomicU32,
    is_short: AtomicBool,
    /// How many streams count their whole window as held.
    unread: Mutex<usize>,
}

impl StreamWindow {
    /// The window of a new connection.
    pub(crate) fn new() -> Self {
        Self {
            len: AtomicU32::new(FIRST_WINDOW),
            is_short: AtomicBool::new(false),
            unread: Mutex::new(0),
        }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Relaxed)
    }

    /// Notes that `bytes` of a stream were read without a pause: after four windows, it is to be wider.
    pub(crate) fn note_read(&self, bytes: u64) {
        let len = self.len();
        if len < WIDEST_WINDOW && bytes >= u64::from(len) * 4 {
            self.is_short.store(true, Relaxed);
        }
    }

    /// Notes that a stream is not read. It has to count the whole window as held, as long as it keeps the result.
    pub(crate) fn begin_pause(self: &Arc<Self>) -> ReadPause {
        let mut unread = self.lock();
        *unread += 1;
        ReadPause {
            len: self.len(),
            window: Arc::clone(self),
        }
    }

    /// Makes it wider, if it is to be and each stream is read. `announce` tells the peer, and returns false if that is not possible now.
    /// Returns how many bytes it has more.
    pub(crate) fn widen(&self, announce: impl FnOnce(u32) -> bool) -> Option<u32> {
        if !self.is_short.load(Relaxed) {
            return None;
        }
        let unread = self.lock();
        if *unread > 0 || !announce(WIDEST_WINDOW) {
            return None;
        }
        self.is_short.store(false, Relaxed);
        let before = self.len.swap(WIDEST_WINDOW, Relaxed);
        Some(WIDEST_WINDOW - before)
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream is not read, while this is there.
#[derive(Debug)]
#[must_use = "the stream counts as read once it is dropped"]
pub(crate) struct ReadPause {
    window: Arc<StreamWindow>,
    len: u32,
}

impl ReadPause {
    /// How many bytes the peer may send meanwhile.
    pub(crate) fn window(&self) -> usize {
        self.len as usize
    }
}

impl Drop for ReadPause {
    fn drop(&mut self) {
        *self.window.lock() -= 1;
    }
}

/// The window of a new connection. In a stream of messages of 64 KiB, one of 64 KiB gives 0.58 of tonic's rate, and this one 0.79.
pub(crate) const FIRST_WINDOW: u32 = 256 << 10;
/// The window of a connection with a stream that is read as fast as it comes.
pub(crate) const WIDEST_WINDOW: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_becomes_wider_once_four_windows_are_read_and_no_stream_pauses() {
        let window = Arc::new(StreamWindow::new());
        let four = u64::from(FIRST_WINDOW) * 4;
        window.note_read(four - 1);
        assert_eq!(window.widen(|_| unreachable!("it is not to be wider")), None);
        window.note_read(four);
        let pause = window.begin_pause();
        assert_eq!(pause.window(), FIRST_WINDOW as usize);
        assert_eq!(window.widen(|_| unreachable!("a stream is not read")), None);
        drop(pause);
        assert_eq!(window.widen(|_| false), None);
        assert_eq!(window.len(), FIRST_WINDOW);
        assert_eq!(
            window.widen(|len| len == WIDEST_WINDOW),
            Some(WIDEST_WINDOW - FIRST_WINDOW)
        );
        assert_eq!(window.begin_pause().window(), WIDEST_WINDOW as usize);
        window.note_read(u64::MAX);
        assert_eq!(window.widen(|_| unreachable!("none is wider")), None);
    }
}
