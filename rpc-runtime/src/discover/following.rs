//! Following: the sets of endpoints that a resolver finds, one after the other.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::time::{self, Instant, Sleep};

use super::{
    Endpoint, Found, Resolver,
    resolver::DynResolver,
    work::{Pauses, Work, poll_caught},
};
use crate::Error;

/// The sets of endpoints that a [`Resolver`] finds, one after the other.
///
/// A client follows its resolver by one of these. Use it to test a resolver of your own:
///
/// ```
/// use rpc_runtime::{Error, discover::{Endpoint, Following, Found, Resolver}};
///
/// struct Fixed;
///
/// impl Resolver for Fixed {
///     async fn follow(&self, found: &Found) -> Result<(), Error> {
///         found.set([Endpoint::new("tcp://10.0.0.7:5005"), Endpoint::new("tcp://10.0.0.8:5005")]);
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mut following = Following::new(Fixed);
/// assert_eq!(following.next().await?.len(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Following {
    resolver: Arc<dyn DynResolver>,
    found: Arc<Found>,
    state: State,
    /// The last set.
    last: Option<Vec<Endpoint>>,
    /// True after an error, until the next set.
    has_failed: bool,
    /// The pauses after errors.
    pauses: Pauses,
    /// When a refresh was asked for last.
    asked_at: Option<Instant>,
}

/// What a resolver does.
enum State {
    /// It is called now.
    Begin,
    Running(Work),
    /// It has failed, and is called again then.
    Pausing(Pin<Box<Sleep>>),
    /// It has returned, and is called again when a refresh is asked for.
    Done,
}

/// What happens next.
enum Event {
    News(Result<Vec<Endpoint>, Error>),
    Returned(Result<(), Error>),
    Again,
}

impl Following {
    /// Follows `resolver`, as soon as [`Following::next`] is polled.
    pub fn new(resolver: impl Resolver) -> Self {
        Self::of(Arc::new(resolver))
    }

    pub(crate) fn of(resolver: Arc<dyn DynResolver>) -> Self {
        Self {
            resolver,
            found: Arc::default(),
            state: State::Begin,
            last: None,
            has_failed: false,
            pauses: Pauses::new(),
            asked_at: None,
        }
    }

    /// Waits for the first set of endpoints, for one that differs from the last one, in its order, too, or for the first one after an error.
    ///
    /// # Errors
    ///
    /// Why the resolver found nothing. The last set stays valid, and the resolver is called again after a pause: call `next` again. If the
    /// resolver panicked, INTERNAL with the text of the panic.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing. The resolver works only while it is polled.
    pub async fn next(&mut self) -> Result<Vec<Endpoint>, Error> {
        loop {
            match self.event().await {
                Event::News(Ok(set)) => {
                    self.pauses = Pauses::new();
                    if std::mem::take(&mut self.has_failed) || self.last.as_ref() != Some(&set) {
                        self.last = Some(set.clone());
                        return Ok(set);
                    }
                }
                Event::News(Err(error)) => {
                    self.has_failed = true;
                    return Err(error);
                }
                Event::Returned(Ok(())) => self.state = State::Done,
                Event::Returned(Err(error)) => {
                    self.has_failed = true;
                    self.state = State::Pausing(Box::pin(time::sleep(self.pauses.next())));
                    return Err(error);
                }
                Event::Again => {
                    let found = Arc::clone(&self.found);
                    self.state = State::Running(Arc::clone(&self.resolver).follow(found));
                }
            }
        }
    }

    /// Asks the resolver to look again soon. It does nothing if it was called within the last second.
    pub fn refresh(&mut self) {
        let now = Instant::now();
        if self.asked_at.is_none_or(|at| at + SHORTEST <= now) {
            self.asked_at = Some(now);
            self.found.ask_refresh();
        }
    }

    async fn event(&mut self) -> Event {
        let Self { found, state, .. } = self;
        let mut news = pin!(found.news());
        let mut refresh = pin!(found.refresh_asked());
        poll_fn(|cx| {
            let ended = match state {
                State::Running(work) => poll_caught(work, "resolver", cx).map(Event::Returned),
                State::Begin => Poll::Ready(Event::Again),
                State::Pausing(pause) => match (pause.as_mut().poll(cx), refresh.as_mut().poll(cx)) {
                    (Poll::Pending, Poll::Pending) => Poll::Pending,
                    _ => Poll::Ready(Event::Again),
                },
                State::Done => refresh.as_mut().poll(cx).map(|()| Event::Again),
            };
            match news.as_mut().poll(cx) {
                Poll::Ready(news) => {
                    // It is not polled after its end: what has ended is told next.
                    if let Poll::Ready(Event::Returned(returned)) = ended {
                        *state = State::returned(returned);
                    }
                    Poll::Ready(Event::News(news))
                }
                Poll::Pending => ended,
            }
        })
        .await
    }
}

