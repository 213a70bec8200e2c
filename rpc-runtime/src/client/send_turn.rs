//! Send turn: how long a task that sends a stream may go on before what it has goes out.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::{coop, yield_now},
    time::Instant,
};

/// How long a task that sends a stream has been polled without a pause.
///
/// The messages of a stream that computes for long between them would otherwise wait until many are ready. The driver sleeps while
/// a handler is polled (`Session::with_driver_asleep`).
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
    pub(crate) async fn run<T>(&mut self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| {
            self.begin();
            let poll = poll(cx);
            if poll.is_pending() {
                self.pause();
            }
            poll
        })
        .await
    }

    /// Notes a poll: the first after a pause begins a turn.
    pub(super) fn begin(&mut self) {
        self.begun.get_or_insert_with(Instant::now);
    }

    /// Notes a pause.
    pub(super) fn pause(&mut self) {
        *self = Self::default();
    }

    /// Notes that a message is ready to go; returns whether the turn is over.
    #[inline]
    pub(super) fn is_long(&mut self) -> bool {
        if self.quick > 0 {
            self.quick -= 1;
            return false;
        }
        self.look()
    }

    fn look(&mut self) -> bool {
        let lasted = self.begun.map_or(Duration::ZERO, |begun| begun.elapsed());
        let since = lasted.saturating_sub(self.looked);
        self.looked = lasted;
        self.quick = if since < LONG / 16 { QUICK } else { 0 };
        lasted > LONG
    }

    /// Yields when the turn is long: to the driver after [`LONG`], and to other tasks after much.
    pub(crate) async fn end_if_long(&mut self) {
        if self.is_long() {
            self.pause();
            return yield_now().await;
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
