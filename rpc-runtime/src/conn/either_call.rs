//! Either call: a call of this side or of the peer. Most rules of streams are the same for both.

use std::task::{Context, Poll};

use super::{
    Next, Side, Unsent, Unwanted,
    assembly::Assembly,
    ours::Ours,
    step::{Step, Violation, protocol},
    streams::{flow::Flow, inbox::InboxUse, outflow::Outflow},
    theirs::{TheirRequest, Theirs, dropped_status},
};
use crate::{Code, Priority, Status};

/// The call with a certain id. The parity of the id says whose call it is, and that is decided once, here.
#[derive(Debug)]
pub(super) enum EitherCall<'a> {
    /// A call of this side, if there is one with this id.
    Ours(u64, &'a mut Ours),
    /// A request of the peer, if there is one with this id.
    Theirs(u64, &'a mut Theirs),
}

/// A stream that is read.
#[derive(Debug)]
pub(super) struct ReadStream<'a> {
    pub(super) flow: &'a mut Flow,
    /// What is held of all streams of its side.
    pub(super) held: &'a mut InboxUse,
    /// True if a call of ours has no outcome yet.
    pub(super) is_waiting: bool,
}

impl<'a> EitherCall<'a> {
    /// The call with this id; `side` is this side.
    #[inline]
    pub(super) fn new(side: Side, id: u64, ours: &'a mut Ours, theirs: &'a mut Theirs) -> Self {
        match side.gives(id) {
            true => Self::Ours(id, ours),
            false => Self::Theirs(id, theirs),
        }
    }

