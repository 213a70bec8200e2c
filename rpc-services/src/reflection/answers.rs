//! Answers: the procedure of both versions of `grpc.reflection`, `ServerReflectionInfo`.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use rpc_runtime::{Bytes, Code, Context, Requests, Result, Status, Stream, stream};

use super::{
    files::{FileId, Files},
    served_files::ServedFiles,
};
use crate::grpc::reflection::{
    v1::{
        self, ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
        ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha,
};

/// The procedure of the services.
pub(super) struct Answers(pub(super) Arc<OnceLock<ServedFiles>>);

impl v1::ServerReflection for Answers {
    async fn rpc_server_reflection_info(
        &self,
        cx: &Context,
        requests: Requests<ServerReflectionRequest>,
    ) -> Result<impl Stream<Item = Result<ServerReflectionResponse>> + Send> {
        self.all(cx, requests)
    }
}

impl v1alpha::ServerReflection for Answers {
    async fn rpc_server_reflection_info(
        &self,
        cx: &Context,
        requests: Requests<ServerReflectionRequest>,
    ) -> Result<impl Stream<Item = Result<ServerReflectionResponse>> + Send> {
        self.all(cx, requests)
    }
}

impl Answers {
    /// Answers the requests of a stream, one after the other.
    fn all(
        &self,
        cx: &Context,
        mut requests: Requests<ServerReflectionRequest>,
    ) -> Result<impl Stream<Item = Result<ServerReflectionResponse>> + Send> {
        let served = self.0.get();
        let served = served.ok_or_else(|| Status::internal("reflection does not know its server"))?;
        Ok(stream(async move |out| {
            let mut sent = Sent::default();
            loop {
                let request = tokio::select! {
                    request = requests.message() => request?,
                    () = cx.draining() => {
                        return Err(Status::unavailable("the server drains, or this connection is to end: ask again"));
                    }
                };
                let Some(request) = request else {
                    return Ok(());
                };
                let answer = answer(served, &request, &mut sent);
                let response = ServerReflectionResponse {
                    valid_host: request.host.clone(),
                    original_request: Some(request),
                    message_response: Some(answer.unwrap_or_else(refusal)),
                };
                out.send(response).await;
            }
        }))
    }
}

/// The answer to a request.
///
/// # Errors
///
/// NOT_FOUND for what is not there, INVALID_ARGUMENT for a request that asks for nothing.
fn answer(
    served: &ServedFiles,
    request: &ServerReflectionRequest,
    sent: &mut Sent,
) -> Result<MessageResponse> {
    let files = &served.files;
    let missing = |what: &str, name: &str| Status::not_found(format!("{what} not found: {name}"));
    let mut file = |id: Option<FileId>, what: &str, name: &str| {
        let id = id.ok_or_else(|| missing(what, name))?;
        let file_descriptor_proto = sent.with_imports(id, files);
        Ok(MessageResponse::FileDescriptorResponse(FileDescriptorResponse {
            file_descriptor_proto,
        }))
    };
    match &request.message_request {
        Some(MessageRequest::FileByFilename(name)) => file(files.named(name), "file", name),
        Some(MessageRequest::FileContainingSymbol(name)) => file(files.defining(name), "symbol", name),
        Some(MessageRequest::FileContainingExtension(asked)) => {
            let extending = files.extending(&asked.containing_type, asked.extension_number);
            let name = format!("{} of {}", asked.extension_number, asked.containing_type);
            file(extending, "extension", &name)
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
            let extension_number = files.extensions(name).ok_or_else(|| missing("message", name))?;
            Ok(MessageResponse::AllExtensionNumbersResponse(
                ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number,
                },
            ))
        }
        Some(MessageRequest::ListServices(_)) => {
            let services = served.services.iter();
            let service = services.map(|name| ServiceResponse {
                name: (*name).to_owned(),
            });
            Ok(MessageResponse::ListServicesResponse(ListServiceResponse {
                service: service.collect(),
            }))
        }
        None => Err(Status::invalid_argument(
            "the request asks for nothing that this server knows",
        )),
    }
}

/// A failure as an answer: the stream goes on.
fn refusal(status: Status) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: number(status.code()),
        error_message: status.message().to_owned(),
    })
}

/// The number of a code, which is that of gRPC.
fn number(code: Code) -> i32 {
    code as i32
}

/// The files that a stream has sent.
#[derive(Default)]
struct Sent(HashSet<FileId>);

impl Sent {
    /// The file `first`, and those of its imports that were not sent before.
    fn with_imports(&mut self, first: FileId, files: &Files) -> Vec<Bytes> {
        let mut found = Vec::new();
        let (mut left, mut seen) = (vec![first], HashSet::new());
        while let Some(id) = left.pop() {
            if !seen.insert(id) {
                continue;
            }
            if self.0.insert(id) || id == first {
                found.push(files.bytes(id).clone());
            }
            left.extend(files.imports(id));
        }
        found
    }
}
