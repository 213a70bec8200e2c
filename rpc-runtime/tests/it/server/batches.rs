//! Requests that arrive together: the server takes them under one lock.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Duration,
};

use rpc_runtime::{
    Code, Context, Error, Executed, Limits, Server, Streaming,
    server::{Handler, Incoming, Procedure, ServerHandle, Service},
};
use test_support::{lab::*, serve, serve_at, within};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
    time::sleep,
};
use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::Field,
    span,
    subscriber::{DefaultGuard, NoSubscriber, set_default},
};

#[test]
fn requests_behind_a_handler_that_blocks_go_on_in_their_order() {
    let (servers, clients) = (runtime(2), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = server.client().await;
        let note = |text: &str| client.call().send(&NOTE, text.to_owned());
        let (first, block, second, third, call) = within(async {
            tokio::join!(
                note("1"),
                client.call().send(&BLOCK, "slow".to_owned()),
                note("2"),
                note("3"),
                text(&client, &ECHO, "call")
            )
        })
        .await;
        first.and(block).and(second).and(third).unwrap();
        assert_eq!(call.unwrap(), "call");
        assert_eq!(lab.log(), ["1", "slow began", "2", "3"]);
        lab.release();
        lab.logged("slow ended").await;
    });
    servers.shutdown_background();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_amid_a_batch_is_the_failure_of_its_call_alone() {
    let lab = Lab::default();
    let server = lab.serve("mem:batches-panic").await;
    let client = server.client().await;
    let (before, panic, unwritable, after) = tokio::join!(
        text(&client, &ECHO, "before"),
        plain(&client, &PANIC),
        plain(&client, &UNWRITABLE),
        text(&client, &ECHO, "after"),
    );
    assert_eq!(
        (before.unwrap(), after.unwrap()),
        ("before".into(), "after".into())
    );
    for error in [panic.unwrap_err(), unwritable.unwrap_err()] {
        assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Yes));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn what_does_not_start_amid_a_batch_is_not_executed() {
    let lab = Lab::default();
    let server = lab.serve("mem:batches-refused").await;
    let client = server.client().await;
    let misfit = async { within(client.call().send_recv::<_, ()>(&NOTE, 7_u64)).await };
    let (before, nowhere, misfit, after) = tokio::join!(
        text(&client, &ECHO, "before"),
        text(&client, &NOWHERE, "nowhere"),
        misfit,
        text(&client, &ECHO, "after"),
    );
    assert_eq!(
        (before.unwrap(), after.unwrap()),
        ("before".into(), "after".into())
    );
    assert_eq!(nowhere.unwrap_err().executed(), Executed::No);
    assert_eq!(misfit.unwrap_err().executed(), Executed::No);
}

#[tokio::test(crate = "test_support::gate")]
async fn one_ways_calls_and_streams_of_a_batch_begin_in_their_order() {
    let lab = Lab::default();
    let server = lab.serve("mem:batches-mixed").await;
    let client = server.client().await;
    let numbers = async {
        let mut numbers: Streaming<u64> = within(client.call().reply_stream(&COUNT, 3_u64)).await?;
        Ok::<_, Error>(all(&mut numbers).await)
    };
    let sum = async {
        let call = client.call().request_stream(&SUM, Ok::<u64, Error>);
        let (mut sender, reply) = within(call).await?;
        within(sender.send(4)).await?;
        within(sender.send(5)).await?;
        sender.finish();
        within(reply).await
    };
    let ((), waited, numbers, (), sum, ()) = tokio::join!(
        send(&client, &NOTE, "1"),
        text(&client, &SLEEP, "slept"),
        numbers,
        send(&client, &NOTE, "2"),
        sum,
        send(&client, &NOTE, "3"),
    );
    assert_eq!(waited.unwrap(), "slept");
    let (numbers, end) = numbers.unwrap();
    end.unwrap();
    assert_eq!((numbers, sum.unwrap()), (vec![0, 1, 2], 9));
    let account = within(client.settled()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (3, 3));
    assert_eq!(lab.log(), ["1", "2", "3"]);
}

