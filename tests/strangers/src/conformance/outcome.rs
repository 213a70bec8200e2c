//! Outcome: what became of a call of a case, as the suite wants to be told.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message;
use rpc_runtime::{Error, Metadata};

use super::{
    connectrpc::conformance::v1::{self as suite, ClientResponseResult, Code, ConformancePayload, Header},
    rpc_status::RpcStatus,
};

/// What became of a call.
pub(super) struct Outcome {
    pub(super) payloads: Vec<ConformancePayload>,
    pub(super) end: End,
    /// How many requests could not be sent.
    pub(super) unsent: usize,
}

/// How a call ended.
pub(super) enum End {
    /// Well, with these trailers.
    Well(Metadata),
    Failed(Box<Error>),
    /// This program has dropped it.
    Dropped,
}

impl Outcome {
    /// That of a call without payloads so far.
    pub(super) fn of(end: End) -> Self {
        Self {
            payloads: Vec::new(),
            end,
            unsent: 0,
        }
    }

    /// The message for the suite; `headers` are those of the answer.
    pub(super) fn into_result(self, headers: Option<Metadata>) -> ClientResponseResult {
        let (error, trailers) = match self.end {
            End::Well(trailers) => (None, trailers),
            End::Failed(error) => {
                let trailers = error.status().map(|status| status.metadata().clone());
                (Some(told(&error)), trailers.unwrap_or_default())
            }
            End::Dropped => {
                let error = suite::Error {
                    code: Code::Canceled.into(),
                    ..Default::default()
                };
                (Some(error), Metadata::new())
            }
        };
        ClientResponseResult {
            response_headers: headers.map(|headers| listed(&headers)).unwrap_or_default(),
            payloads: self.payloads,
            error,
            response_trailers: listed(&trailers),
            num_unsent_requests: self.unsent.try_into().unwrap_or(i32::MAX),
            ..Default::default()
        }
    }
}

/// The error of a call as the suite has it.
fn told(error: &Error) -> suite::Error {
    let details = RpcStatus::decode(error.details().clone()).unwrap_or_default();
    suite::Error {
        code: error.code() as i32,
        message: Some(error.message().to_owned()),
        details: details.details,
    }
}

/// Metadata as the suite has it: one entry for each key, and base64 for bytes.
fn listed(metadata: &Metadata) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for (key, value) in metadata {
        let value = match key.ends_with("-bin") {
            true => STANDARD_NO_PAD.encode(value),
            false => String::from_utf8_lossy(value).into_owned(),
        };
        match headers.iter_mut().find(|header| header.name == key) {
            Some(header) => header.value.push(value),
            None => headers.push(Header {
                name: key.to_owned(),
                value: vec![value],
            }),
        }
    }
    headers
}
