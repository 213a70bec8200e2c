//! Statuses that callers get: from nested calls, with parts left out, and for sends that have ended.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Executed, Metadata, Result, Status,
    client::DropReason,
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{LONG, Logged, lab::*, within};

/// Does what the test says.
static ASK: Procedure = Procedure::new("hop.v1.Hop/rpc_ask", 401);
/// Not served.
static NOWHERE: Procedure = Procedure::new("hop.v1.Hop/rpc_nowhere", 402);
static PROCEDURES: [Procedure; 1] = [ASK];

type Answer = Pin<Box<dyn Future<Output = Result<String>> + Send>>;

/// A service whose handler is a closure.
#[derive(Clone)]
struct Hop(Arc<dyn Fn(Context) -> Answer + Send + Sync>);

impl Hop {
    /// A client of such a service, in this process.
    fn client<F>(handler: impl Fn(Context) -> F + Send + Sync + 'static) -> Client
    where
        F: Future<Output = Result<String>> + Send + 'static,
    {
        Client::in_process(Self(Arc::new(move |cx| Box::pin(handler(cx)))))
    }

    /// A client of a service that asks the next one.
    fn before(next: Client) -> Client {
        Self::client(move |_| {
            let next = next.clone();
            async move { Ok(next.call().send_recv(&ASK, ()).await?) }
        })
    }
}

impl Service for Hop {
    fn name(&self) -> &'static str {
        "hop.v1.Hop"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        let hop = self.clone();
        call.handle(move |cx: Context, (): ()| async move { (hop.0)(cx).await })
    }
}

async fn ask(client: &Client) -> Result<String, Error> {
    within(client.call().send_recv(&ASK, ())).await
}

