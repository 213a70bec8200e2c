//! Tester: the service that the cases call.

use std::time::Duration;

use rpc_runtime::{Code, Context, Requests, Result, Status, Stream};
use tokio::{sync::watch, time::sleep};

use crate::{
    body,
    interop::v1::{
        EchoStatus, InputReply, InputRequest, OutputReply, OutputRequest, TestService, UnaryReply,
        UnaryRequest, Wish,
    },
    is_body,
};

/// The key of the text entry that the server returns.
pub(crate) const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// The key of the binary entry that the server returns.
pub(crate) const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";

/// The service. It follows the requests, and counts handlers that were dropped before their end.
#[derive(Clone, Debug)]
pub struct Tester {
    dropped: watch::Sender<u64>,
}

impl Tester {
    /// Makes a service that has counted nothing yet.
    pub fn new() -> Self {
        Self {
            dropped: watch::Sender::new(0),
        }
    }

    /// Watches the number of handlers that were dropped before their end.
    pub fn dropped(&self) -> watch::Receiver<u64> {
        self.dropped.subscribe()
    }

    fn running(&self) -> Running<'_> {
        Running {
            tester: self,
            ended: false,
        }
    }
}

impl Default for Tester {
    fn default() -> Self {
        Self::new()
    }
}

impl TestService for Tester {
    async fn rpc_empty_call(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    async fn rpc_unary_call(&self, cx: &Context, request: UnaryRequest) -> Result<UnaryReply> {
        echo_metadata(cx)?;
        check_body(&request.body)?;
        check_status(request.status)?;
        Ok(UnaryReply {
            body: body(request.reply_len as usize),
        })
    }

    async fn rpc_streaming_output_call(
        &self,
        cx: &Context,
        request: OutputRequest,
    ) -> Result<impl Stream<Item = Result<OutputReply>> + Send> {
        echo_metadata(cx)?;
        check_body(&request.body)?;
        check_status(request.status)?;
        Ok(rpc_runtime::stream(async move |out| {
            let running = self.running();
            for wish in request.wishes {
                out.send(reply(wish).await).await;
            }
            running.ended();
            Ok(())
        }))
    }

    async fn rpc_streaming_input_call(
        &self,
        cx: &Context,
        mut requests: Requests<InputRequest>,
    ) -> Result<InputReply> {
        let running = self.running();
        echo_metadata(cx)?;
        let mut total_len = 0;
        while let Some(request) = requests.message().await? {
            check_body(&request.body)?;
            total_len += request.body.len() as u64;
        }
        running.ended();
        Ok(InputReply { total_len })
    }

    async fn rpc_full_duplex_call(
        &self,
        cx: &Context,
        mut requests: Requests<OutputRequest>,
    ) -> Result<impl Stream<Item = Result<OutputReply>> + Send> {
        echo_metadata(cx)?;
        Ok(rpc_runtime::stream(async move |out| {
            let running = self.running();
            while let Some(request) = requests.message().await? {
                check_body(&request.body)?;
                check_status(request.status)?;
                for wish in request.wishes {
                    out.send(reply(wish).await).await;
                }
            }
            running.ended();
            Ok(())
        }))
    }

    async fn rpc_half_duplex_call(
        &self,
        cx: &Context,
        mut requests: Requests<OutputRequest>,
    ) -> Result<impl Stream<Item = Result<OutputReply>> + Send> {
        echo_metadata(cx)?;
        Ok(rpc_runtime::stream(async move |out| {
            let running = self.running();
            let mut wishes = Vec::new();
            while let Some(request) = requests.message().await? {
                check_body(&request.body)?;
                check_status(request.status)?;
                wishes.extend(request.wishes);
            }
            for wish in wishes {
                out.send(reply(wish).await).await;
            }
            running.ended();
            Ok(())
        }))
    }
}

/// A running handler.
struct Running<'a> {
    tester: &'a Tester,
    ended: bool,
}

impl Running<'_> {
    fn ended(mut self) {
        self.ended = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tester.dropped.send_modify(|dropped| *dropped += 1);
        }
    }
}

/// Returns the caller's entries with the end of the call.
fn echo_metadata(cx: &Context) -> Result<()> {
    for key in [ECHO_INITIAL, ECHO_TRAILING] {
        if let Some(value) = cx.metadata().get(key) {
            cx.add_reply_metadata(key, value.clone())?;
        }
    }
    Ok(())
}

fn check_body(body: &[u8]) -> Result<()> {
    if is_body(body) {
        Ok(())
    } else {
        Err(Status::new(
            Code::DataLoss,
            "the body has other bytes than were sent",
        ))
    }
}

/// Fails if the request asks for it.
fn check_status(status: Option<EchoStatus>) -> Result<()> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(Code::from_number(status.code), status.message)),
        _ => Ok(()),
    }
}

async fn reply(wish: Wish) -> OutputReply {
    if wish.interval_us > 0 {
        sleep(Duration::from_micros(wish.interval_us)).await;
    }
    OutputReply {
        body: body(wish.len as usize),
    }
}
