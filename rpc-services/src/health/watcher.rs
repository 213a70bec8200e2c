//! Watcher: the statuses of one service, each once, for one call of `Watch`.

use super::statuses::{ServingStatus, Statuses};

/// The statuses of one service, each once, for one call of `Watch`.
pub(super) struct Watcher<'a> {
    statuses: &'a Statuses,
    service: String,
    /// The last status that was returned; none before the first.
    last: Option<Option<ServingStatus>>,
    /// True once its caller knows of the end.
    is_told: bool,
}

impl<'a> Watcher<'a> {
    pub(super) fn new(statuses: &'a Statuses, service: String) -> Self {
        statuses.add_watcher();
        Self {
            statuses,
            service,
            last: None,
            is_told: false,
        }
    }

    /// Waits for the first status, or for another one than the last. Call it when the last one is sent.
    ///
    /// None is the status of a service that is not known.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let (last, is_told, service) = (self.last, self.is_told, &self.service);
            let news = self.statuses.wait_for(|state| {
                let status = state.of(service);
                match last {
                    Some(last) if last == status => (state.is_ending() && !is_told).then_some(None),
                    _ => Some(Some(status)),
                }
            });
            match news.await {
                Some(status) => {
                    self.last = Some(status);
                    return status;
                }
                // What was sent last holds at the end, too.
                None => self.note_told(),
            }
        }
    }

    fn note_told(&mut self) {
        self.is_told = true;
        self.statuses.note_told();
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.statuses.note_told();
        }
    }
}
