//! Clients that are used in another runtime than the one in which they connected, and runtimes without timers or IO.
//!
//! A runtime of one thread stands still outside of its `block_on`. The clock of the other runtime is paused: it jumps as soon as
//! no task can run there. So a call without a timer in that runtime reaches the limit of the test at once.

use std::{
    future::{Future, pending, poll_fn},
    io,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::Poll,
    time::Duration,
};

use rpc_runtime::{Client, Code, Error, Executed, Reply, Sender, Server, Streaming, status::Phase};
use test_support::{LONG, lab::*, unix, until, within};
use tokio::{
    runtime::{Builder, Runtime},
    time::Instant,
};

const BOUND: Duration = Duration::from_millis(50);

/// A runtime of one thread, in which time passes.
fn real() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime of one thread, whose clock goes on when nothing is left to do.
fn paused() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

/// A client and its server, whose runtime is to stand still.
fn connected() -> (Runtime, Lab, Client) {
    let (still, lab) = (real(), Lab::default());
    let client = Client::in_process(lab.clone());
    still.block_on(async { assert_eq!(echo(&client, "ready").await.unwrap(), "ready") });
    (still, lab, client)
}

fn with_streams() -> (Runtime, Client) {
    let (still, client) = (real(), Client::in_process(Lab::default()));
    still.block_on(within(client.ping())).unwrap();
    (still, client)
}

/// Polls `future` once; it has to wait.
async fn begin(future: &mut (impl Future + Unpin)) {
    poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut *future).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
}

fn late<T: std::fmt::Debug>(result: Result<T, Error>) -> Error {
    let error = result.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    error
}

#[test]
fn a_call_ends_at_its_deadline_though_the_runtime_of_its_connection_stands_still() {
    let (_still, _, client) = connected();
    let error = late(paused().block_on(within(client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ()))));
    // It is in the output, which the connection's runtime may still write.
    assert_eq!(
        (error.executed(), error.phase()),
        (Executed::Maybe, Some(Phase::Write))
    );
    assert_eq!(
        error.message(),
        "not wholly written within 50ms (Call::timeout or ClientBuilder::timeout)"
    );
}

#[test]
fn a_call_that_moves_to_another_runtime_ends_at_its_deadline_there() {
    let (still, lab, client) = connected();
    let mut call = pin!(client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ()));
    still.block_on(async {
        begin(&mut call).await;
        until(|| lab.hanging() == 1).await;
    });
    let error = late(paused().block_on(within(call)));
    assert_eq!(
        (error.executed(), error.phase()),
        (Executed::Maybe, Some(Phase::Wait))
    );
    assert_eq!(
        error.message(),
        "no reply within 50ms (Call::timeout or ClientBuilder::timeout)"
    );
}

#[test]
fn a_later_call_with_an_earlier_deadline_ends_at_its_own() {
    let (_still, _, client) = connected();
    paused().block_on(async {
        let mut long = pin!(client.call().timeout(LONG / 2).send_recv::<_, ()>(&HANG, ()));
        begin(&mut long).await;
        let short = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
        late(
            tokio::time::timeout(LONG / 4, short)
                .await
                .expect("no timer was set back"),
        );
        late(within(long).await);
    });
}

#[test]
fn calls_of_two_other_runtimes_end_at_their_deadlines_in_each() {
    let (_still, _, client) = connected();
    for _ in 0..3 {
        // The one before has shut down, perhaps with an alarm that has not rung.
        let other = paused();
        let mut dropped = Box::pin(client.call().timeout(LONG).send_recv::<_, ()>(&HANG, ()));
        other.block_on(begin(&mut dropped));
        let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
        late(other.block_on(within(call)));
    }
}

#[test]
fn a_send_that_waits_ends_at_its_deadline_in_another_runtime() {
    let (_still, _, client) = connected();
    let error = paused().block_on(within(async {
        let begun = Instant::now();
        loop {
            // Nothing is written, so the queue is full before long.
            let sent = client.call().timeout(BOUND).send(&ADD, "x".repeat(100_000)).await;
            if let Err(error) = sent {
                // Its own timer has woken it, and not that of the test, which is the only other one here.
                assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
                return error;
            }
        }
    }));
    let error = late::<()>(Err(error));
    assert_eq!(
        (error.executed(), error.phase()),
        (Executed::No, Some(Phase::Queue))
    );
}

