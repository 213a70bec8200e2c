//! Exporter: sends what is left before the process ends.

use std::{fmt, time::Duration};

use opentelemetry_sdk::trace::SdkTracerProvider;
use rpc_runtime::{Error, Status};

/// Exports spans until it is dropped. Then it sends what is left, within the [timeout](crate::Builder::timeout).
///
/// Keep it as long as the process serves or calls. Dropping it blocks the thread until the spans are sent or the time is over, so do it
/// at the end of `main`.
#[must_use = "dropping it ends the export"]
pub struct Exporter {
    provider: SdkTracerProvider,
    timeout: Duration,
}

impl Exporter {
    pub(crate) fn new(provider: SdkTracerProvider, timeout: Duration) -> Self {
        Self { provider, timeout }
    }

    /// Sends all spans that have ended. It blocks the thread until they are sent, or the time is over.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the collector has not taken them in time; they are lost.
    pub fn flush(&self) -> Result<(), Error> {
        self.provider.force_flush().map_err(|error| {
            let text = format!("the spans were not sent: {error}: look at the collector and its address, or raise rpc_otel::Builder::timeout");
            Error::from(Status::unavailable(text))
        })
    }

    /// Sends all spans that have ended, and exports no more. It blocks the thread until they are sent, or the time is over.
    ///
    /// Dropping it does the same.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(self.timeout) {
            tracing::warn!(%error, "the last spans were not sent: look at the collector and its address, or raise rpc_otel::Builder::timeout");
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
