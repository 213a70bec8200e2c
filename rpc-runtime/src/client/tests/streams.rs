//! Calls with streams: which are retried, how a loss ends them, and what keeps a connection open.

use super::*;
use crate::{
    Executed, Phase, Reply, Sender, Streaming,
    conn::{Next, Unsent},
};

static WATCH: Procedure = Procedure::new("hand.v1.Hand/rpc_watch", 12).with_reply_stream();
static IMPORT: Procedure = Procedure::new("hand.v1.Hand/rpc_import", 13).with_request_stream();
static CHAT: Procedure = Procedure::new("hand.v1.Hand/rpc_chat", 14)
    .with_request_stream()
    .with_reply_stream();

impl Far {
    /// Sends a message of the handler's stream.
    async fn put(&self, id: CallId, message: &'static str) {
        let message = message.to_owned();
        let put = poll_fn(|cx| {
            self.shared
                .with(|conn, now| conn.poll_data(id, &message, now, cx))
        });
        within(put).await.expect("the call goes on");
    }

    /// Ends the handler's stream well.
    fn finish(&self, id: CallId) {
        self.shared.with(|conn, now| conn.reply(id, &(), now));
    }

    /// Reads from the caller's stream.
    async fn next(&self, id: CallId) -> Next {
        within(poll_fn(|cx| {
            self.shared.with(|conn, now| conn.poll_message(id, None, now, cx))
        }))
        .await
    }
}

async fn watch(client: &Client) -> Streaming<String> {
    within(client.call().reply_stream(&WATCH, ())).await.unwrap()
}

async fn import(client: &Client) -> (Sender<String>, Reply<()>) {
    within(client.call().request_stream(&IMPORT, Ok)).await.unwrap()
}

async fn chat(client: &Client) -> (Sender<String>, Streaming<String>) {
    within(client.call().both_streams(&CHAT)).await.unwrap()
}

async fn read(streaming: &mut Streaming<String>) -> Option<String> {
    within(streaming.message()).await.unwrap()
}

async fn fails(streaming: &mut Streaming<String>) -> Error {
    let error = within(streaming.message()).await.unwrap_err();
    assert!(read(streaming).await.is_none(), "told once");
    error
}

/// How many tokens the retry budget of `client` lacks; takes the rest.
fn spent(client: &Client) -> usize {
    10 - (0..20).filter(|_| client.channel().retry_budget().take()).count()
}

