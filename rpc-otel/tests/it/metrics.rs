//! Metrics of real calls: the numbers of the collector are those of the process.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, HistogramDataPoint, Metric, NumberDataPoint, metric::Data, number_data_point,
};
use rpc_runtime::{
    Code, Context, Status,
    metrics::{Protocol, Side, snapshot},
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{serve_one, until, within};

use crate::collector::{Collector, attribute};

/// No other test calls it, so its numbers stand still. Fails with NOT_FOUND if the request is empty.
static COUNT: Procedure = Procedure::new("otel.v1.Metered/rpc_count", 711);
static NOTE: Procedure = Procedure::new("otel.v1.Metered/rpc_note", 712);
static PROCEDURES: [Procedure; 2] = [COUNT, NOTE];

struct Metered;

impl Service for Metered {
    fn name(&self) -> &'static str {
        "otel.v1.Metered"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(|_: Context, text: String| async move {
                match text.is_empty() {
                    true => Err(Status::not_found("there is nothing")),
                    false => Ok(text),
                }
            }),
            1 => call.handle(|_: Context, ()| async move { Ok(()) }),
            _ => call.unknown(),
        }
    }
}

/// Flushes or ends an exporter while the collector, which is on this runtime, goes on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    within(tokio::task::spawn_blocking(work)).await.unwrap()
}

fn named<'a>(batch: &'a [Metric], name: &str) -> &'a Metric {
    let mut found = batch.iter().filter(|metric| metric.name == name);
    let metric = found.next().unwrap_or_else(|| panic!("no {name} in {batch:#?}"));
    assert!(found.next().is_none(), "{name} is there twice");
    metric
}

/// The points of a counter.
fn counted<'a>(batch: &'a [Metric], name: &str) -> &'a [NumberDataPoint] {
    match &named(batch, name).data {
        Some(Data::Sum(sum)) => {
            assert!(sum.is_monotonic, "{name}");
            assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
            &sum.data_points
        }
        other => panic!("{name} is no sum: {other:?}"),
    }
}

/// The number of the procedure `COUNT` at a code, in a counter of it.
fn ended(batch: &[Metric], side: &str, code: &str) -> u64 {
    let points = counted(batch, &format!("rpc.{side}.handled")).iter();
    let points = points.filter(|point| {
        attribute(&point.attributes, "rpc.method") == COUNT.path()
            && attribute(&point.attributes, "rpc.status_code") == code
    });
    points.map(number).sum()
}

fn number(point: &NumberDataPoint) -> u64 {
    match point.value {
        Some(number_data_point::Value::AsInt(number)) => number.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn durations<'a>(batch: &'a [Metric], side: &str) -> &'a HistogramDataPoint {
    let metric = named(batch, &format!("rpc.{side}.call.duration"));
    assert_eq!(metric.unit, "s");
    let Some(Data::Histogram(histogram)) = &metric.data else {
        panic!("{metric:?}")
    };
    assert_eq!(
        histogram.aggregation_temporality(),
        AggregationTemporality::Cumulative
    );
    let mut points = histogram.data_points.iter();
    let point = points.find(|point| attribute(&point.attributes, "rpc.method") == COUNT.path());
    point.unwrap_or_else(|| panic!("{metric:?}"))
}

