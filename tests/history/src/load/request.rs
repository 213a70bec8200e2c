//! Request: one call, and the check of its reply.

use std::time::Duration;

use rpc_runtime::{Code, Error};

use crate::{
    api::v1::{ProbeClient, ProbeSend, ProbeSendRecv},
    history::Outcome,
    probe,
    script::payload,
};

/// A call.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) procedure: Procedure,
    /// The length of the payload, if there is one.
    pub(super) len: usize,
    /// The duration of the handler, if it takes its time.
    pub(super) micros: u32,
    /// The timeout of the call; without one, that of the client.
    pub(super) timeout: Option<Duration>,
    pub(super) tries: Tries,
}

/// How often a call may be tried on several servers, as its caller says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tries {
    /// It may run once.
    Once,
    /// It may run twice; each try may take that long.
    Several(Option<Duration>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Procedure {
    Echo,
    Refuse,
    Sleep,
    RefuseLate,
    Hang,
    Crash,
    Compute,
    Block,
    Spin,
}

impl Procedure {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Refuse => "refuse",
            Self::Sleep => "sleep",
            Self::RefuseLate => "refuse_late",
            Self::Hang => "hang",
            Self::Crash => "crash",
            Self::Compute => "compute",
            Self::Block => "block",
            Self::Spin => "spin",
        }
    }
}

impl Request {
    /// Makes the call with a reply, and returns its outcome and what is wrong with it.
    pub(super) async fn call(&self, probe: &ProbeClient, token: u64) -> (Outcome, Option<String>) {
        let call = match self.timeout {
            Some(timeout) => probe.send_recv().timeout(timeout),
            None => probe.send_recv(),
        };
        let call = match self.tries {
            Tries::Once => call,
            Tries::Several(limit) => {
                let call = call.idempotent().hash_key((token % KEYS).to_le_bytes());
                limit
                    .into_iter()
                    .fold(call, |call, limit| call.attempt_timeout(limit))
            }
        };
        match self.reply(call, token).await {
            Ok(true) => (Outcome::Ok, None),
            Ok(false) => (Outcome::Wrong, None),
            Err(error) => {
                let strange = (!self.may_fail_by(&error)).then(|| format!("token {token}: {error}"));
                (Outcome::of(&error), strange)
            }
        }
    }

    /// Makes the call one-way.
    pub(super) async fn send(&self, probe: &ProbeClient, token: u64) -> (Outcome, Option<String>) {
        let send = match self.timeout {
            Some(timeout) => probe.send().timeout(timeout),
            None => probe.send(),
        };
        match self.sent(send, token).await {
            Ok(()) => (Outcome::Ok, None),
            Err(error) => {
                let usual = matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded);
                let strange = (!usual).then(|| format!("token {token}, a send: {error}"));
                (Outcome::of(&error), strange)
            }
        }
    }

    /// Makes the call with a reply; true if the reply is right.
    async fn reply(&self, call: ProbeSendRecv<'_>, token: u64) -> Result<bool, Error> {
        match self.procedure {
            Procedure::Echo => {
                let payload = payload(token, self.len);
                let reply = call.echo(token, payload.clone()).await?;
                return Ok(reply.token == token && reply.payload == payload);
            }
            Procedure::Refuse => call.refuse(token).await?,
            Procedure::Sleep => call.sleep(token, self.micros).await?,
            Procedure::RefuseLate => call.refuse_late(token, self.micros).await?,
            Procedure::Hang => call.hang(token).await?,
            Procedure::Crash => call.crash(token).await?,
            Procedure::Compute => call.compute(token, self.micros).await?,
            Procedure::Block => call.block(token, self.micros).await?,
            Procedure::Spin => call.spin(token, self.micros).await?,
        }
        Ok(true)
    }

    async fn sent(&self, send: ProbeSend<'_>, token: u64) -> Result<(), Error> {
        match self.procedure {
            Procedure::Echo => send.echo(token, payload(token, self.len)).await,
            Procedure::Refuse => send.refuse(token).await,
            Procedure::Sleep => send.sleep(token, self.micros).await,
            Procedure::RefuseLate => send.refuse_late(token, self.micros).await,
            Procedure::Hang => send.hang(token).await,
            Procedure::Crash => send.crash(token).await,
            Procedure::Compute => send.compute(token, self.micros).await,
            Procedure::Block => send.block(token, self.micros).await,
            Procedure::Spin => send.spin(token, self.micros).await,
        }
    }

    /// True if a server that restarts may fail this call with `error`.
    fn may_fail_by(&self, error: &Error) -> bool {
        match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => true,
            Code::NotFound => {
                let refuses = matches!(self.procedure, Procedure::Refuse | Procedure::RefuseLate);
                refuses && error.message() == probe::refusal().message()
            }
            Code::Unknown => self.procedure == Procedure::Crash && error.message() == "handler panicked",
            _ => false,
        }
    }
}

/// The number of keys of calls.
const KEYS: u64 = 8;
