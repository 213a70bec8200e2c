//! Conformance: answers as each request says, and tells what it has seen of the request.

use std::{mem, time::Duration};

use prost::{Message, Name};
use prost_types::Any;
use rpc_http::add_initial_metadata;
use rpc_runtime::{Code, Context, Requests, Result, Status, Stream, stream};
use tokio::time::sleep;

use super::{
    connectrpc::conformance::v1::{
        BidiStreamRequest, BidiStreamResponse, ClientStreamRequest, ClientStreamResponse, ConformancePayload,
        ConformanceService, Error, Header, IdempotentUnaryRequest, IdempotentUnaryResponse,
        ServerStreamRequest, ServerStreamResponse, StreamResponseDefinition, UnaryRequest, UnaryResponse,
        UnaryResponseDefinition, UnimplementedRequest, UnimplementedResponse,
        conformance_payload::RequestInfo, unary_response_definition::Response,
    },
    rpc_status::RpcStatus,
};

/// The service of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Conformance;

impl ConformanceService for Conformance {
    async fn rpc_unary(&self, cx: &Context, request: UnaryRequest) -> Result<UnaryResponse> {
        let requests = vec![any(&request)?];
        let payload = only_answer(cx, request.response_definition, requests).await?;
        Ok(UnaryResponse {
            payload: Some(payload),
        })
    }

    async fn rpc_idempotent_unary(
        &self,
        cx: &Context,
        request: IdempotentUnaryRequest,
    ) -> Result<IdempotentUnaryResponse> {
        let requests = vec![any(&request)?];
        let payload = only_answer(cx, request.response_definition, requests).await?;
        Ok(IdempotentUnaryResponse {
            payload: Some(payload),
        })
    }

    async fn rpc_unimplemented(&self, _: &Context, _: UnimplementedRequest) -> Result<UnimplementedResponse> {
        Err(Status::unimplemented("the suite wants it so"))
    }

    async fn rpc_client_stream(
        &self,
        cx: &Context,
        mut requests: Requests<ClientStreamRequest>,
    ) -> Result<ClientStreamResponse> {
        let (mut definition, mut seen) = (None, Vec::new());
        while let Some(request) = requests.message().await? {
            seen.push(any(&request)?);
            if seen.len() == 1 {
                definition = request.response_definition;
            }
        }
        let payload = only_answer(cx, definition, seen).await?;
        Ok(ClientStreamResponse {
            payload: Some(payload),
        })
    }

    async fn rpc_server_stream(
        &self,
        cx: &Context,
        request: ServerStreamRequest,
    ) -> Result<impl Stream<Item = Result<ServerStreamResponse>> + Send> {
        Ok(stream(async move |out| {
            let mut info = Some(request_info(cx, vec![any(&request)?]));
            let definition = request.response_definition.unwrap_or_default();
            add_metadata(cx, &definition.response_headers, &definition.response_trailers)?;
            for data in definition.response_data {
                wait(definition.response_delay_ms).await;
                let payload = ConformancePayload {
                    data,
                    request_info: info.take(),
                };
                out.send(ServerStreamResponse {
                    payload: Some(payload),
                })
                .await;
            }
            end(definition.error, info)
        }))
    }

    async fn rpc_bidi_stream(
        &self,
        cx: &Context,
        mut requests: Requests<BidiStreamRequest>,
    ) -> Result<impl Stream<Item = Result<BidiStreamResponse>> + Send> {
        Ok(stream(async move |out| {
            let mut definition = None;
            let mut takes_turns = false;
            let mut replies = Vec::new().into_iter();
            // The requests since the last reply.
            let mut seen = Vec::new();
            let mut has_replied = false;
            while let Some(request) = requests.message().await? {
                seen.push(any(&request)?);
                if definition.is_none() {
                    takes_turns = request.full_duplex;
                    let first = definition.insert(request.response_definition.unwrap_or_default());
                    add_metadata(cx, &first.response_headers, &first.response_trailers)?;
                    replies = mem::take(&mut first.response_data).into_iter();
                }
                if !takes_turns {
                    continue;
                }
                let Some(data) = replies.next() else { break };
                wait(delay(&definition)).await;
                let requests = mem::take(&mut seen);
                let info = match has_replied {
                    false => request_info(cx, requests),
                    true => RequestInfo {
                        requests,
                        ..Default::default()
                    },
                };
                has_replied = true;
                out.send(bidi_reply(data, Some(info))).await;
            }
            for data in replies {
                wait(delay(&definition)).await;
                let info = (!has_replied).then(|| request_info(cx, mem::take(&mut seen)));
                has_replied = true;
                out.send(bidi_reply(data, info)).await;
            }
            let info = (!has_replied).then(|| request_info(cx, seen));
            end(definition.and_then(|definition| definition.error), info)
        }))
    }
}

