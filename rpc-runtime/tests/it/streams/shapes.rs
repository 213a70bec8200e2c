//! Calls with streams, from a client to a handler and back.

use std::time::Duration;

use rpc_runtime::{Client, Code, Error, Executed, Reply, Sender, Server, Streaming, status::Phase};
use test_support::{gate, lab::*, within};

async fn sum(client: &Client) -> (Sender<u64>, Reply<u64>) {
    within(client.call().request_stream(&SUM, Ok::<u64, Error>))
        .await
        .unwrap()
}

async fn echo(client: &Client) -> (Sender<String>, Streaming<String>) {
    within(client.call().both_streams(&ECHO_STREAM)).await.unwrap()
}

async fn text(client: &Client, procedure: &'static rpc_runtime::server::Procedure) -> Streaming<String> {
    within(client.call().reply_stream(procedure, ())).await.unwrap()
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stream_of_replies_comes_whole_and_in_order() {
    let (_, client) = Lab::in_process();
    let call = client.call().reply_stream(&COUNT, 10_000u64);
    let mut numbers: Streaming<u64> = within(call).await.unwrap();
    assert!(numbers.metadata().is_none());
    let (read, end) = all(&mut numbers).await;
    end.unwrap();
    assert_eq!(read, (0..10_000).collect::<Vec<_>>());
    assert_eq!(numbers.metadata().unwrap().get("count").unwrap(), "10000");
    assert_eq!(
        numbers.receipt().unwrap().metadata().get("count").unwrap(),
        "10000"
    );
    assert!(within(numbers.message()).await.unwrap().is_none(), "fused");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stream_of_requests_is_answered_once() {
    let (_, client) = Lab::in_process();
    let (mut sender, reply) = sum(&client).await;
    for number in 0..1000 {
        within(sender.send(number)).await.unwrap();
    }
    sender.finish();
    assert_eq!(within(reply).await.unwrap(), 499_500);
}

#[tokio::test(crate = "test_support::gate")]
async fn both_streams_go_on_at_once() {
    let (_, client) = Lab::in_process();
    let (mut sender, mut replies) = echo(&client).await;
    for word in ["ping", "", "pong"] {
        within(sender.send(word.to_owned())).await.unwrap();
        assert_eq!(within(replies.message()).await.unwrap().unwrap(), word);
    }
    // Longer than a frame, and than the first window.
    let long = "x".repeat(1 << 20);
    within(sender.send(long.clone())).await.unwrap();
    assert_eq!(within(replies.message()).await.unwrap().unwrap(), long);
    sender.finish();
    assert!(within(replies.message()).await.unwrap().is_none());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_failure_and_a_panic_come_behind_the_messages_before_them() {
    let (_, client) = Lab::in_process();
    for (procedure, code, message) in [
        (&FAIL_STREAM, Code::DataLoss, "the stream is torn"),
        (&PANIC_STREAM, Code::Unknown, "handler panicked"),
    ] {
        let mut replies = text(&client, procedure).await;
        let (read, end) = all(&mut replies).await;
        assert_eq!(read, ["before"]);
        let error = end.unwrap_err();
        assert_eq!((error.code(), error.message()), (code, message));
        assert_eq!(error.executed(), Executed::Yes);
        assert_eq!(error.phase(), Some(Phase::Stream));
        assert_eq!(error.procedure(), Some(procedure.path()));
        assert!(within(replies.message()).await.unwrap().is_none(), "told once");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn dropping_the_replies_stops_the_handler() {
    let (lab, client) = Lab::in_process();
    let mut replies = text(&client, &WATCH).await;
    assert_eq!(within(replies.message()).await.unwrap().unwrap(), "here");
    assert_eq!(lab.hanging(), 1);
    drop(replies);
    lab.until_hanging(0).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_sender_that_is_dropped_before_its_end_cancels_the_call() {
    let (lab, client) = Lab::in_process();
    let call = client.call().request_stream(&IGNORE, Ok::<(), Error>);
    let (mut sender, reply): (Sender<String>, _) = within(call).await.unwrap();
    within(sender.send("one".to_owned())).await.unwrap();
    lab.until_hanging(1).await;
    drop(sender);
    let error = within(reply).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert_eq!(
        error.message(),
        "the Sender was dropped without finish(): call finish() when all is sent"
    );
    assert_eq!(error.executed(), Executed::Maybe);
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_reply_that_waits_for_an_open_sender_says_that_finish_was_forgotten() {
    let (_, client) = Lab::in_process();
    for finish in [false, true] {
        let procedure = if finish { &IGNORE } else { &SUM };
        let call = client
            .call()
            .timeout(Duration::from_secs(1))
            .request_stream(procedure, Ok::<u64, Error>);
        let (mut sender, reply): (Sender<u64>, _) = within(call).await.unwrap();
        within(sender.send(1)).await.unwrap();
        let _open = if finish {
            sender.finish();
            None
        } else {
            Some(sender)
        };
        let error = within(reply).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let hint = "; its Sender was still open: call finish() when all is sent, and then wait for the reply";
        assert_eq!(error.message().ends_with(hint), !finish, "{error}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_task_that_reads_on_learns_of_its_handlers_end() {
    let (lab, client) = Lab::in_process();
    for _ in 0..20 {
        let call = client.call().request_stream(&LEAVE, Ok::<(), Error>);
        let (_sender, reply): (Sender<String>, _) = within(call).await.unwrap();
        within(reply).await.unwrap();
    }
    lab.until_hanging(0).await;
    let log = lab.log();
    assert_eq!(log.len(), 20);
    for line in log {
        assert!(line.starts_with("left: Cancelled: "), "{line}");
        assert!(line.contains("its handler has ended"), "{line}");
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_cut_by_a_close_says_so() {
    let (_, client) = Lab::in_process();
    let call = client.call().timeout(None).reply_stream(&WATCH, ());
    let mut replies: Streaming<String> = within(call).await.unwrap();
    within(replies.message()).await.unwrap();
    let error = within(client.close()).await.unwrap_err();
    assert!(
        error.to_string().contains("were cut: ClientBuilder::timeout"),
        "{error}"
    );
    let error = within(replies.message()).await.unwrap_err();
    assert!(error.to_string().contains("this client was closed"), "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_that_does_not_read_delays_only_its_caller() {
    let (lab, client) = Lab::in_process();
    let call = client.call().request_stream(&IGNORE, Ok::<(), Error>);
    let (mut sender, reply): (Sender<String>, _) = within(call).await.unwrap();
    let filling = tokio::spawn(async move {
        loop {
            if let Err(error) = sender.send("x".repeat(10_000)).await {
                return error;
            }
        }
    });
    lab.until_hanging(1).await;
    for number in 0..100u64 {
        let double: u64 = within(client.call().send_recv(&DOUBLE, number)).await.unwrap();
        assert_eq!(double, 2 * number);
    }
    assert!(!filling.is_finished());
    drop(reply);
    let error = within(filling).await.unwrap();
    assert_eq!(error.code(), Code::Cancelled, "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reply_before_the_end_of_the_requests_is_the_outcome() {
    let (_, client) = Lab::in_process();
    let call = client.call().request_stream(&FIRST, Ok::<String, Error>);
    let (mut sender, reply) = within(call).await.unwrap();
    within(sender.send("first".to_owned())).await.unwrap();
    assert_eq!(within(reply).await.unwrap(), "first");
    let error = within(sender.send("second".to_owned())).await.unwrap_err();
    assert!(error.message().contains("its reply tells"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_deadline_bounds_the_whole_stream() {
    let (lab, client) = Lab::in_process();
    let call = client
        .call()
        .timeout(Duration::from_secs(2))
        .reply_stream(&WATCH, ());
    let mut replies: Streaming<String> = call.await.unwrap();
    let (read, end) = all(&mut replies).await;
    assert_eq!(read, ["here"]);
    let error = end.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(error.message().contains("2s"), "{error}");
    lab.until_hanging(0).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_idle_stream_fails_at_its_idle_timeout() {
    let (_, client) = Lab::in_process();
    let call = client.call().timeout(None).idle_timeout(Duration::from_secs(5));
    let mut replies: Streaming<String> = call.reply_stream(&WATCH, ()).await.unwrap();
    let (read, end) = all(&mut replies).await;
    assert_eq!(read, ["here"]);
    let error = end.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(
        error
            .message()
            .contains("no message moved for 5s: Call::idle_timeout"),
        "{error}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn streams_learn_of_a_drain_and_may_finish() {
    let lab = Lab::default();
    let server = Server::builder()
        .service(lab.clone())
        .listener("mem:streams-drain")
        .signals(false);
    let server = server.bind().await.unwrap();
    let serving = gate::serve(server);
    let client = Client::connect("mem:streams-drain").await.unwrap();
    let mut replies = text(&client, &WATCH).await;
    assert_eq!(within(replies.message()).await.unwrap().unwrap(), "here");
    let report = within(client.terminate()).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.completed(), 1);
    let (read, end) = all(&mut replies).await;
    end.unwrap();
    assert_eq!(read, ["draining"]);
    within(serving).await.unwrap().unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_call_of_another_shape_is_refused() {
    let (_, client) = Lab::in_process();
    static UNARY_COUNT: rpc_runtime::server::Procedure =
        rpc_runtime::server::Procedure::new("lab.v1.Lab/count", 201);
    static UNARY_SUM: rpc_runtime::server::Procedure =
        rpc_runtime::server::Procedure::new("lab.v1.Lab/sum", 202);
    let error = within(client.call().send_recv::<u64, u64>(&UNARY_SUM, 1))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    let error = within(client.call().send_recv::<u64, u64>(&UNARY_COUNT, 1))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    static STREAMED_DOUBLE: rpc_runtime::server::Procedure =
        rpc_runtime::server::Procedure::new("lab.v1.Lab/double", 209).with_reply_stream();
    let call = client.call().reply_stream(&STREAMED_DOUBLE, 1u64);
    let mut replies: Streaming<u64> = within(call).await.unwrap();
    let error = all(&mut replies).await.1.unwrap_err();
    assert_eq!(error.code(), Code::Internal, "{error}");
    within(client.call().send(&COUNT, 1u64)).await.unwrap();
    let dropped = async || {
        let account = client.barrier().await.unwrap();
        account.dropped().map(|(_, count)| count).sum::<u64>()
    };
    within(async { while dropped().await == 0 {} }).await;
}
