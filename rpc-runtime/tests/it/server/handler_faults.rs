//! Handlers that panic at any await, with streams open: their call fails, and no other call notices.

use std::{panic::panic_any, time::Duration};

use rpc_runtime::{
    Client, Code, Context, Error, Executed, Reply, Requests, Result, Sender, Server, Stream, Streaming,
    server::{Handler, Incoming, Load, Procedure, Service},
    stream,
};
use test_support::{Running, gate, lab::*, serve_at, within};
use tokio::{
    task::{JoinSet, yield_now},
    time::sleep,
};

static UNARY: Procedure = Procedure::new("faulty.v1.Faulty/rpc_unary", 301);
static REPLIES: Procedure = Procedure::new("faulty.v1.Faulty/rpc_replies", 302).with_reply_stream();
static REQUESTS: Procedure = Procedure::new("faulty.v1.Faulty/rpc_requests", 303).with_request_stream();
static BOTH: Procedure = Procedure::new("faulty.v1.Faulty/rpc_both", 304)
    .with_request_stream()
    .with_reply_stream();
static PROCEDURES: [Procedure; 4] = [UNARY, REPLIES, REQUESTS, BOTH];

/// Panics at the await of this number; each procedure has some.
struct Faulty;

/// Where a handler is to panic.
struct Fault(u64);

impl Fault {
    /// An await has come to its end.
    fn passed(&mut self) {
        self.0 = self.0.checked_sub(1).expect("on purpose");
    }
}

async fn unary(_: Context, at: u64) -> Result<u64> {
    let mut fault = Fault(at);
    fault.passed();
    for _ in 0..3 {
        yield_now().await;
        fault.passed();
        sleep(Duration::from_millis(1)).await;
        fault.passed();
    }
    Ok(at)
}

async fn replies(_: Context, at: u64) -> Result<impl Stream<Item = Result<u64>> + Send> {
    let mut fault = Fault(at);
    yield_now().await;
    fault.passed();
    Ok(stream(async move |out| {
        for number in 0..3 {
            out.send(number).await;
            fault.passed();
            sleep(Duration::from_millis(1)).await;
            fault.passed();
        }
        Ok(())
    }))
}

async fn requests(_: Context, mut requests: Requests<u64>) -> Result<u64> {
    let first = requests.message().await?;
    let mut fault = Fault(first.unwrap_or(0));
    fault.passed();
    let mut count = 1;
    while requests.message().await?.is_some() {
        fault.passed();
        count += 1;
        sleep(Duration::from_millis(1)).await;
        fault.passed();
    }
    fault.passed();
    Ok(count)
}

impl Service for Faulty {
    fn name(&self) -> &'static str {
        "faulty.v1.Faulty"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match index {
            0 => call.handle(unary),
            1 => {
                call.handle_reply_stream(|cx, at, to| async move { to.forward(replies(cx, at).await?).await })
            }
            2 => call.handle_request_stream(requests),
            3 => call.handle_both_streams(|cx, from, to| async move {
                let count = requests(cx, from);
                to.forward(stream(async move |out| {
                    out.send(count.await?).await;
                    Ok(())
                }))
                .await
            }),
            _ => call.unknown(),
        }
    }
}

async fn served(name: &str) -> (Running, Client) {
    let server = Server::builder()
        .service(Lab::default())
        .service(Faulty)
        .listener(format!("mem:faulty-{name}"))
        .signals(false)
        .bind()
        .await
        .unwrap();
    let running = Running {
        address: server.addresses()[0].clone(),
        handle: server.handle(),
        serving: gate::serve(server),
    };
    let client = running.client().await;
    (running, client)
}