#[test]
fn both_halves_of_a_stream_end_at_its_deadline_in_another_runtime() {
    async fn open(client: &Client) -> (Streaming<String>, (Sender<String>, Reply<()>)) {
        let call = client
            .call()
            .timeout(BOUND)
            .reply_stream::<(), String>(&WATCH, ());
        let mut replies = within(call).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap().unwrap(), "here");
        let call = client.call().timeout(LONG / 2);
        let sending = within(call.request_stream::<String, (), ()>(&IGNORE, Ok))
            .await
            .unwrap();
        (replies, sending)
    }
    let (still, client) = with_streams();
    let (mut replies, (mut sender, reply)) = still.block_on(open(&client));
    late(paused().block_on(within(replies.message())));
    let sent = paused().block_on(within(async {
        loop {
            // The handler reads nothing, and nothing is written.
            sender.send("x".repeat(10_000)).await?;
        }
    }));
    late::<()>(sent);
    late(paused().block_on(within(reply)));

    // Another client, because the clock of the first one is far ahead by now.
    let (still, client) = with_streams();
    let (_, (mut sender, _reply)) = still.block_on(open(&client));
    late(paused().block_on(within(sender.send_all(Silent))));
}

/// A stream of requests that never come.
struct Silent;

impl rpc_runtime::Stream for Silent {
    type Item = String;

    fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> Poll<Option<String>> {
        Poll::Pending
    }
}

#[test]
fn an_idle_timeout_holds_in_another_runtime() {
    let (still, client) = with_streams();
    let call = client.call().timeout(None).idle_timeout(BOUND);
    let mut replies = still.block_on(async {
        let mut replies = within(call.reply_stream::<(), String>(&WATCH, ())).await.unwrap();
        within(replies.message()).await.unwrap();
        replies
    });
    let error = late(paused().block_on(within(replies.message())));
    assert_eq!(error.message(), "no message moved for 50ms: Call::idle_timeout");
}

#[test]
fn opening_a_stream_ends_at_its_deadline_in_another_runtime() {
    let (_still, client) = with_streams();
    paused().block_on(async {
        let call = client
            .call()
            .timeout(BOUND)
            .reply_stream::<(), String>(&WATCH, ());
        let mut replies = within(call).await.unwrap();
        late(within(replies.message()).await);
        let (_sender, reply) = within(
            client
                .call()
                .timeout(BOUND)
                .request_stream::<String, (), ()>(&IGNORE, Ok),
        )
        .await
        .unwrap();
        late(within(reply).await);
    });
}

#[test]
fn flush_barrier_ping_terminate_and_close_end_in_another_runtime() {
    let still = real();
    let client = still.block_on(async {
        let server = Lab::default().serve("mem:runtimes-others").await;
        let client: Client = Client::builder(&server.address).timeout(BOUND).connect_lazy();
        // On a slow machine a ping misses so short a deadline.
        within(async { while client.ping().await.is_err() {} }).await;
        client
    });
    let other = paused();
    other.block_on(within(client.call().send(&ADD, 1_u64))).unwrap();
    late(other.block_on(within(client.flush())));
    late(other.block_on(within(client.barrier())));
    late(other.block_on(within(client.ping())));
    late(other.block_on(within(client.call().timeout(BOUND).terminate())));
    late(other.block_on(within(client.terminate())));
    let call = client.call().timeout(None).send_recv::<_, ()>(&HANG, ());
    let mut call = Box::pin(call);
    other.block_on(begin(&mut call));
    late(other.block_on(within(client.close())));
}

