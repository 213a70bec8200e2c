//! Spans and metrics of real calls, exported to a collector that reads OTLP.

mod bounds;
mod collector;
mod hop;
mod metrics;
mod sampling;
mod two_hops;

use tracing::{
    Dispatch,
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::{Layer, Registry, prelude::*};

/// Makes `layer` the subscriber of this thread, until the result is dropped.
fn subscribe(layer: impl Layer<Registry> + Send + Sync + 'static) -> (DefaultGuard, Dispatch) {
    // With a single dispatcher, tracing asks only the first thread that meets a span whether it is wanted.
    let second = Dispatch::new(NoSubscriber::default());
    let subscriber = tracing_subscriber::registry().with(layer);
    (tracing::subscriber::set_default(subscriber), second)
}
