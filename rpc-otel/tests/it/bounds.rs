//! A collector that is not there, or that never answers, costs spans and a bounded time, with metrics or without.

use std::{sync::mpsc::channel, thread, time::Duration};

use rpc_runtime::Code;
use test_support::{LONG, serve_one, within};
use tokio::net::TcpListener;

use crate::{
    hop::{HOP, Hop},
    subscribe,
};

/// Makes some spans, and shuts the exporter down, which has to end.
async fn shutdown_after_spans(address: &str) {
    let builder = rpc_otel::builder(address)
        .metrics(Duration::from_secs(60))
        .timeout(Duration::from_millis(300));
    let (layer, exporter) = builder.layer().unwrap();
    let subscriber = subscribe(layer);
    let server = serve_one(Hop::default()).await;
    let client = server.client().await;
    within(client.call().send_recv::<_, ()>(&HOP, ()))
        .await
        .unwrap_err();
    drop(subscriber);
    let (done, ended) = channel();
    thread::spawn(move || {
        exporter.shutdown();
        done.send(())
    });
    // The only thread of the test's runtime waits: the export needs nothing of that. Without a bound it would never end.
    ended.recv_timeout(LONG).expect("the shutdown ends");
}

#[tokio::test]
async fn a_shutdown_is_bounded_if_the_collector_is_away() {
    shutdown_after_spans("grpc://127.0.0.1:1").await;
}

#[tokio::test]
async fn a_shutdown_is_bounded_if_the_collector_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("grpc://{}", listener.local_addr().unwrap());
    shutdown_after_spans(&address).await;
}

#[tokio::test]
async fn a_flush_is_bounded_and_says_that_the_metrics_were_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("grpc://{}", listener.local_addr().unwrap());
    let builder = rpc_otel::builder(address)
        .metrics(Duration::from_secs(60))
        .timeout(Duration::from_millis(300));
    let (layer, exporter) = builder.layer().unwrap();
    let subscriber = subscribe(layer);
    // There is no span, so this is of the metrics. Without a bound it would never end.
    let flushing = tokio::task::spawn_blocking(move || exporter.flush());
    let error = within(flushing).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.message().starts_with("the metrics were not sent: "),
        "{error}"
    );
    drop(subscriber);
}

#[test]
fn an_interval_of_zero_is_refused() {
    let builder = rpc_otel::builder("grpc://127.0.0.1:4317").metrics(Duration::ZERO);
    let error = builder.install().unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("interval"), "{error}");
}

#[test]
fn an_endpoint_that_is_no_address_of_grpc_is_refused() {
    let error = rpc_otel::builder("http://collector:4318").install().unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("grpc://host:4317"), "{error}");
}