#[test]
fn waiting_for_a_connection_that_a_still_runtime_makes_ends_at_the_deadline() {
    let still = real();
    let client = Client::in_process(Lab::default());
    let mut first = Box::pin(client.call().timeout(None).send_recv::<_, ()>(&HANG, ()));
    // It has begun the attempt, whose task never runs.
    still.block_on(begin(&mut first));
    let error = late(paused().block_on(within(client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ()))));
    assert_eq!(
        (error.executed(), error.phase()),
        (Executed::No, Some(Phase::Connect))
    );

    // One that waits already, and moves.
    let mut moved = Box::pin(client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ()));
    real().block_on(begin(&mut moved));
    late(paused().block_on(within(moved)));
}

#[test]
fn a_call_ends_at_its_deadline_though_a_task_before_its_driver_blocks_the_thread() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let address = server.block_on(async {
        let server = Server::builder()
            .service(Lab::default())
            .listener("tcp://127.0.0.1:0")
            .signals(false);
        let server = server.bind().await.unwrap();
        let address = server.addresses()[0].clone();
        tokio::spawn(server.serve());
        address
    });
    runtime.block_on(async {
        let client = within(Client::connect(&address)).await.unwrap();
        let (blocked, is_blocked) = tokio::sync::oneshot::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let blocking = client.clone();
        let blocking = tokio::spawn(async move {
            let mut call = Box::pin(blocking.call().timeout(LONG).send_recv::<_, ()>(&HANG, ()));
            // It wakes the driver, which then lies in the LIFO slot of this worker.
            begin(&mut call).await;
            blocked.send(()).unwrap();
            wait.recv_timeout(LONG).unwrap();
        });
        is_blocked.await.unwrap();
        let call = tokio::spawn(async move {
            let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
            // As long as the other task may block.
            tokio::time::timeout(LONG / 2, call).await
        });
        late(
            call.await
                .unwrap()
                .expect("only the blocked driver would end the call"),
        );
        go_on.send(()).unwrap();
        blocking.await.unwrap();
    });
    server.shutdown_background();
}

#[test]
fn a_static_in_process_client_serves_one_runtime_after_the_other() {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let lab = Lab::default();
    let client = CLIENT.get_or_init(|| Client::in_process(lab.clone()));
    for round in 1..=3_u64 {
        // As in two `#[tokio::test]`s, each has a runtime of its own, which ends with it.
        let runtime = real();
        runtime.block_on(async {
            within(client.call().send(&ADD, 1_u64)).await.unwrap();
            assert_eq!(echo(client, "again").await.unwrap(), "again");
            // What was sent in a runtime before is with its server, and that is gone.
            while within(client.barrier()).await.is_err() {}
        });
        assert_eq!(lab.sum(), round);
    }
}

#[test]
fn a_terminated_in_process_server_stays_so_in_the_next_runtime() {
    let client = Client::in_process(Lab::default());
    real().block_on(within(client.terminate())).unwrap();
    let error = real().block_on(echo(&client, "again")).unwrap_err();
    assert_eq!(error.message(), "the in-process server was terminated");
}

#[test]
fn a_runtime_without_timers_is_an_error_that_says_what_to_enable() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let lab = Lab::default();
    runtime.block_on(async {
        let mut errors = Vec::new();
        errors.push(Client::connect("mem:runtimes-none").await.unwrap_err());
        errors.push(Client::connect("tcp://127.0.0.1:1").await.unwrap_err());
        let lazy = Client::connect_lazy("mem:runtimes-none");
        errors.push(lazy.call().send_recv::<_, ()>(&HANG, ()).await.unwrap_err());
        errors.push(
            lazy.call()
                .timeout(None)
                .send_recv::<_, ()>(&HANG, ())
                .await
                .unwrap_err(),
        );
        errors.push(lazy.call().send(&ADD, 1_u64).await.unwrap_err());
        errors.push(lazy.barrier().await.unwrap_err());
        errors.push(lazy.terminate().await.unwrap_err());
        errors.push(lazy.ping().await.unwrap_err());
        errors.push(Client::in_process(lab.clone()).ping().await.unwrap_err());
        let server = || {
            Server::builder()
                .service(lab.clone())
                .listener("mem:runtimes-timers")
        };
        errors.push(server().bind().await.unwrap_err());
        errors.push(server().serve().await.unwrap_err());
        for error in errors {
            assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
            assert!(error.message().contains("enable_time()"), "{error}");
            assert!(error.message().contains("enable_all()"), "{error}");
        }
        lazy.flush().await.unwrap();
        lazy.close().await.unwrap();
    });
}

