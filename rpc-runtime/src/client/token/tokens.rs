//! Tokens: a client's tokens from its source, fetched by one task at a time.

use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout},
};

use super::{
    bearer::Bearer,
    cache::{TokenCache, TokenLookup},
    source::{DynTokenSource, Token},
};
use crate::{
    Code, Error, Phase, Result, Status,
    client::{errors, timer},
    driver::runtime::unless_panics,
};

/// A client's tokens from its source.
///
/// A task asks the source, so that a caller that gives up does not end it for others. There is one such task at a time, in the runtime of
/// the call that was first. The task reports once a second that it runs, because that runtime may stand still. If it does not report for 4 s, the
/// next call starts a new task.
pub(in crate::client) struct Tokens {
    source: Arc<dyn DynTokenSource>,
    state: Arc<Mutex<TokensState>>,
}

struct TokensState {
    cache: TokenCache,
    /// The task that asks the source, or that did.
    fetch: Option<Fetch>,
    /// How many tasks have asked the source.
    fetches: u64,
    /// The number of the newest task that has answered.
    answered: u64,
}

struct Fetch {
    /// When the task lived last. Its sender is dropped when the task has ended, also with its runtime.
    lived: watch::Receiver<Instant>,
    task: AbortHandle,
}

impl Fetch {
    /// Returns true if the task may still answer.
    fn is_running(&self) -> bool {
        self.lived.has_changed().is_ok() && Instant::now() < *self.lived.borrow() + STILL
    }
}

/// What a call waits for.
enum WaitForToken {
    Fetched(watch::Receiver<Instant>),
    PauseEnd(Instant),
}

