//! TokenSource: code of users that gets tokens.

use std::{future::Future, pin::Pin, time::Duration};

use crate::{Result, api::secret::Secret};

/// A token that shows who a client is, and how long it is valid.
///
/// `Debug` does not show the token.
#[derive(Clone, Debug)]
pub struct Token {
    secret: Secret,
    lifetime: Option<Duration>,
}

impl Token {
    /// Makes a token that is valid until a server refuses it.
    ///
    /// It consists of printable ASCII characters without spaces, as all bearer tokens do, and has at most 7 KiB.
    pub fn new(secret: impl Into<Secret>) -> Self {
        Self {
            secret: secret.into(),
            lifetime: None,
        }
    }

    /// Sets how long the token is valid from now on: the `expires_in` of OAuth. Default: until a server refuses it.
    ///
    /// Less than a second counts as a second.
    #[must_use]
    pub fn expires_in(self, lifetime: Duration) -> Self {
        Self {
            lifetime: Some(lifetime),
            ..self
        }
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }
}

/// Where a client gets its tokens; [`ClientBuilder::token_source`](crate::client::ClientBuilder::token_source) takes one.
///
/// An async function without arguments is one:
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::{Client, Result, Status, auth::Token};
///
/// async fn from_file() -> Result<Token> {
///     let text = tokio::fs::read_to_string("/run/secrets/token").await;
///     let text = text.map_err(|error| Status::unavailable(format!("/run/secrets/token: {error}")))?;
///     Ok(Token::new(text.trim()).expires_in(Duration::from_secs(600)))
/// }
///
/// let client: Client = Client::builder("unix:/run/kv.sock").token_source(from_file).connect_lazy();
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// Gets a token.
    ///
    /// The client asks when a call needs a token, and again in time before it expires. It asks once at a time, gives up after 30 s,
    /// and pauses after a failure, longer each time. The runtime of the call that needs a token asks. If it stands still for 4 s, or
    /// the source blocks its thread for as long, the next call whose task still runs asks, too.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if it may help to ask again: calls wait for that until their deadlines. Any other code fails the calls that need
    /// a token at once. The text reaches the callers, so it must not contain a secret.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped when the client is.
    fn token(&self) -> impl Future<Output = Result<Token>> + Send;
}

impl<F, Fut> TokenSource for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Token>> + Send,
{
    fn token(&self) -> impl Future<Output = Result<Token>> + Send {
        self()
    }
}

/// A source of any type.
pub(in crate::client) trait DynTokenSource: Send + Sync {
    /// Gets a token, as [`TokenSource::token`] does.
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Token>> + Send + '_>>;
}

impl<S: TokenSource> DynTokenSource for S {
    fn fetch(&self) -> Pin<Box<dyn Future<Output = Result<Token>> + Send + '_>> {
        Box::pin(self.token())
    }
}
