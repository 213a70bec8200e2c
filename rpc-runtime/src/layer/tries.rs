//! Tries: how many of the tries of one call may have run, and when the last one was sent.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::Answer;
use crate::{Error, Executed};

/// The tries that middleware has made of one call.
#[derive(Debug, Default)]
#[allow(unnameable_types, reason = "as for `Sealed`")]
pub struct Tries {
    /// How many may have run.
    count: AtomicUsize,
    /// The last one that was sent.
    sent: Mutex<Option<SentTry>>,
}

/// A try that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SentTry {
    /// How long the call had waited.
    pub(crate) after: Duration,
    /// Its id on its connection; none of a one-way call.
    pub(crate) id: Option<u64>,
}

impl Tries {
    /// Begins a try. It may have run, unless [`Tries::ended`] says that it did not.
    pub(crate) fn begin(&self) {
        self.count.fetch_add(1, SeqCst);
    }

    /// Notes how a try ended.
    pub(crate) fn ended(&self, result: &Result<Answer, Error>) {
        if matches!(result, Err(error) if error.executed() == Executed::No) {
            self.count.fetch_sub(1, SeqCst);
        }
    }

    /// How many tries may have run.
    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    /// Notes that a try was sent.
    pub(crate) fn note_sent(&self, sent: SentTry) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(sent);
    }

    /// The last try that was sent; none if none was.
    pub(crate) fn sent(&self) -> Option<SentTry> {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true if a try may have run.
    pub(crate) fn may_have_run(&self) -> bool {
        self.count() > 0
    }
}
