//! stream: a stream of replies written as straight code.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Waker},
};

use futures_core::Stream;

use crate::{Code, Result, Status};

/// Makes a stream of the messages that `write` sends, for handlers that answer by a stream.
///
/// `write` runs only while the stream is read, and no further than the next message. The stream ends when `write` has ended and
/// its [`Out`] is dropped; an error of `write` is the stream's last item.
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
    let slot = Arc::new(Slot::default());
    Written {
        state: WrittenState::Writing(Box::pin(write(Out(Arc::clone(&slot))))),
        slot,
        reader: None,
    }
}

/// Sends messages from the code of a [`stream`](stream()) into the stream.
///
/// The code may give it to a task that it spawns: the stream does not end before it is dropped, and fails if the task panics.
/// The drop of the stream does not end the task; [`Context::cancelled`](crate::Context::cancelled) tells it.
pub struct Out<T>(Arc<Slot<T>>);

impl<T> Out<T> {
    /// Sends `message`, and waits until the reader asks for the next one.
    ///
    /// After the drop of the stream it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped before it was polled has sent nothing; one that was polled has sent its message, unless
    /// another send was going on.
    pub async fn send(&self, message: T) {
        let mut message = Some(message);
        poll_fn(|cx| self.0.poll_send(&mut message, cx)).await;
    }
}

impl<T> Drop for Out<T> {
    fn drop(&mut self) {
        let mut content = self.0.lock();
        content.writer = if std::thread::panicking() {
            Writer::Panicked
        } else {
            Writer::Gone
        };
        let reader = content.reader.take();
        drop(content);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> fmt::Debug for Out<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Out").finish_non_exhaustive()
    }
}

/// The message on its way from the code to the stream.
struct Slot<T> {
    /// Whether there is a message. It changes under the lock, and is read without it: most polls find the slot empty.
    is_full: AtomicBool,
    content: Mutex<Content<T>>,
}

struct Content<T> {
    message: Option<T>,
    /// The tasks that send, until the message is taken, if they are not the reader's.
    senders: Vec<Waker>,
    /// The task that reads.
    reader: Option<Waker>,
    writer: Writer,
}

/// Whether messages may still come.
#[derive(Clone, Copy)]
enum Writer {
    There,
    Gone,
    Panicked,
}

impl<T> Slot<T> {
    /// Puts the message in if the slot is empty. Ready when there is nothing to put in and the last message is taken.
    fn poll_send(&self, message: &mut Option<T>, cx: &Context<'_>) -> Poll<()> {
        if message.is_none() && !self.is_full() {
            return Poll::Ready(());
        }
        let mut content = self.lock();
        if content.message.is_none() {
            let Some(message) = message.take() else {
                return Poll::Ready(());
            };
            content.message = Some(message);
            self.is_full.store(true, Release);
        }
        let reader = content.reader.as_ref();
        if reader.is_some_and(|reader| reader.will_wake(cx.waker())) {
            // The reader polls this code, and looks at the slot afterwards.
            return Poll::Pending;
        }
        let reader = content.reader.clone();
        if !content.senders.iter().any(|sender| sender.will_wake(cx.waker())) {
            content.senders.push(cx.waker().clone());
        }
        drop(content);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Pending
    }

