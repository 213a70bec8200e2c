//! Reopen: a call with a stream of replies, opened once more.

use std::{future::Future, pin::Pin};

use prost::Message;

use super::{
    in_flight::{CallClass, InFlightCall},
    options::ExtraOptions,
    retry::Retry,
    stream_call::{CallInfo, StreamCall},
};
use crate::Error;

/// Opens a call again; its arguments say when, and why the first try failed.
pub(super) type Reopen = Box<dyn FnOnce(Retry, Box<str>) -> Reopening + Send>;
pub(super) type Reopening = Pin<Box<dyn Future<Output = Result<StreamCall, Error>> + Send>>;

/// Returns a closure that opens a call with a stream of replies again.
pub(super) fn again<Req: Message + 'static>(
    about: CallInfo,
    more: Option<Box<ExtraOptions>>,
    request: Req,
) -> Reopen {
    Box::new(move |retry, cause| {
        Box::pin(async move {
            retry.wait().await;
            let CallInfo {
                channel,
                procedure,
                deadline,
                options,
                ..
            } = &about;
            let mut call = InFlightCall::new(channel, procedure, more, *deadline, CallClass::User, *options);
            let opened = call.open(&request).await;
            let (on, id) = opened.map_err(|error| error.with_resent_after(&cause))?;
            drop(call);
            let about = CallInfo {
                resent: Some(cause),
                ..about
            };
            Ok(StreamCall::new(on, id, about))
        })
    })
}
