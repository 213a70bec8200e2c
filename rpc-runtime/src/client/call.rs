//! Call: the options of one call, and the call itself.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use super::{
    Client, control,
    deadline::Deadline,
    exchange::{Exchange, Lane},
    failure,
};
use crate::{
    Code, Context, DrainReport, Error, Executed, Metadata, Phase, Procedure,
    builtin::{self, TerminateReply},
    context::{InstanceId, inherited_deadline},
    frame::Output,
};

/// Options of one call, which then begins: with [`Call::send`] or [`Call::send_recv`].
///
/// Generated stubs hold one; programs rarely name it.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until the call begins"]
pub struct Call<'a> {
    client: &'a Client,
    timeout: Timeout,
    metadata: Metadata,
    within: Option<Instant>,
    /// The server whose handler makes the call, from a task that it spawned.
    origin: Option<InstanceId>,
}

/// How long a call may take by itself, apart from what it inherits.
#[derive(Clone, Copy, Debug)]
enum Timeout {
    /// What is usual for this kind of call.
    Usual,
    Own(Option<Duration>),
}

/// Options.
impl<'a> Call<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            timeout: Timeout::Usual,
            metadata: Metadata::new(),
            within: None,
            origin: None,
        }
    }

    /// Bounds the call: queue, connect, write and wait together; `None` for no bound of its own.
    ///
    /// Without it, the client's own timeout counts: 30 s, if nothing else was said. A call that is made inside a
    /// handler never takes longer than what is left of the handler's own call, whatever is said here.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = Timeout::Own(timeout.into());
        self
    }

    /// Adds an entry that travels beside the request.
    ///
    /// `value` is text or bytes: a `&'static str`, a `String`, a `Vec<u8>`, [`Bytes`].
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.metadata.insert(key, value);
        self
    }

    /// Inherits the deadline of `cx`, in a task that a handler spawned.
    ///
    /// Calls that the handler makes in its own future inherit it by themselves. A terminate of the handler's own
    /// server returns when the drain begins then, too, so that the handler may wait for the task.
    pub fn within(mut self, cx: &Context) -> Self {
        self.within = earlier(self.within, cx.deadline_instant());
        self.origin = Some(cx.instance());
        self
    }
}

/// Calls.
impl Call<'_> {
    /// Sends `request`, one-way: nothing comes back.
    ///
    /// Resolves when the whole request is in the connection's queue, which is bounded: when the peer does not keep
    /// up, it waits. [`Client::flush`] and [`Client::barrier`] tell what became of it.
    ///
    /// # Errors
    ///
    /// [`Error::executed`] is `No`: a request that fails here was not sent, and never will be.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it resolves has sent nothing, unless it is dropped in the very moment of
    /// resolving; it affects no other call.
    pub async fn send<Req: Message>(self, procedure: &'static Procedure, request: Req) -> Result<(), Error> {
        let mut exchange = self.exchange(procedure, Lane::User)?;
        exchange.send(&request).await
    }

    /// Sends `request` and waits for the reply.
    ///
    /// A call that surely did not run is made once more by itself when its connection was lost or its server is
    /// going, within the same deadline: as long as such calls are few beside those that have their reply.
    ///
    /// # Errors
    ///
    /// [`Error::status`] is `Some` if the peer refused. [`Error::executed`] tells whether the handler ran, whatever
    /// happened; [`Error::phase`] tells how far the call had come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up this call only: the server is told, and a late reply is discarded.
    pub async fn send_recv<Req: Message, Rep: Message + Default>(
        self,
        procedure: &'static Procedure,
        request: Req,
    ) -> Result<Rep, Error> {
        let mut exchange = self.exchange(procedure, Lane::User)?;
        let reply = exchange.call(&request).await?;
        decode(reply.payload).map_err(|error| {
            error
                .with_procedure(procedure.path())
                .with_peer(self.client.peer_or_address())
        })
    }

    /// Tells the server to terminate, one-way: it drains, and nothing comes back.
    ///
    /// As with [`Call::terminate`], a server that has taken the place of the one that this client is connected to is
    /// not terminated.
    ///
    /// # Errors
    ///
    /// As [`Call::send`].
    ///
    /// # Cancel safety
    ///
    /// As [`Call::send`].
    pub async fn send_terminate(self) -> Result<(), Error> {
        let mut exchange = self.exchange(&builtin::TERMINATE, Lane::Control)?;
        let request = control::terminate_request(&exchange);
        exchange.send(&request).await
    }

    /// Tells the server to terminate, and waits until it is drained.
    ///
    /// There is no usual timeout: the server says how long its drain may take, and 5 s more are waited. Until it
    /// has said so, 30 s are.
    ///
    /// It is the server that this client is connected to which is meant, if it is connected: one that was restarted
    /// in between is not terminated.
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if this client may not, UNIMPLEMENTED if the server does not let itself be terminated,
    /// FAILED_PRECONDITION if another has taken its place.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops waiting; a drain that has begun goes on.
    pub async fn terminate(mut self) -> Result<DrainReport, Error> {
        let procedure = &builtin::TERMINATE;
        builtin::mark_origin(&mut self.metadata, self.origin);
        let deadline = self.deadline(None);
        let reply = control::terminate(self.exchange_until(procedure, Lane::Control, deadline)?).await?;
        let reply: TerminateReply =
            decode(reply.payload).map_err(|error| error.with_procedure(procedure.path()))?;
        Ok(reply.into())
    }

    /// Calls the built-in ping.
    pub(super) async fn ping(self, deadline: Deadline) -> Result<(), Error> {
        self.exchange_until(&builtin::PING, Lane::Control, deadline)?
            .call(&())
            .await
            .map(|_| ())
    }

    /// When the call is over, if it takes `usual` unless it says otherwise.
    pub(super) fn deadline(&self, usual: Option<Duration>) -> Deadline {
        let timeout = match self.timeout {
            Timeout::Usual => usual,
            Timeout::Own(timeout) => timeout,
        };
        Deadline::new(
            timeout,
            earlier(self.within, inherited_deadline()),
            Instant::now(),
        )
    }

    fn exchange(&self, procedure: &'static Procedure, lane: Lane) -> Result<Exchange<'_>, Error> {
        self.exchange_until(procedure, lane, self.deadline(self.client.timeout()))
    }

    fn exchange_until(
        &self,
        procedure: &'static Procedure,
        lane: Lane,
        deadline: Deadline,
    ) -> Result<Exchange<'_>, Error> {
        let refused = if deadline.has_passed() {
            failure::expired(&deadline)
        } else if !self.metadata.fits() {
            failure::too_much_metadata().with_phase(Phase::Queue)
        } else {
            return Ok(Exchange::new(
                self.client.channel(),
                procedure,
                &self.metadata,
                deadline,
                lane,
            ));
        };
        Err(refused
            .with_procedure(procedure.path())
            .with_peer(self.client.peer_or_address()))
    }
}

/// Reads a reply: fields of a small one are copied, for a slice would pin the whole read buffer.
fn decode<Rep: Message + Default>(payload: Bytes) -> Result<Rep, Error> {
    let result = if payload.len() < Output::BY_REFERENCE {
        Rep::decode(&payload[..])
    } else {
        Rep::decode(payload)
    };
    result.map_err(|error| {
        Error::local(
            Code::Internal,
            "the reply is no message of the procedure's type: is the peer's .proto another?",
        )
        .with_executed(Executed::Yes)
        .with_phase(Phase::Wait)
        .with_source(error)
    })
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
