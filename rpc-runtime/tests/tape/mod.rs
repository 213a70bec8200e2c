//! A service of streams, written by hand: what generated code does.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    future::{Future, pending},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Context, Handler, Incoming, Procedure, Requests, Result, Service, Status, Stream, stream,
};

/// Answers with the numbers below the one that it is given.
pub(crate) static COUNT: Procedure = Procedure::new("tape.v1.Tape/rpc_count", 201).with_reply_stream();
/// Adds the numbers that it is sent.
pub(crate) static SUM: Procedure = Procedure::new("tape.v1.Tape/rpc_sum", 202).with_request_stream();
/// Returns each message.
pub(crate) static ECHO: Procedure = Procedure::new("tape.v1.Tape/rpc_echo", 203)
    .with_request_stream()
    .with_reply_stream();
/// Sends one message, and fails.
pub(crate) static FAIL: Procedure = Procedure::new("tape.v1.Tape/rpc_fail", 204).with_reply_stream();
/// Sends one message, and panics.
pub(crate) static PANIC: Procedure = Procedure::new("tape.v1.Tape/rpc_panic", 205).with_reply_stream();
/// Sends one message, and nothing more; counts as watching until it is dropped, or the server drains.
pub(crate) static WATCH: Procedure = Procedure::new("tape.v1.Tape/rpc_watch", 206).with_reply_stream();
/// Reads one message, and replies.
pub(crate) static FIRST: Procedure = Procedure::new("tape.v1.Tape/rpc_first", 207).with_request_stream();
/// Reads nothing.
pub(crate) static IGNORE: Procedure = Procedure::new("tape.v1.Tape/rpc_ignore", 208).with_request_stream();
/// Leaves its stream to a task, and replies.
pub(crate) static LEAVE: Procedure = Procedure::new("tape.v1.Tape/rpc_leave", 210).with_request_stream();
/// One number, doubled.
pub(crate) static DOUBLE: Procedure = Procedure::new("tape.v1.Tape/rpc_double", 209);

static PROCEDURES: [Procedure; 10] = [COUNT, SUM, ECHO, FAIL, PANIC, WATCH, FIRST, IGNORE, DOUBLE, LEAVE];

/// What the test and the handlers share.
#[derive(Clone, Default)]
pub(crate) struct Tape(Arc<AtomicUsize>);

impl Tape {
    /// How many handlers watch or ignore.
    pub(crate) fn watching(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) async fn until_watching(&self, count: usize) {
        within(async {
            while self.watching() != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn watch(&self) -> Watching {
        self.0.fetch_add(1, Ordering::SeqCst);
        Watching(self.clone())
    }

    async fn rpc_count(&self, cx: &Context, end: u64) -> Result<impl Stream<Item = Result<u64>> + Send> {
        cx.add_reply_metadata("count", end.to_string())?;
        Ok(stream(async move |out| {
            for number in 0..end {
                let _borrowed = (self, cx);
                out.send(number).await;
            }
            Ok(())
        }))
    }

    async fn rpc_echo(
        &self,
        _: &Context,
        mut requests: Requests<String>,
    ) -> Result<impl Stream<Item = Result<String>> + Send> {
        Ok(stream(async move |out| {
            while let Some(message) = requests.message().await? {
                out.send(message).await;
            }
            Ok(())
        }))
    }
}

struct Watching(Tape);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service for Tape {
    fn name(&self) -> &'static str {
        "tape.v1.Tape"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let tape = self.clone();
        match index {
            0 => call.handle_reply_stream(move |cx, end: u64, replies| async move {
                let stream = tape.rpc_count(&cx, end).await?;
                replies.forward(stream).await
            }),
            1 => call.handle_request_stream(|_, mut requests: Requests<u64>| async move {
                let mut sum = 0;
                while let Some(number) = requests.message().await? {
                    sum += number;
                }
                Ok(sum)
            }),
            2 => call.handle_both_streams(move |cx, requests, replies| async move {
                let stream = tape.rpc_echo(&cx, requests).await?;
                replies.forward(stream).await
            }),
            3 => call.handle_reply_stream(|_, (), replies| async move {
                let failing = stream(async |out| {
                    out.send("before".to_owned()).await;
                    Err(Status::new(Code::DataLoss, "the tape is torn"))
                });
                replies.forward(failing).await
            }),
            4 => call.handle_reply_stream(|_, (), replies| async move {
                let panicking = stream(async |out| {
                    out.send("before".to_owned()).await;
                    panic!("on purpose");
                });
                replies.forward(panicking).await
            }),
            5 => call.handle_reply_stream(move |cx: Context, (), replies| async move {
                let _watching = tape.watch();
                let watched = stream(async |out| {
                    out.send("here".to_owned()).await;
                    cx.draining().await;
                    out.send("draining".to_owned()).await;
                    Ok(())
                });
                replies.forward(watched).await
            }),
            6 => call.handle_request_stream(|_, mut requests: Requests<String>| async move {
                Ok(requests.message().await?.unwrap_or_default())
            }),
            7 => call.handle_request_stream(move |_, requests: Requests<String>| async move {
                let _watching = (tape.watch(), requests);
                pending::<Result<()>>().await
            }),
            8 => call.handle(|_, number: u64| async move { Ok(2 * number) }),
            9 => call.handle_request_stream(move |_, mut requests: Requests<String>| async move {
                let watching = tape.watch();
                tokio::spawn(async move {
                    let _watching = watching;
                    let error = requests.message().await.unwrap_err();
                    assert_eq!(error.code(), Code::Cancelled);
                    assert!(error.message().contains("its handler has ended"), "{error}");
                });
                // So that the task waits already.
                tokio::task::yield_now().await;
                Ok(())
            }),
            _ => call.unknown(),
        }
    }
}

/// A net against hanging: nothing here is that slow.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it ends by itself")
}

/// Everything of a stream, and how it ends.
pub(crate) async fn all<T: rpc_runtime::Message + Default>(
    streaming: &mut rpc_runtime::Streaming<T>,
) -> (Vec<T>, Result<(), rpc_runtime::Error>) {
    let mut messages = Vec::new();
    loop {
        match within(streaming.message()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}

pub(crate) fn client() -> (Tape, Client) {
    let tape = Tape::default();
    (tape.clone(), Client::in_process(tape))
}
