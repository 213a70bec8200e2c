//! BearerTokens: the middleware of a server that asks its callers for a token.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use super::{
    Asked, Caller, Decision, Rule, Secret, Verified,
    denial::{check_denials, deny},
    verified_cache::VerifiedCache,
};
use crate::{
    Code, Context, Metadata, Peer, Result, Status, Transport,
    base::{
        bounded::{Unanswered, bounded},
        hmac::is_same,
        log_limit::{Seldom, process_time},
        sha256::{Hash, sha256},
    },
    layer::{Answer, Middleware, Next},
    session::{CallerHash, Denied, ServerCall},
};

/// Middleware of a server that asks each call for a bearer token, and tells handlers who calls.
///
/// It takes the token from the call, or else from the connection:
/// [`ClientBuilder::token`](crate::client::ClientBuilder::token) sends it once for each connection, and
/// [`ClientBuilder::token_source`](crate::client::ClientBuilder::token_source) beside each call. Then it puts the [`Caller`] beside the
/// call, for handlers and for middleware that was added behind it, and hides the token from them.
///
/// ```
/// use rpc_runtime::{
///     Context, Result, Server, Status,
///     auth::{BearerTokens, Caller},
/// };
///
/// let server = Server::builder().layer(BearerTokens::fixed([
///     ("mF_9.B5f-4.1JqM", Caller::new("ada").with_role("admin")),
///     ("2YotnFZFEjr1zCsicMWpAA", Caller::new("bob")),
/// ]));
///
/// // In a handler:
/// fn caller(cx: &Context) -> Result<&Caller> {
///     cx.get::<Caller>().ok_or_else(|| Status::internal("this server has no BearerTokens"))
/// }
/// ```
///
/// A call without a token, or with a wrong one, is refused with UNAUTHENTICATED, and its handler does not run. So is each token that
/// came over plain TCP, because others may have read it: by default they are taken over TLS, Unix sockets, and from this process.
///
/// It wraps `terminate`, too, if the server has a policy.
#[must_use = "it does nothing until a server gets it by `.layer(..)`"]
pub struct BearerTokens {
    verifier: Verifier,
    verified: Mutex<VerifiedCache>,
    is_optional: bool,
    allows_plain_tcp: bool,
    verify_timeout: Duration,
    burnt: Seldom,
    unanswered: Seldom,
}

/// How tokens are verified.
enum Verifier {
    /// By the hashes of the valid ones.
    Fixed(Vec<(Hash, Caller)>),
    By(Box<dyn DynVerify>),
}

impl BearerTokens {
    /// Accepts these tokens and no others.
    ///
    /// The time of a check does not tell how near a wrong token is: the hashes of all tokens are compared whole.
    pub fn fixed<T: Into<Secret>>(tokens: impl IntoIterator<Item = (T, Caller)>) -> Self {
        let hashed = |(token, caller): (T, Caller)| (hash(token.into().expose()), caller);
        Self::new(Verifier::Fixed(tokens.into_iter().map(hashed).collect()))
    }

    /// Accepts the tokens that `verify` accepts, such as those that an identity provider has signed.
    ///
    /// It returns a [`Caller`], and is asked for each call. If it returns [`Verified::valid_for`], it is not asked again for the same
    /// token in that time, so a token that came with the HELLO is verified once.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rpc_runtime::{
    ///     Result, Server, Status,
    ///     auth::{BearerTokens, Caller, Secret, Verified},
    /// };
    ///
    /// # struct Claims { subject: String, seconds_left: u64 }
    /// # async fn check_signature(_: &str) -> Option<Claims> { None }
    /// async fn verify(token: Secret) -> Result<Verified> {
    ///     let claims = check_signature(token.expose()).await;
    ///     let claims = claims.ok_or_else(|| Status::unauthenticated("the token's signature is wrong"))?;
    ///     let caller = Caller::new(claims.subject);
    ///     Ok(Verified::new(caller).valid_for(Duration::from_secs(claims.seconds_left.min(300))))
    /// }
    ///
    /// let server = Server::builder().layer(BearerTokens::verified_by(verify));
    /// ```
    ///
    /// A call waits for it for 5 s, or as long as [`verify_timeout`](Self::verify_timeout) says, and no longer than until its deadline.
    ///
    /// # Errors
    ///
    /// The status that `verify` returns refuses the call. Return UNAUTHENTICATED for a wrong token, without its text: a client then
    /// gets another token. Return UNAVAILABLE if it cannot be known now.
    ///
    /// If it does not answer in time, the call is refused with UNAVAILABLE, or with DEADLINE_EXCEEDED at the call's deadline. Our clients make
    /// a call that was refused with UNAVAILABLE once more. If it panics, the call is refused with INTERNAL. The log has both, at most once a
    /// minute.
    pub fn verified_by<F, Fut, V>(verify: F) -> Self
    where
        F: Fn(Secret) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V>> + Send + 'static,
        V: Into<Verified>,
    {
        Self::new(Verifier::By(Box::new(VerifyBy(verify))))
    }