impl State {
    /// What follows the end of a resolver's work, which is told later.
    fn returned(ended: Result<(), Error>) -> Self {
        Self::Running(Box::pin(async { ended }))
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// The shortest time between two refreshes.
const SHORTEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::Code;

    /// Does what the script says, one entry for each time that it is called.
    struct Scripted(AtomicUsize, fn(usize, &Found) -> Result<(), Error>);

    impl Resolver for Scripted {
        async fn follow(&self, found: &Found) -> Result<(), Error> {
            (self.1)(self.0.fetch_add(1, Relaxed), found)
        }
    }

    fn scripted(script: fn(usize, &Found) -> Result<(), Error>) -> Following {
        Following::new(Scripted(AtomicUsize::new(0), script))
    }

    fn away() -> Error {
        Error::local(Code::Unavailable, "the registry is away")
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_resolver_has_set_comes_before_its_error() {
        let mut following = scripted(|_, found| {
            found.set([Endpoint::new("mem:a")]);
            Err(away())
        });
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:a")]);
        assert_eq!(
            following.next().await.unwrap_err().message(),
            "the registry is away"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn after_errors_the_pauses_grow_to_half_a_minute() {
        let mut following = scripted(|_, _| Err(away()));
        let mut pauses = Vec::new();
        following.next().await.unwrap_err();
        for _ in 0..8 {
            let before = Instant::now();
            following.next().await.unwrap_err();
            pauses.push(before.elapsed().as_secs_f64());
        }
        for (pause, usual) in pauses
            .into_iter()
            .zip([1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0])
        {
            assert!(
                (0.8 * usual..1.21 * usual).contains(&pause),
                "{pause} instead of {usual}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_endpoints_are_no_news_unless_their_order_changes() {
        let mut following = scripted(|turn, found| {
            match turn {
                0 => found.set([Endpoint::new("mem:a"), Endpoint::new("mem:b")]),
                1 => found.set([
                    Endpoint::new("mem:a"),
                    Endpoint::new("mem:b"),
                    Endpoint::new("mem:a"),
                ]),
                2 => found.set([Endpoint::new("mem:b"), Endpoint::new("mem:a")]),
                _ => found.set([]),
            }
            Ok(())
        });
        assert_eq!(following.next().await.unwrap().len(), 2);
        following.refresh();
        let waited = time::timeout(Duration::from_secs(5), following.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        following.refresh();
        assert_eq!(following.next().await.unwrap()[0], Endpoint::new("mem:b"));
        time::sleep(Duration::from_secs(1)).await;
        following.refresh();
        assert_eq!(following.next().await.unwrap(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_error_the_same_endpoints_are_news() {
        let mut following = scripted(|turn, found| {
            found.set([Endpoint::new("mem:a")]);
            if turn == 0 { Err(away()) } else { Ok(()) }
        });
        following.next().await.unwrap();
        following.next().await.unwrap_err();
        assert_eq!(following.next().await.unwrap(), [Endpoint::new("mem:a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_ends_a_pause_and_comes_at_most_once_a_second() {
        let mut following = scripted(|_, _| Err(away()));
        for _ in 0..6 {
            following.next().await.unwrap_err();
        }
        let before = Instant::now();
        following.refresh();
        following.next().await.unwrap_err();
        assert_eq!(before.elapsed(), Duration::ZERO);
        following.refresh();
        following.next().await.unwrap_err();
        assert!(
            before.elapsed() >= Duration::from_secs(20),
            "{:?}",
            before.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_panics_has_failed_and_is_called_again() {
        let mut following = scripted(|turn, found| {
            assert!(turn > 0, "no registry");
            found.set([Endpoint::new("mem:a")]);
            Ok(())
        });
        let error = following.next().await.unwrap_err();
        assert_eq!(error.message(), "the resolver panicked: no registry");
        assert_eq!(following.next().await.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_endpoints_are_refused() {
        let mut following = scripted(|_, found| {
            found.set((0..10_001).map(|index| Endpoint::new(format!("mem:{index}"))));
            Ok(())
        });
        assert_eq!(
            following.next().await.unwrap_err().code(),
            Code::ResourceExhausted
        );
    }
}
