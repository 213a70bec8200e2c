//! Flow: what the caller of a stream sent and read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the caller of a stream sent and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// How many messages it began to send.
    pub offered: u32,
    /// How many were taken.
    pub sent: u32,
    /// Whether it then said that these were all.
    pub finished: bool,
    /// How many messages it read.
    pub read: u32,
    /// Whether one of them was not the next one.
    pub disordered: bool,
    /// How many messages the one reply said that the handler had read.
    pub counted: Option<u32>,
    /// How many messages the handler was told to read at most.
    pub limit: u32,
}

/// Notes what moves of a stream while it does; cheap to clone, for who sends and who reads.
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

    /// What has moved so far.
    pub fn flow(&self) -> Flow {
        *self.lock()
    }

    /// A message is about to be sent.
    pub fn offer(&self) {
        self.lock().offered += 1;
    }

    /// It was taken.
    pub fn sent(&self) {
        self.lock().sent += 1;
    }

    /// All messages were taken, and the end is said now.
    pub fn finish(&self) {
        self.lock().finished = true;
    }

    /// A message was read, which says to be the one of this number.
    pub fn read(&self, number: u32) {
        let mut flow = self.lock();
        flow.disordered |= number != flow.read;
        flow.read += 1;
    }

    /// A message was read which belongs to another call, or is not what was sent.
    pub fn read_nonsense(&self) {
        let mut flow = self.lock();
        flow.disordered = true;
        flow.read += 1;
    }

    /// The reply counts so many messages.
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
