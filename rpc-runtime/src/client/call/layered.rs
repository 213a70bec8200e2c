//! Layered: a call on its way through the middleware of its client.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    client_call::{CallKind, ClientCall},
    in_flight::{CallClass, InFlightCall},
    receipt::Receipt,
    reopen::again,
    stream_call::{CallInfo, StreamCall},
    stream_slot::{Opened, StreamSlot},
    try_watch::{self, TryWatch},
};
use crate::{
    Code, Error, Executed, Phase, Procedure, Status,
    client::{channel::Channel, deadline::Deadline, errors, timer::LocalTimer},
    conn::ReceivedReply,
    layer::{Answer, AnswerFuture, Chain, Last, Next, Running, SentTry, Tries},
    message::decode::DecodeFailure,
    trace,
    wire::frame::Encoded,
};

/// A call on its way through middleware, within its deadline.
// Written by hand, because an `async` block would hold the call twice, and its type has no name.
pub(super) struct LayeredCall {
    rest: Running<ClientCall>,
    about: AboutCall,
    deadline: Deadline,
    /// The streams of the call, if it has any.
    slot: Option<Arc<StreamSlot>>,
    /// Fires when the deadline is over; none as long as the call need not be woken then.
    timer: Option<LocalTimer>,
    is_late: bool,
}

impl LayeredCall {
    /// A call that has not begun.
    pub(super) fn new(chain: Arc<Chain<ClientCall>>, call: ClientCall) -> Self {
        Self {
            about: AboutCall {
                channel: Arc::clone(&call.channel),
                procedure: call.procedure,
                tries: Arc::clone(&call.tries),
            },
            deadline: call.deadline,
            slot: match &call.kind {
                CallKind::Streams(slot) => Some(Arc::clone(slot)),
                CallKind::OneWay | CallKind::Reply => None,
            },
            rest: Next::all(chain).runs(call),
            timer: None,
            is_late: false,
        }
    }

    /// Ready when middleware waits for something else than a try after the deadline, whose end the connection tells.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.deadline.at() else {
            return Poll::Pending;
        };
        if !self.is_late {
            let timer = self
                .timer
                .get_or_insert_with(|| LocalTimer::new(at + AFTER_DEADLINE));
            ready!(timer.poll(cx));
            self.is_late = true;
        }
        // What has arrived before the deadline may be read after it.
        match &self.slot {
            Some(slot) if slot.is_read() => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}

/// Nothing in it is ever pinned.
impl Unpin for LayeredCall {}

impl Future for LayeredCall {
    type Output = Result<Answer, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let watch = TryWatch::begin(&this.about.tries, cx);
        let polled = Pin::new(&mut this.rest).poll(cx);
        let is_woken = watch.end();
        let ended = match polled {
            Poll::Ready(ended) => ended,
            // The connection ends the try at the deadline, and wakes this task.
            Poll::Pending if is_woken => return Poll::Pending,
            Poll::Pending => {
                ready!(this.poll_late(cx));
                this.rest.give_up();
                Err(this.about.late(&this.deadline))
            }
        };
        Poll::Ready(ended.map_err(|error| this.about.complete(error)))
    }
}

/// What an error tells of its call.
struct AboutCall {
    channel: Arc<Channel>,
    procedure: &'static Procedure,
    tries: Arc<Tries>,
}

impl AboutCall {
    fn late(&self, deadline: &Deadline) -> Error {
        let text = format!("not ended within {deadline}: its middleware still waited");
        let phase = if self.tries.may_have_run() {
            Phase::Wait
        } else {
            Phase::Queue
        };
        Error::local(Code::DeadlineExceeded, text).with_phase(phase)
    }

    /// Adds what middleware does not say. An error never says `No` if one of the tries may have run.
    fn complete(&self, mut error: Error) -> Error {
        if error.executed() == Executed::No && self.tries.may_have_run() {
            error = error.with_executed(Executed::Maybe);
        }
        if error.procedure().is_none() {
            error = error
                .with_procedure(self.procedure.path())
                .with_peer(self.channel.peer_or_address());
        }
        error
    }
}

/// Makes a call on a connection, behind all middleware.
pub(in crate::client) struct MakeCall;

impl Last<ClientCall> for MakeCall {
    fn run(&self, call: ClientCall) -> AnswerFuture<ClientCall> {
        let tries = Arc::clone(&call.tries);
        // A call with streams also waits for its reader, and the connection does not end that.
        let ends_by_itself = !matches!(call.kind, CallKind::Streams(_));
        Box::pin(async move {
            tries.begin();
            let mut try_ = pin!(make(call));
            let result = poll_fn(|cx| {
                let polled = try_.as_mut().poll(cx);
                if polled.is_pending() && ends_by_itself {
                    try_watch::note_pending(&tries, cx);
                }
                polled
            })
            .await;
            tries.ended(&result);
            result
        })
    }
}

