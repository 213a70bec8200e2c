//! Terminate: the calls that tell a server to terminate, and the token that goes with them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Call, control, in_flight::CallClass, send_token::is_refusal};
use crate::{
    Code, DrainReport, Error, Metadata,
    client::{
        deadline::Deadline,
        errors,
        token::{Bearer, Tokens},
    },
    message::{
        control::{TERMINATE, TerminateReply},
        decode::decode,
        growth::Budget,
    },
};

/// Terminate.
impl Call<'_> {
    /// Tells the server to terminate, one-way: it drains, and there is no reply.
    ///
    /// Only the server that this client is connected to terminates, not one that was started in its place: see
    /// [`Call::terminate`].
    ///
    /// # Errors
    ///
    /// As [`Call::send`]; also if the client's [token source](crate::ClientBuilder::token_source) gives no token within 10 s, because
    /// there is no reply by which the server could ask for one.
    ///
    /// # Cancel safety
    ///
    /// As [`Call::send`].
    pub async fn send_terminate(self) -> Result<(), Error> {
        self.client.check_terminates()?;
        let deadline = self.usual_deadline();
        let (call, token) = self.with_token(&deadline).await;
        if let TerminateToken::Missing(error) = token {
            return Err(call.locate(error, &TERMINATE));
        }
        call.check(&TERMINATE, &deadline)?;
        control::send_terminate(call.in_flight(&TERMINATE, CallClass::Control, deadline)).await
    }

    /// Tells the server to terminate, and waits until it is drained.
    ///
    /// The client's timeout does not limit it. The server announces how long its drain may take, and this waits 5 s longer.
    /// For the announcement it waits 30 s.
    ///
    /// If the client is connected, only the server at the other end terminates: a server that was started in its place
    /// meanwhile does not.
    ///
    /// If the client has a [token source](crate::ClientBuilder::token_source), the token goes with it. If the source fails, or gives none
    /// within 10 s, the terminate goes without: the server may need no token for it. A token that the server refuses with
    /// UNAUTHENTICATED is replaced once, as for other calls.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if the server's policy forbids it to this client, UNAUTHENTICATED if the server asks for a token that it
    /// accepts, UNIMPLEMENTED if the server cannot be terminated by clients, FAILED_PRECONDITION if another server has taken its place,
    /// or if it speaks another [protocol](crate::protocol).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; a drain that has begun goes on.
    pub async fn terminate(self) -> Result<DrainReport, Error> {
        self.client.check_terminates()?;
        let origin = self.more.as_ref().and_then(|more| more.origin);
        let origin = control::origin_of_terminate(origin, self.made_in);
        let deadline = self.deadline(None);
        let (call, token) = self.with_token(&deadline).await;
        let error = match call.clone().terminate_once(origin.clone(), deadline).await {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        match token {
            TerminateToken::Sent(bearer, tokens) if is_refusal(&error) && tokens.refused(&bearer) => {
                match tokens.get_other(&bearer, Some(token_by(&deadline))).await {
                    Ok(newer) if newer != bearer => {
                        call.with_bearer(&newer).terminate_once(origin, deadline).await
                    }
                    // The server's refusal says more.
                    _ => Err(error),
                }
            }
            TerminateToken::Missing(why)
                if matches!(error.code(), Code::Unauthenticated | Code::PermissionDenied) =>
            {
                Err(error.with_hint(&format!("it was sent without a token: {}", why.message())))
            }
            TerminateToken::None | TerminateToken::Sent(..) | TerminateToken::Missing(_) => Err(error),
        }
    }

    async fn terminate_once(self, origin: Bytes, deadline: Deadline) -> Result<DrainReport, Error> {
        let procedure = &TERMINATE;
        self.check(procedure, &deadline)?;
        let call = self.in_flight(procedure, CallClass::Control, deadline);
        let reply = control::terminate(call, origin).await?;
        let reply: TerminateReply = decode(reply.payload, Budget::new(None, 0))
            .map_err(|failure| errors::unreadable_reply(failure).with_procedure(procedure.path()))?;
        Ok(reply.into())
    }

    /// Puts a token beside the call, which passes no middleware, if the client has a source of tokens.
    async fn with_token(self, deadline: &Deadline) -> (Self, TerminateToken) {
        let own = self.more.as_ref().map(|more| &more.metadata);
        let has_own = own.is_some_and(|metadata| metadata.contains_key(Metadata::AUTHORIZATION));
        let Some(tokens) = self.client.tokens().filter(|_| !has_own) else {
            return (self, TerminateToken::None);
        };
        let tokens = Arc::clone(tokens);
        let fails_fast = self.options(&TERMINATE).fails_fast;
        match tokens.get(Some(token_by(deadline)), fails_fast).await {
            Ok(bearer) => (self.with_bearer(&bearer), TerminateToken::Sent(bearer, tokens)),
            Err(error) => (self, TerminateToken::Missing(error)),
        }
    }

    fn with_bearer(mut self, bearer: &Bearer) -> Self {
        bearer.put_into(&mut self.more_mut().metadata);
        self
    }
}

/// The token that goes with a terminate.
enum TerminateToken {
    /// The client has no source, or the call has a token of its own.
    None,
    Sent(Bearer, Arc<Tokens>),
    /// The source gave none, for this reason.
    Missing(Error),
}

/// Until when a terminate waits for its token: half of its time, or [`TOKEN_PATIENCE`].
fn token_by(deadline: &Deadline) -> Instant {
    let now = Instant::now();
    let left = deadline.at().map(|at| at.saturating_duration_since(now) / 2);
    now + left.map_or(TOKEN_PATIENCE, |left| left.min(TOKEN_PATIENCE))
}

/// How long a terminate waits for its token.
const TOKEN_PATIENCE: Duration = Duration::from_secs(10);
