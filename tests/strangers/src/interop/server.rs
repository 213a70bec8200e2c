//! The test service, and the server that has it.

use std::time::Duration;

use rpc_http::{Http, add_initial_metadata};
use rpc_runtime::{
    Code, Context, Error, Requests, Result, Server, Status, Stream, stream,
    tls::{Identity, ServerTls},
};
use tokio::time::sleep;

use super::grpc::testing::{
    EchoStatus, Empty, Payload, ResponseParameters, SimpleRequest, SimpleResponse, StreamingInputCallRequest,
    StreamingInputCallResponse, StreamingOutputCallRequest, StreamingOutputCallResponse, TestService,
    TestServiceServer,
};

/// Serves the cases on a free port until SIGTERM, and prints the address. With the files of a certificate and its key it serves TLS.
///
/// # Errors
///
/// The server cannot listen, or the files are no certificate and key.
pub async fn serve(tls: Option<(String, String)>) -> Result<(), Error> {
    let builder = Server::builder()
        .service(TestServiceServer::new(Tester))
        .guest(Http::new().grpc().initial_metadata());
    let builder = match tls {
        None => builder.listener("tcp://127.0.0.1:0"),
        Some((certificate, key)) => {
            let tls = ServerTls::builder(Identity::pem_files(certificate, key)).build()?;
            builder.listener("tls://127.0.0.1:0").tls(tls)
        }
    };
    let server = builder.bind().await?;
    println!("listening {}", server.addresses()[0]);
    server.serve().await.map(drop)
}

/// The test service.
#[derive(Clone, Copy, Debug)]
pub struct Tester;

impl TestService for Tester {
    async fn rpc_empty_call(&self, _: &Context, _: Empty) -> Result<Empty> {
        Ok(Empty {})
    }

    async fn rpc_unary_call(&self, cx: &Context, request: SimpleRequest) -> Result<SimpleResponse> {
        echo_metadata(cx)?;
        check_status(request.response_status)?;
        let mut response = SimpleResponse {
            payload: Some(payload(request.response_size)?),
            ..Default::default()
        };
        if request.fill_server_id {
            response.server_id = format!("process {}", std::process::id());
        }
        Ok(response)
    }

    async fn rpc_streaming_output_call(
        &self,
        cx: &Context,
        request: StreamingOutputCallRequest,
    ) -> Result<impl Stream<Item = Result<StreamingOutputCallResponse>> + Send> {
        echo_metadata(cx)?;
        check_status(request.response_status)?;
        Ok(stream(async move |out| {
            for wanted in request.response_parameters {
                out.send(reply(wanted).await?).await;
            }
            Ok(())
        }))
    }

    async fn rpc_streaming_input_call(
        &self,
        _: &Context,
        mut requests: Requests<StreamingInputCallRequest>,
    ) -> Result<StreamingInputCallResponse> {
        let mut len = 0;
        while let Some(request) = requests.message().await? {
            len += request.payload.map_or(0, |payload| payload.body.len());
        }
        let len = i32::try_from(len).map_err(|_| Status::out_of_range("more than 2 GiB of payloads"))?;
        Ok(StreamingInputCallResponse {
            aggregated_payload_size: len,
        })
    }

    async fn rpc_full_duplex_call(
        &self,
        cx: &Context,
        mut requests: Requests<StreamingOutputCallRequest>,
    ) -> Result<impl Stream<Item = Result<StreamingOutputCallResponse>> + Send> {
        echo_metadata(cx)?;
        Ok(stream(async move |out| {
            while let Some(request) = requests.message().await? {
                check_status(request.response_status)?;
                for wanted in request.response_parameters {
                    out.send(reply(wanted).await?).await;
                }
            }
            Ok(())
        }))
    }

    async fn rpc_half_duplex_call(
        &self,
        cx: &Context,
        mut requests: Requests<StreamingOutputCallRequest>,
    ) -> Result<impl Stream<Item = Result<StreamingOutputCallResponse>> + Send> {
        echo_metadata(cx)?;
        Ok(stream(async move |out| {
            let mut wishes = Vec::new();
            while let Some(request) = requests.message().await? {
                wishes.extend(request.response_parameters);
            }
            for wanted in wishes {
                out.send(reply(wanted).await?).await;
            }
            Ok(())
        }))
    }
}

/// Returns the caller's entries: one in the headers, one in the trailers.
fn echo_metadata(cx: &Context) -> Result<()> {
    if let Some(value) = cx.metadata().get(ECHO_INITIAL) {
        add_initial_metadata(cx, ECHO_INITIAL, value.clone())?;
    }
    if let Some(value) = cx.metadata().get(ECHO_TRAILING) {
        cx.add_reply_metadata(ECHO_TRAILING, value.clone())?;
    }
    Ok(())
}

/// Fails if the request asks for it.
fn check_status(status: Option<EchoStatus>) -> Result<()> {
    match status {
        Some(status) if status.code != 0 => {
            Err(Status::new(Code::from_number(status.code as u32), status.message))
        }
        _ => Ok(()),
    }
}

async fn reply(wanted: ResponseParameters) -> Result<StreamingOutputCallResponse> {
    if let Ok(micros @ 1..) = u64::try_from(wanted.interval_us) {
        sleep(Duration::from_micros(micros)).await;
    }
    Ok(StreamingOutputCallResponse {
        payload: Some(payload(wanted.size)?),
        ..Default::default()
    })
}

/// A payload of zeros.
fn payload(len: i32) -> Result<Payload> {
    let len = usize::try_from(len).ok().filter(|len| *len <= MAX_LEN);
    let len = len.ok_or_else(|| Status::invalid_argument(format!("a payload has 0 to {MAX_LEN} bytes")))?;
    Ok(Payload {
        body: vec![0; len].into(),
        ..Default::default()
    })
}

/// The key of the entry that comes back in the headers.
pub(super) const ECHO_INITIAL: &str = "x-grpc-test-echo-initial";
/// The key of the entry that comes back in the trailers.
pub(super) const ECHO_TRAILING: &str = "x-grpc-test-echo-trailing-bin";
/// The longest payload that a caller may wish for.
const MAX_LEN: usize = 64 << 20;
