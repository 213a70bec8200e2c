//! Replies: from a handler's stream to the messages of its call.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use prost::Message;
use tokio::{
    task::{coop, yield_now},
    time::Instant,
};

use super::decoding::unencodable;
use crate::message::procedure::Procedure;
use crate::{
    Code, Result, Status,
    conn::{CallId, Unsent},
    driver::Clock,
    message::nesting,
    session::Session,
    wire::compression::Outgoing,
};

/// Sends a handler's stream to its caller; generated code holds one.
#[must_use = "nothing is sent until a stream is forwarded"]
pub struct Replies<T> {
    session: Arc<Session>,
    id: CallId,
    procedure: &'static Procedure,
    message: PhantomData<fn(T)>,
}

impl<T: Message + 'static> Replies<T> {
    pub(crate) fn new(session: Arc<Session>, id: CallId, procedure: &'static Procedure) -> Self {
        Self {
            session,
            id,
            procedure,
            message: PhantomData,
        }
    }

    /// Sends the messages of `stream` to the caller, until its end or its first error.
    ///
    /// It runs in the handler's own future, so the stream may borrow what that owns. It takes a message from the stream
    /// only when the message before is queued for the caller.
    ///
    /// # Errors
    ///
    /// The error that the stream returned; RESOURCE_EXHAUSTED for a message that is longer than the caller accepts; INTERNAL for
    /// a message that is nested too deep to be parsed; CANCELLED if the caller is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the stream; messages taken from it before are sent, perhaps but for the last.
    pub async fn forward(self, stream: impl Stream<Item = Result<T>>) -> Result<()> {
        let mut stream = pin!(stream);
        let mut turn = ForwardTurn::default();
        while let Some(message) = turn.run(|cx| stream.as_mut().poll_next(cx)).await {
            let message = message?;
            if !self.add(&message) {
                self.send(&message, &mut turn).await?;
            }
            if turn.is_to_look() {
                turn.end_if_long().await;
            }
        }
        Ok(())
    }

    /// Adds `message` to the frame that holds the last one, as long as the driver has not taken that. Returns false if it has to
    /// be sent.
    #[inline]
    fn add(&self, message: &T) -> bool {
        self.session.server().compression().is_none()
            && nesting::check(self.procedure.reply_nesting(), message).is_ok()
            && self.session.shared().add_data(self.id, message)
    }

    async fn send(&self, message: &T, turn: &mut ForwardTurn) -> Result<()> {
        nesting::check(self.procedure.reply_nesting(), message)
            .map_err(|text| unencodable("message", self.procedure, &text))?;
        let message = Outgoing::new(message, self.session.compression());
        let sent = turn.run(|cx| {
            self.session.with(Clock::Recent, |conn, now| {
                conn.poll_data(self.id, &message, now, cx)
            })
        });
        sent.await.map_err(|unsent| match unsent {
            Unsent::TooLong { len, max } => Status::new(
                Code::ResourceExhausted,
                format!(
                    "message of {len} bytes of {} exceeds the caller's limit of {max}",
                    self.procedure.path()
                ),
            ),
            Unsent::Over(_) => Status::new(Code::Cancelled, "the call is over"),
        })
    }
}

/// How long a handler has been polled without a pause.
///
/// Meanwhile the driver sleeps (see `Session::with_driver_asleep`), so the messages of a stream that computes for long between
/// them would wait until many are ready.
#[derive(Default)]
struct ForwardTurn {
    /// When it was polled first after a pause; none after a pause.
    begun: Option<Instant>,
    /// How long it had lasted at the last look at the clock.
    looked: Duration,
    /// How many messages may be sent before the next look.
    quick: u32,
}

impl ForwardTurn {
    /// Waits for `poll` to be ready. If it is not ready at once, the wait is a pause.
    async fn run<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| {
            self.begun.get_or_insert_with(Instant::now);
            let poll = poll(cx);
            if poll.is_pending() {
                *self = Self::default();
            }
            poll
        })
        .await
    }

    /// Notes a message. Returns true unless the last ones were quick, and few since the last look at the clock.
    #[inline]
    fn is_to_look(&mut self) -> bool {
        let is_to_look = self.quick == 0;
        self.quick = self.quick.saturating_sub(1);
        is_to_look
    }

    /// Yields when the turn is long: to the driver after [`LONG`], and to other tasks after many messages.
    async fn end_if_long(&mut self) {
        if let Some(begun) = self.begun {
            let lasted = begun.elapsed();
            if lasted > LONG {
                *self = Self::default();
                return yield_now().await;
            }
            let since = lasted.saturating_sub(self.looked);
            self.looked = lasted;
            self.quick = if since < LONG / 16 { QUICK } else { 0 };
        }
        // Otherwise a stream that always has more would never yield.
        coop::consume_budget().await;
    }
}

/// The longest time that a message waits for those behind it.
const LONG: Duration = Duration::from_millis(1);
/// The number of messages sent without a look at the clock after a quick one: a look costs a good part of what a short message
/// costs.
const QUICK: u32 = 7;

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("procedure", &self.procedure)
            .finish_non_exhaustive()
    }
}
