//! Middleware of a client: each shape of call, the order, refusals, metadata, repeated tries, and the end of a call.

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Status,
    middleware::{Answer, ClientCall, Middleware, Next, from_fn},
};
use test_support::{Running, all, lab::*, until, within};

use super::{NoteDrop, Noting};

/// A server of `lab` at `address`, and a client with `middleware`.
async fn with(lab: &Lab, address: &str, middleware: impl Middleware<ClientCall>) -> (Running, Client) {
    let server = lab.serve(address).await;
    let client = Client::builder(&server.address).layer(middleware).connect();
    let client = within(client).await.unwrap();
    (server, client)
}

/// A client of a server that is not there.
fn away(middleware: impl Middleware<ClientCall>) -> Client {
    Client::builder("mem:middleware-nobody")
        .fail_fast(true)
        .layer(middleware)
        .connect_lazy()
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_wraps_every_shape_of_call() {
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-shapes", Noting("m", lab.clone())).await;

    assert_eq!(echo(&client, "unary").await.unwrap(), "unary");
    assert_eq!(lab.take_log(), ["m: echo begins", "m: echo ends"]);

    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    assert_eq!(lab.take_log(), ["m: add begins", "m: add ends"]);
    within(client.settled()).await.unwrap();
    assert_eq!(lab.sum(), 1);

    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    assert_eq!(lab.take_log(), ["m: count begins"]);
    assert_eq!(all::<u64>(&mut counted).await.0, [0, 1, 2]);
    assert_eq!(counted.metadata().unwrap().get_str("count"), Some("3"));
    assert_eq!(lab.take_log(), ["m: count ends"]);
    assert!(within(counted.message()).await.unwrap().is_none());

    let (mut sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    for number in [1_u64, 2, 3] {
        sender.send(number).await.unwrap();
    }
    sender.finish();
    assert_eq!(within(sum.with_receipt()).await.unwrap().0, 6);
    assert_eq!(lab.take_log(), ["m: sum begins", "m: sum ends"]);

    let (mut sender, mut echoed) = client
        .call()
        .both_streams::<String, String>(&ECHO_STREAM)
        .await
        .unwrap();
    sender.send("both".to_owned()).await.unwrap();
    sender.finish();
    assert_eq!(all(&mut echoed).await.0, ["both"]);
    assert_eq!(lab.take_log(), ["m: echo_stream begins", "m: echo_stream ends"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_sees_how_a_call_fails() {
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-fails", Noting("m", lab.clone())).await;
    let error = plain(&client, &FAIL).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NotFound, Executed::Yes));
    assert!(lab.take_log()[1].contains("NOT_FOUND"));
    let mut failing = client.call().reply_stream(&FAIL_STREAM, ()).await.unwrap();
    let (messages, end) = all::<String>(&mut failing).await;
    assert_eq!((messages.len(), end.unwrap_err().code()), (1, Code::DataLoss));
    assert!(lab.take_log()[1].contains("DATA_LOSS"));
    assert!(
        within(failing.message()).await.unwrap().is_none(),
        "an error comes once"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn layers_wrap_in_the_order_in_which_they_were_added() {
    let lab = Lab::default();
    let server = lab.serve("mem:middleware-client-order").await;
    let client: Client = Client::builder(&server.address)
        .layer(Noting("1", lab.clone()))
        .layer(Noting("2", lab.clone()))
        .connect_lazy();
    echo(&client.clone(), "").await.unwrap();
    assert_eq!(
        lab.log(),
        ["1: echo begins", "2: echo begins", "2: echo ends", "1: echo ends"]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_refused_call_was_not_executed() {
    let lab = Lab::default();
    let refuse = from_fn(async |_: ClientCall, _| Err(Status::resource_exhausted("slow down").into()));
    let (_server, client) = with(&lab, "mem:middleware-client-refuses", refuse).await;
    let error = text(&client, &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.message(), error.executed(), error.procedure()),
        ("slow down", Executed::No, Some("lab.v1.Lab/wait"))
    );
    assert_eq!(error.peer(), Some("mem:middleware-client-refuses"));
    assert!(error.status().is_none(), "no peer said it");
    let sent = client.call().send(&NOTE, "never".to_owned());
    assert_eq!(within(sent).await.unwrap_err().executed(), Executed::No);
    let opened = client.call().reply_stream::<_, u64>(&COUNT, 3_u64);
    assert_eq!(within(opened).await.unwrap_err().executed(), Executed::No);
    let opened = client.call().request_stream::<u64, _, _>(&SUM, Ok::<u64, _>);
    assert_eq!(within(opened).await.unwrap_err().executed(), Executed::No);
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_learns_from_that_within_that_a_call_may_have_run() {
    let lab = Lab::default();
    let server = lab.serve("mem:middleware-within").await;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let client: Client = Client::builder(&server.address)
        .layer(from_fn(move |call: ClientCall, next: Next<ClientCall>| {
            let count = Arc::clone(&count);
            async move {
                // As middleware that makes a call again if it surely did not run.
                for _ in 0..3 {
                    count.fetch_add(1, SeqCst);
                    match next.clone().run(call.clone()).await {
                        Err(error) if error.executed() == Executed::No => {}
                        result => return result,
                    }
                }
                Err(Status::aborted("three tries").into())
            }
        }))
        .layer(from_fn(async |call: ClientCall, next| {
            next.run(call).await?;
            Err(Status::unavailable("too late").into())
        }))
        .connect_lazy();
    within(client.call().send(&NOTE, "once".to_owned()))
        .await
        .unwrap_err();
    within(client.settled()).await.unwrap();
    assert_eq!(lab.log(), ["once"]);
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!((error.message(), error.executed()), ("too late", Executed::Maybe));
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test(crate = "test_support::gate")]
async fn an_error_behind_the_call_never_says_no() {
    let lab = Lab::default();
    let spoil = from_fn(async |call: ClientCall, next| {
        next.run(call).await?;
        Err(Status::internal("spoilt").into())
    });
    let (_server, client) = with(&lab, "mem:middleware-spoilt", spoil).await;
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!((error.message(), error.executed()), ("spoilt", Executed::Maybe));
    let mut counted = client.call().reply_stream(&COUNT, 1_u64).await.unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    let error = end.unwrap_err();
    assert_eq!((messages, error.message()), (vec![0], "spoilt"));
    assert_eq!(error.executed(), Executed::Maybe);
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_changes_metadata_and_messages() {
    let lab = Lab::default();
    let change = from_fn(async |mut call: ClientCall, next| {
        call.metadata_mut().insert("k", "by middleware");
        if call.procedure().ends_with("double") {
            let number: u64 = call.message()?;
            call.set_message(&(number + 1))?;
        }
        let mut answer: Answer = next.run(call).await?;
        if let Ok(number) = answer.message::<u64>() {
            answer.set_message(&(number + 100));
        }
        answer.metadata_mut().insert("seen", "yes");
        Ok(answer)
    });
    let (_server, client) = with(&lab, "mem:middleware-changes", change).await;
    let call = client
        .call()
        .metadata("k", "old")
        .send_recv::<_, u64>(&DOUBLE, 4_u64);
    let (number, receipt) = within(call.with_receipt()).await.unwrap();
    assert_eq!((number, receipt.metadata().get_str("seen")), (110, Some("yes")));
    let described = plain(&client, &CONTEXT).await.unwrap();
    assert!(described.ends_with("k=by middleware"), "{described}");
}

#[tokio::test(crate = "test_support::gate")]
async fn bad_metadata_of_middleware_fails_the_call() {
    let bad = from_fn(async |mut call: ClientCall, next| {
        call.metadata_mut().insert("rpc-depth", "7");
        next.run(call).await
    });
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-bad-key", bad).await;
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_answers_in_place_of_the_server() {
    let client = away(from_fn(async |_: ClientCall, _| {
        Ok(Answer::new(&"from the cache".to_owned()))
    }));
    assert_eq!(text(&client, &ECHO, "").await.unwrap(), "from the cache");
    let opened = client.call().reply_stream::<_, u64>(&COUNT, 3_u64);
    let error = within(opened).await.unwrap_err();
    assert!(
        error
            .message()
            .contains("middleware ended a call before its streams"),
        "{error}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_makes_a_call_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let again = from_fn(move |call: ClientCall, next: Next<ClientCall>| {
        let tries = Arc::clone(&counted);
        async move {
            loop {
                let result = next.clone().run(call.clone()).await;
                match &result {
                    Err(error) if error.executed() == Executed::No && tries.fetch_add(1, SeqCst) < 2 => {}
                    _ => return result,
                }
            }
        }
    });
    let client = away(again);
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert_eq!(tries.load(SeqCst), 3);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_try_that_may_have_run_is_not_forgotten() {
    // The first try fails in its handler, the second never leaves the client.
    let twice = from_fn(async |call: ClientCall, next: Next<ClientCall>| {
        let first = next.clone().run(call.clone()).await;
        assert_eq!(first.unwrap_err().executed(), Executed::Yes);
        let mut bad = call;
        bad.metadata_mut().insert("rpc-bad", "key");
        let second = next.run(bad).await;
        assert_eq!(second.as_ref().unwrap_err().executed(), Executed::No);
        second
    });
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-twice", twice).await;
    let error = plain(&client, &FAIL).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Maybe)
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn streams_are_opened_once() {
    let twice = from_fn(async |call: ClientCall, next: Next<ClientCall>| {
        next.clone().run(call.clone()).await?;
        next.run(call).await
    });
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-opened-once", twice).await;
    let mut counted = client.call().reply_stream(&COUNT, 2_u64).await.unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    assert_eq!(messages, [0, 1]);
    let error = end.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::FailedPrecondition, Executed::Maybe)
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn what_arrived_before_the_deadline_is_read_after_it() {
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-late-reader", Noting("m", lab.clone())).await;
    // Streams have no deadline of their own.
    let call = || client.call().timeout(Duration::from_secs(1));
    let mut counted = call().reply_stream(&COUNT, 3_u64).await.unwrap();
    let (sender, sum) = call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    sender.finish();
    // The clock stands still until everything waits, so all has arrived before it goes on.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (numbers, end) = all::<u64>(&mut counted).await;
    end.unwrap();
    assert_eq!((numbers, within(sum).await.unwrap()), (vec![0, 1, 2], 0));
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_deadline_ends_middleware_that_waits() {
    let lab = Lab::default();
    let noting = lab.clone();
    let wait = from_fn(move |_: ClientCall, _: Next<ClientCall>| {
        let guard = NoteDrop("middleware dropped", noting.clone());
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let client = away(wait);
    let begun = tokio::time::Instant::now();
    let call = client.call().timeout(Duration::from_secs(1));
    let error = within(call.send_recv::<_, String>(&ECHO, String::new()))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.executed(), Executed::No);
    assert_eq!(
        error.message(),
        "not ended within 1s (Call::timeout or ClientBuilder::timeout): its middleware still waited"
    );
    assert!(begun.elapsed() < Duration::from_millis(1100));
    assert_eq!(lab.log(), ["middleware dropped"]);
}

/// Runs the rest of a call in one of several ways, and then waits for what never comes.
async fn wait_beside(way: Beside, call: ClientCall, next: Next<ClientCall>) -> Result<Answer, Error> {
    match way {
        Beside::AfterTheTry => drop(next.run(call).await),
        Beside::InATask => drop(tokio::spawn(next.run(call))),
        Beside::ByAnotherWaker => {
            let mut rest = pin!(next.run(call));
            let polled = rest.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            // The try stays open, and its end wakes nothing.
            return pending().await;
        }
    }
    pending().await
}

#[derive(Clone, Copy, Debug)]
enum Beside {
    AfterTheTry,
    InATask,
    ByAnotherWaker,
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_deadline_ends_middleware_that_waits_for_something_else_than_its_try() {
    for way in [Beside::AfterTheTry, Beside::InATask, Beside::ByAnotherWaker] {
        let lab = Lab::default();
        let wait = from_fn(move |call: ClientCall, next: Next<ClientCall>| wait_beside(way, call, next));
        let (_server, client) = with(&lab, &format!("mem:middleware-beside-{way:?}"), wait).await;
        let call = client.call().timeout(Duration::from_secs(1));
        let error = within(call.send_recv::<_, ()>(&HANG, ())).await.unwrap_err();
        assert_eq!(
            (error.message(), error.executed()),
            (
                "not ended within 1s (Call::timeout or ClientBuilder::timeout): its middleware still waited",
                Executed::Maybe
            ),
            "{way:?}"
        );
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_deadline_of_a_try_is_that_of_the_call() {
    let lab = Lab::default();
    let (_server, client) = with(&lab, "mem:middleware-deadline", Noting("m", lab.clone())).await;
    let call = client.call().timeout(Duration::from_secs(1));
    let error = within(call.send_recv::<_, ()>(&HANG, ())).await.unwrap_err();
    assert_eq!(
        (error.message(), error.executed()),
        (
            "no reply within 1s (Call::timeout or ClientBuilder::timeout)",
            Executed::Maybe
        )
    );
    assert!(
        lab.log()[1].contains("no reply within 1s (Call::timeout or ClientBuilder::timeout)"),
        "{:?}",
        lab.log()
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_dropped_call_drops_its_middleware() {
    let lab = Lab::default();
    let noting = lab.clone();
    let hold = from_fn(move |call: ClientCall, next: Next<ClientCall>| {
        let guard = NoteDrop("middleware dropped", noting.clone());
        async move {
            let result = next.run(call).await;
            drop(guard);
            result
        }
    });
    let (_server, client) = with(&lab, "mem:middleware-dropped", hold).await;
    let call = start(&client, &WAIT, "handler");
    lab.logged("handler began").await;
    call.abort();
    lab.logged("middleware dropped").await;
    lab.logged("handler dropped").await;

    lab.take_log();
    let watched = client.call().reply_stream::<_, String>(&WATCH, ()).await.unwrap();
    until(|| lab.hanging() == 1).await;
    drop(watched);
    assert_eq!(lab.log(), ["middleware dropped"]);
    until(|| lab.hanging() == 0).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_may_end_a_stream() {
    let lab = Lab::default();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let limit = from_fn(move |call: ClientCall, next: Next<ClientCall>| {
        let mut stopped = stopped.clone();
        async move {
            tokio::select! {
                result = next.run(call) => result,
                _ = stopped.wait_for(|stopped| *stopped) => Err(Error::from(Status::aborted("enough"))),
            }
        }
    });
    let (_server, client) = with(&lab, "mem:middleware-ends-stream", limit).await;
    let mut watched = client.call().reply_stream::<_, String>(&WATCH, ()).await.unwrap();
    assert_eq!(within(watched.message()).await.unwrap().as_deref(), Some("here"));
    stop.send_replace(true);
    let error = within(watched.message()).await.unwrap_err();
    assert_eq!((error.message(), error.executed()), ("enough", Executed::Maybe));
    assert!(within(watched.message()).await.unwrap().is_none());
    until(|| lab.hanging() == 0).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn built_in_calls_pass_no_middleware() {
    let lab = Lab::default();
    let refuse = from_fn(async |_: ClientCall, _| Err(Status::internal("never").into()));
    let (server, client) = with(&lab, "mem:middleware-built-in", refuse).await;
    within(client.ping()).await.unwrap();
    within(client.settled()).await.unwrap();
    within(client.terminate()).await.unwrap();
    server.report().await;
}
