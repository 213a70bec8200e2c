//! Metrics: sends the runtime's metrics to a collector, again and again.

mod batch;
mod names;

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{Receiver, sync_channel},
    },
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    metrics::v1::ResourceMetrics,
};
use opentelemetry_sdk::Resource;
use rpc_runtime::{Error, Status, metrics::snapshot};
use tokio::{
    sync::Mutex,
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};

use crate::collector::{Collector, CollectorClient, EXPORT_METRICS};

/// Sends the metrics of the process at each interval, until it is dropped.
pub(crate) struct Metrics {
    collector: Arc<Collector>,
    sender: Arc<Sender>,
    /// The task that sends at each interval; none if there is no runtime any more.
    task: Option<AbortHandle>,
}

impl Metrics {
    pub(crate) fn start(collector: Arc<Collector>, resource: &Resource, interval: Duration) -> Self {
        let sender = Arc::new(Sender {
            client: collector.client(),
            resource: resource.clone(),
            turn: Mutex::new(()),
        });
        let task = collector.runtime().map(|runtime| {
            runtime
                .spawn(Arc::clone(&sender).send_at_each(interval))
                .abort_handle()
        });
        Self {
            collector,
            sender,
            task,
        }
    }

    /// Begins to send what is counted now.
    pub(crate) fn flush(&self) -> Flush {
        let (done, result) = sync_channel(1);
        if let Some(runtime) = self.collector.runtime() {
            let sender = Arc::clone(&self.sender);
            runtime.spawn(async move {
                // Nobody waits any more if it took too long.
                let _ = done.send(sender.send().await);
            });
        }
        Flush {
            result,
            until: Instant::now() + self.collector.timeout(),
        }
    }

    /// Sends nothing more at the interval.
    pub(crate) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("collector", &self.collector)
            .finish_non_exhaustive()
    }
}

/// One more batch that is under way.
#[must_use = "it may fail"]
pub(crate) struct Flush {
    result: Receiver<Result<(), Error>>,
    until: Instant,
}

impl Flush {
    /// Blocks the thread until the batch is sent, or the timeout of the flush has passed since it began.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the collector has not taken the batch in time.
    pub(crate) fn wait(self) -> Result<(), Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        let problem = match self.result.recv_timeout(left) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the collector did not answer in time".to_owned(),
        };
        let text = format!(
            "the metrics were not sent: {problem}: look at the collector and its address, or raise rpc_otel::Builder::timeout"
        );
        Err(Status::unavailable(text).into())
    }
}

/// Sends one batch after the other.
struct Sender {
    client: CollectorClient,
    resource: Resource,
    /// Batches go one after the other, so that a collector never gets an older one later.
    turn: Mutex<()>,
}

impl Sender {
    async fn send_at_each(self: Arc<Self>, time: Duration) {
        let mut times = interval(time);
        // A slow collector gets fewer batches. Nothing is lost: each has all that was counted.
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is due at once, when there is nothing to tell.
        times.tick().await;
        let mut fails = false;
        loop {
            times.tick().await;
            match self.send().await {
                Ok(()) => fails = false,
                // One line for each time that it begins to fail.
                Err(error) if !fails => {
                    fails = true;
                    tracing::warn!(%error, "metrics are not sent: look at the collector and its address");
                }
                Err(error) => tracing::debug!(%error, "metrics are still not sent"),
            }
        }
    }

    /// Sends what is counted when its turn comes.
    ///
    /// # Errors
    ///
    /// What the collector answers, or why it cannot be reached.
    async fn send(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some((&self.resource).into()),
                scope_metrics: vec![batch::of(&snapshot())],
                schema_url: self.resource.schema_url().unwrap_or_default().to_owned(),
            }],
        };
        let response: ExportMetricsServiceResponse = self.client.send(&EXPORT_METRICS, request).await?;
        match response.partial_success {
            Some(partial) if partial.rejected_data_points > 0 => Err(Status::failed_precondition(format!(
                "the collector rejected {} data points: {}",
                partial.rejected_data_points, partial.error_message
            ))
            .into()),
            _ => Ok(()),
        }
    }
}