    fn new(verifier: Verifier) -> Self {
        Self {
            verifier,
            verified: Mutex::default(),
            is_optional: false,
            allows_plain_tcp: false,
            verify_timeout: VERIFY_TIMEOUT,
            burnt: Seldom::new(LOGGED),
            unanswered: Seldom::new(LOGGED),
        }
    }

    /// Limits how long a call waits for the function of [`verified_by`](Self::verified_by). Default: 5 s.
    ///
    /// A call that waits for it holds a place among the
    /// [waiting handlers](crate::server::ServerBuilder::max_waiting_handlers), so an identity provider that is away must not hold
    /// calls for long.
    ///
    /// ```
    /// # use rpc_runtime::{Result, auth::{BearerTokens, Caller, Secret}};
    /// use std::time::Duration;
    ///
    /// # async fn verify(_: Secret) -> Result<Caller> { unimplemented!() }
    /// let tokens = BearerTokens::verified_by(verify).verify_timeout(Duration::from_secs(1));
    /// ```
    pub fn verify_timeout(self, timeout: Duration) -> Self {
        Self {
            verify_timeout: timeout,
            ..self
        }
    }

    /// Lets calls without a token pass: their handlers find no [`Caller`]. A wrong token is still refused.
    pub fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }

    /// Accepts tokens over plain TCP and over streams of your own
    /// ([`ServerBuilder::incoming`](crate::server::ServerBuilder::incoming)), too.
    ///
    /// Whoever can read the traffic has the token then. Call it only if something else keeps the bytes secret: a tunnel, or a network
    /// inside of one machine.
    pub fn dangerous_token_over_plain_tcp(self) -> Self {
        Self {
            allows_plain_tcp: true,
            ..self
        }
    }

    /// Returns who makes the call of `cx`, by its token; `None` if the call has no token and that is
    /// [allowed](BearerTokens::optional).
    ///
    /// As middleware it does this by itself. Ask it where no middleware runs.
    ///
    /// # Errors
    ///
    /// UNAUTHENTICATED, or the status of the function that verifies tokens.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn caller(&self, cx: &Context) -> Result<Option<Caller>> {
        let of_connection = cx.whole_connection_metadata();
        let of_call = cx.get::<TokenOfCall>();
        let presented = match of_call {
            Some(TokenOfCall(token)) => Some(token.expose()),
            None => presented(cx.metadata(), of_connection)?,
        };
        let Some(token) = presented else {
            return match self.is_optional {
                true => Ok(None),
                false => Err(Status::unauthenticated(MISSING)),
            };
        };
        if !self.allows_plain_tcp && !keeps_secret(cx.peer().transport()) {
            return Err(self.burnt(cx.peer()));
        }
        self.verify(token, cx).await.map(Some)
    }

    async fn verify(&self, token: &str, cx: &Context) -> Result<Caller> {
        let hash = hash(token);
        let verify = match &self.verifier {
            Verifier::Fixed(known) => return find(known, &hash).cloned().ok_or_else(unknown),
            Verifier::By(verify) => verify,
        };
        if let Some(caller) = self.cache().get(&hash, Instant::now()) {
            return Ok(caller);
        }
        let time = cx
            .remaining()
            .map_or(self.verify_timeout, |left| left.min(self.verify_timeout));
        let answer = bounded(time, async { verify.verify(token.into()).await }).await;
        let verified = answer.unwrap_or_else(|why| Err(self.unanswered(why, time, cx)))?;
        let (caller, valid_for) = verified.into_parts();
        let now = Instant::now();
        if let Some(until) = valid_for.and_then(|time| now.checked_add(time)) {
            self.cache().insert(hash, caller.clone(), until, now);
        }
        Ok(caller)
    }

    /// Refuses a token that came over plain TCP, and says so in the log, once in a while.
    fn burnt(&self, peer: &Peer) -> Status {
        if let Some(unlogged) = self.burnt.turn(process_time()) {
            let (peer, transport) = (peer.address(), tracing::field::debug(peer.transport()));
            warn!(
                peer,
                transport,
                unlogged,
                "refused a token that came over plain TCP, where others can read it: replace the token"
            );
        }
        Status::unauthenticated(
            "the token came over plain TCP, where others can read it: replace it, and connect by a tls:// or unix: address",
        )
    }

    /// Refuses a token of which the function that verifies tokens has said nothing, and says so in the log, once in a while.
    fn unanswered(&self, why: Unanswered, time: Duration, cx: &Context) -> Status {
        let is_over = cx.remaining().is_some_and(|left| left.is_zero());
        let status = match why {
            Unanswered::Panicked => Status::internal("the function that verifies tokens panicked"),
            Unanswered::Late if is_over => Status::deadline_exceeded(format!(
                "the token was not verified within {time:?}, until the deadline of the call"
            )),
            Unanswered::Late => Status::unavailable(format!(
                "the token was not verified within {time:?}: the server's BearerTokens::verify_timeout"
            )),
        };
        if let Some(unlogged) = self.unanswered.turn(process_time()) {
            let (procedure, text) = (cx.procedure(), status.message());
            warn!(
                procedure,
                text, unlogged, "a call was refused because its token was not verified"
            );
        }
        status
    }

    fn cache(&self) -> MutexGuard<'_, VerifiedCache> {
        // A panic under the lock is a bug of this crate; the state is consistent between any two steps.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Middleware<ServerCall> for BearerTokens {
    async fn handle(&self, mut call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let cx = call.context();
        let own = credential_of_call(cx);
        if let Some(own) = own {
            check_denials(cx, || CallerHash::of_credential(own))?;
        }
        let caller = match self.caller(cx).await {
            Ok(caller) => caller,
            Err(status) => {
                // Another code is a fault of the function that verifies tokens.
                if status.code() == Code::Unauthenticated {
                    let asked = Asked::new(cx.clone(), None, Rule::declared(call.allowed_roles()));
                    let denied = own.map_or(Denied::Connection, |own| {
                        Denied::Guess(CallerHash::of_credential(own))
                    });
                    deny(&asked, &Decision::unauthenticated("no valid token"), denied);
                }
                return Err(status);
            }
        };
        if let Some(caller) = &caller {
            cx.note_allowed(caller.hash());
            cx.note_caller(caller.name_arc());
        }
        if call.metadata().contains_key(Metadata::AUTHORIZATION) {
            if let Some(token) = presented(call.metadata(), &Metadata::new())? {
                let token = TokenOfCall(token.into());
                call.insert(token);
            }
            call.metadata_mut().remove(Metadata::AUTHORIZATION);
        }
        if let Some(caller) = caller {
            call.insert(caller);
        }
        next.run(call).await
    }

    /// True: the policy that decides about a terminate reads the caller.
    fn wraps_terminate(&self) -> bool {
        true
    }
}

