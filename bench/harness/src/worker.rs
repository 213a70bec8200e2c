//! One sender of calls or messages: what it sends next, and when it stops.

use crate::load::{Load, histogram};
use crate::pace::{self, Next, Pacer};
use crate::store::{Key, tally};
use bytes::Bytes;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::time::Instant;

/// One in-flight slot (or one hand-pipelined connection).
pub struct Worker {
    pub(crate) load: Arc<Load>,
    pub(crate) hist: Histogram<u32>,
    pub(crate) bytes: u64,
    pub(crate) tally: u64,
    /// Messages since the clock was read.
    pub(crate) unread: u64,
    pub(crate) value: Bytes,
    pub(crate) stamped: Vec<u8>,
    pub(crate) pacer: Option<Pacer>,
    pub(crate) random: u64,
    pub(crate) started: Instant,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) left: u64,
}

impl Worker {
    /// The key of the next call, or `None` when it is time to stop.
    #[inline]
    pub fn next_key(&mut self) -> Option<&'static Key> {
        if self.left == 0 || self.started >= self.to {
            return None;
        }
        self.left -= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let key = &self.load.keys[(self.random >> 33) as usize % self.load.keys.len()];
        self.tally = self.tally.wrapping_add(tally(key.index));
        Some(key)
    }

    /// The call for `key`, got by the latest `next_key`, is done.
    #[inline]
    pub fn done(&mut self, key: &Key) {
        let now = Instant::now();
        self.done_at(self.started, now, key);
    }

    /// A call for `key` that ran from `start` to `now` is done; the next starts `now`.
    #[inline]
    pub fn done_at(&mut self, start: Instant, now: Instant, key: &Key) {
        if now >= self.from && now < self.to {
            self.hist.saturating_record((now - start).as_nanos() as u64);
            self.bytes += key.len as u64;
        }
        self.started = now;
    }

    /// The next message, or why there is none.
    #[inline]
    pub fn put(&mut self) -> Put {
        if let Some(pacer) = &mut self.pacer {
            match pacer.take() {
                Next::Due => {}
                Next::Later => return Put::Later,
                Next::End => return Put::Stop,
            }
        }
        self.next_key().map_or(Put::Stop, Put::Now)
    }

    /// The key of the next message, when it is due.
    #[inline]
    pub async fn next_put(&mut self) -> Option<&'static Key> {
        loop {
            match self.put() {
                Put::Now(key) => return Some(key),
                Put::Later => self.tick().await,
                Put::Stop => return None,
            }
        }
    }

    /// Waits until it is worth while to ask for the next message again.
    pub async fn tick(&mut self) {
        if let Some(pacer) = &mut self.pacer {
            pacer.tick().await;
        }
    }

    /// As [`Self::tick`], blocking.
    pub fn nap(&self) {
        pace::nap();
    }

    /// The value of a message that is sent now.
    #[inline]
    pub fn value(&mut self) -> Bytes {
        if self.pacer.is_none() {
            return self.value.clone();
        }
        Bytes::copy_from_slice(self.value_slice())
    }

    /// As [`Self::value`], for those who copy it.
    #[inline]
    pub fn value_slice(&mut self) -> &[u8] {
        if let Some(pacer) = &self.pacer {
            pacer.stamp(&mut self.stamped);
        }
        &self.stamped
    }

    /// `n` messages got by `next_key` have been handed to the transport, or have come. The clock is read for every 16 of
    /// them, since reading it for each would cost as much as the quick peers need for a message.
    #[inline]
    pub fn sent(&mut self, n: u64) {
        self.unread += n;
        if self.unread >= 16 {
            self.read_clock();
        }
    }

    fn read_clock(&mut self) {
        if self.unread == 0 {
            return;
        }
        let now = Instant::now();
        if now >= self.from && now < self.to {
            let each = (now - self.started).as_nanos() as u64 / self.unread;
            self.hist.saturating_record_n(each, self.unread as u32);
        }
        self.unread = 0;
        self.started = now;
    }
}

/// What a sender of messages does next.
pub enum Put {
    /// It sends a message for this key, with the value of [`Worker::value`].
    Now(&'static Key),
    /// It waits, by [`Worker::tick`] or [`pace::nap`]: the next message is not due yet.
    Later,
    Stop,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.read_clock();
        let totals = &mut *self.load.totals.lock().unwrap();
        totals.calls += self.hist.len();
        totals.bytes += self.bytes;
        totals.tally = totals.tally.wrapping_add(self.tally);
        totals.times.add(histogram_u64(&self.hist)).unwrap();
    }
}

fn histogram_u64(small: &Histogram<u32>) -> Histogram<u64> {
    let mut big = histogram();
    for v in small.iter_recorded() {
        big.record_n(v.value_iterated_to(), v.count_at_value() as u64)
            .unwrap();
    }
    big
}
