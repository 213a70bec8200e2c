//! Balanced: a call on one of several servers, and its next try on another one.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::debug;

use super::{
    Call,
    client_call::{CallKind, ClientCall},
    layered::MakeCall,
};
use crate::{
    Code, Error, Executed, Phase,
    balance::{self, Ended, Measured, Pick, hash_of_field},
    client::{
        cluster::{CallOnMember, Cluster, Member},
        timer,
    },
    layer::{Answer, AnswerFuture, Last},
};

/// Options for clients of several servers.
impl Call<'_> {
    /// Gives the call a key, by which a [balancer](crate::balance) such as [`RingHash`](crate::balance::RingHash) picks its server.
    ///
    /// It goes before the field that the .proto file names by `hash_by`. The key does not travel. A client of one server ignores it.
    pub fn hash_key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.more_mut().hash = Some(balance::hash(key.as_ref()));
        self
    }

    /// Says that the call may run twice without harm. Default: as the .proto file says by `idempotency_level`.
    ///
    /// A client of several servers then tries it on another one, three times at most, if a server was lost while the call may have run
    /// there. Each time costs a token of the client's retry budget.
    pub fn idempotent(mut self) -> Self {
        self.may_repeat = Some(true);
        self
    }

    /// Limits each try of the call on one of several servers. Default: unlimited, so a try may take all of the call's time.
    ///
    /// When a try has taken that long, another server is tried. It holds only for calls with one reply that may run twice: see
    /// [`Call::idempotent`]. A client of one server ignores it.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.more_mut().attempt_timeout = Some(timeout);
        self
    }
}

/// Makes calls on the servers of a cluster, behind all middleware.
pub(in crate::client) struct BalancedCalls(pub(in crate::client) Arc<Cluster>);

impl Last<ClientCall> for BalancedCalls {
    fn run(&self, call: ClientCall) -> AnswerFuture<ClientCall> {
        let cluster = Arc::clone(&self.0);
        Box::pin(async move { BalancedCall::new(cluster, call).run().await })
    }
}

/// One call, over all its tries.
struct BalancedCall {
    cluster: Arc<Cluster>,
    call: ClientCall,
    hash: Option<u64>,
    /// The servers that the call is not tried on again.
    tried: Vec<Arc<Measured>>,
    /// Tries that have cost a token.
    paid: u32,
    /// Why the first try failed.
    first_failure: Option<Box<str>>,
}

/// What follows the failure of a try.
enum Next {
    /// The call fails.
    End,
    /// Another server is tried. True if it costs a token, because the server may have had work with it.
    Elsewhere { costs: bool },
}

impl BalancedCall {
    fn new(cluster: Arc<Cluster>, mut call: ClientCall) -> Self {
        call.options.is_balanced = true;
        let own = call.more.as_deref().and_then(|more| more.hash);
        let of_field = || hash_of_field(&call.message.0, call.procedure.hash_field()?);
        let hash = own.or_else(of_field);
        Self {
            cluster,
            call,
            hash,
            tried: Vec::new(),
            paid: 0,
            first_failure: None,
        }
    }