    /// Stores the reader's waker, which a message wakes.
    fn read(&self, cx: &Context<'_>) {
        match &mut self.lock().reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Takes the message, if there is one, and returns whether more may come.
    fn take(&self) -> (Option<T>, Writer) {
        let mut content = self.lock();
        let (message, writer) = (content.message.take(), content.writer);
        self.is_full.store(false, Release);
        if message.is_some() && !content.senders.is_empty() {
            let senders = mem::take(&mut content.senders);
            drop(content);
            senders.into_iter().for_each(Waker::wake);
        }
        (message, writer)
    }

    /// Returns whether a message is there.
    #[inline]
    fn is_full(&self) -> bool {
        self.is_full.load(Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Content<T>> {
        // Nothing of a user runs under the lock.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Content<T> {
    fn default() -> Self {
        Self {
            message: None,
            senders: Vec::new(),
            reader: None,
            writer: Writer::There,
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self {
            is_full: AtomicBool::new(false),
            content: Mutex::default(),
        }
    }
}

/// The stream of [`stream`](stream()).
struct Written<T, Fut> {
    state: WrittenState<Fut>,
    slot: Arc<Slot<T>>,
    /// The reader's waker, as the slot has it.
    reader: Option<Waker>,
}

enum WrittenState<Fut> {
    Writing(Pin<Box<Fut>>),
    /// The code has ended. Its last message, those of a task of its own, and its error may still come.
    Ended(Result<()>),
    Over,
}

impl<T, Fut: Future<Output = Result<()>>> Stream for Written<T, Fut> {
    type Item = Result<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<T>>> {
        let this = self.get_mut();
        if matches!(this.state, WrittenState::Over) {
            return Poll::Ready(None);
        }
        if !this
            .reader
            .as_ref()
            .is_some_and(|reader| reader.will_wake(cx.waker()))
        {
            this.reader = Some(cx.waker().clone());
            this.slot.read(cx);
        }
        if let WrittenState::Writing(writer) = &mut this.state {
            if let Poll::Ready(result) = writer.as_mut().poll(cx) {
                this.state = WrittenState::Ended(result);
            }
        }
        if matches!(this.state, WrittenState::Writing(_)) && !this.slot.is_full() {
            return Poll::Pending;
        }
        // Before the end, even if the code did not await its last send to the end.
        let (message, writer) = this.slot.take();
        if let Some(message) = message {
            return Poll::Ready(Some(Ok(message)));
        }
        let WrittenState::Ended(result) = &mut this.state else {
            return Poll::Pending;
        };
        let end = match writer {
            _ if result.is_err() => mem::replace(result, Ok(())),
            Writer::There => return Poll::Pending,
            Writer::Gone => Ok(()),
            Writer::Panicked => Err(Status::new(
                Code::Unknown,
                "the task that writes the stream panicked",
            )),
        };
        this.state = WrittenState::Over;
        Poll::Ready(end.err().map(Err))
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
    async fn a_written_stream_stops_after_each_wanted_message() {
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

    #[tokio::test]
    async fn a_task_may_write_a_stream_that_ends_when_the_task_has() {
        let written = stream(async |out| {
            tokio::spawn(async move {
                for number in 0..100 {
                    out.send(number).await;
                }
            });
            Ok(())
        });
        assert_eq!(all(written).await, ((0..100).collect::<Vec<_>>(), Ok(())));
    }

    #[tokio::test]
    async fn a_task_that_panics_fails_the_stream_that_it_writes() {
        let written = stream(async |out| {
            tokio::spawn(async move {
                out.send(1).await;
                assert!(std::hint::black_box(false), "on purpose");
            });
            Ok(())
        });
        let (read, end) = all(written).await;
        assert_eq!((read, end.unwrap_err().code()), (vec![1], Code::Unknown));
    }

    #[tokio::test]
    async fn two_sends_at_once_are_two_messages() {
        let written = stream(async |out| {
            tokio::join!(out.send(1), out.send(2));
            Ok(())
        });
        let (mut read, end) = all(written).await;
        read.sort_unstable();
        assert_eq!((read, end), (vec![1, 2], Ok(())));
    }

    async fn all<T>(written: impl Stream<Item = Result<T>>) -> (Vec<T>, Result<()>) {
        let mut written = pin!(written);
        let mut read = Vec::new();
        let net = std::time::Duration::from_secs(60);
        tokio::time::timeout(net, async {
            loop {
                match poll_fn(|cx| written.as_mut().poll_next(cx)).await {
                    Some(Ok(message)) => read.push(message),
                    Some(Err(status)) => return (read, Err(status)),
                    None => return (read, Ok(())),
                }
            }
        })
        .await
        .expect("it ends")
    }
}