#[test]
fn a_call_that_is_cancelled_behind_a_handler_that_blocks_never_starts() {
    // With one worker nothing else of the server goes on meanwhile.
    let (servers, clients) = (runtime(1), runtime(1));
    let lab = Lab::default();
    let server = servers.block_on(lab.serve("mem:batches-cancelled"));
    clients.block_on(async {
        let client = server.client().await;
        let until_the_monitor_was_quick = async {
            loop {
                lab.hold();
                let block = start(&client, &BLOCK, "slow");
                let cancelled = start(&client, &WAIT, "cancelled");
                lab.logged("slow began").await;
                cancelled.abort();
                cancelled.await.unwrap_err();
                within(client.flush()).await.unwrap();
                // The time in which the monitor gives the call back. If it is late, the call starts.
                sleep(Duration::from_millis(20)).await;
                lab.release();
                block.await.unwrap().unwrap();
                text(&client, &ECHO, "after").await.unwrap();
                if !lab.log().contains(&"cancelled began".to_owned()) {
                    break;
                }
            }
        };
        within(until_the_monitor_was_quick).await;
    });
    servers.shutdown_background();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_that_a_handler_begins_does_not_end_the_requests_behind_it() {
    let handle = Arc::new(OnceLock::<ServerHandle>::new());
    let drains = Arc::clone(&handle);
    let service = Script::new(move |text| {
        if text == "drain" {
            drains.get().unwrap().drain();
        }
    });
    let server = service.serve("mem:batches-drain").await;
    handle.set(server.handle.clone()).ok().unwrap();
    let client = server.client().await;
    let call = |text: &str| client.call().send_recv::<_, String>(&SCRIPT, text.to_owned());
    let calls = async { tokio::join!(call("before"), call("drain"), call("1"), call("2")) };
    let (before, drain, first, second) = within(calls).await;
    let answers = [before, drain, first, second].map(Result::unwrap);
    assert_eq!(answers, ["before", "drain", "1", "2"]);
    let report = server.report().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(crate = "test_support::gate")]
async fn the_time_of_the_handlers_before_it_is_in_the_queue_time_of_a_call() {
    const RUN: Duration = Duration::from_micros(300);
    // One thread runs all, so that the handlers run one after the other.
    let server = Script::new(|_| thread::sleep(RUN))
        .serve("mem:batches-times")
        .await;
    let client = server.client().await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let client = client.clone();
        calls.spawn(async move {
            let call = client.call().send_recv::<_, String>(&SCRIPT, String::new());
            within(call.with_receipt()).await.unwrap().1
        });
    }
    let mut receipts = calls.join_all().await;
    receipts.sort_by_key(|receipt| receipt.queued());
    for (before, receipt) in receipts.iter().enumerate() {
        assert!(receipt.queued() >= RUN * before as u32, "{before}: {receipt:?}");
        assert!(receipt.ran() >= RUN, "{before}: {receipt:?}");
    }
}