/// The token that a call had in its own metadata, for those that look again. Without it they would find the token of the connection, which
/// may be another caller's.
struct TokenOfCall(Secret);

/// What a call shows for itself alone, right or wrong; none if it has only what its connection has shown.
fn credential_of_call(cx: &Context) -> Option<&[u8]> {
    match cx.get::<TokenOfCall>() {
        Some(TokenOfCall(token)) => Some(token.expose().as_bytes()),
        None => Some(cx.metadata().get(Metadata::AUTHORIZATION)?),
    }
}

/// Shows no tokens.
impl fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerTokens")
            .field("is_optional", &self.is_optional)
            .field("allows_plain_tcp", &self.allows_plain_tcp)
            .field("verify_timeout", &self.verify_timeout)
            .finish_non_exhaustive()
    }
}

/// A function that verifies tokens, of any type.
trait DynVerify: Send + Sync {
    fn verify(&self, token: Secret) -> VerifyFuture;
}

type VerifyFuture = Pin<Box<dyn Future<Output = Result<Verified>> + Send>>;

struct VerifyBy<F>(F);

impl<F, Fut, V> DynVerify for VerifyBy<F>
where
    F: Fn(Secret) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<V>> + Send + 'static,
    V: Into<Verified>,
{
    fn verify(&self, token: Secret) -> VerifyFuture {
        let verified = (self.0)(token);
        Box::pin(async move { verified.await.map(Into::into) })
    }
}

