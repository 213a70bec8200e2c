//! Exporter: sends what is left before the process ends.

use std::{fmt, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use rpc_runtime::{Error, Status};

use crate::metrics::{Flush, Metrics};

/// Exports until it is dropped. Then it sends what is left, within the [timeout](crate::Builder::timeout).
///
/// Keep it as long as the process serves or calls. Dropping it blocks the thread until all is sent or the time is over, so do it
/// at the end of `main`.
#[must_use = "dropping it ends the export"]
pub struct Exporter {
    provider: SdkTracerProvider,
    /// None if metrics are not exported.
    metrics: Option<Metrics>,
    timeout: Duration,
}

impl Exporter {
    pub(crate) fn new(provider: SdkTracerProvider, metrics: Option<Metrics>, timeout: Duration) -> Self {
        Self {
            provider,
            metrics,
            timeout,
        }
    }

    /// Sends all spans that have ended, and the metrics as they are now. It blocks the thread until they are sent, or the time is over.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the collector has not taken them in time. The spans are lost; the metrics of the next batch have all that was counted.
    pub fn flush(&self) -> Result<(), Error> {
        let metrics = self.metrics.as_ref().map(Metrics::flush);
        let spans = self.provider.force_flush().map_err(|error| {
            let text = format!("the spans were not sent: {error}: look at the collector and its address, or raise rpc_otel::Builder::timeout");
            Error::from(Status::unavailable(text))
        });
        let metrics = metrics.map_or(Ok(()), Flush::wait);
        spans.and(metrics)
    }

    /// Sends what is left, and exports no more. It blocks the thread until all is sent, or the time is over.
    ///
    /// Dropping it does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        // Both are sent at the same time, so one timeout bounds both.
        let metrics = self.metrics.as_ref().map(|metrics| {
            metrics.stop();
            metrics.flush()
        });
        if let Err(error) = self.provider.shutdown_with_timeout(self.timeout) {
            tracing::warn!(%error, "the last spans were not sent: look at the collector and its address, or raise rpc_otel::Builder::timeout");
        }
        if let Some(Err(error)) = metrics.map(Flush::wait) {
            tracing::warn!(%error, "the last metrics are lost");
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("metrics", &self.metrics)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