    async fn run(mut self) -> Result<Answer, Error> {
        loop {
            let member = self.next_member().await?;
            let (error, began) = match self.attempt(&member).await {
                Ok(answer) => {
                    self.call.channel.retry_budget().replied();
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            self.tried.push(Arc::clone(member.measured()));
            match self.next(&error, began) {
                Next::End => return Err(self.about(error)),
                Next::Elsewhere { costs } => {
                    if costs && !self.takes_token() {
                        return Err(self.about(error));
                    }
                    if !self.has_another(&error, costs).await {
                        return Err(self.about(error));
                    }
                    if let Some(totals) = self.call.channel.totals() {
                        let retries = match error.retry_after() {
                            Some(_) => &totals.retries_of_hint,
                            None => &totals.retries_of_connection,
                        };
                        retries.add();
                    }
                    debug!(procedure = self.call.procedure.path(), %error, "trying another server");
                    if self.first_failure.is_none() {
                        self.first_failure = Some(error.to_string().into());
                    }
                }
            }
        }
    }

    fn pick(&self) -> Pick<'static> {
        Pick {
            procedure: self.call.procedure.path(),
            hash: self.hash,
        }
    }

    /// Waits for a server. If all of them were tried, they are tried again.
    async fn next_member(&mut self) -> Result<Arc<Member>, Error> {
        loop {
            let fails_fast = self.call.options.fails_fast;
            let picked = self
                .cluster
                .pick(&self.pick(), &self.tried, fails_fast, &self.call.deadline)
                .await;
            match picked.map_err(|error| self.about(error).with_procedure(self.call.procedure.path()))? {
                Some(member) => return Ok(member),
                None => self.tried.clear(),
            }
        }
    }

    /// Makes the call on one server. The error says whether it began there.
    async fn attempt(&self, member: &Arc<Member>) -> Result<Answer, (Error, Began)> {
        let has_reply = matches!(self.call.kind, CallKind::Reply);
        let counted = CallOnMember::begin(&self.cluster, member, has_reply);
        let _sending = match &self.call.kind {
            CallKind::OneWay => match self.cluster.begin_send(member) {
                Ok(sending) => Some(sending),
                Err(error) => return Err((error, Began::Yes)),
            },
            CallKind::Reply | CallKind::Streams(_) => None,
        };
        let mut call = self.call.clone();
        call.channel = match &call.kind {
            CallKind::OneWay => member.channel_of_sends(),
            CallKind::Reply | CallKind::Streams(_) => member.channel(),
        };
        if let Some(limit) = self.attempt_timeout() {
            call.deadline = call.deadline.at_most(limit, Instant::now());
        }
        let result = MakeCall.run(call).await;
        match result {
            Ok(answer) => {
                counted.end(&self.cluster, Ended::Good);
                Ok(answer)
            }
            Err(error) => {
                let began = Began::of(&error);
                let ended = match began {
                    Began::No => Ended::Unknown,
                    Began::Yes => Ended::of(error.code()),
                };
                counted.end(&self.cluster, ended);
                Err((error, began))
            }
        }
    }

    /// How long one try may take: only of calls that may be repeated, because nobody knows then whether it ran.
    fn attempt_timeout(&self) -> Option<Duration> {
        let more = self.call.more.as_deref()?;
        more.attempt_timeout.filter(|_| self.may_repeat())
    }

    /// True if the call may run twice.
    fn may_repeat(&self) -> bool {
        self.call.options.may_repeat && matches!(self.call.kind, CallKind::Reply)
    }

    fn next(&self, error: &Error, began: Began) -> Next {
        if self.is_late() || self.has_open_streams() {
            return Next::End;
        }
        if began == Began::No {
            return Next::Elsewhere { costs: false };
        }
        let has_hint = error.retry_after().is_some();
        let is_of_server = error.code() == Code::Unavailable || has_hint;
        match error.executed() {
            Executed::No if is_of_server => Next::Elsewhere { costs: true },
            Executed::Maybe | Executed::Yes if self.may_repeat() && self.is_worth_repeating(error) => {
                Next::Elsewhere { costs: true }
            }
            _ => Next::End,
        }
    }

    /// True if another server may do better.
    fn is_worth_repeating(&self, error: &Error) -> bool {
        match error.code() {
            Code::Unavailable => true,
            // The try has ended, and not the call.
            Code::DeadlineExceeded => self.attempt_timeout().is_some() && error.status().is_none(),
            _ => false,
        }
    }

    /// True at and after the deadline.
    fn is_late(&self) -> bool {
        let at = self.call.deadline.at();
        self.call.deadline.has_passed() || at.is_some_and(|at| at <= Instant::now())
    }

    fn has_open_streams(&self) -> bool {
        matches!(&self.call.kind, CallKind::Streams(slot) if slot.is_open())
    }

    fn takes_token(&mut self) -> bool {
        self.paid += 1;
        let is_taken = self.paid <= MAX_PAID && self.call.channel.retry_budget().take();
        if let Some(totals) = self.call.channel.totals().filter(|_| !is_taken) {
            totals.retries_denied.add();
        }
        is_taken
    }

    /// Waits until the call can be tried again: at once if there is a server that was not tried.
    async fn has_another(&mut self, error: &Error, costs: bool) -> bool {
        if self.cluster.has_other(&self.pick(), &self.tried) {
            return true;
        }
        if self.call.options.fails_fast {
            return false;
        }
        let is_lost = error.status().is_none();
        if !costs || is_lost {
            // Servers that were connected a moment ago are not any more: what calls pick from changes soon.
            self.tried.clear();
            // The call itself makes the keeper look, which tells of a change: without a pause both would go round for ever.
            let pause = self.call.deadline.at_most(SHORT, Instant::now());
            if let Some(at) = pause.at() {
                let _ = timer::until(at, pending::<()>()).await;
            }
            let soon = self.call.deadline.at_most(SOON, Instant::now());
            let _ = self.cluster.changes_by(&soon).await;
            return !self.is_late();
        }
        // All servers have refused it: they are tried again when they ask for it.
        let Some(hint) = error
            .retry_after()
            .filter(|hint| self.call.options.takes_hints && *hint <= MAX_HINT)
        else {
            return false;
        };
        let wait = hint.mul_f64(1.0 + fastrand::f64());
        let back_at = Instant::now() + wait;
        if self.call.deadline.at().is_some_and(|at| at <= back_at) {
            return false;
        }
        timer::sleep(wait).await;
        self.tried.clear();
        true
    }

    /// Adds why the first try failed.
    fn about(&self, error: Error) -> Error {
        match &self.first_failure {
            Some(cause) => error.with_resent_after(cause),
            None => error,
        }
    }
}

/// Whether a try went to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Began {
    No,
    Yes,
}

impl Began {
    /// What an error tells: a call that ended before it was sent, because of its connection, never began.
    fn of(error: &Error) -> Self {
        let is_unsent = matches!(
            error.phase(),
            Some(Phase::Queue | Phase::Connect | Phase::Resolve)
        );
        let is_local = error.status().is_none();
        match error.executed() {
            Executed::No if is_unsent && is_local && error.code() == Code::Unavailable => Self::No,
            _ => Self::Yes,
        }
    }
}

/// How many tries of one call may cost a token.
const MAX_PAID: u32 = 3;
/// A call whose hint is longer fails at once.
const MAX_HINT: Duration = Duration::from_secs(60);
/// How long a call waits for other servers before it looks again.
const SOON: Duration = Duration::from_millis(50);
/// How long it waits at least.
const SHORT: Duration = Duration::from_millis(5);