impl Tokens {
    pub(in crate::client) fn new(source: Arc<dyn DynTokenSource>) -> Self {
        let state = TokensState {
            cache: TokenCache::new(fastrand::Rng::new()),
            fetch: None,
            fetches: 0,
            answered: 0,
        };
        Self {
            source,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns a token for a call that ends at `deadline`. If `fails_fast`, the call does not wait until a failed source is asked
    /// again.
    ///
    /// # Errors
    ///
    /// How the source failed; DEADLINE_EXCEEDED if it did not answer. FAILED_PRECONDITION outside of a tokio runtime. The call was
    /// not executed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the source's answer to other calls.
    pub(in crate::client) async fn get(
        &self,
        deadline: Option<Instant>,
        fails_fast: bool,
    ) -> Result<Bearer, Error> {
        self.within(deadline, self.wait(fails_fast, None)).await
    }

    /// Asks for a token other than `refused`, which a server has refused. It waits for the source, and not for a source that has failed. The
    /// source may give the same one again.
    ///
    /// # Errors
    ///
    /// As [`Tokens::get`].
    ///
    /// # Cancel safety
    ///
    /// As [`Tokens::get`].
    pub(in crate::client) async fn get_other(
        &self,
        refused: &Bearer,
        deadline: Option<Instant>,
    ) -> Result<Bearer, Error> {
        self.within(deadline, self.wait(true, Some(refused))).await
    }

    async fn within(
        &self,
        deadline: Option<Instant>,
        found: impl Future<Output = Result<Bearer, Error>>,
    ) -> Result<Bearer, Error> {
        let Some(at) = deadline else {
            return found.await;
        };
        timer::until(at, found).await.unwrap_or_else(|| Err(self.late()))
    }

    /// Notes that a server has refused a token. Returns true if another one may be had.
    pub(in crate::client) fn refused(&self, bearer: &Bearer) -> bool {
        lock(&self.state).cache.refused(bearer, Instant::now())
    }

    async fn wait(&self, fails_fast: bool, mut refused: Option<&Bearer>) -> Result<Bearer, Error> {
        loop {
            let wait = match self.look(fails_fast, refused)? {
                Ok(bearer) => return Ok(bearer),
                Err(wait) => wait,
            };
            match wait {
                WaitForToken::Fetched(lived) => {
                    if wait_for_end(lived).await == FetchEnd::Ended {
                        // The source is asked once more, and no more often if it gives the same one again.
                        refused = None;
                    }
                }
                WaitForToken::PauseEnd(at) => {
                    timer::sleep(at.saturating_duration_since(Instant::now())).await;
                }
            }
        }
    }

    /// Finds a token, or what to wait for; begins to ask the source if it is time for that.
    fn look(
        &self,
        fails_fast: bool,
        refused: Option<&Bearer>,
    ) -> Result<Result<Bearer, WaitForToken>, Error> {
        let mut state = lock(&self.state);
        let found = state.cache.look(Instant::now(), refused);
        Ok(match found {
            TokenLookup::Held(bearer) => Ok(bearer),
            TokenLookup::Expiring(bearer) => {
                // Without a runtime here another call asks.
                if let Ok(runtime) = errors::check_runtime() {
                    self.fetch(&mut state, &runtime);
                }
                Ok(bearer)
            }
            TokenLookup::Missing => {
                let runtime = errors::check_runtime()?;
                Err(WaitForToken::Fetched(self.fetch(&mut state, &runtime)))
            }
            TokenLookup::Pausing(_, status) if fails_fast || TokenLookup::is_permanent(&status) => {
                return Err(failed(&status));
            }
            TokenLookup::Pausing(at, _) => Err(WaitForToken::PauseEnd(at)),
        })
    }

    /// Asks the source, unless a task does so already. What is returned tells when that task has ended.
    fn fetch(&self, state: &mut TokensState, runtime: &Handle) -> watch::Receiver<Instant> {
        if let Some(running) = state.fetch.as_ref().filter(|fetch| fetch.is_running()) {
            return running.lived.clone();
        }
        if let Some(still) = state.fetch.take() {
            still.task.abort();
        }
        state.fetches += 1;
        let number = state.fetches;
        let (sender, lived) = watch::channel(Instant::now());
        let (source, cache) = (Arc::clone(&self.source), Arc::downgrade(&self.state));
        let task = runtime.spawn(async move {
            let token = ask(&*source, &sender).await;
            if let Some(state) = cache.upgrade() {
                let mut state = lock(&state);
                // Another task may have asked since, if this one did not report. A token is good all the same, and a failure is not news.
                let is_last = state.fetches == number;
                if number > state.answered && (is_last || token.is_ok()) {
                    state.answered = number;
                    state.cache.fetched(token, Instant::now());
                }
            }
            drop(sender);
        });
        state.fetch = Some(Fetch {
            lived: lived.clone(),
            task: task.abort_handle(),
        });
        lived
    }

    /// The error of a call whose time was over before it had a token.
    fn late(&self) -> Error {
        match lock(&self.state).cache.failure() {
            Some(status) => failed(status),
            None => no_token(
                Code::DeadlineExceeded,
                "its source has not answered in the time of the call: Call::timeout or ClientBuilder::timeout",
            ),
        }
    }
}

/// Ends the task that asks the source.
impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(fetch) = &lock(&self.state).fetch {
            fetch.task.abort();
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// How the wait for a task that asks the source has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FetchEnd {
    /// The task has ended.
    Ended,
    /// It has not shown for [`STILL`] that it lives: its runtime stands still, or the source blocks its thread.
    Still,
}

/// Waits until a task that asks the source has ended, or does not live.
async fn wait_for_end(mut lived: watch::Receiver<Instant>) -> FetchEnd {
    loop {
        let until = *lived.borrow_and_update() + STILL;
        match timer::until(until, lived.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) => return FetchEnd::Ended,
            None => return FetchEnd::Still,
        }
    }
}

/// Asks the source once, and shows by `lived` that this goes on.
async fn ask(source: &dyn DynTokenSource, lived: &watch::Sender<Instant>) -> Result<Token> {
    let begun = Instant::now();
    // Also what makes the source's future may panic.
    let mut answer = pin!(unless_panics(async { source.fetch().await }));
    let answer = loop {
        match timeout(SIGN_OF_LIFE, answer.as_mut()).await {
            Ok(answer) => break answer,
            Err(_) if begun.elapsed() >= PATIENCE => {
                return Err(Status::unavailable(format!(
                    "it did not answer within {PATIENCE:?}"
                )));
            }
            Err(_) => lived.send_replace(Instant::now()),
        };
    };
    // The text of a panic may have the token in it.
    answer.unwrap_or_else(|_| Err(Status::internal("it panicked")))
}

fn failed(status: &Status) -> Error {
    no_token(status.code(), status.message())
}

fn no_token(code: Code, why: &str) -> Error {
    Error::local(code, format!("the client's token source gave no token: {why}")).with_phase(Phase::Queue)
}

fn lock(state: &Mutex<TokensState>) -> MutexGuard<'_, TokensState> {
    // A panic under the lock is a bug of this crate; the state is consistent between any two steps.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a source may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a task that asks the source shows that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// A task that has not shown for this long that it lives is replaced.
const STILL: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::client::token::TokenSource;