    /// The message that is being read for it.
    #[inline]
    pub(super) fn assembly(self) -> Option<&'a mut Assembly> {
        match self {
            Self::Ours(id, ours) => ours.assembly(id),
            Self::Theirs(id, theirs) => theirs.assembly(id),
        }
    }

    /// Its streams, and what is held of all streams of its side.
    pub(super) fn flow(self) -> Option<(&'a mut Flow, &'a mut InboxUse)> {
        match self {
            Self::Ours(id, ours) => ours.flow_mut(id),
            Self::Theirs(id, theirs) => theirs.flow_mut(id),
        }
    }

    /// The stream that this side reads.
    ///
    /// # Errors
    ///
    /// What its reader gets if there is none.
    #[inline]
    pub(super) fn read_stream(self) -> Result<ReadStream<'a>, Next> {
        let found = match self {
            Self::Ours(id, ours) => ours.read_flow(id),
            Self::Theirs(id, theirs) => {
                let Some((request, held)) = theirs.call_mut(id) else {
                    let text = "the call is over: its handler has ended";
                    return Err(Next::Broken(Status::new(Code::Cancelled, text)));
                };
                if let Some(status) = broken_status(request) {
                    return Err(Next::Broken(status));
                }
                request.flow.as_deref_mut().map(|flow| (flow, held, false))
            }
        };
        let (flow, held, is_waiting) = found.ok_or(Next::End)?;
        Ok(ReadStream {
            flow,
            held,
            is_waiting,
        })
    }

    /// The streams of a call that may send more, with the priority of that. A handler's stream begins here; the peer has
    /// granted `granted` bytes of it.
    #[inline]
    pub(super) fn send_stream(&mut self, granted: u64) -> Option<(Priority, &mut Flow)> {
        match self {
            Self::Ours(id, ours) => {
                let (flow, _) = ours.waiting_flow_mut(*id)?;
                Some((flow.priority, flow))
            }
            Self::Theirs(id, theirs) => {
                let request = theirs.get_mut(*id).filter(|request| request.may_stream())?;
                let priority = request.priority;
                let flow = request.flow.get_or_insert_default();
                flow.outflow.get_or_insert_with(|| Outflow::new(granted));
                Some((priority, flow))
            }
        }
    }

    /// What it sends, if it may send more, has begun, and need not know when each message moves.
    #[inline]
    pub(super) fn begun_stream(self) -> Option<&'a mut Outflow> {
        let flow = match self {
            Self::Ours(id, ours) => ours.waiting_flow_mut(id)?.0,
            Self::Theirs(id, theirs) => {
                let request = theirs.get_mut(id).filter(|request| request.may_stream())?;
                request.flow.as_deref_mut()?
            }
        };
        match flow.idle() {
            None => flow.outflow.as_mut(),
            Some(_) => None,
        }
    }

    /// What it sends; a handler's stream begins here, and the peer has granted `granted` bytes of it.
    pub(super) fn outflow(self, granted: u64) -> Option<&'a mut Outflow> {
        match self {
            Self::Ours(id, ours) => ours.flow_mut(id)?.0.outflow.as_mut(),
            Self::Theirs(id, theirs) => {
                let (request, _) = theirs.call_mut(id)?;
                let flow = request.flow.get_or_insert_default();
                Some(flow.outflow.get_or_insert_with(|| Outflow::new(granted)))
            }
        }
    }

    /// Ready when nothing more of its stream can be sent; `is_live` says whether the connection is.
    pub(super) fn poll_unsendable(self, is_live: bool, granted: u64, cx: &Context<'_>) -> Poll<Unsent> {
        if !is_live || !self.may_send() {
            return Poll::Ready(self.why_over());
        }
        if let Some(outflow) = self.outflow(granted) {
            outflow.wait(cx);
        }
        Poll::Pending
    }

    /// Ends its stream: true if END goes out now, and does not follow the rest of a message, which `is_unfinished`.
    #[must_use]
    pub(super) fn finish(self, granted: u64, is_unfinished: bool) -> bool {
        if !self.may_send() {
            return false;
        }
        let Some(outflow) = self.outflow(granted).filter(|outflow| !outflow.is_ended()) else {
            return false;
        };
        match is_unfinished {
            true => outflow.want_end(),
            false => outflow.put_end(),
        }
        !is_unfinished
    }

    /// True if more of its stream may be sent, as far as the call is concerned.
    fn may_send(&self) -> bool {
        match self {
            Self::Ours(id, ours) => ours.is_waiting(*id),
            Self::Theirs(id, theirs) => theirs.get(*id).is_some_and(TheirRequest::may_stream),
        }
    }

    /// Takes in `bytes` of credit for its stream; the peer granted `granted` when the stream began.
    pub(super) fn receive_credit(
        self,
        bytes: u64,
        granted: u64,
        step: &mut Step<'_>,
    ) -> Result<(), Violation> {
        let (id, last_id) = match &self {
            Self::Ours(id, ours) => (*id, ours.last_id()),
            Self::Theirs(id, theirs) => (*id, theirs.last_id()),
        };
        if id > last_id {
            return protocol(format!("CREDIT for id {id}, which was never opened"));
        }
        if !self.takes_credit() {
            // It crossed the REPLY, which happens all the time.
            return Ok(());
        }
        let Some(outflow) = self.outflow(granted) else {
            return step.fault(|counts| &counts.other_faults, "CREDIT for what is no stream");
        };
        step.wakes.woken().push(outflow.grant(bytes));
        Ok(())
    }

    fn takes_credit(&self) -> bool {
        match self {
            Self::Ours(id, ours) => ours.is_open(*id),
            // Only handlers know which of the peer's calls are answered by a stream, and the peer may grant more than its
            // window before they begin.
            Self::Theirs(id, theirs) => theirs.get(*id).is_some_and(TheirRequest::is_wanted),
        }
    }

    /// Why nothing more of its stream goes out; a handler learns that it is no longer wanted.
    #[cold]
    pub(super) fn end_sender(&mut self) -> Unsent {
        if let Self::Theirs(id, theirs) = self {
            let request = theirs.get_mut(*id);
            if let Some(request) = request.filter(|request| request.unwanted.is_some()) {
                request.flow.get_or_insert_default().knows_unwanted = true;
            }
        }
        self.why_over()
    }

    /// Why nothing more of its stream goes out.
    fn why_over(&self) -> Unsent {
        Unsent::Over(match self {
            Self::Ours(id, ours) => ours.failure(*id).cloned(),
            Self::Theirs(..) => None,
        })
    }
}

/// Why the stream of a handler's call cannot be read on; the handler learns it.
fn broken_status(request: &mut TheirRequest) -> Option<Status> {
    if let Some(unwanted) = request.unwanted {
        request.flow.get_or_insert_default().knows_unwanted = true;
        return Some(match unwanted {
            Unwanted::Cancelled => Status::new(Code::Cancelled, GIVEN_UP),
            unwanted => dropped_status(Some(unwanted)),
        });
    }
    match request.flow.as_ref().filter(|flow| flow.inflow.is_some()) {
        Some(flow) => flow.broken.clone(),
        None => Some(Status::new(Code::Internal, "the call has no stream of requests")),
    }
}

/// What a handler reads from a stream that its caller has given up.
const GIVEN_UP: &str = "the caller gave up before the end of its requests: it cancelled the call, or dropped its Sender without finish()";
