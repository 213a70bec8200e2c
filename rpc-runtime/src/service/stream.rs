//! A stream written as straight code.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_core::Stream;

use crate::Result;

/// Makes a stream of what `write` sends: for handlers that answer by one.
///
/// `write` runs only while the stream is read, and gets no further than the message that is wanted. Its error is the
/// stream's last item.
///
/// ```
/// use rpc_runtime::{Context, Result, Stream, stream};
///
/// struct Clock {
///     ticks: u32,
/// }
///
/// impl Clock {
///     // As the method of a generated trait: the stream may borrow from `self` and `cx`.
///     async fn rpc_tick(&self, cx: &Context) -> Result<impl Stream<Item = Result<u32>> + Send> {
///         Ok(stream(async move |out| {
///             for tick in 0..self.ticks {
///                 if cx.is_draining() {
///                     break;
///                 }
///                 out.send(tick).await;
///             }
///             Ok(())
///         }))
///     }
/// }
/// ```
pub fn stream<T, F, Fut>(write: F) -> impl Stream<Item = Result<T>>
where
    F: FnOnce(Out<T>) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let slot = Arc::new(Mutex::new(None));
    Written {
        state: State::Writing(Box::pin(write(Out(Arc::clone(&slot))))),
        slot,
    }
}

/// What the code of a [`stream`](stream()) sends into.
pub struct Out<T>(Arc<Mutex<Option<T>>>);

impl<T> Out<T> {
    /// Gives `message` to the stream, and goes on when the next one is wanted.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it was polled has sent nothing; one that was polled has sent its message.
    pub async fn send(&self, message: T) {
        let mut message = Some(message);
        std::future::poll_fn(|_| {
            let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match (message.take(), &mut *slot) {
                (None, None) => Poll::Ready(()),
                (None, Some(_)) => Poll::Pending,
                (Some(new), empty @ None) => {
                    *empty = Some(new);
                    Poll::Pending
                }
                // Two sends at once: this one waits for the other.
                (Some(new), Some(_)) => {
                    message = Some(new);
                    Poll::Pending
                }
            }
        })
        .await;
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

/// The stream of [`stream`](stream()).
struct Written<T, Fut> {
    state: State<Fut>,
    slot: Arc<Mutex<Option<T>>>,
}

enum State<Fut> {
    Writing(Pin<Box<Fut>>),
    /// It has ended, perhaps by an error that nobody has read.
    Ended(Result<()>),
}

impl<T, Fut: Future<Output = Result<()>>> Stream for Written<T, Fut> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let this = self.get_mut();
        if let State::Writing(writer) = &mut this.state {
            if let Poll::Ready(result) = writer.as_mut().poll(cx) {
                this.state = State::Ended(result);
            }
        }
        // Before the end, even if nobody awaited its sending to the end.
        if let Some(message) = this.slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Poll::Ready(Some(Ok(message)));
        }
        match &mut this.state {
            State::Writing(_) => Poll::Pending,
            State::Ended(result) => Poll::Ready(std::mem::replace(result, Ok(())).err().map(Err)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;
    use crate::{Code, Status};

    #[tokio::test]
    async fn a_written_stream_gives_what_was_sent_and_then_its_error() {
        let (first, second) = (String::from("one"), String::from("two"));
        // It borrows.
        let written = stream(async |out| {
            out.send(first.as_str()).await;
            tokio::task::yield_now().await;
            out.send(second.as_str()).await;
            Err(Status::new(Code::DataLoss, "no more"))
        });
        let mut written = pin!(written);
        let mut next = async || poll_fn(|cx| written.as_mut().poll_next(cx)).await;
        assert_eq!(next().await.unwrap().unwrap(), "one");
        assert_eq!(next().await.unwrap().unwrap(), "two");
        assert_eq!(next().await.unwrap().unwrap_err().message(), "no more");
        assert!(next().await.is_none() && next().await.is_none());
    }

    #[tokio::test]
    async fn a_written_stream_runs_no_further_than_the_message_that_is_wanted() {
        let progress = Mutex::new(0);
        let written = stream(async |out| {
            for number in 0..3 {
                *progress.lock().unwrap() = number;
                out.send(number).await;
            }
            Ok(())
        });
        let mut written = pin!(written);
        assert_eq!(*progress.lock().unwrap(), 0);
        for number in 0..3 {
            let message = poll_fn(|cx| written.as_mut().poll_next(cx)).await;
            assert_eq!(message.unwrap().unwrap(), number);
            assert_eq!(*progress.lock().unwrap(), number);
        }
    }
}
