//! Reopen: a call with a stream of replies, opened once more.

use std::{future::Future, pin::Pin};

use prost::Message;

use super::{
    in_flight::{CallClass, InFlightCall},
    options::{CallOptions, ExtraOptions},
    stream_call::{CallInfo, StreamCall},
};
use crate::Error;

/// Opens a call again; its argument says why the first try failed.
pub(super) type Reopen = Box<dyn FnOnce(Box<str>) -> Reopening + Send>;
pub(super) type Reopening = Pin<Box<dyn Future<Output = Result<StreamCall, Error>> + Send>>;

/// Returns a closure that opens a call with a stream of replies again.
pub(super) fn again<Req: Message + 'static>(
    about: CallInfo,
    options: CallOptions,
    more: Option<Box<ExtraOptions>>,
    request: Req,
) -> Reopen {
    Box::new(move |cause| {
        Box::pin(async move {
            let CallInfo {
                channel,
                procedure,
                deadline,
                ..
            } = &about;
            let mut call = InFlightCall::new(channel, procedure, more, *deadline, CallClass::User, options);
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