/// How the first try ends.
enum Fate {
    /// The connection is gone before any of the call is written.
    Lost,
    /// The server drains, and has not read the call.
    Gone,
    /// The server refuses it because it drains.
    Refused,
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_replies_that_did_not_run_is_resent() {
    for (fate, name) in [
        (Fate::Lost, "mem:streams-lost"),
        (Fate::Gone, "mem:streams-gone"),
        (Fate::Refused, "mem:streams-refused"),
    ] {
        let hand = Hand::new(name).await;
        let (client, far) = connected(&hand, name).await;
        if matches!(fate, Fate::Lost) {
            // The client reads of that before it writes anything.
            far.driver.abort();
        }
        let mut replies = watch(&client).await;
        let reading = tokio::spawn(async move {
            let first = read(&mut replies).await;
            (first, read(&mut replies).await)
        });
        let far = match fate {
            Fate::Lost => hand.accept().await,
            Fate::Gone => {
                far.go();
                hand.accept().await
            }
            Fate::Refused => {
                let id = far.request().await.id;
                far.refuse(id, Code::Unavailable);
                far
            }
        };
        let id = far.started().await;
        far.put(id, "here").await;
        far.finish(id);
        let (first, end) = within(reading).await.unwrap();
        assert_eq!((first.as_deref(), end), (Some("here"), None), "{name}");
        assert_eq!(spent(&client), 1, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ran_is_not_resent() {
    let hand = Hand::new("mem:streams-ran").await;
    let (client, far) = connected(&hand, "mem:streams-ran").await;
    let mut unread = watch(&client).await;
    far.started().await;
    let mut half_read = watch(&client).await;
    let id = far.started().await;
    far.put(id, "one").await;
    far.put(id, "two").await;
    assert_eq!(read(&mut half_read).await.unwrap(), "one");
    settle().await;
    far.die();
    // Messages that have arrived are not lost.
    assert_eq!(read(&mut half_read).await.unwrap(), "two");
    for (streaming, phase) in [(&mut half_read, Phase::Stream), (&mut unread, Phase::Wait)] {
        let error = fails(streaming).await;
        assert_eq!(
            (error.code(), error.executed(), error.phase()),
            (Code::Unavailable, Executed::Maybe, Some(phase))
        );
        assert_eq!(error.procedure(), Some(WATCH.path()));
        assert_eq!(error.peer(), Some("mem:streams-ran"));
        assert!(!error.to_string().contains("resent"), "{error}");
    }
    assert_eq!(spent(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_resent_once_and_its_error_tells_both_reasons() {
    let hand = Hand::new("mem:streams-once").await;
    let (client, far) = connected(&hand, "mem:streams-once").await;
    let mut replies = watch(&client).await;
    let reading = tokio::spawn(async move { fails(&mut replies).await });
    for _ in 0..2 {
        let id = far.request().await.id;
        far.refuse(id, Code::Unavailable);
    }
    assert_eq!(
        within(reading).await.unwrap().to_string(),
        "UNAVAILABLE: not today (hand.v1.Hand/rpc_watch at mem:streams-once, executed: no, \
         resent after: UNAVAILABLE: not today)"
    );
    assert_eq!(spent(&client), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_sends_a_stream_is_never_resent() {
    let hand = Hand::new("mem:streams-requests").await;
    let (client, far) = connected(&hand, "mem:streams-requests").await;
    let (sender, reply) = import(&client).await;
    sender.finish();
    let id = far.request().await.id;
    far.refuse(id, Code::Unavailable);
    let error = within(reply).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    // The client reads of that before it writes anything.
    far.die();
    let (_sender, mut replies) = chat(&client).await;
    let error = fails(&mut replies).await;
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert_eq!(spent(&client), 0);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_covers_both_tries_of_a_stream() {
    let hand = Hand::new("mem:streams-deadline").await;
    let (client, far) = connected(&hand, "mem:streams-deadline").await;
    let begun = tokio::time::Instant::now();
    let call = client.call().timeout(Duration::from_secs(3));
    let mut replies: Streaming<String> = within(call.reply_stream(&WATCH, ())).await.unwrap();
    let reading = tokio::spawn(async move { fails(&mut replies).await });
    let id = far.request().await.id;
    tokio::time::sleep(Duration::from_secs(2)).await;
    far.refuse(id, Code::Unavailable);
    let id = far.started().await;
    // By the caller's timer or by its own, whichever is first.
    far.unwanted(id).await;
    let error = within(reading).await.unwrap();
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("resent after"), "{error}");
    assert!(
        begun.elapsed() < Duration::from_millis(3050),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_dropped_during_its_second_try_leaves_nothing() {
    let hand = Hand::new("mem:streams-dropped").await;
    let (client, far) = connected(&hand, "mem:streams-dropped").await;
    let mut replies = watch(&client).await;
    let reading = tokio::spawn(async move { replies.message().await });
    far.go();
    // No server accepts the next connection yet.
    settle().await;
    assert_eq!(client.channel().waiting(), 1);
    reading.abort();
    settle().await;
    assert_eq!(client.channel().waiting(), 0);
    let next = call(&client);
    let far = hand.accept().await;
    let arrived = far.request().await;
    assert_eq!(arrived.procedure, ECHO.id(), "not the stream");
    far.shared
        .with(|conn, now| conn.started(arrived.id, now))
        .unwrap();
    far.reply(arrived.id);
    done(next).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_sender_reports_the_loss_on_each_use() {
    let hand = Hand::new("mem:streams-loss").await;
    let (client, far) = connected(&hand, "mem:streams-loss").await;
    let (mut sender, reply) = import(&client).await;
    within(sender.send("one".to_owned())).await.unwrap();
    let id = far.started().await;
    assert!(matches!(far.next(id).await, Next::Message(_)));
    far.die();
    settle().await;
    for _ in 0..2 {
        let error = within(sender.send("two".to_owned())).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed(), error.phase()),
            (Code::Unavailable, Executed::Maybe, Some(Phase::Stream))
        );
        assert_eq!(
            (error.procedure(), error.peer()),
            (Some(IMPORT.path()), Some("mem:streams-loss"))
        );
    }
    let error = within(reply).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed(), error.phase()),
        (Code::Unavailable, Executed::Maybe, Some(Phase::Stream))
    );
    // Taken, it is told in other words.
    let error = within(sender.send("three".to_owned())).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert!(error.message().contains("its reply tells"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_parsed_fails_its_call_and_cancels_it() {
    let hand = Hand::new("mem:streams-parse").await;
    let (client, far) = connected(&hand, "mem:streams-parse").await;
    let (mut sender, mut replies) = chat(&client).await;
    let id = far.started().await;
    far.put(id, "good").await;
    // A string field that is no UTF-8.
    let bad = Bytes::from_static(&[0xff; 3]);
    far.shared.with(|conn, now| {
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(conn.poll_data(id, &bad, now, cx).is_ready());
    });
    far.put(id, "behind it").await;
    assert_eq!(read(&mut replies).await.unwrap(), "good");
    let error = fails(&mut replies).await;
    assert_eq!(
        (error.code(), error.executed(), error.phase()),
        (Code::Internal, Executed::Maybe, Some(Phase::Stream))
    );
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(far.unwanted(id).await, Unwanted::Cancelled);
    let error = within(sender.send("more".to_owned())).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_learns_that_the_replies_were_dropped() {
    let hand = Hand::new("mem:streams-halves").await;
    let (client, far) = connected(&hand, "mem:streams-halves").await;
    let (mut sender, replies) = chat(&client).await;
    let id = far.started().await;
    drop(replies);
    let error = within(sender.send("more".to_owned())).await.unwrap_err();
    assert_eq!(error.code(), Code::Cancelled);
    assert!(
        error.message().contains("the reader of its replies was dropped"),
        "{error}"
    );
    assert_eq!(far.unwanted(id).await, Unwanted::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_be_sent_learns_of_the_end_while_it_has_nothing_to_send() {
    let hand = Hand::new("mem:streams-all").await;
    let (client, far) = connected(&hand, "mem:streams-all").await;
    let (mut sender, reply) = import(&client).await;
    let id = far.started().await;
    let sending = tokio::spawn(async move {
        let slow = crate::stream(async |out| {
            out.send("one".to_owned()).await;
            std::future::pending().await
        });
        sender.send_all(Oks(Box::pin(slow))).await
    });
    assert!(matches!(far.next(id).await, Next::Message(_)));
    settle().await;
    assert!(!sending.is_finished());
    far.reply(id);
    let error = within(sending).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Cancelled, "{error}");
    within(reply).await.unwrap();
}

/// The good items of a stream.
struct Oks<S>(std::pin::Pin<Box<S>>);

impl<T, S: crate::Stream<Item = crate::Result<T>>> crate::Stream for Oks<S> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.as_mut().poll_next(cx).map(|item| item?.ok())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_the_connection_of_a_client_that_was_dropped() {
    let hand = Hand::new("mem:streams-client").await;
    let (client, far) = connected(&hand, "mem:streams-client").await;
    let mut replies = watch(&client).await;
    let id = far.started().await;
    drop(client);
    settle().await;
    far.put(id, "still").await;
    assert_eq!(read(&mut replies).await.unwrap(), "still");
    far.finish(id);
    assert!(read(&mut replies).await.is_none());
    drop(replies);
    within(poll_fn(|cx| far.shared.with(|conn, _| conn.poll_closed(cx)))).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_lets_streams_end_within_its_timeout() {
    let hand = Hand::new("mem:streams-close").await;
    let (client, far) = connected(&hand, "mem:streams-close").await;
    let mut replies = watch(&client).await;
    let id = far.started().await;
    let closing = {
        let client = client.clone();
        tokio::spawn(async move { client.close().await })
    };
    settle().await;
    assert!(!closing.is_finished());
    let refused = client.call().reply_stream::<_, String>(&WATCH, ()).await;
    assert!(refused.unwrap_err().message().contains("closed"));
    far.put(id, "last").await;
    far.finish(id);
    assert_eq!(read(&mut replies).await.unwrap(), "last");
    assert!(read(&mut replies).await.is_none());
    within(closing).await.unwrap().unwrap();

    let client = Client::builder("mem:streams-close")
        .timeout(Duration::from_secs(5))
        .connect_lazy();
    let accepting = async { hand.accept().await };
    let opening = client.call().timeout(None).reply_stream::<_, String>(&WATCH, ());
    let (far, replies) = tokio::join!(accepting, opening);
    let mut replies = replies.unwrap();
    far.started().await;
    let error = within(client.close()).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    let error = fails(&mut replies).await;
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
}

#[tokio::test(start_paused = true)]
async fn the_first_message_of_a_stream_proves_its_connection() {
    let hand = Hand::new("mem:streams-proof").await;
    let client = Client::builder("mem:streams-proof").timeout(LONG).connect_lazy();
    let (far, mut replies) = tokio::join!(hand.accept(), watch(&client));
    let id = far.started().await;
    assert!(!client.channel().retry_budget().is_proven());
    far.put(id, "one").await;
    read(&mut replies).await.unwrap();
    assert!(client.channel().retry_budget().is_proven());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_long_fails_its_call_and_tells_both_sizes() {
    let hand = Hand::new("mem:streams-long").await;
    let (client, far) = connected(&hand, "mem:streams-long").await;
    let (mut sender, reply) = import(&client).await;
    let id = far.started().await;
    let error = within(sender.send("x".repeat(5 << 20))).await.unwrap_err();
    let text = "message of 5242885 bytes exceeds the peer's limit of 4194304";
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().starts_with(text), "{error}");
    let error = within(reply).await.unwrap_err();
    assert!(error.message().starts_with(text), "{error}");
    assert_eq!(far.unwanted(id).await, Unwanted::Cancelled);
    // No other call is affected.
    let next = call(&client);
    far.serve(1).await;
    done(next).await.unwrap();
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    let late = far
        .shared
        .with(|conn, now| conn.poll_data(id, &String::new(), now, cx));
    assert!(matches!(late, std::task::Poll::Ready(Err(Unsent::Over(_)))));
}

/// How the server ends a call.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Refused,
    Failed,
    Dropped,
    Lost,
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_stream_says_whether_its_handler_ran() {
    let ends = [
        (Ending::Refused, Code::ResourceExhausted, Executed::No),
        (Ending::Failed, Code::DataLoss, Executed::Yes),
        (Ending::Dropped, Code::Unavailable, Executed::Maybe),
        (Ending::Lost, Code::Unavailable, Executed::Maybe),
    ];
    for (ending, code, executed) in ends {
        let name = format!("mem:streams-{ending:?}");
        let hand = Hand::new(&name).await;
        let (client, far) = connected(&hand, &name).await;
        let mut watch = watch(&client).await;
        let (mut import, reply) = import(&client).await;
        let (mut chat, mut replies) = chat(&client).await;
        for _ in 0..3 {
            let id = far.request().await.id;
            if !matches!(ending, Ending::Refused) {
                far.shared.with(|conn, now| conn.started(id, now)).unwrap();
            }
            match ending {
                Ending::Refused => far.refuse(id, code),
                Ending::Failed => far.fail(id, code),
                Ending::Dropped => far.shared.with(|conn, now| conn.end(id, End::Dropped, now)),
                Ending::Lost => {}
            }
        }
        settle().await;
        if matches!(ending, Ending::Lost) {
            far.die();
            settle().await;
        }
        // The sender gets the same error as the reader.
        let errors = [
            within(import.send("x".to_owned())).await.unwrap_err(),
            within(chat.send("x".to_owned())).await.unwrap_err(),
            fails(&mut watch).await,
            within(reply).await.unwrap_err(),
            fails(&mut replies).await,
        ];
        for error in errors {
            assert_eq!((error.code(), error.executed()), (code, executed), "{error}");
        }
        assert_eq!(spent(&client), 0);
    }
}
