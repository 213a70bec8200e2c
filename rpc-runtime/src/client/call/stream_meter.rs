//! StreamMeter: counts a call with streams, from its beginning to its end.

use tokio::time::Instant;

use super::stream_call::CallInfo;
use crate::{Code, Error, metrics::CallCounts};

/// Counts a call with streams that has begun. If nothing says how it ends, its caller has given it up.
#[derive(Debug)]
pub(super) struct StreamMeter {
    /// None if the call is not counted, or has ended.
    counts: Option<&'static CallCounts>,
    begun: Instant,
}

impl StreamMeter {
    /// Counts a call that begins.
    pub(super) fn begin(about: &CallInfo) -> Self {
        let counts = about.channel.counts(about.procedure);
        if let Some(counts) = counts {
            counts.begin();
        }
        Self {
            counts,
            begun: about.deadline.begun().unwrap_or_else(Instant::now),
        }
    }

    /// Goes on with what was opened; a call that could not be opened has ended.
    pub(super) fn opened<T>(mut self, opened: Result<T, Error>) -> Result<(T, Self), Error> {
        match opened {
            Ok(opened) => Ok((opened, self)),
            Err(error) => {
                self.end(error.code());
                Err(error)
            }
        }
    }

    /// Counts the end of the call, once.
    pub(super) fn end(&mut self, code: Code) {
        if let Some(counts) = self.counts.take() {
            let took = self.begun.elapsed();
            counts.end(code, took.as_micros().try_into().unwrap_or(u64::MAX));
        }
    }
}

impl Drop for StreamMeter {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
