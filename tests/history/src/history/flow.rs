//! Flow: the messages that the caller of a stream sent and read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The messages that the caller of a stream sent and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The number of messages that it began to send.
    pub offered: u32,
    /// The number of messages that the connection accepted.
    pub sent: u32,
    /// True if it finished the stream.
    pub finished: bool,
    /// The number of messages that it read.
    pub read: u32,
    /// True if a message was out of order.
    pub disordered: bool,
    /// The number of messages that the handler read, according to the reply.
    pub counted: Option<u32>,
    /// The maximum number of messages for the handler to read.
    pub limit: u32,
}

/// Records the messages of a stream. Clones are cheap, and share the record.
#[derive(Clone, Debug, Default)]
pub struct Moving(Arc<Mutex<Flow>>);

impl Moving {
    pub(super) fn new(limit: u32) -> Self {
        let flow = Flow {
            limit,
            ..Flow::default()
        };
        Self(Arc::new(Mutex::new(flow)))
    }

    /// Returns the messages so far.
    pub fn flow(&self) -> Flow {
        *self.lock()
    }

    /// Records that a message is about to be sent.
    pub fn offer(&self) {
        self.lock().offered += 1;
    }

    /// Records that the connection accepted it.
    pub fn sent(&self) {
        self.lock().sent += 1;
    }

    /// Records that the stream is finished.
    pub fn finish(&self) {
        self.lock().finished = true;
    }

    /// Records that a message was read; `number` is its place in the stream.
    pub fn read(&self, number: u32) {
        let mut flow = self.lock();
        flow.disordered |= number != flow.read;
        flow.read += 1;
    }

    /// Records that a wrong message was read.
    pub fn read_nonsense(&self) {
        let mut flow = self.lock();
        flow.disordered = true;
        flow.read += 1;
    }

    /// Records the number of messages in the reply.
    pub fn counted(&self, count: u32) {
        self.lock().counted = Some(count);
    }

    fn lock(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_out_of_order_is_noticed() {
        let read = |numbers: &[u32]| {
            let moving = Moving::new(0);
            numbers.iter().for_each(|number| moving.read(*number));
            moving.flow()
        };
        assert!(!read(&[]).disordered && !read(&[0, 1, 2]).disordered);
        for wrong in [&[1][..], &[0, 0], &[0, 2], &[0, 1, 0]] {
            assert!(read(wrong).disordered, "{wrong:?}");
        }
        assert_eq!(read(&[0, 2]).read, 2);
    }
}