/// Returns the token of a call: its own, or else that of its connection.
fn presented<'a>(call: &'a Metadata, connection: &'a Metadata) -> Result<Option<&'a str>> {
    for metadata in [call, connection] {
        let mut values = metadata.get_all(Metadata::AUTHORIZATION);
        let Some(value) = values.next() else { continue };
        if values.next().is_some() {
            return Err(Status::unauthenticated(
                "there are several authorization entries: send one",
            ));
        }
        let token = std::str::from_utf8(value).ok().and_then(token_of);
        let bad = || {
            Status::unauthenticated(
                "the authorization entry is no bearer token: send \"Bearer \" and the token",
            )
        };
        return token.map(Some).ok_or_else(bad);
    }
    Ok(None)
}

/// Returns the token of the value `Bearer ..`; the word may have any case, as in HTTP.
fn token_of(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_at_checked(Metadata::BEARER.len())?;
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case(Metadata::BEARER) && is_token).then_some(token)
}

/// Returns the caller of the token with that hash. It looks at all tokens, whichever it is.
fn find<'a>(known: &'a [(Hash, Caller)], hash: &Hash) -> Option<&'a Caller> {
    let mut found = None;
    for (one, caller) in known {
        if is_same(one, hash) {
            found = Some(caller);
        }
    }
    found
}

/// Returns true if only the two ends of such a connection can read what goes over it.
fn keeps_secret(transport: Transport) -> bool {
    match transport {
        Transport::Tls | Transport::Unix | Transport::Pipe | Transport::Memory | Transport::InProcess => true,
        Transport::Tcp | Transport::Custom => false,
    }
}

fn hash(token: &str) -> Hash {
    sha256(&[token.as_bytes()])
}

fn unknown() -> Status {
    Status::unauthenticated("the token is not valid: it is wrong, or was withdrawn")
}

const MISSING: &str =
    "this call needs a token: set one by ClientBuilder::token or ClientBuilder::token_source";
/// How often one reason to refuse tokens is logged at most.
const LOGGED: Duration = Duration::from_secs(60);
/// How long a call waits for the function that verifies tokens, by default.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_stands_behind_the_word() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER a-b._~+/=", Some("a-b._~+/=")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Bearer  abc", None),
            ("Bearer a b", None),
            ("Bearer\tabc", None),
            ("Basic abc", None),
            ("abc", None),
            ("Bearér abc", None),
            ("", None),
        ] {
            assert_eq!(token_of(value), token, "{value:?}");
        }
    }

    #[test]
    fn the_token_of_the_call_hides_that_of_the_connection() {
        let with = |values: &[&'static str]| -> Metadata {
            values.iter().map(|value| ("authorization", *value)).collect()
        };
        let connection = with(&["Bearer hello"]);
        let found = |call: &Metadata| presented(call, &connection).map(|token| token.map(str::to_owned));
        assert_eq!(found(&with(&[])).unwrap().as_deref(), Some("hello"));
        assert_eq!(found(&with(&["Bearer call"])).unwrap().as_deref(), Some("call"));
        assert!(
            found(&with(&["Basic call"])).is_err(),
            "a bad one is not passed over"
        );
        assert!(found(&with(&["Bearer call", "Bearer call"])).is_err());
        assert_eq!(presented(&with(&[]), &with(&[])).unwrap(), None);
    }

    #[test]
    fn only_a_whole_token_is_found() {
        let known: Vec<_> = ["abc", "abcd", ""]
            .map(|token| (hash(token), Caller::new(token)))
            .into();
        for (token, name) in [
            ("abc", Some("abc")),
            ("abcd", Some("abcd")),
            ("ab", None),
            ("Abc", None),
            ("abc ", None),
        ] {
            assert_eq!(find(&known, &hash(token)).map(Caller::name), name, "{token}");
        }
    }
}
