//! Procedures with streams.

use std::future::pending;

use rpc_runtime::{Context, Requests, Result, Status, Stream, server::Procedure, stream};

use super::{Handle, Lab, procedures};

procedures! {
    /// Answers with the numbers below its own.
    COUNT = "count", 201, with_reply_stream;
    |lab, call| call.handle_reply_stream(move |cx, end: u64, replies| async move {
        let stream = lab.count(&cx, end).await?;
        replies.forward(stream).await
    })

    /// Adds the numbers that it reads.
    SUM = "sum", 202, with_request_stream;
    |_, call| call.handle_request_stream(|_, mut requests: Requests<u64>| async move {
        let mut sum = 0;
        while let Some(number) = requests.message().await? {
            sum += number;
        }
        Ok(sum)
    })

    /// Returns each message.
    ECHO_STREAM = "echo_stream", 203, with_request_stream, with_reply_stream;
    |lab, call| call.handle_both_streams(move |cx, requests, replies| async move {
        let stream = lab.echo(&cx, requests).await?;
        replies.forward(stream).await
    })

    /// Sends one message and fails.
    FAIL_STREAM = "fail_stream", 204, with_reply_stream;
    |_, call| call.handle_reply_stream(|_, (), replies| async move {
        let failing = stream(async |out| {
            out.send("before".to_owned()).await;
            Err(Status::new(rpc_runtime::Code::DataLoss, "the stream is torn"))
        });
        replies.forward(failing).await
    })

    /// Sends one message and panics.
    PANIC_STREAM = "panic_stream", 205, with_reply_stream;
    |_, call| call.handle_reply_stream(|_, (), replies| async move {
        let panicking = stream(async |out| {
            out.send("before".to_owned()).await;
            panic!("on purpose");
        });
        replies.forward(panicking).await
    })

    /// Sends one message, and a last one when the server drains. [`Lab::hanging`] counts it.
    WATCH = "watch", 206, with_reply_stream;
    |lab, call| call.handle_reply_stream(move |cx: Context, (), replies| async move {
        let _hanging = lab.hang();
        let watched = stream(async |out| {
            out.send("here".to_owned()).await;
            cx.draining().await;
            out.send("draining".to_owned()).await;
            Ok(())
        });
        replies.forward(watched).await
    })

    /// Reads one message and replies with it.
    FIRST = "first", 207, with_request_stream;
    |_, call| call.handle_request_stream(|_, mut requests: Requests<String>| async move {
        Ok(requests.message().await?.unwrap_or_default())
    })

    /// Reads nothing and never ends. [`Lab::hanging`] counts it.
    IGNORE = "ignore", 208, with_request_stream;
    |lab, call| call.handle_request_stream(move |_, requests: Requests<String>| async move {
        let _hanging = (lab.hang(), requests);
        pending::<Result<()>>().await
    })

    /// Leaves its requests to a task and replies. The task notes how they ended; [`Lab::hanging`] counts it until then.
    LEAVE = "leave", 210, with_request_stream;
    |lab, call| call.handle_request_stream(move |_, mut requests: Requests<String>| async move {
        let hanging = lab.hang();
        tokio::spawn(async move {
            let _hanging = hanging;
            lab.note(match requests.message().await {
                Ok(message) => format!("left: {message:?}"),
                Err(status) => format!("left: {:?}: {}", status.code(), status.message()),
            });
        });
        // The task waits before this handler ends.
        tokio::task::yield_now().await;
        Ok(())
    })
}

impl Lab {
    /// Borrows what a generated server's handler borrows.
    async fn count(&self, cx: &Context, end: u64) -> Result<impl Stream<Item = Result<u64>> + Send> {
        cx.add_reply_metadata("count", end.to_string())?;
        Ok(stream(async move |out| {
            for number in 0..end {
                let _borrowed = (self, cx);
                out.send(number).await;
            }
            Ok(())
        }))
    }

    async fn echo(
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
