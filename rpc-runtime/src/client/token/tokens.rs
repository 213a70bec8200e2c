//! Tokens: a client's tokens from its source, fetched by one task at a time.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
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
/// A task asks the source, so that a caller that gives up does not end it for others. There is one such task at a time.
pub(in crate::client) struct Tokens {
    source: Arc<dyn DynTokenSource>,
    state: Arc<Mutex<TokensState>>,
}

struct TokensState {
    cache: TokenCache,
    /// The task that asks the source, or that did.
    fetch: Option<Fetch>,
}

struct Fetch {
    /// Its sender is dropped when the task has ended, also with its runtime.
    ended: watch::Receiver<()>,
    task: AbortHandle,
}

/// What a call waits for.
enum WaitForToken {
    Fetched(watch::Receiver<()>),
    PauseEnd(Instant),
}

impl Tokens {
    pub(in crate::client) fn new(source: Arc<dyn DynTokenSource>) -> Self {
        let state = TokensState {
            cache: TokenCache::new(fastrand::Rng::new()),
            fetch: None,
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
                // It fails when the task has ended.
                WaitForToken::Fetched(mut ended) => {
                    drop(ended.changed().await);
                    // The source is asked once more, and no more often if it gives the same one again.
                    refused = None;
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
    fn fetch(&self, state: &mut TokensState, runtime: &Handle) -> watch::Receiver<()> {
        let running = state.fetch.as_ref().map(|fetch| &fetch.ended);
        if let Some(ended) = running.filter(|ended| ended.has_changed().is_ok()) {
            return ended.clone();
        }
        let (sender, ended) = watch::channel(());
        let (source, cache) = (Arc::clone(&self.source), Arc::downgrade(&self.state));
        let task = runtime.spawn(async move {
            ask(&*source, &cache).await;
            drop(sender);
        });
        state.fetch = Some(Fetch {
            ended: ended.clone(),
            task: task.abort_handle(),
        });
        ended
    }

    /// The error of a call whose time was over before it had a token.
    fn late(&self) -> Error {
        match lock(&self.state).cache.failure() {
            Some(status) => failed(status),
            None => no_token(
                Code::DeadlineExceeded,
                "its source has not answered in the time of the call",
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

/// Asks the source once, and stores what it returns.
async fn ask(source: &dyn DynTokenSource, state: &Weak<Mutex<TokensState>>) {
    let answer = timeout(PATIENCE, unless_panics(source.fetch())).await;
    let token: Result<Token> = match answer {
        Ok(Ok(token)) => token,
        // Its text may have the token in it.
        Ok(Err(_)) => Err(Status::internal("it panicked")),
        Err(_) => Err(Status::unavailable(format!(
            "it did not answer within {PATIENCE:?}"
        ))),
    };
    if let Some(state) = state.upgrade() {
        lock(&state).cache.fetched(token, Instant::now());
    }
}

fn failed(status: &Status) -> Error {
    no_token(status.code(), status.message())
}

fn no_token(code: Code, why: &str) -> Error {
    Error::local(
        code,
        format!("not sent, because its token source gave no token: {why}"),
    )
    .with_phase(Phase::Queue)
}

fn lock(state: &Mutex<TokensState>) -> MutexGuard<'_, TokensState> {
    // A panic under the lock is a bug of this crate; the state is consistent between any two steps.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a source may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
