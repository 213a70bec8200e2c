//! Builder: what is exported, and where to.

use std::{sync::Arc, time::Duration};

use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use rpc_runtime::{Error, Status};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, prelude::*, registry::LookupSpan};

use crate::{
    collector::Collector,
    exporter::Exporter,
    linker,
    metrics::Metrics,
    sampling::{Ids, SampleFilter},
    spans::Spans,
};

/// Makes a builder of an exporter to the collector at `endpoint`: `grpc://host:port`, or `grpcs://host:port` with TLS.
///
/// A collector of OpenTelemetry listens at port 4317 by default.
pub fn builder(endpoint: impl Into<String>) -> Builder {
    Builder {
        endpoint: endpoint.into(),
        service: None,
        attributes: Vec::new(),
        ratio: 1.0,
        level: LevelFilter::INFO,
        interval: None,
        timeout: TIMEOUT,
    }
}

/// What is exported, and where to. [`builder`] makes one.
#[derive(Clone, Debug)]
#[must_use = "nothing is exported until a builder is installed"]
pub struct Builder {
    endpoint: String,
    service: Option<String>,
    attributes: Vec<(String, String)>,
    ratio: f64,
    level: LevelFilter,
    /// Between two batches of metrics; none if they are not exported.
    interval: Option<Duration>,
    timeout: Duration,
}

impl Builder {
    /// Sets the name of this service, which all its spans and metrics carry. Default: `unknown_service`, or `OTEL_SERVICE_NAME` of the environment.
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// Adds an attribute of this process to all its spans and metrics, such as `("deployment.environment.name", "test")`.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// Sets which part of the traces that begin here is recorded, from 0 to 1. Default: 1, all of them.
    ///
    /// A call that belongs to a trace already is recorded if its caller records it.
    pub fn sample_ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets which spans and events are exported. Default: those of level INFO and above, which the spans of calls are.
    pub fn level(mut self, level: impl Into<LevelFilter>) -> Self {
        self.level = level.into();
        self
    }

    /// Also exports [metrics](rpc_runtime::metrics), each `interval`, and once more at the end. Default: no metrics.
    ///
    /// OpenTelemetry's own default is 60 s. The metrics are those of the whole process, so one exporter of a process is enough. Instruments
    /// that the program has at OpenTelemetry's SDK are not exported by it.
    pub fn metrics(mut self, interval: Duration) -> Self {
        self.interval = Some(interval);
        self
    }

    /// Limits how long the collector may take for one batch, and how long [`Exporter::flush`] and [`Exporter::shutdown`] may take.
    /// Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Begins to export, with this as the only subscriber of the process.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the process has a subscriber already, which needs [`Builder::layer`] instead, or another
    /// [`Linker`](rpc_runtime::trace::Linker). INVALID_ARGUMENT for an endpoint that is no address of gRPC, and for an interval of zero.
    pub fn install(self) -> Result<Exporter, Error> {
        let filter = self.filter();
        let (layer, exporter) = self.unfiltered()?;
        let installed = tracing_subscriber::registry()
            .with(layer)
            // It filters for the whole subscriber. The filter of a layer would leave an empty span of each call that is not taken.
            .with(filter)
            .try_init();
        installed.map_err(|error| {
            Status::failed_precondition(format!(
                "this process has a subscriber already: add the layer of Builder::layer to it ({error})"
            ))
        })?;
        Ok(exporter)
    }

    /// Makes a layer for a subscriber of the program's own, which begins to export when that is set.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION if the process has another [`Linker`](rpc_runtime::trace::Linker). INVALID_ARGUMENT for an endpoint that is no
    /// address of gRPC, and for an interval of zero.
    pub fn layer<S>(self) -> Result<(impl Layer<S> + Send + Sync, Exporter), Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let filter = self.filter();
        let (layer, exporter) = self.unfiltered()?;
        Ok((layer.with_filter(filter), exporter))
    }

    /// What the layer takes.
    fn filter(&self) -> SampleFilter {
        SampleFilter::new(self.level, self.ratio)
    }

    /// The layer without its filter.
    fn unfiltered<S>(self) -> Result<(impl Layer<S> + Send + Sync, Exporter), Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let Self {
            endpoint,
            service,
            attributes,
            ratio,
            interval,
            timeout,
            ..
        } = self;
        if interval.is_some_and(|interval| interval.is_zero()) {
            let text = "the interval of metrics is zero: give the time between two batches, such as 60 s";
            return Err(Status::invalid_argument(text).into());
        }
        let collector = Arc::new(Collector::new(&endpoint, timeout)?);
        linker::set()?;
        let attributes = attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, value));
        let mut resource = Resource::builder().with_attributes(attributes);
        if let Some(service) = service {
            resource = resource.with_service_name(service);
        }
        let resource = resource.build();
        // It decides about spans that no call is around: about calls the linker has decided before.
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(sampler)
            .with_id_generator(Ids::default())
            .with_batch_exporter(Spans::new(Arc::clone(&collector)))
            .build();
        let metrics = interval.map(|interval| Metrics::start(collector, &resource, interval));
        // For those who use OpenTelemetry beside `tracing`.
        global::set_tracer_provider(provider.clone());
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("rpc-otel"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false);
        Ok((layer, Exporter::new(provider, metrics, timeout)))
    }
}

/// How long the collector may take for one batch.
const TIMEOUT: Duration = Duration::from_secs(5);