#[test]
fn a_runtime_without_io_is_an_error_that_says_what_to_enable() {
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let lab = Lab::default();
    runtime.block_on(async {
        let socket = unix("without-io");
        #[cfg(unix)]
        let _listener = std::os::unix::net::UnixListener::bind(&socket["unix:".len()..]).unwrap();
        let mut errors = Vec::new();
        for address in ["tcp://127.0.0.1:1", "tcp://localhost:1", &socket] {
            // Nothing listens there, which shows first.
            if cfg!(windows) && *address == socket {
                continue;
            }
            errors.push(within(Client::connect(address)).await.unwrap_err());
            let lazy = Client::connect_lazy(address);
            let call = lazy.call().send_recv::<_, ()>(&HANG, ());
            errors.push(within(call).await.unwrap_err());
        }
        let server = |address: &str| Server::builder().service(lab.clone()).listener(address);
        for address in ["tcp://127.0.0.1:0", &unix("bound-without-io")] {
            errors.push(within(server(address).bind()).await.unwrap_err());
        }
        for error in errors {
            assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
            assert!(error.message().contains("enable_io()"), "{error}");
            assert!(error.message().contains("enable_all()"), "{error}");
        }

        #[cfg(unix)]
        std::fs::remove_file(&socket["unix:".len()..]).unwrap();

        // What needs none goes on.
        let bound = server("mem:runtimes-memory").bind().await.unwrap();
        tokio::spawn(bound.serve());
        let client = within(Client::connect("mem:runtimes-memory")).await.unwrap();
        assert_eq!(echo(&client, "memory").await.unwrap(), "memory");
        let client = Client::in_process(lab.clone());
        assert_eq!(echo(&client, "in process").await.unwrap(), "in process");
    });
}

#[test]
fn an_open_connection_serves_callers_whose_runtime_has_no_timers() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let client = Client::in_process(Lab::default());
    runtime.block_on(within(client.ping())).unwrap();
    let bare = Builder::new_current_thread().build().unwrap();
    let call = client
        .call()
        .timeout(LONG)
        .send_recv::<_, String>(&ECHO, "bare".to_owned());
    assert_eq!(bare.block_on(call).unwrap(), "bare");
    let call = client.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
    late(bare.block_on(call));
}

#[test]
fn a_panic_of_a_connector_is_named_in_the_error() {
    let at_once = |_: String| -> std::future::Ready<io::Result<tokio::io::DuplexStream>> {
        panic!("no route to {}", "the moon")
    };
    let later = |_: String| async {
        tokio::task::yield_now().await;
        if true {
            panic!("no route to the moon");
        }
        pending::<io::Result<tokio::io::DuplexStream>>().await
    };
    real().block_on(async {
        let clients = [
            Client::builder("moon").connector(at_once),
            Client::builder("moon").connector(later),
        ];
        for builder in clients {
            let error = within(builder.clone().connect()).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error}");
            assert_eq!(
                error.message(),
                "cannot connect: the connector panicked: no route to the moon"
            );
            let lazy: Client = builder.connect_lazy();
            let call = lazy.call().timeout(BOUND).send_recv::<_, ()>(&HANG, ());
            let error = within(call).await.unwrap_err();
            assert_eq!(error.code(), Code::Unavailable, "{error}");
            assert!(
                error
                    .message()
                    .contains("the connector panicked: no route to the moon"),
                "{error}"
            );
        }
    });
}

#[test]
fn a_connector_that_panics_is_asked_again_until_the_deadline() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let connector = move |_: String| -> std::future::Ready<io::Result<tokio::io::DuplexStream>> {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose")
    };
    let client: Client = Client::builder("moon").connector(connector).connect_lazy();
    let call = client.call().timeout(LONG / 2).send_recv::<_, ()>(&HANG, ());
    let error = paused().block_on(within(call)).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert!(asked.load(Ordering::SeqCst) > 1);
}
