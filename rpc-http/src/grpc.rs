//! gRPC: from an HTTP/2 request to a call of the server, and back.

mod answer;
mod call;
mod encoding;
mod headers;
mod messages;
mod status;
mod timeout;

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Method, Request, StatusCode, header::CONTENT_TYPE};
use rpc_runtime::{Status, server::Procedure};

use self::{answer::Answer, call::Asked, encoding::Encoding, messages::Messages};
use crate::connection::Shared;

/// Checks that a request is a gRPC call.
///
/// # Errors
///
/// The status of HTTP for a request that is none, as the specification of gRPC over HTTP/2 has it.
pub(crate) fn is_call<B>(request: &Request<B>) -> Result<(), StatusCode> {
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .map_or(&b""[..], |value| value.as_bytes());
    let is_grpc = match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => {
            let rest = rest.strip_prefix(b"+proto").unwrap_or(rest);
            rest.is_empty() || rest.starts_with(b";")
        }
        None => false,
    };
    match () {
        () if !is_grpc => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        () if request.method() != Method::POST => Err(StatusCode::METHOD_NOT_ALLOWED),
        () => Ok(()),
    }
}

/// Makes the call, and answers with what becomes of it.
pub(crate) async fn answer(shared: &Shared, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let mut answer = Answer::new(respond, Encoding::accepted(&parts.headers));
    let asked = match ask(shared, &parts) {
        Ok(asked) => asked,
        Err(status) => return answer.end(Err(&status)),
    };
    let encoding = match Encoding::of_request(&parts.headers) {
        Ok(encoding) => encoding,
        Err(status) => return answer.end(Err(&status)),
    };
    let messages = Messages::new(body, encoding, shared.max_message());
    match asked.run(shared, messages, &mut answer).await {
        Some(end) => answer.end(end.as_ref()),
        // The caller has given up: there is nobody to tell. Dropping the call has cancelled it.
        None => {}
    }
}

fn ask(shared: &Shared, parts: &http::request::Parts) -> Result<Asked, Status> {
    let path = parts.uri.path().strip_prefix('/').unwrap_or_default();
    let procedure: &'static Procedure = shared
        .server
        .procedure(path)
        .ok_or_else(|| Status::unimplemented(format!("no procedure {path}")))?;
    Ok(Asked {
        procedure,
        timeout: timeout::read(&parts.headers)?,
        metadata: headers::to_metadata(&parts.headers)?,
    })
}
