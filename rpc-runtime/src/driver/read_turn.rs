//! ReadTurn: how many messages of a stream a task may read before it asks whether other tasks are to run.

use std::task::{Context, Poll, ready};

use tokio::task::coop;

/// How many messages of a stream a task may read before it asks whether other tasks are to run.
///
/// A loop that reads must let other tasks run. But to ask costs much, compared with a short message.
#[derive(Debug, Default)]
pub(crate) struct ReadTurn(u8);

impl ReadTurn {
    /// Ready if the task may read a message now. If it is pending, the task is woken when other tasks have had their turn.
    #[inline]
    pub(crate) fn poll_proceed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.checked_sub(1) {
            Some(left) => self.0 = left,
            None => {
                ready!(coop::poll_proceed(cx)).made_progress();
                self.0 = WITHOUT_ASKING;
            }
        }
        Poll::Ready(())
    }
}

/// How many messages are read without asking.
const WITHOUT_ASKING: u8 = 7;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_task_reads_many_messages_and_then_lets_others_run() {
        let read = poll_fn(|cx| {
            let mut budget = 0;
            while coop::has_budget_remaining()
                && coop::poll_proceed(cx).map(|coop| coop.made_progress()).is_ready()
            {
                budget += 1;
            }
            Poll::Ready(budget)
        });
        let budget = tokio::spawn(read).await.unwrap();
        let read = poll_fn(|cx| {
            let (mut turn, mut read) = (ReadTurn::default(), 0);
            while turn.poll_proceed(cx).is_ready() {
                read += 1;
            }
            Poll::Ready(read)
        });
        assert_eq!(tokio::spawn(read).await.unwrap(), 8 * budget);
    }
}