async fn make(call: ClientCall) -> Result<Answer, Error> {
    let ClientCall {
        channel,
        procedure,
        message,
        more,
        deadline,
        options,
        kind,
        tries,
    } = call;
    let mut call = InFlightCall::new(&channel, procedure, more, deadline, CallClass::User, options);
    call.check()?;
    match kind {
        CallKind::OneWay => {
            call.send(&message).await?;
            let (after, id) = (elapsed(&deadline), None);
            tries.note_sent(SentTry { after, id });
            Ok(Answer::default())
        }
        CallKind::Reply => {
            let mut last = None;
            let reply = poll_fn(|cx| {
                let polled = call.poll_call(&message, cx);
                match call.on() {
                    Some((on, id)) if last != Some(id) => {
                        let after = elapsed(&deadline);
                        tries.note_sent(SentTry {
                            after,
                            id: Some(id.0),
                        });
                        if last.replace(id).is_none() && trace::is_on() {
                            trace::note_call(&on.peer, id.0);
                        }
                    }
                    _ => {}
                }
                polled
            })
            .await?;
            let budget = call.budget();
            answer(reply)
                .map(|answer| answer.with_budget(budget))
                .map_err(|error| call.locate(error))
        }
        CallKind::Streams(slot) => {
            if slot.is_open() {
                let status = Status::failed_precondition(
                    "the streams of this call were open already: make it again only if it failed to open",
                );
                return Err(call.locate(status.into()));
            }
            let (on, id) = call.open(&message).await?;
            let after = elapsed(&deadline);
            tries.note_sent(SentTry {
                after,
                id: Some(id.0),
            });
            let more = call.take_more();
            drop(call);
            let about = CallInfo {
                channel: Arc::clone(&channel),
                procedure,
                deadline,
                options,
                resent: None,
            };
            let reopen = (!procedure.has_request_stream()).then(|| again(about.clone(), more, message));
            slot.open(Opened {
                call: StreamCall::new(on, id, about),
                reopen,
            });
            slot.ended().await
        }
    }
}

/// The time since a call began.
fn elapsed(deadline: &Deadline) -> Duration {
    deadline.begun().map_or(Duration::ZERO, |begun| begun.elapsed())
}

/// The answer that a reply is for middleware.
pub(super) fn answer(mut reply: ReceivedReply) -> Result<Answer, Error> {
    let receipt = Receipt::take(&mut reply);
    let message = reply
        .payload
        .decompress()
        .map_err(|error| errors::unreadable_reply(DecodeFailure::Compressed(error)))?;
    Ok(receipt.into_answer(message))
}

/// The reply that an answer is for the caller.
pub(super) fn reply(answer: Answer) -> (Encoded, Receipt) {
    let receipt = Receipt::of_answer(&answer);
    let (message, _) = answer.into_parts();
    (Encoded::plain(message.0), receipt)
}

/// The middleware of a call with streams, while the caller reads them.
pub(super) struct LayeredStreams {
    running: LayeredCall,
    slot: Arc<StreamSlot>,
    /// True once the middleware knows how the streams ended.
    is_told: bool,
}

impl LayeredStreams {
    /// Opens a call with streams through its middleware.
    pub(super) async fn open(
        chain: Arc<Chain<ClientCall>>,
        call: ClientCall,
        slot: Arc<StreamSlot>,
    ) -> Result<(Opened, Box<Self>), Error> {
        let mut layered = Box::new(Self {
            running: LayeredCall::new(chain, call),
            slot,
            is_told: false,
        });
        let opened = poll_fn(|cx| {
            let ended = Pin::new(&mut layered.running).poll(cx);
            match (layered.slot.take_opened(), ended) {
                (Some(opened), Poll::Pending) => Poll::Ready(Ok(opened)),
                (_, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (_, Poll::Ready(Ok(_))) => Poll::Ready(Err(too_early())),
                (None, Poll::Pending) => Poll::Pending,
            }
        });
        let opened = opened.await?;
        Ok((opened, layered))
    }

    /// Ready when the middleware has ended the call, perhaps before the end of the streams.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Error>> {
        let ended = ready!(Pin::new(&mut self.running).poll(cx));
        Poll::Ready(match ended {
            Ok(_) if !self.is_told => Err(too_early()),
            ended => ended,
        })
    }

    /// True once the middleware knows how the streams ended.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    /// Tells the middleware how the streams ended.
    pub(super) fn tell(&mut self, end: Result<Answer, Error>) {
        self.is_told = true;
        self.slot.end(end);
    }
}

fn too_early() -> Error {
    Error::from(Status::internal(
        "middleware ended a call before its streams: await `next.run(call)`, or return an error",
    ))
}

/// How much later than the connection the middleware of a call notices its deadline.
const AFTER_DEADLINE: Duration = Duration::from_millis(10);