#[test]
fn handlers_that_wait_for_a_thread_do_not_count_as_running() {
    let servers = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let clients = runtime(1);
    let lab = Lab::default();
    // Two handlers of one-way calls may run for each call that may be open.
    let limits = Limits::default().max_calls(16);
    let server = servers.block_on(lab.serve_with("tcp://127.0.0.1:0", |server| server.limits(limits)));
    clients.block_on(async {
        let client = server.client().await;
        for i in 0..40 {
            send(&client, &BLOCK_BLOCKING, &i.to_string()).await;
        }
        assert_eq!(text(&client, &ECHO, "fast").await.unwrap(), "fast");
        lab.release();
        let account = within(client.settled()).await.unwrap();
        assert_eq!(account.handled(), 40);
    });
    drop(servers);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_that_cannot_be_made_leaves_the_rest_of_its_batch_alone() {
    let service = Faulty::new(|| panic!("on purpose"));
    let server = service.serve("mem:batches-unmade").await;
    let client = server.client().await;
    let call = |procedure, text: &str| client.call().send_recv::<_, String>(procedure, text.to_owned());
    let calls = async {
        tokio::join!(
            call(&SCRIPT, "1"),
            call(&FAULTY, "faulty"),
            call(&SCRIPT, "2"),
            call(&SCRIPT, "3")
        )
    };
    let (first, faulty, second, third) = within(calls).await;
    assert_eq!([first, second, third].map(Result::unwrap), ["1", "2", "3"]);
    assert_eq!(faulty.unwrap_err().code(), Code::Unknown);
    assert_eq!(service.started(), ["1", "2", "3"]);
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_dispatcher_that_panics_ends_its_connection_and_no_other() {
    let lab = Lab::default();
    let server = lab.serve("mem:batches-dispatcher").await;
    let (client, other) = (server.client().await, server.client().await);
    let waits = start(&other, &WAIT, "waits");
    lab.logged("waits began").await;
    // The one thing of a user that the dispatcher itself runs: what the process logs by.
    let logs = PanicsAt::here("unknown procedure");
    let calls = async {
        tokio::join!(
            text(&client, &ECHO, "before"),
            text(&client, &NOWHERE, "nowhere"),
            text(&client, &ECHO, "behind"),
            send(&client, &NOTE, "1"),
        )
    };
    let (before, nowhere, behind, ()) = within(calls).await;
    drop(logs);
    // On a slow machine its reply may have been written.
    assert!(before.as_ref().is_ok_and(|reply| reply == "before") || before.is_err());
    for error in before
        .err()
        .into_iter()
        .chain([nowhere, behind].map(Result::unwrap_err))
    {
        let what = (error.code(), error.executed());
        assert_eq!(what, (Code::Unavailable, Executed::Maybe), "{error}");
    }
    assert_eq!(text(&client, &ECHO, "again").await.unwrap(), "again");
    lab.release();
    assert_eq!(waits.await.unwrap().unwrap(), "waits");
    let report = server.stop().await;
    assert_eq!((report.aborted(), report.stuck()), (0, 0), "{report}");
}

static SCRIPT: Procedure = Procedure::new("script.v1.Script/rpc_run", 1);
static SCRIPTS: [Procedure; 1] = [SCRIPT];
static FAULTY: Procedure = Procedure::new("faulty.v1.Faulty/rpc_faulty", 2);
static FAULTS: [Procedure; 2] = [SCRIPT, FAULTY];

/// A service that does what the test says, without an await, and returns its text.
#[derive(Clone)]
struct Script(Arc<dyn Fn(&str) + Send + Sync>);

impl Script {
    fn new(work: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(work))
    }

    async fn serve(self, address: &str) -> test_support::Running {
        let server = Server::builder().service(self).listener(address).signals(false);
        serve(server).await
    }
}

impl Service for Script {
    fn name(&self) -> &'static str {
        "script.v1.Script"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &SCRIPTS
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let Self(work) = self.clone();
        call.handle(|_: Context, text: String| async move {
            work(&text);
            Ok(text)
        })
    }
}

/// A service that notes what it starts. It does not make handlers of [`FAULTY`]: it does what the test says.
#[derive(Clone)]
struct Faulty {
    fault: fn() -> Handler,
    started: Arc<Mutex<Vec<String>>>,
}

impl Faulty {
    fn new(fault: fn() -> Handler) -> Self {
        Self {
            fault,
            started: Arc::default(),
        }
    }

    async fn serve(&self, address: &str) -> test_support::Running {
        serve_at(address, self.clone()).await
    }

    fn started(&self) -> Vec<String> {
        self.started.lock().unwrap().clone()
    }
}

impl Service for Faulty {
    fn name(&self) -> &'static str {
        "faulty.v1.Faulty"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &FAULTS
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        if index == 1 {
            return (self.fault)();
        }
        let started = Arc::clone(&self.started);
        call.handle(|_: Context, text: String| async move {
            started.lock().unwrap().push(text.clone());
            Ok(text)
        })
    }
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}

/// Panics when this thread logs an event with this message, until it is dropped.
struct PanicsAt {
    _guard: DefaultGuard,
    /// With a single dispatcher, tracing asks only the first thread that meets an event whether it is wanted.
    _second: Dispatch,
}

impl PanicsAt {
    fn here(message: &'static str) -> Self {
        Self {
            _second: Dispatch::new(NoSubscriber::default()),
            _guard: set_default(PanickingLog(message)),
        }
    }
}

/// The subscriber of [`PanicsAt`].
struct PanickingLog(&'static str);

impl Subscriber for PanickingLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            let is_message = field.name() == "message" && format!("{value:?}") == self.0;
            assert!(!is_message, "on purpose");
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