/// Does something with a handler that panics at each of its awaits in turn, until there is none; how many there were.
async fn at_every_await(name: &str, call: impl AsyncFn(&Client, u64) -> Result<(), Error>) -> u64 {
    let (server, client) = served(name).await;
    let is_idle = |load: Load| load.is_idle() && load.connections() == 1;
    for at in 0..100 {
        let result = within(call(&client, at)).await;
        within(async {
            while !is_idle(server.handle.load()) || !is_idle(client.load()) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
        let Err(error) = result else {
            return at;
        };
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unknown, Executed::Yes),
            "{error}"
        );
        let status = error.status().expect("the handler's own");
        assert_eq!(
            status.message(),
            "handler panicked",
            "the reason of the panic stays here"
        );
    }
    panic!("100 awaits, and the handler still panics");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_may_panic_at_any_await() {
    let awaits = at_every_await("unary", async |client, at| {
        client.call().send_recv::<_, u64>(&UNARY, at).await.map(drop)
    });
    assert_eq!(awaits.await, 7);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_may_panic_at_any_await_while_it_replies() {
    let awaits = at_every_await("replies", async |client, at| {
        let mut replies: Streaming<u64> = client.call().reply_stream(&REPLIES, at).await?;
        while replies.message().await?.is_some() {}
        Ok(())
    });
    assert_eq!(awaits.await, 7);
}

/// Sends five messages, the first one of which says where to panic.
async fn send_all(mut requests: Sender<u64>, at: u64) {
    for number in 0..5 {
        let number = if number == 0 { at } else { number };
        if requests.send(number).await.is_err() {
            // The call has ended. Its reply says why.
            return;
        }
    }
    requests.finish();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_may_panic_at_any_await_while_it_reads() {
    let awaits = at_every_await("requests", async |client, at| {
        let (requests, reply): (Sender<u64>, Reply<u64>) =
            client.call().request_stream(&REQUESTS, Ok).await?;
        send_all(requests, at).await;
        assert_eq!(reply.await?, 5);
        Ok(())
    });
    assert_eq!(awaits.await, 10);
    let awaits = at_every_await("both", async |client, at| {
        let (requests, mut replies): (Sender<u64>, Streaming<u64>) =
            client.call().both_streams(&BOTH).await?;
        send_all(requests, at).await;
        assert_eq!(replies.message().await?, Some(5));
        assert_eq!(replies.message().await?, None);
        Ok(())
    });
    assert_eq!(awaits.await, 10);
}

#[tokio::test(crate = "test_support::gate")]
async fn ten_thousand_panics_leave_nothing() {
    let (server, client) = served("many").await;
    // Real time, since each panic may take long to print its backtrace: then the clock of a paused runtime jumps to a deadline.
    for _ in 0..100 {
        let mut calls = JoinSet::new();
        for at in 0..100 {
            let client = client.clone();
            let call = async move {
                client
                    .call()
                    .timeout(None)
                    .send_recv::<_, u64>(&UNARY, at % 7)
                    .await
            };
            calls.spawn(call);
        }
        for result in within(calls.join_all()).await {
            let error = result.unwrap_err();
            assert_eq!(error.code(), Code::Unknown, "{error}");
        }
    }
    let load = server.handle.load();
    assert!(load.is_idle(), "{load}");
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
}

/// Panics when it is dropped, with another one that does so one time less.
struct Bomb(u8);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Self(self.0 - 1));
        }
    }
}

static MADE: Procedure = Procedure::new("bombs.v1.Bombs/rpc_made", 311);
static UNMADE: Procedure = Procedure::new("bombs.v1.Bombs/rpc_unmade", 312);
static UNMADE_TASK: Procedure = Procedure::new("bombs.v1.Bombs/rpc_unmade_task", 313).spawn();
static BOMBS: [Procedure; 3] = [MADE, UNMADE, UNMADE_TASK];

/// Panics with a [`Bomb`].
struct Bombs;

impl Service for Bombs {
    fn name(&self) -> &'static str {
        "bombs.v1.Bombs"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &BOMBS
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        if index > 0 {
            panic_any(Bomb(3));
        }
        call.handle(|_, yields: u64| async move {
            for _ in 0..yields {
                yield_now().await;
            }
            panic_any(Bomb(3));
            #[allow(unreachable_code, reason = "it says what the handler would return")]
            Ok(())
        })
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_that_panics_again_when_it_is_dropped_is_the_failure_of_its_call_alone() {
    let server = serve_at("mem:faulty-bombs", Bombs).await;
    let client = server.client().await;
    for (procedure, yields) in [(&MADE, 0), (&MADE, 2), (&UNMADE, 0), (&UNMADE_TASK, 0)] {
        let error = within(client.call().send_recv::<_, ()>(procedure, yields)).await;
        assert_eq!(error.unwrap_err().code(), Code::Unknown, "{}", procedure.path());
    }
    within(client.ping()).await.unwrap();
    for yields in [0, 2, 0] {
        client.call().send(&MADE, yields).await.unwrap();
    }
    let account = within(client.settled()).await.unwrap();
    assert_eq!((account.received(), account.failed()), (3, 3));
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
}