#[tokio::test(crate = "test_support::gate")]
async fn an_inner_status_is_forwarded_whole_over_three_servers() {
    let metadata: Metadata = [("why", "moved")].into_iter().collect();
    for code in [
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unavailable,
        Code::DeadlineExceeded,
    ] {
        let status = Status::new(code, "no key \"dog\"")
            .with_details_bytes(Bytes::from_static(b"the typed reason"))
            .with_metadata(metadata.clone());
        let told = status.clone();
        let last = Hop::client(move |_| {
            let status = status.clone();
            async move { Err(status) }
        });
        let first = Hop::before(Hop::before(last));
        let error = ask(&first).await.unwrap_err();
        assert_eq!(error.status(), Some(&told), "{error}");
        assert_eq!(error.executed(), Executed::Yes);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_failure_of_an_inner_call_names_no_address_and_is_logged_once() {
    let logged = Logged::here();
    let first = Hop::client(|_| async {
        let nobody = Client::connect_lazy("mem:statuses-secret-address");
        let call = nobody.call().timeout(Duration::from_millis(50));
        Ok(call.send_recv(&ASK, ()).await?)
    });
    let error = ask(&Hop::before(Hop::before(first))).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(error.message(), "the call to hop.v1.Hop/rpc_ask failed");
    assert_eq!(error.executed(), Executed::Yes);
    let lines = logged.picked(
        "a call that a handler made failed",
        &["procedure", "peer", "error"],
    );
    let [line] = &lines[..] else {
        panic!("logged other than once: {lines:?}");
    };
    assert!(line.starts_with("hop.v1.Hop/rpc_ask in-process "), "{line}");
    assert!(line.contains("statuses-secret-address"), "{line}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_misuse_of_an_inner_call_is_internal_for_the_outer_one() {
    let last = Hop::client(|_| async { Ok(String::new()) });
    let unknown = last.clone();
    let first = Hop::client(move |_| {
        let last = unknown.clone();
        async move { Ok(last.call().send_recv(&NOWHERE, ()).await?) }
    });
    let error = ask(&first).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Internal, "the call to hop.v1.Hop/rpc_nowhere failed")
    );
    let first = Hop::client(move |_| {
        let last = last.clone();
        async move {
            let call = last.call().metadata("k", vec![0; Metadata::MAX_LEN]);
            Ok(call.send_recv(&ASK, ()).await?)
        }
    });
    assert_eq!(ask(&first).await.unwrap_err().code(), Code::Internal);
}

/// A handler whose inner call fails at once, and which then blocks until `is_over`; what it would tell its caller.
fn late(is_over: fn(&Context) -> bool) -> (Client, Lab, Arc<Mutex<Option<Status>>>) {
    let (lab, told) = (Lab::default(), Arc::new(Mutex::new(None)));
    let (noted, tells) = (lab.clone(), Arc::clone(&told));
    let client = Hop::client(move |cx| {
        let (lab, told) = (noted.clone(), Arc::clone(&tells));
        async move {
            let call = Client::connect_lazy("nonsense");
            let failed: Result<String, Error> = call.call().send_recv(&ASK, ()).await;
            let error = failed.unwrap_err();
            lab.note("failed");
            while !is_over(&cx) {
                std::thread::sleep(Duration::from_millis(1));
            }
            *told.lock().unwrap() = Some(Status::from(error));
            lab.note("told");
            Ok(String::new())
        }
    });
    (client, lab, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn an_inner_call_that_fails_when_the_deadline_has_passed_is_deadline_exceeded() {
    let (client, lab, told) = late(|cx| cx.remaining() == Some(Duration::ZERO));
    let mut time = Duration::from_millis(50);
    // On a slow machine a deadline passes before the handler has begun.
    while lab.log().is_empty() {
        let call = client.call().timeout(time);
        // Whichever comes first: the deadline, or the handler's answer right behind it.
        drop(within(call.send_recv::<(), String>(&ASK, ())).await);
        time *= 2;
    }
    lab.logged("told").await;
    let status = told.lock().unwrap().take().unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::DeadlineExceeded, "the call to hop.v1.Hop/rpc_ask failed")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn an_inner_call_that_fails_when_the_caller_is_gone_is_cancelled() {
    let (client, lab, told) = late(Context::is_cancelled);
    let call = tokio::spawn(async move { client.call().send_recv::<(), String>(&ASK, ()).await });
    lab.logged("failed").await;
    call.abort();
    lab.logged("told").await;
    assert_eq!(told.lock().unwrap().take().unwrap().code(), Code::Cancelled);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn only_a_loss_is_closed_and_only_the_calls_own_deadline_is_a_timeout() {
    for code in [Code::Unavailable, Code::DeadlineExceeded] {
        let client =
            Hop::client(move |_| async move { Err(Status::new(code, "the printer is out of paper")) });
        let error = ask(&client).await.unwrap_err();
        assert_eq!(error.code(), code);
        assert!(!error.is_closed() && !error.is_timeout(), "{error}");
    }
    let hangs = Hop::client(|_| std::future::pending());
    let call = hangs.call().timeout(Duration::from_secs(1));
    let late: Result<String, Error> = within(call.send_recv(&ASK, ())).await;
    assert!(late.unwrap_err().is_timeout());

    let lab = Lab::default();
    let server = lab.serve("mem:statuses-loss").await;
    let client = server.client().await;
    let waits = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    server.handle.abort();
    let error = within(waits).await.unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
    server.report().await;
    let call = client.call().timeout(Duration::from_secs(1));
    let nobody: Result<String, Error> = within(call.send_recv(&ECHO, String::new())).await;
    let nobody = nobody.unwrap_err();
    assert!(nobody.is_closed() || nobody.is_timeout(), "{nobody}");
}

#[tokio::test(crate = "test_support::gate")]
async fn parts_of_a_failure_that_cannot_travel_are_named_and_logged() {
    let logged = Logged::here();
    let client = Hop::client(|_| async {
        Err(Status::new(Code::NotFound, "no such thing").with_details_bytes(vec![1; 150_000]))
    });
    for _ in 0..2 {
        let error = ask(&client).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        let told = error.message();
        assert!(
            told.starts_with("no such thing (details of 150000 bytes left out: limit 14"),
            "{told}"
        );
        assert!(error.details().is_empty());
    }
    let lines = logged.picked(
        "a part of a handler's status was not sent",
        &["procedure", "unsaid"],
    );
    assert_eq!(lines, ["hop.v1.Hop/rpc_ask 0"], "once a minute");

    let client = Hop::client(|_| async {
        let metadata: Metadata = (0..65).map(|n| (format!("k{n}"), "v")).collect();
        let status = Status::new(Code::NotFound, "é".repeat(1000)).with_details_bytes("why");
        Err(status.with_metadata(metadata))
    });
    let error = ask(&client).await.unwrap_err();
    let told = error.message();
    let note = " (metadata of 65 entries and 250 bytes left out: limit 64 entries and 8192 bytes)";
    assert!(
        told.ends_with(note) && told.starts_with('é') && told.len() <= 1024,
        "{told}"
    );
    assert_eq!((&error.details()[..], error.metadata().len()), (&b"why"[..], 0));

    let client = Hop::client(|cx| async move {
        cx.add_reply_metadata("added", "1")?;
        let metadata: Metadata = [("rpc-depth", "x"), ("own", "2")].into_iter().collect();
        Err(Status::new(Code::NotFound, "no").with_metadata(metadata))
    });
    let error = ask(&client).await.unwrap_err();
    assert_eq!(
        error.message(),
        "no (left out: metadata key \"rpc-depth\" is reserved: give it another prefix than \"rpc-\")"
    );
    let keys: Vec<_> = error.metadata().iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["added", "own"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn metadata_keys_of_the_runtime_are_refused_before_anything_is_sent() {
    let client = Hop::client(|cx| async move {
        let refused = cx.add_reply_metadata("Rpc-Trace", "1").unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        Ok(refused.message().to_owned())
    });
    for key in ["rpc-depth", "RPC-Anything"] {
        let call = client.call().metadata(key, "x");
        let error = within(call.send_recv::<(), String>(&ASK, ())).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No)
        );
        assert!(
            error
                .message()
                .contains(&format!("{:?} is reserved", key.to_lowercase())),
            "{error}"
        );
        let call = client.call().metadata(key, "x");
        let error = within(call.send(&ASK, ())).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No)
        );
    }
    assert!(ask(&client).await.unwrap().contains("\"Rpc-Trace\" is reserved"));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_circle_of_proxies_that_copy_metadata_ends() {
    let lab = Lab::default();
    let circle = Arc::new(Mutex::new(None::<Client>));
    let (noted, next) = (lab.clone(), Arc::clone(&circle));
    let proxy = Hop::client(move |cx| {
        let (lab, next) = (noted.clone(), next.lock().unwrap().clone().unwrap());
        async move {
            lab.note("hop");
            let mut call = next.call();
            for (key, value) in cx.metadata().iter() {
                assert!(!key.starts_with("rpc-"), "{key}");
                call = call.metadata(key, value.clone());
            }
            Ok(call.send_recv(&ASK, ()).await?)
        }
    });
    *circle.lock().unwrap() = Some(proxy.clone());
    let call = proxy.call().metadata("tenant", "acme");
    let error = within(call.send_recv::<(), String>(&ASK, ())).await.unwrap_err();
    assert_eq!(error.message(), "the call to hop.v1.Hop/rpc_ask failed");
    assert_eq!(
        lab.log().len(),
        17,
        "one that is made outside has depth 0, and 16 are inside of it"
    );
    *circle.lock().unwrap() = None;
}

#[tokio::test(crate = "test_support::gate")]
async fn settled_waits_for_handlers_and_barrier_does_not() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for n in 0..10 {
        send(&client, &NOTE, &n.to_string()).await;
    }
    send(&client, &WAIT, "slow").await;
    lab.logged("slow began").await;
    assert_eq!(within(client.barrier()).await.unwrap().pending(), 1);
    let settling = tokio::spawn({
        let client = client.clone();
        async move { client.settled().await }
    });
    // A call behind it has its reply, so it is there, and waits.
    assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
    assert!(!settling.is_finished());
    lab.release();
    let account = within(settling).await.unwrap().unwrap();
    assert_eq!(
        (account.received(), account.handled(), account.pending()),
        (11, 11, 0)
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn settled_is_bounded_and_ignores_later_sends() {
    let lab = Lab::default();
    let server = lab.serve("mem:statuses-settled").await;
    let client = server.client().await;
    send(&client, &NOTE, "first").await;
    assert_eq!(within(client.settled()).await.unwrap().handled(), 1);
    let call = client.call().timeout(Duration::from_secs(3600));
    within(call.send(&WAIT, "slow".to_owned())).await.unwrap();
    let error = within(client.settled_within(Duration::from_secs(5)))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // Many wait, and a call of the control service is served all the same.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.settled_within(None).await })
        })
        .collect();
    lab.logged("slow began").await;
    within(client.ping()).await.unwrap();
    assert!(waiting.iter().all(|one| !one.is_finished()));
    lab.release();
    for one in waiting {
        assert_eq!(within(one).await.unwrap().unwrap().pending(), 0);
    }
    lab.hold();
    // What is sent behind it may run for ever.
    let client = server.client().await;
    send(&client, &NOTE, "before").await;
    let settling = tokio::spawn({
        let client = client.clone();
        async move { client.settled_within(None).await }
    });
    lab.logged("before").await;
    send(&client, &WAIT, "behind").await;
    within(settling).await.unwrap().unwrap();
    lab.release();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn settled_goes_on_through_the_drain_of_its_server() {
    for is_cut in [false, true] {
        let lab = Lab::default();
        let server = lab.serve("mem:statuses-draining").await;
        let client = server.client().await;
        send(&client, &WAIT, "slow").await;
        lab.logged("slow began").await;
        let settling = tokio::spawn({
            let client = client.clone();
            async move { client.settled_within(LONG).await }
        });
        assert_eq!(text(&client, &ECHO, "x").await.unwrap(), "x");
        if is_cut {
            server.handle.abort();
        } else {
            server.handle.drain();
            lab.release();
        }
        let account = within(settling).await.unwrap().unwrap();
        assert_eq!((account.received(), account.pending()), (1, 0));
        let dropped: Vec<_> = account.dropped().collect();
        let expected = if is_cut {
            vec![(DropReason::Aborted, 1)]
        } else {
            Vec::new()
        };
        assert_eq!(dropped, expected);
        server.report().await;
        within(client.flush()).await.unwrap();
    }
}
