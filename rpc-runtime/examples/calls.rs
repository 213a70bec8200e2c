//! Measures nothing by itself: makes a number of calls, so that callgrind can count their instructions.
//!
//! Client and server share one thread and a loopback TCP connection. `.ci/instructions` runs it:
//! `cargo run --release -p rpc-runtime --example calls -- CALLS IN_FLIGHT`. A third number adds as many middlewares that do nothing to the
//! server, and a fourth to the client. With 1 as a fifth number a subscriber wants all spans, and keeps none; with 2 the calls belong to a
//! trace that is sampled, too. With a sixth number the client balances over as many connections to the server.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rpc_runtime::{
    Bytes, Client, Error, Server,
    discover::{Endpoint, Found, Resolver},
    middleware::{Answer, AnyCall, Middleware, Next},
    server::{Handler, Incoming, Procedure, Service},
    trace::TraceContext,
};
use tracing::{Event, Metadata, Subscriber, span};

static ECHO: Procedure = Procedure::new("calls.v1.Calls/rpc_echo", 1);
static PROCEDURES: [Procedure; 1] = [ECHO];

/// Returns what it gets.
struct Calls;

impl Service for Calls {
    fn name(&self) -> &'static str {
        "calls.v1.Calls"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, bytes: Bytes| async move { Ok(bytes) })
    }
}

/// Does nothing.
struct Idle;

impl<C: AnyCall> Middleware<C> for Idle {
    async fn handle(&self, call: C, next: Next<C>) -> Result<Answer, C::Error> {
        next.run(call).await
    }
}

/// Finds the same addresses for ever.
struct Fixed(Vec<String>);

impl Resolver for Fixed {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        found.set(self.0.iter().map(Endpoint::new));
        Ok(())
    }
}

/// Wants all spans and events, and keeps none.
struct Forgetful(AtomicU64);

impl Subscriber for Forgetful {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.0.fetch_add(1, Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let (Some(Ok(calls)), Some(Ok(in_flight @ 1..))) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: calls CALLS IN_FLIGHT [SERVER_MIDDLEWARE [CLIENT_MIDDLEWARE [SPANS [ENDPOINTS]]]]");
        std::process::exit(2);
    };
    let more: Vec<u64> = numbers.map(|number| number.unwrap_or_default()).collect();
    let more = |index: usize| more.get(index).copied().unwrap_or_default();
    let (spans, endpoints) = (more(2), more(3));
    let mut server = Server::builder().service(Calls);
    for _ in 0..endpoints.max(1) {
        server = server.listener("tcp://127.0.0.1:0");
    }
    for _ in 0..more(0) {
        server = server.layer(Idle);
    }
    let server = server.bind().await?;
    let addresses = server.addresses().to_vec();
    let serving = tokio::spawn(server.serve());
    let mut client = Client::builder(&addresses[0]);
    if endpoints > 0 {
        client = client.resolver(Fixed(addresses));
    }
    for _ in 0..more(1) {
        client = client.layer(Idle);
    }
    if spans > 0 {
        tracing::subscriber::set_global_default(Forgetful(AtomicU64::new(1))).expect("it is the only one");
    }
    let trace = TraceContext::start(true);
    let client = client.connect().await?;
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (client, trace) = (client.clone(), trace.clone());
            tokio::spawn(async move {
                for _ in 0..calls / in_flight {
                    let request = Bytes::from_static(&[7; 64]);
                    let call = match spans {
                        2 => client.call().trace_context(trace.clone()),
                        _ => client.call(),
                    };
                    let _: Bytes = call.send_recv(&ECHO, request).await?;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task does not panic")?;
    }
    client.close().await?;
    serving.abort();
    Ok(())
}