    fn runtime() -> Runtime {
        Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    }

    /// Tokens of a source that answers when it is asked for the second time, and not before.
    fn silent_at_first() -> (Tokens, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let source = move || {
            let is_first = counted.fetch_add(1, SeqCst) == 0;
            async move {
                match is_first {
                    true => pending().await,
                    false => ready(Ok(Token::new("second"))).await,
                }
            }
        };
        (tokens(source), asked)
    }

    fn tokens(source: impl TokenSource) -> Tokens {
        Tokens::new(Arc::new(source))
    }

    fn bearer(text: &str) -> Bearer {
        Bearer::new(&text.into()).unwrap()
    }

    /// Lets a call ask the source. Then its runtime stands still.
    fn ask_and_stand_still(tokens: &Tokens) -> Runtime {
        let runtime = runtime();
        let given_up = runtime.block_on(async {
            let first = tokens.get(None, false);
            timeout(Duration::from_millis(1), first).await
        });
        assert!(given_up.is_err());
        runtime
    }

    #[test]
    fn a_call_asks_again_if_the_runtime_of_the_first_one_stands_still() {
        let (tokens, asked) = silent_at_first();
        let still = ask_and_stand_still(&tokens);
        let got = runtime().block_on(async {
            let second = tokens.get(None, false);
            timeout(Duration::from_secs(60), second).await
        });
        assert_eq!(got.expect("it waits for ever").unwrap(), bearer("second"));
        assert_eq!(asked.load(SeqCst), 2);
        // What it stood in goes on: the task of the first call has ended, and changes nothing.
        let got = still.block_on(async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            tokens.get(None, true).await
        });
        assert_eq!((got.unwrap(), asked.load(SeqCst)), (bearer("second"), 2));
    }

    #[test]
    fn a_renewal_is_begun_again_if_the_runtime_of_the_first_one_stands_still() {
        let (tokens, asked) = silent_at_first();
        let now = Instant::now();
        lock(&tokens.state)
            .cache
            .fetched(Ok(Token::new("old").expires_in(Duration::from_secs(100))), now);
        let still = runtime();
        let other = runtime();
        let after = |runtime: &Runtime, seconds| {
            runtime.block_on(async {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                tokens.get(None, false).await.unwrap()
            })
        };
        assert_eq!(after(&still, 85), bearer("old"));
        assert_eq!(asked.load(SeqCst), 0, "its task has not run");
        assert_eq!(after(&other, 95), bearer("old"));
        other.block_on(async { tokio::time::sleep(Duration::from_secs(1)).await });
        assert_eq!(asked.load(SeqCst), 1, "the task of the other one asks");
        drop((still, other));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_source_is_asked_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let source = move || {
            counted.fetch_add(1, SeqCst);
            async {
                tokio::time::sleep(Duration::from_secs(29)).await;
                Ok(Token::new("late"))
            }
        };
        let tokens = tokens(source);
        let got = tokio::join!(tokens.get(None, false), tokens.get(None, true));
        assert_eq!((got.0.unwrap(), got.1.unwrap()), (bearer("late"), bearer("late")));
        assert_eq!(asked.load(SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_before_it_waits_fails_the_call() {
        fn panics() -> std::future::Ready<Result<Token>> {
            panic!("on purpose")
        }
        let error = timeout(PATIENCE, tokens(panics).get(None, true)).await;
        let error = error.expect("it is asked for ever").unwrap_err();
        assert!(error.message().ends_with("it panicked"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_fails_after_30_s() {
        let (tokens, _) = silent_at_first();
        let begun = Instant::now();
        let error = tokens.get(None, true).await.unwrap_err();
        assert!(
            error.message().ends_with("it did not answer within 30s"),
            "{error}"
        );
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
