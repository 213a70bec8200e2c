//! SendTurn: how long a task has sent messages of a stream without a pause.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::{coop, yield_now},
    time::Instant,
};

/// How long a task has sent messages of a stream without a pause.
///
/// Meanwhile the driver may not run: it is left asleep while a handler is polled (see `Session::with_driver_asleep`), and elsewhere it
/// may wait for the same thread. So the messages of a stream that computes for long between them would wait until many are ready.
#[derive(Default)]
pub(crate) struct SendTurn {
    /// When it was polled first after a pause; none after a pause.
    begun: Option<Instant>,
    /// How long it had lasted at the last look at the clock.
    looked: Duration,
    /// How many messages may be sent before the next look.
    quick: u32,
}

impl SendTurn {
    /// Waits for `poll` to be ready. If it is not ready at once, the wait is a pause.
    #[inline]
    pub(crate) async fn run<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
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
    pub(crate) fn is_to_look(&mut self) -> bool {
        let is_to_look = self.quick == 0;
        self.quick = self.quick.saturating_sub(1);
        is_to_look
    }

    /// Yields when the turn is long: to the driver after [`LONG`], and to other tasks after many messages.
    pub(crate) async fn end_if_long(&mut self) {
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
