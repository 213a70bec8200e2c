//! CallSlot: where a call lies while its middleware decides, and how its handler ended.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Incoming, RareParts, Start};
use crate::{
    Code, Context, Metadata, Result, Status,
    api::server_limit::ServerLimit,
    base::{panic::Panic, rare_part::RarePart},
    conn::{End, RefusalReason, Unstarted},
    layer::{Answer, RawMessage},
    wire::frame::Encoded,
};

/// Where a call lies while its middleware decides, and how its handler ended.
///
/// Middleware may drop what it was given at any point. The call itself lies here, and the handler has a copy that reports to it. So
/// the call ends exactly once, as the middleware decides, also if a task that the middleware has spawned still runs the handler.
pub(in crate::session) struct CallSlot(Mutex<Content>);

#[derive(Default)]
struct Content {
    /// None once it has ended.
    call: Option<Incoming>,
    /// True once a handler has it.
    is_lent: bool,
    /// How the handler ended; none before, and if it was dropped.
    end: Option<Result<RawMessage>>,
    /// Why the handler did not start, if it refused the call itself.
    reason: Option<RefusalReason>,
    /// True if the handler did not start because the call is no longer wanted.
    is_unwanted: bool,
}

/// The slot to which a call goes back when its handler has ended.
pub(super) struct LayeredPart {
    slot: Arc<CallSlot>,
    /// The handler's context, as middleware has changed it.
    pub(super) context: Context,
}

impl LayeredPart {
    /// Tells the call in the slot, and those of the middleware around it, that the handler has started.
    pub(super) fn note_start(&self, start: Start) {
        if let Some(call) = &mut self.slot.lock().call {
            call.start = start;
            if let Some(outer) = call.layered() {
                outer.note_start(start);
            }
        }
    }
}

/// How a handler ended that has middleware around it.
pub(super) enum HandlerEnd {
    Replied(RawMessage),
    Failed(Status),
    /// It did not start.
    Refused(Status, RefusalReason),
    /// It did not start, because the call is no longer wanted.
    Unwanted,
    Dropped,
}

impl HandlerEnd {
    pub(super) fn of(end: End<'_>) -> Self {
        match end {
            End::Refused { status, reason } => Self::Refused(status.clone(), reason),
            End::Failed(status) | End::Reported { status, .. } => Self::Failed(status.clone()),
            End::Dropped => Self::Dropped,
        }
    }
}

impl CallSlot {
    /// Takes the call for its handler; none if a handler has or had it.
    pub(in crate::session) fn take(self: &Arc<Self>, context: Context, payload: Encoded) -> Option<Incoming> {
        let mut content = self.lock();
        if mem::replace(&mut content.is_lent, true) {
            return None;
        }
        let part = LayeredPart {
            slot: Arc::clone(self),
            context,
        };
        Some(content.call.as_ref()?.lend(part, payload))
    }

    /// True if the handler has started; also once the call has ended.
    pub(in crate::session) fn has_started(&self) -> bool {
        let content = self.lock();
        match &content.call {
            Some(call) => call.start != Start::NotYet,
            None => true,
        }
    }

    /// How the handler ended.
    pub(in crate::session) fn take_end(&self) -> Result<Answer> {
        let mut content = self.lock();
        match content.end.take() {
            Some(end) => end.map(Answer::encoded),
            None if content.is_unwanted => Err(Status::cancelled("the call is no longer wanted")),
            None => Err(Status::internal("the handler was dropped")),
        }
    }

    /// Ends the call as its middleware has decided.
    pub(in crate::session) async fn end(&self, decision: Result<Result<Answer>, Panic>) {
        let (call, reason, is_unwanted) = {
            let mut content = self.lock();
            (content.call.take(), content.reason.take(), content.is_unwanted)
        };
        let Some(mut call) = call else { return };
        match decision {
            _ if is_unwanted => drop(call),
            Ok(Ok(answer)) => call.answer(answer).await,
            Ok(Err(status)) => call.end_by(&status, reason).await,
            Err(panic) => call.panicked(panic.text()),
        }
    }

    /// Notes how the handler ended. The call may have ended before, if middleware did not wait for the handler.
    fn put(&self, start: Start, end: HandlerEnd) {
        let mut content = self.lock();
        if let Some(call) = &mut content.call {
            call.start = start;
        }
        match end {
            HandlerEnd::Replied(message) => content.end = Some(Ok(message)),
            HandlerEnd::Failed(status) => content.end = Some(Err(status)),
            HandlerEnd::Refused(status, reason) => {
                content.end = Some(Err(status));
                content.reason = Some(reason);
            }
            HandlerEnd::Unwanted => content.is_unwanted = true,
            HandlerEnd::Dropped => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Calls with middleware.
impl Incoming {
    /// Puts the call into a slot. Returns the slot, and what middleware sees of the call.
    pub(in crate::session) fn into_slot(mut self) -> (Arc<CallSlot>, Context, Encoded) {
        let context = self.take_context();
        let payload = mem::take(&mut self.payload);
        let content = Content {
            call: Some(self),
            ..Content::default()
        };
        (Arc::new(CallSlot(Mutex::new(content))), context, payload)
    }

    /// Makes a copy for the handler, which reports to `part` in place of the connection.
    fn lend(&self, part: LayeredPart, payload: Encoded) -> Self {
        Self {
            session: Arc::clone(&self.session),
            payload,
            open: true,
            rare: RarePart::some(Box::new(RareParts {
                layered: Some(part),
                trace: self.trace().cloned(),
                ..RareParts::default()
            })),
            ..*self
        }
    }

    /// Gives the call back to its middleware.
    pub(super) fn give_back(&mut self, layered: &LayeredPart, end: HandlerEnd) {
        self.open = false;
        layered.slot.put(self.start, end);
    }

    /// Ends a call whose handler has not started: it is no longer wanted.
    pub(super) fn unwanted(mut self) {
        if let Some(layered) = self.take_layered() {
            self.give_back(&layered, HandlerEnd::Unwanted);
        }
    }

    /// Ends the call by an answer, perhaps one that middleware made in the handler's place.
    async fn answer(&mut self, answer: Answer) {
        if self.start == Start::NotYet {
            match self.start() {
                Ok(()) => {}
                Err(Unstarted::Unwanted) => return,
                Err(Unstarted::Memory) => return self.refuse_for_memory(),
            }
        }
        let (message, metadata) = answer.into_parts();
        if !metadata.is_empty() && !self.one_way {
            let context = self.context(Metadata::new());
            for (key, value) in metadata {
                if let Err(status) = context.add_reply_metadata(key, value) {
                    return self.fail(&status).await;
                }
            }
        }
        self.reply(&message).await;
    }

    /// Ends the call by `status`: as a refusal if its handler has not started.
    async fn end_by(&mut self, status: &Status, reason: Option<RefusalReason>) {
        if self.start != Start::NotYet {
            return self.fail(status).await;
        }
        let reason = reason.unwrap_or_else(|| match status.code() {
            Code::ResourceExhausted | Code::Unavailable => RefusalReason::Over(ServerLimit::Middleware),
            _ => RefusalReason::Rule,
        });
        self.refuse(status, reason);
    }
}
