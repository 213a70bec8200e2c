//! One-way calls that come in one frame: one future handles them, one after the other.

use std::{
    future::{pending, poll_fn},
    sync::{Arc, Condvar, Mutex},
    task::Poll,
};

use rpc_runtime::{
    Account, Client, Code, Context, Status,
    client::DropReason,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{Running, serve_at, within};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    task::yield_now,
};

#[tokio::test(crate = "test_support::gate")]
async fn each_starts_once_and_in_order() {
    let script = Script::new(Wrap::None);
    let server = script.serve("mem:rows-order").await;
    let client = connect(&server).await;
    let texts: Vec<_> = (0..500).map(|i| i.to_string()).collect();
    for text in &texts {
        send(&client, text).await;
    }
    let account = settled(&client).await;
    assert_eq!((account.received(), account.handled()), (500, 500));
    assert_eq!(script.log(), texts);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_a_failure_and_a_wrong_message_count_for_their_calls_alone() {
    let script = Script::new(Wrap::None);
    let server = script.serve("mem:rows-faults").await;
    let client = connect(&server).await;
    for text in ["1", "panic", "2", "fail", "panic unmade", "3"] {
        send(&client, text).await;
    }
    client.call().send(&SCRIPT, 7_u64).await.unwrap();
    send(&client, "4").await;
    send(&client, "panic").await;
    let account = settled(&client).await;
    assert_eq!(
        (account.received(), account.handled(), account.failed()),
        (9, 4, 4)
    );
    assert_eq!(
        account.dropped().collect::<Vec<_>>(),
        [(DropReason::BadPayload, 1)]
    );
    let log = ["1", "panic", "2", "fail", "panic unmade", "3", "4", "panic"];
    assert_eq!(script.log(), log);
}

#[tokio::test(crate = "test_support::gate")]
async fn those_behind_a_pending_one_start_and_end_without_it() {
    let script = Script::new(Wrap::None);
    let server = script.serve("mem:rows-pending").await;
    let client = connect(&server).await;
    for text in ["1", "wait", "2", "wait", "wait", "3"] {
        send(&client, text).await;
    }
    within(client.barrier()).await.unwrap();
    let starts = ["1", "wait", "2", "wait", "wait", "3"];
    within(script.logged(starts.len())).await;
    assert_eq!(script.log(), starts);
    let account = within(client.barrier()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (6, 3));
    assert_eq!(server.handle.load().handler_tasks(), 3);
    script.0.gate.notify_waiters();
    let account = settled(&client).await;
    assert_eq!((account.received(), account.handled()), (6, 6));
    let report = server.stop().await;
    assert!(report.is_clean(), "{report}");
}

#[test]
fn those_behind_one_that_blocks_go_on_in_their_order() {
    // Two of its workers block.
    let (servers, clients) = (runtime(3), runtime(1));
    let script = Script::new(Wrap::None);
    let server = servers.block_on(script.serve("tcp://127.0.0.1:0"));
    clients.block_on(async {
        let client = connect(&server).await;
        let texts = ["1", "block", "2", "fail", "block", "3"];
        for text in texts {
            send(&client, text).await;
        }
        within(script.logged(texts.len())).await;
        assert_eq!(script.log(), texts);
        let account = within(client.barrier()).await.unwrap();
        assert_eq!((account.received(), account.failed()), (6, 1));
        assert!(account.handled() <= 3, "{account:?}");
        script.release();
        let account = settled(&client).await;
        assert_eq!(
            (account.received(), account.handled(), account.failed()),
            (6, 5, 1)
        );
    });
    servers.shutdown_background();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_context_knows_its_own_call() {
    let script = Script::new(Wrap::None);
    let server = script.serve("mem:rows-context").await;
    let client = connect(&server).await;
    for text in ["1", "watch", "2"] {
        send(&client, text).await;
    }
    within(script.logged(4)).await;
    let mut log = script.log();
    log.sort();
    assert_eq!(log, ["1", "2", "watch", "watched"]);
    assert_eq!(settled(&client).await.handled(), 3);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_that_does_not_run_them_together_gets_them_one_by_one() {
    for (wrap, address) in [(Wrap::Later, "mem:rows-later"), (Wrap::Nested, "mem:rows-nested")] {
        let script = Script::new(wrap);
        let server = script.serve(address).await;
        let client = connect(&server).await;
        for i in 0..40 {
            send(&client, &i.to_string()).await;
        }
        let account = settled(&client).await;
        assert_eq!((account.received(), account.handled()), (40, 40));
        assert_eq!(script.log().len(), 40);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn handlers_that_cannot_be_made_fail_each() {
    let script = Script::new(Wrap::Panics);
    let server = script.serve("mem:rows-unmade").await;
    let client = connect(&server).await;
    for i in 0..20 {
        send(&client, &i.to_string()).await;
    }
    let account = settled(&client).await;
    assert_eq!((account.received(), account.failed()), (20, 20));
}

#[tokio::test(crate = "test_support::gate")]
async fn those_whose_pending_handler_is_dropped_at_once_end() {
    let script = Script::new(Wrap::Once);
    let server = script.serve("mem:rows-once").await;
    let client = connect(&server).await;
    for text in ["1", "wait", "2", "wait", "wait", "3"] {
        send(&client, text).await;
    }
    let account = settled(&client).await;
    assert_eq!((account.received(), account.handled()), (6, 3));
    assert_eq!(account.dropped().collect::<Vec<_>>(), [(DropReason::Aborted, 3)]);
    assert!(server.stop().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn what_a_service_adds_behind_its_handlers_is_dropped_and_may_panic() {
    for (wrap, address) in [
        (Wrap::Behind, "mem:rows-behind"),
        (Wrap::Instead, "mem:rows-instead"),
    ] {
        let script = Script::new(wrap);
        let server = script.serve(address).await;
        let client = connect(&server).await;
        for i in 0..20 {
            send(&client, &i.to_string()).await;
        }
        let account = settled(&client).await;
        let handled = if wrap == Wrap::Behind { 20 } else { 0 };
        assert_eq!((account.received(), account.handled()), (20, handled));
        // The connection is the same.
        assert_eq!(settled(&client).await.received(), 20);
    }
}

static SCRIPT: Procedure = Procedure::new("rows.v1.Script/rpc_run", 1);
static SCRIPTS: [Procedure; 1] = [SCRIPT];

/// A service that notes the text of each call, and does what it says.
#[derive(Clone)]
struct Script(Arc<Shared>);

struct Shared {
    wrap: Wrap,
    log: Mutex<Vec<String>>,
    /// Notified when something is added to the log.
    logged: Notify,
    /// What pending handlers wait for.
    gate: Notify,
    /// Whether handlers that block go on.
    released: Mutex<bool>,
    release: Condvar,
}

/// What stands around the handlers.
#[derive(Clone, Copy, PartialEq)]
enum Wrap {
    None,
    /// A future that polls the handler later.
    Later,
    /// A future that makes the handler in another poll.
    Nested,
    /// None is made.
    Panics,
    /// A future that polls the handler once.
    Once,
    /// A future that never ends behind the handler, and panics when it is dropped.
    Behind,
    /// The same, which drops the handler first.
    Instead,
}

/// Panics when it is dropped.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

impl Script {
    fn new(wrap: Wrap) -> Self {
        Self(Arc::new(Shared {
            wrap,
            log: Mutex::default(),
            logged: Notify::new(),
            gate: Notify::new(),
            released: Mutex::default(),
            release: Condvar::new(),
        }))
    }

    async fn serve(&self, address: &str) -> Running {
        serve_at(address, self.clone()).await
    }

    fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    fn note(&self, text: &str) {
        self.0.log.lock().unwrap().push(text.to_owned());
        self.0.logged.notify_waiters();
    }

    /// Waits until the log has that many lines.
    async fn logged(&self, count: usize) {
        loop {
            let more = self.0.logged.notified();
            if self.log().len() >= count {
                return;
            }
            more.await;
        }
    }

    fn release(&self) {
        *self.0.released.lock().unwrap() = true;
        self.0.release.notify_all();
    }

    fn block(&self) {
        let released = self.0.released.lock().unwrap();
        drop(
            self.0
                .release
                .wait_while(released, |released| !*released)
                .unwrap(),
        );
    }

    async fn run(self, cx: Context, text: String) -> Result<(), Status> {
        self.note(&text);
        match text.as_str() {
            "panic" => panic!("on purpose"),
            "fail" => return Err(Status::new(Code::Internal, "on purpose")),
            "wait" => self.0.gate.notified().await,
            "block" => self.block(),
            "watch" => {
                assert!(!cx.is_cancelled());
                let script = self.clone();
                tokio::spawn(async move {
                    cx.cancelled().await;
                    script.note("watched");
                });
            }
            _ => {}
        }
        Ok(())
    }
}

impl Service for Script {
    fn name(&self) -> &'static str {
        "rows.v1.Script"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &SCRIPTS
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let script = self.clone();
        let wrap = script.0.wrap;
        let handle = move |call: Incoming| {
            call.handle(move |cx: Context, text: String| {
                if text == "panic unmade" {
                    script.note(&text);
                    panic!("on purpose");
                }
                script.run(cx, text)
            })
        };
        match wrap {
            Wrap::None => handle(call),
            Wrap::Later => {
                let handler = handle(call);
                Box::pin(async move {
                    yield_now().await;
                    handler.await;
                })
            }
            Wrap::Nested => Box::pin(async move {
                yield_now().await;
                handle(call).await;
            }),
            Wrap::Panics => panic!("on purpose"),
            Wrap::Once => {
                let mut handler = handle(call);
                Box::pin(poll_fn(move |cx| {
                    let _ = handler.as_mut().poll(cx);
                    Poll::Ready(())
                }))
            }
            Wrap::Behind | Wrap::Instead => {
                let handler = handle(call);
                Box::pin(async move {
                    let _bomb = PanicsOnDrop;
                    match wrap {
                        Wrap::Behind => handler.await,
                        _ => drop(handler),
                    }
                    pending::<()>().await;
                })
            }
        }
    }
}

/// A client that knows what its server takes, so that its one-way calls share frames.
async fn connect(server: &Running) -> Client {
    let client = server.client().await;
    within(client.ping()).await.unwrap();
    client
}

/// Sends a one-way call. It does not wait, so that the next one joins its frame.
async fn send(client: &Client, text: &str) {
    client.call().send(&SCRIPT, text.to_owned()).await.unwrap();
}

async fn settled(client: &Client) -> Account {
    within(client.settled()).await.unwrap()
}

fn runtime(workers: usize) -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}