#[tokio::test]
async fn the_numbers_of_the_collector_are_those_of_the_process() {
    let (collector, address, _collecting) = Collector::serve().await;
    let builder = rpc_otel::builder(&address).service("kv").attribute("zone", "b");
    // Long enough that only the flush and the end send.
    let builder = builder.metrics(Duration::from_secs(3600));
    let (_layer, exporter) = builder.layer::<tracing_subscriber::Registry>().unwrap();
    let server = serve_one(Metered).await;
    let client = server.client().await;
    for text in ["a", "b", ""] {
        let called = within(client.call().send_recv::<_, String>(&COUNT, text.to_owned())).await;
        assert_eq!(called.is_err(), text.is_empty());
    }
    within(client.call().send(&NOTE, ())).await.unwrap();
    within(client.barrier()).await.unwrap();

    let exporter = blocking(move || exporter.flush().map(|()| exporter))
        .await
        .unwrap();
    let batches = collector.batches();
    let [(resource, batch)] = &batches[..] else {
        panic!("{} batches", batches.len())
    };
    assert_eq!(attribute(&resource.attributes, "service.name"), "kv");
    assert_eq!(attribute(&resource.attributes, "zone"), "b");
    let counted_here = snapshot();
    for side in [Side::Server, Side::Client] {
        let mut procedures = counted_here.procedures().iter();
        let here = procedures
            .find(|one| one.path() == COUNT.path() && one.side() == side)
            .unwrap();
        assert_eq!((here.protocol(), here.handled()), (Protocol::Native, 3));
        let side = side.name();
        assert_eq!(ended(batch, side, "OK"), here.ended(Code::Ok));
        assert_eq!(ended(batch, side, "NOT_FOUND"), here.ended(Code::NotFound));

        let there = durations(batch, side);
        assert_eq!(attribute(&there.attributes, "rpc.system.name"), "rustrpc");
        assert_eq!(there.attributes.len(), 2, "{there:?}");
        assert_eq!(there.count, here.latency().count());
        assert_eq!(there.sum, Some(here.latency().sum().as_secs_f64()));
        let mut below = 0;
        let cumulated = there.bucket_counts.iter().map(|count| {
            below += count;
            below
        });
        let bounds = there.explicit_bounds.iter();
        let bounds = bounds
            .map(|bound| Some(Duration::from_secs_f64(*bound)))
            .chain([None]);
        let buckets: Vec<_> = bounds.zip(cumulated).collect();
        assert_eq!(buckets, here.latency().buckets().collect::<Vec<_>>());
        // Counting began when the process did, which was before this moment.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        assert!(there.start_time_unix_nano > 0, "{there:?}");
        assert!(there.start_time_unix_nano <= there.time_unix_nano && there.time_unix_nano <= now);
    }
    let one_ways = counted(batch, "rpc.server.one_ways").iter();
    let mut noted = one_ways.filter(|one| attribute(&one.attributes, "rpc.method") == NOTE.path());
    let noted = noted.next().unwrap();
    assert_eq!(
        (number(noted), attribute(&noted.attributes, "fate")),
        (1, "handled".into())
    );

    // What is counted after the flush is in the batch of the end.
    within(client.call().send_recv::<_, String>(&COUNT, "c".to_owned()))
        .await
        .unwrap();
    blocking(move || exporter.shutdown()).await;
    let batches = collector.batches();
    assert_eq!(batches.len(), 2);
    assert_eq!(ended(&batches[1].1, "server", "OK"), 3);
    assert_eq!(durations(&batches[1].1, "client").count, 4);
}

#[tokio::test]
async fn metrics_are_sent_at_each_interval_until_the_end() {
    let (collector, address, _collecting) = Collector::serve().await;
    let builder = rpc_otel::builder(&address).metrics(Duration::from_millis(10));
    let (_layer, exporter) = builder.layer::<tracing_subscriber::Registry>().unwrap();
    until(|| collector.batches().len() >= 3).await;
    blocking(move || exporter.shutdown()).await;
    let batches = collector.batches();
    // Batches go one after the other, so their times go up.
    let times = batches
        .iter()
        .map(|(_, batch)| match &named(batch, "rpc.build_info").data {
            Some(Data::Gauge(gauge)) => gauge.data_points[0].time_unix_nano,
            other => panic!("{other:?}"),
        });
    assert!(times.is_sorted_by(|one, next| one < next));
}

#[tokio::test]
async fn an_exporter_without_an_interval_sends_no_metrics() {
    let (collector, address, _collecting) = Collector::serve().await;
    let (_layer, exporter) = rpc_otel::builder(&address)
        .layer::<tracing_subscriber::Registry>()
        .unwrap();
    blocking(move || exporter.shutdown()).await;
    assert_eq!(collector.batches().len(), 0);
}

#[tokio::test]
async fn data_points_that_the_collector_rejects_are_an_error_of_the_flush() {
    let (_, address, _collecting) = Collector::serve_rejecting(2).await;
    let builder = rpc_otel::builder(&address).metrics(Duration::from_secs(3600));
    let (_layer, exporter) = builder.layer::<tracing_subscriber::Registry>().unwrap();
    let error = blocking(move || exporter.flush()).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("the collector rejected 2 data points: too many series"),
        "{error}"
    );
}
