//! Metrics of gRPC calls: each counts once on each side, however it travels within the process.

use rpc_http::{Grpc, Http};
use rpc_runtime::{
    Client, Code, Server, Status,
    metrics::{ProcedureCalls, Protocol, Side, Value, snapshot},
    server::{Handler, Incoming, Procedure, Service},
};

use crate::outgoing::grpc;

static PROCEDURES: [Procedure; 2] = [
    Procedure::new("metrics.v1.Grpc/rpc_echo", 0x2_1234_0000),
    Procedure::new("metrics.v1.Grpc/rpc_fail", 0x2_1234_0001),
];

struct Counted;

impl Service for Counted {
    fn name(&self) -> &'static str {
        "metrics.v1.Grpc"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(|_, text: String| async move { Ok(text) }),
            _ => call.handle(|_, _: String| async { Err::<String, _>(Status::not_found("no")) }),
        }
    }
}

fn of(side: Side, protocol: Protocol, procedure: &Procedure) -> Option<ProcedureCalls> {
    let snapshot = snapshot();
    let mut all = snapshot.procedures().iter();
    all.find(|one| one.path() == procedure.path() && (one.side(), one.protocol()) == (side, protocol))
        .cloned()
}

fn number(name: &str, labels: &[(&str, &str)]) -> f64 {
    let snapshot = snapshot();
    let samples = snapshot.family(name).map_or(&[][..], |family| family.samples());
    let has = |label: &(&str, &str), value: Option<&str>| value == Some(label.1);
    let samples = samples
        .iter()
        .filter(|sample| labels.iter().all(|label| has(label, sample.label(label.0))));
    samples
        .map(|sample| match sample.value() {
            Value::Count(count) => *count as f64,
            _ => panic!("no count"),
        })
        .sum()
}

#[tokio::test]
async fn a_call_by_grpc_counts_once_on_each_side() {
    let server = Server::builder()
        .service(Counted)
        .guest(Http::new().grpc())
        .listener("tcp://127.0.0.1:0")
        .signals(false);
    let server = server.bind().await.unwrap();
    let (address, handle) = (server.addresses()[0].clone(), server.handle());
    let serving = tokio::spawn(server.serve());

    let tcp = [("transport", "tcp"), ("protocol", "grpc")];
    let names = [
        "rpc_server_connections_opened_total",
        "rpc_client_connections_opened_total",
    ];
    let opened = || names.map(|name| number(name, &tcp));
    let bytes = || {
        [
            "rpc_server_received_bytes_total",
            "rpc_server_sent_bytes_total",
            "rpc_client_sent_bytes_total",
        ]
        .map(|name| number(name, &[("protocol", "grpc")]))
    };
    let (before, bytes_before) = (opened(), bytes());

    let client = Client::builder(grpc(&address))
        .protocol(Grpc::new())
        .connect_lazy();
    let client: Client = Client::with_procedures(client, &PROCEDURES);
    let text = "a".repeat(10_000);
    for _ in 0..3 {
        let reply: String = client
            .call()
            .send_recv(&PROCEDURES[0], text.clone())
            .await
            .unwrap();
        assert_eq!(reply.len(), text.len());
    }
    let failed = client.call().send_recv::<_, String>(&PROCEDURES[1], text.clone());
    assert_eq!(failed.await.unwrap_err().code(), Code::NotFound);

    for (procedure, count, code) in [(&PROCEDURES[0], 3, Code::Ok), (&PROCEDURES[1], 1, Code::NotFound)] {
        for side in [Side::Server, Side::Client] {
            let calls = of(side, Protocol::Grpc, procedure).unwrap();
            assert_eq!((calls.started(), calls.in_flight()), (count, 0), "{side}");
            assert_eq!(calls.codes().collect::<Vec<_>>(), [(code, count)], "{side}");
            assert!(
                of(side, Protocol::Native, procedure).is_none(),
                "{side}: counted twice"
            );
        }
    }
    for (before, after) in before.into_iter().zip(opened()) {
        assert!(after >= before + 1.0);
    }
    // The server may compress what it sends.
    let least = [30_000.0, 100.0, 30_000.0];
    for ((before, after), least) in bytes_before.into_iter().zip(bytes()).zip(least) {
        assert!(after >= before + least, "{before} and {after}");
    }
    client.close().await.unwrap();
    handle.drain();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_unknown_path_is_counted_as_other() {
    let server = crate::TestServer::start("tcp://127.0.0.1:0").await;
    let other = [
        ("service", "_other"),
        ("protocol", "grpc"),
        ("code", "UNIMPLEMENTED"),
    ];
    let before = number("rpc_server_handled_total", &other);
    let caller = crate::caller::Caller::connect(&server.address).await;
    caller.call("/no.such.Service/rpc_none", &[], "").await;
    assert!(number("rpc_server_handled_total", &other) >= before + 1.0);
    drop(caller);
    server.stop().await;
}
