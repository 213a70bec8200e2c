//! SendToken: the innermost middleware of a client with a token source. It puts a token beside each call.

use std::sync::Arc;

use super::client_call::ClientCall;
use crate::{
    Code, Error, Executed, Metadata, Result,
    client::token::Tokens,
    layer::{Answer, Middleware, Next},
};

/// Puts a token beside each call that has none, and makes a call once more whose token a server has refused.
pub(in crate::client) struct SendToken(pub(in crate::client) Arc<Tokens>);

impl Middleware<ClientCall> for SendToken {
    async fn handle(&self, mut call: ClientCall, next: Next<ClientCall>) -> Result<Answer, Error> {
        if call.metadata().contains_key(Metadata::AUTHORIZATION) {
            return next.run(call).await;
        }
        let (deadline, fails_fast) = (call.deadline.at(), call.options.fails_fast);
        let bearer = self.0.get(deadline, fails_fast).await?;
        // The streams of a call cannot be opened twice.
        let is_unary = !call.has_request_stream() && !call.has_reply_stream();
        let again = is_unary.then(|| (next.clone(), call.clone()));
        bearer.put_into(call.metadata_mut());
        let error = match next.run(call).await {
            Err(error) if is_refusal(&error) => error,
            ended => return ended,
        };
        let may_get_another = self.0.refused(&bearer);
        let Some((next, mut call)) = again.filter(|_| may_get_another) else {
            return Err(error);
        };
        match self.0.get_other(&bearer, deadline).await {
            Ok(newer) if newer != bearer => {
                newer.put_into(call.metadata_mut());
                next.run(call).await
            }
            // The server's refusal says more.
            _ => Err(error),
        }
    }
}

/// True if a server refused the token before it ran anything.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.code() == Code::Unauthenticated && error.executed() == Executed::No && error.status().is_some()
}