fn delay(definition: &Option<StreamResponseDefinition>) -> u32 {
    definition
        .as_ref()
        .map_or(0, |definition| definition.response_delay_ms)
}

fn bidi_reply(data: rpc_runtime::Bytes, request_info: Option<RequestInfo>) -> BidiStreamResponse {
    BidiStreamResponse {
        payload: Some(ConformancePayload { data, request_info }),
    }
}

/// The answer of a call without a stream of replies.
async fn only_answer(
    cx: &Context,
    definition: Option<UnaryResponseDefinition>,
    requests: Vec<Any>,
) -> Result<ConformancePayload> {
    let info = request_info(cx, requests);
    let definition = definition.unwrap_or_default();
    add_metadata(cx, &definition.response_headers, &definition.response_trailers)?;
    wait(definition.response_delay_ms).await;
    let data = match definition.response {
        Some(Response::Error(error)) => return Err(failure(error, Some(info))),
        Some(Response::ResponseData(data)) => data,
        None => Default::default(),
    };
    Ok(ConformancePayload {
        data,
        request_info: Some(info),
    })
}

/// The end of a stream of replies; `info` is there if no reply has told it.
fn end(error: Option<Error>, info: Option<RequestInfo>) -> Result<()> {
    match error {
        Some(error) => Err(failure(error, info)),
        None => Ok(()),
    }
}

fn failure(error: Error, info: Option<RequestInfo>) -> Status {
    let Error {
        code,
        message,
        mut details,
    } = error;
    details.extend(info.and_then(|info| any(&info).ok()));
    let message = message.unwrap_or_default();
    let status = Status::new(Code::from_number(code as u32), message.clone());
    match details.is_empty() {
        true => status,
        false => status.with_details(&RpcStatus {
            code,
            message,
            details,
        }),
    }
}

/// What the suite wants to know of a request.
fn request_info(cx: &Context, requests: Vec<Any>) -> RequestInfo {
    let mut headers: Vec<Header> = Vec::new();
    for (key, value) in cx.metadata() {
        let value = String::from_utf8_lossy(value).into_owned();
        match headers.iter_mut().find(|header| header.name == key) {
            Some(header) => header.value.push(value),
            None => headers.push(Header {
                name: key.to_owned(),
                value: vec![value],
            }),
        }
    }
    let left = cx.remaining().map(|left| left.as_millis());
    RequestInfo {
        request_headers: headers,
        timeout_ms: left.map(|left| i64::try_from(left).unwrap_or(i64::MAX)),
        requests,
        ..Default::default()
    }
}

fn add_metadata(cx: &Context, headers: &[Header], trailers: &[Header]) -> Result<()> {
    for header in headers {
        for value in &header.value {
            add_initial_metadata(cx, &header.name, value.clone())?;
        }
    }
    for trailer in trailers {
        for value in &trailer.value {
            cx.add_reply_metadata(&trailer.name, value.clone())?;
        }
    }
    Ok(())
}

fn any<M: Message + Name>(message: &M) -> Result<Any> {
    Any::from_msg(message).map_err(|error| Status::internal(error.to_string()))
}

async fn wait(millis: u32) {
    if millis > 0 {
        sleep(Duration::from_millis(millis.into())).await;
    }
}
