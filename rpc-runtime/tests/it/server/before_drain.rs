//! What services do before a drain, and with which others they are served.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Result, Server, Status,
    middleware::Layered,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{Running, lab::*, serve, within};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

/// How long a drain may take in these tests.
const DRAIN: Duration = Duration::from_secs(5);
/// How long after that a server may take to end.
const END: Duration = Duration::from_secs(3);

/// A service that does something before a drain.
#[derive(Clone, Default)]
struct Prepares {
    /// How often it has begun.
    begun: Arc<AtomicUsize>,
    kind: Kind,
}

/// What a service does before a drain.
#[derive(Clone, Default)]
enum Kind {
    /// It waits until it is told to go on.
    Waits(Arc<Notify>),
    #[default]
    ForEver,
    Panics,
    PanicsLater,
}

impl Service for Prepares {
    fn name(&self) -> &'static str {
        "test.v1.Prepares"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &[]
    }

    fn before_drain(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Some(match &self.kind {
            Kind::Waits(go_on) => {
                let go_on = Arc::clone(go_on);
                Box::pin(async move { go_on.notified().await })
            }
            Kind::ForEver => Box::pin(pending()),
            Kind::Panics => panic!("on purpose"),
            Kind::PanicsLater => Box::pin(async { panic!("on purpose") }),
        })
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.unknown()
    }
}

/// Serves the service beside the lab, within middleware.
async fn served(address: &str, service: Prepares) -> Running {
    let server = Server::builder()
        .service(Lab::default())
        .service(Layered::new(service))
        .listener(address)
        .drain_timeout(DRAIN)
        .signals(false);
    serve(server).await
}

#[tokio::test(crate = "test_support::gate")]
async fn calls_and_connections_begin_while_a_service_prepares_for_a_drain() {
    let go_on = Arc::new(Notify::new());
    let service = Prepares {
        kind: Kind::Waits(Arc::clone(&go_on)),
        ..Prepares::default()
    };
    let server = served("tcp://127.0.0.1:0", service.clone()).await;
    let client = server.client().await;
    server.handle.drain();
    assert_eq!(service.begun.load(Ordering::SeqCst), 1, "before anything else");
    server.handle.drain();
    assert_eq!(service.begun.load(Ordering::SeqCst), 1, "once");
    assert_eq!(text(&client, &ECHO, "old").await.unwrap(), "old");
    let late = server.client().await;
    assert_eq!(text(&late, &ECHO, "new").await.unwrap(), "new");
    go_on.notify_one();
    let address = server.address.clone();
    assert!(server.report().await.is_clean());
    assert!(Client::connect(&address).await.is_err());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_waits_for_a_service_that_prepares_for_longer_than_30_s() {
    for (address, kind, seconds) in [
        ("mem:prepares-long", Kind::Waits(Arc::default()), 80..81),
        ("mem:prepares-too-long", Kind::ForEver, 100..103),
    ] {
        let go_on = match &kind {
            Kind::Waits(go_on) => Arc::clone(go_on),
            _ => Arc::default(),
        };
        let service = Prepares {
            kind,
            ..Prepares::default()
        };
        let server = Server::builder()
            .service(Lab::default())
            .service(service.clone())
            .listener(address)
            .drain_timeout(Duration::from_secs(100))
            .signals(false);
        let server = serve(server).await;
        let (client, other) = (server.client().await, server.client().await);
        let begun = Instant::now();
        let terminates = |client: &Client| {
            let client = client.clone();
            tokio::spawn(async move { client.terminate().await })
        };
        let first = terminates(&client);
        while service.begun.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        sleep(Duration::from_secs(40)).await;
        // One that comes amid all that waits as long.
        let second = terminates(&other);
        sleep(Duration::from_secs(40)).await;
        assert!(!first.is_finished() && !second.is_finished());
        for client in [&client, &server.client().await] {
            assert_eq!(text(client, &ECHO, "still served").await.unwrap(), "still served");
        }
        go_on.notify_one();
        let report = first.await.unwrap().unwrap();
        assert_eq!(second.await.unwrap().unwrap(), report);
        assert!(
            seconds.contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert!(server.report().await.is_clean());
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_service_that_prepares_for_ever_costs_the_drain_timeout() {
    let server = served("mem:prepares-for-ever", Prepares::default()).await;
    let begun = Instant::now();
    assert!(server.stop().await.is_clean());
    let took = begun.elapsed();
    assert!(took >= DRAIN && took <= DRAIN + END, "took {took:?}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_abort_waits_for_no_service_that_prepares() {
    let server = served("mem:prepares-abort", Prepares::default()).await;
    let begun = Instant::now();
    server.handle.drain();
    tokio::task::yield_now().await;
    server.handle.abort();
    server.report().await;
    assert!(begun.elapsed() < DRAIN, "took {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_service_that_panics_before_a_drain_does_not_stop_it() {
    for (address, kind) in [
        ("mem:prepares-panics", Kind::Panics),
        ("mem:prepares-panics-later", Kind::PanicsLater),
    ] {
        let service = Prepares {
            kind,
            ..Prepares::default()
        };
        let server = served(address, service).await;
        let begun = Instant::now();
        assert!(server.stop().await.is_clean());
        assert!(begun.elapsed() < DRAIN, "took {:?}", begun.elapsed());
    }
}

/// A service that is served with the lab only.
struct Picky;

impl Service for Picky {
    fn name(&self) -> &'static str {
        "test.v1.Picky"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &[]
    }

    fn served_with(&self, services: &[&dyn Service]) -> Result<()> {
        let names: Vec<&str> = services.iter().map(|service| service.name()).collect();
        match names.contains(&"lab.v1.Lab") {
            true => Ok(()),
            false => Err(Status::failed_precondition(format!("not with {names:?}"))),
        }
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.unknown()
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_learns_its_server_s_services_and_may_refuse_them() {
    let server = || {
        Server::builder()
            .service(Layered::new(Picky))
            .listener("mem:picky")
    };
    let error = server().bind().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::FailedPrecondition,
            "service test.v1.Picky: not with [\"test.v1.Picky\"]"
        )
    );
    drop(server().service(Lab::default()).bind().await.unwrap());
    let error = within(Client::in_process(Picky).ping()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
}
