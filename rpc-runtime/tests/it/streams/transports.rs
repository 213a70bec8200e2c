//! Calls with streams as a client sees them, on every transport.

use std::{
    collections::HashSet,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context as TaskContext, Poll},
};

use rpc_runtime::{
    Client, Code, Error, Limits, Reply, Result, Sender, Server, Stream, Streaming, server::ServerBuilder,
    stream,
};
use test_support::{gate, lab::*, unix, within};

async fn serve(address: &str, configure: impl FnOnce(ServerBuilder) -> ServerBuilder) -> (Lab, Client) {
    let lab = Lab::default();
    let server = Server::builder().service(lab.clone());
    let server = configure(server.listener(address).signals(false))
        .bind()
        .await
        .unwrap();
    let address = server.addresses()[0].clone();
    gate::serve(server);
    (lab, within(Client::connect(address)).await.unwrap())
}

/// A server on each transport.
async fn everywhere(name: &str) -> Vec<(Lab, Client)> {
    vec![
        serve(&format!("mem:client-streams-{name}"), |server| server).await,
        serve("tcp://127.0.0.1:0", |server| server).await,
        serve(&unix(&format!("streams-{name}")), |server| server).await,
    ]
}

async fn echo(client: &Client) -> (Sender<String>, Streaming<String>) {
    // A slow machine may need longer than the default of 30 s.
    let call = client.call().timeout(None);
    within(call.both_streams(&ECHO_STREAM)).await.unwrap()
}

async fn ignore(client: &Client) -> (Sender<String>, Reply<()>) {
    let call = client.call().timeout(None);
    within(call.request_stream(&IGNORE, Ok)).await.unwrap()
}

async fn double(client: &Client) {
    let double: u64 = within(client.call().send_recv(&DOUBLE, 21u64)).await.unwrap();
    assert_eq!(double, 42);
}

/// Makes `count` messages of up to 1 MiB.
fn messages(count: usize) -> impl Iterator<Item = String> {
    let sizes = [0, 1, 1000, 16 << 10, 100_000, 200_000, 1 << 20];
    (0..count).map(move |i| format!("{i}:{}", "x".repeat(sizes[i % sizes.len()])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn every_shape_passes_on_every_transport() {
    for (_, client) in everywhere("shapes").await {
        let mut numbers: Streaming<u64> = within(client.call().reply_stream(&COUNT, 1000u64)).await.unwrap();
        let (read, end) = all(&mut numbers).await;
        end.unwrap();
        assert_eq!(read, (0..1000).collect::<Vec<_>>());

        let sum = client.call().request_stream(&SUM, Ok::<u64, Error>);
        let (mut sender, reply) = within(sum).await.unwrap();
        for number in 0..1000u64 {
            within(sender.send(number)).await.unwrap();
        }
        sender.finish();
        assert_eq!(within(reply).await.unwrap(), 499_500);

        let (mut sender, mut replies) = echo(&client).await;
        let sending = tokio::spawn(async move {
            for message in messages(40) {
                sender.send(message).await.unwrap();
            }
            sender.finish();
        });
        let (read, end) = all(&mut replies).await;
        end.unwrap();
        within(sending).await.unwrap();
        assert!(read.into_iter().eq(messages(40)));
        double(&client).await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn neither_stream_waits_for_the_other_to_begin_or_to_end() {
    for (lab, client) in everywhere("turns").await {
        // The handler answers each message; the caller says the next one only then.
        let (mut sender, mut replies) = echo(&client).await;
        for message in messages(10) {
            within(sender.send(message.clone())).await.unwrap();
            assert_eq!(within(replies.message()).await.unwrap().unwrap(), message);
        }
        sender.finish();
        assert!(within(replies.message()).await.unwrap().is_none());
        // It answers before anything was sent, and ends while the caller has not.
        let (mut sender, reply) = within(client.call().request_stream(&FIRST, Ok::<String, Error>))
            .await
            .unwrap();
        within(sender.send("first".to_owned())).await.unwrap();
        assert_eq!(within(reply).await.unwrap(), "first");
        let late = within(sender.send("late".to_owned())).await.unwrap_err();
        assert_eq!(late.code(), Code::Cancelled);
        sender.finish();
        assert_eq!(lab.hanging(), 0);
        double(&client).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2, crate = "test_support::gate")]
async fn many_streams_share_a_connection() {
    let (_, client) = serve("tcp://127.0.0.1:0", |server| server).await;
    let chats: Vec<_> = (0..100)
        .map(|i| {
            let client = client.clone();
            tokio::spawn(async move {
                let (mut sender, mut replies) = echo(&client).await;
                let mut seen = HashSet::new();
                for turn in 0..20 {
                    let message = format!("{i}/{turn}/{}", "x".repeat(turn * 1000));
                    sender.send(message.clone()).await.unwrap();
                    assert_eq!(replies.message().await.unwrap().unwrap(), message);
                    assert!(seen.insert(message));
                }
                sender.finish();
                assert!(replies.message().await.unwrap().is_none());
            })
        })
        .collect();
    for chat in chats {
        within(chat).await.unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_whole_stream_is_sent_with_one_call() {
    struct Numbers(std::ops::Range<u64>);
    impl Stream for Numbers {
        type Item = u64;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u64>> {
            Poll::Ready(self.0.next())
        }
    }
    let (_, client) = Lab::in_process();
    let (mut sender, reply) = within(client.call().request_stream(&SUM, Ok::<u64, Error>))
        .await
        .unwrap();
    within(sender.send_all(Numbers(0..10_000))).await.unwrap();
    // The stream of the call goes on.
    within(sender.send(1)).await.unwrap();
    sender.finish();
    assert_eq!(within(reply).await.unwrap(), 49_995_001);
}

#[tokio::test(crate = "test_support::gate")]
async fn streams_can_go_to_other_tasks() {
    fn is_send<T: Send + Unpin>(value: T) -> T {
        value
    }
    fn is_send_future<T: Send>(value: T) -> T {
        value
    }
    let (_, client) = Lab::in_process();
    let call = is_send_future(client.call().both_streams::<String, String>(&ECHO_STREAM));
    let (sender, replies) = within(call).await.unwrap();
    let (mut sender, mut replies) = (is_send(sender), is_send(replies));
    within(is_send_future(sender.send("x".to_owned()))).await.unwrap();
    within(is_send_future(replies.message())).await.unwrap();
    let call = is_send_future(client.call().request_stream(&SUM, Ok::<u64, Error>));
    let (mut sender, reply) = within(call).await.unwrap();
    let written = stream(async |out| {
        out.send(1u64).await;
        Ok(())
    });
    let sending = is_send_future(async move {
        sender.send_all(Goods(Box::pin(written))).await.unwrap();
        sender.finish();
    });
    let reply = is_send(reply);
    tokio::spawn(sending);
    assert_eq!(within(reply).await.unwrap(), 1);
    drop(is_send_future(client.call().reply_stream::<u64, u64>(&COUNT, 1)));
}

struct Goods<S>(Pin<Box<S>>);

impl<T, S: Stream<Item = Result<T>>> Stream for Goods<S> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx).map(|item| item?.ok())
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_reader_that_stops_delays_only_its_handler() {
    let (_, client) = serve("tcp://127.0.0.1:0", |server| server).await;
    let (mut sender, mut replies) = echo(&client).await;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let sending = tokio::spawn({
        let sent = std::sync::Arc::clone(&sent);
        async move {
            for message in messages(200) {
                sender.send(message).await.unwrap();
                sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            sender.finish();
        }
    });
    // Both windows are full: nothing moves any more, whatever else does.
    let mut before = usize::MAX;
    loop {
        double(&client).await;
        within(client.barrier()).await.unwrap();
        let now = sent.load(std::sync::atomic::Ordering::SeqCst);
        if now == before {
            break;
        }
        before = now;
    }
    let (other, mut others) = echo(&client).await;
    other.finish();
    assert!(within(others.message()).await.unwrap().is_none());
    let (read, end) = all(&mut replies).await;
    end.unwrap();
    assert!(read.into_iter().eq(messages(200)));
    within(sending).await.unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn streams_dropped_at_any_point_leave_nothing_behind() {
    let limits = Limits::default().max_calls(16);
    let (lab, client) = serve("mem:client-streams-drop", |server| server.limits(limits)).await;
    for round in 0..20 {
        // Before the first poll.
        drop(client.call().reply_stream::<_, String>(&WATCH, ()));
        drop(client.call().both_streams::<String, String>(&ECHO_STREAM));
        // More than there are slots: some are open, the rest wait in the queue.
        let mut opening: Vec<_> = (0..20)
            .map(|_| Box::pin(client.call().request_stream::<String, (), ()>(&IGNORE, Ok)))
            .collect();
        let mut open = Vec::new();
        within(poll_fn(|cx| {
            opening.retain_mut(|call| match call.as_mut().poll(cx) {
                Poll::Ready(call) => {
                    open.push(Some(call.unwrap()));
                    false
                }
                Poll::Pending => true,
            });
            // The slots of the round before come back by and by.
            if open.len() == 16 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }))
        .await;
        assert_eq!(opening.len(), 4);
        // Each sender waits for credit in the end, and is dropped while it waits.
        for (i, call) in open.iter_mut().enumerate() {
            let (sender, _) = call.as_mut().unwrap();
            for _ in 0..i % 4 * 4 {
                let mut send = pin!(sender.send("x".repeat(10_000)));
                poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await.is_ready();
            }
        }
        if round % 2 == 0 {
            lab.until_hanging(16).await;
        }
        // One half or the other goes first, or the queue does.
        if round % 3 == 0 {
            opening.clear();
        }
        for (i, call) in open.iter_mut().enumerate() {
            let (sender, reply) = call.take().unwrap();
            match i % 3 {
                0 => {
                    drop(sender);
                    assert_eq!(within(reply).await.unwrap_err().code(), Code::Cancelled);
                }
                1 => drop((reply, sender)),
                _ => {
                    sender.finish();
                    drop(reply);
                }
            }
        }
        drop(opening);
        lab.until_hanging(0).await;
    }
    // Every slot is free.
    let mut watches = Vec::new();
    for _ in 0..16 {
        let call = client.call().reply_stream::<_, String>(&WATCH, ());
        watches.push(within(call).await.unwrap());
    }
    lab.until_hanging(16).await;
    for replies in &mut watches {
        assert_eq!(within(replies.message()).await.unwrap().unwrap(), "here");
    }
    drop(watches);
    double(&client).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn an_abandoned_read_loses_no_message() {
    let (_, client) = Lab::in_process();
    let mut replies: Streaming<u64> = within(client.call().reply_stream(&COUNT, 1000u64)).await.unwrap();
    let mut read = Vec::new();
    loop {
        // Given up as soon as it would have to wait.
        let polled = {
            let mut message = pin!(replies.message());
            poll_fn(|cx| Poll::Ready(message.as_mut().poll(cx))).await
        };
        match polled {
            Poll::Ready(message) => match message.unwrap() {
                Some(message) => read.push(message),
                None => break,
            },
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert_eq!(read, (0..1000).collect::<Vec<_>>());
}

#[tokio::test(crate = "test_support::gate")]
async fn an_abandoned_send_sends_all_or_nothing() {
    let (_, client) = Lab::in_process();
    let (mut sender, reply) = within(client.call().request_stream(&SUM, Ok::<u64, Error>))
        .await
        .unwrap();
    let mut sum = 0;
    for number in 0..20_000u64 {
        let sent = {
            let mut send = pin!(sender.send(number));
            poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await
        };
        match sent {
            Poll::Ready(sent) => {
                sent.unwrap();
                sum += number;
            }
            // Given up: it was not sent.
            Poll::Pending => tokio::task::yield_now().await,
        }
    }
    sender.finish();
    assert!(sum < (0..20_000).sum::<u64>(), "nothing ever waited");
    assert_eq!(within(reply).await.unwrap(), sum);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_message_that_panics_harms_its_call_alone() {
    #[derive(Clone, Debug, Default)]
    struct Unwritable;
    impl rpc_runtime::Message for Unwritable {
        fn encode_raw(&self, buf: &mut impl bytes::BufMut) {
            buf.put_slice(&[0; 10]);
            panic!("on purpose")
        }
        fn merge_field(
            &mut self,
            _: u32,
            _: prost::encoding::WireType,
            _: &mut impl bytes::Buf,
            _: prost::encoding::DecodeContext,
        ) -> Result<(), prost::DecodeError> {
            Ok(())
        }
        fn encoded_len(&self) -> usize {
            20
        }
        fn clear(&mut self) {}
    }
    let (lab, client) = Lab::in_process();
    let call = client.call().request_stream(&IGNORE, Ok::<(), Error>);
    let (mut sender, reply) = within(call).await.unwrap();
    lab.until_hanging(1).await;
    let sending = tokio::spawn(async move { sender.send(Unwritable).await });
    assert!(within(sending).await.unwrap_err().is_panic());
    // Its sender is gone, and had not said the end.
    assert_eq!(within(reply).await.unwrap_err().code(), Code::Cancelled);
    lab.until_hanging(0).await;
    double(&client).await;
    let (_sender, _reply) = ignore(&client).await;
    lab.until_hanging(1).await;
}
