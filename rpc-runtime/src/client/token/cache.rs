//! TokenCache: the token that a client has, and when it gets another one. It reads no clock and starts no task.

use std::time::Duration;

use tokio::time::Instant;

use super::{bearer::Bearer, source::Token};
use crate::{Code, Result, Status, client::channel::backoff::Backoff};

/// The token that a client has, and how it got on with its source.
pub(super) struct TokenCache {
    held: Option<HeldToken>,
    /// Why the source failed last; none after a success.
    failure: Option<SourceFailure>,
    backoff: Backoff,
    random: fastrand::Rng,
}

/// A token that the source has given.
struct HeldToken {
    bearer: Bearer,
    fetched_at: Instant,
    /// When another one is fetched, though this one is still valid; none if it does not expire.
    renewed_at: Option<Instant>,
    expires_at: Option<Instant>,
    /// True once a server has refused it.
    is_refused: bool,
}

struct SourceFailure {
    status: Status,
    /// The end of the pause before the source is asked again.
    next_at: Instant,
}

/// What a call finds.
#[derive(Debug, PartialEq)]
pub(super) enum TokenLookup {
    /// A token.
    Held(Bearer),
    /// A token that is about to expire: the source is to be asked.
    Expiring(Bearer),
    /// None: the source is to be asked.
    Missing,
    /// None, and the source has failed: it is asked again after this time.
    Pausing(Instant, Status),
}

impl TokenCache {
    /// Has no token yet; `random` spreads pauses and renewals.
    pub(super) fn new(mut random: fastrand::Rng) -> Self {
        Self {
            held: None,
            failure: None,
            backoff: Backoff::new(random.fork()),
            random,
        }
    }

    /// Looks for a token other than `refused`, which a server has refused for the same call.
    ///
    /// A refused token is replaced. If the source fails meanwhile, other calls go on with it until it expires: perhaps only one server does
    /// not take it.
    pub(super) fn look(&self, now: Instant, refused: Option<&Bearer>) -> TokenLookup {
        let pause = self.failure.as_ref().filter(|failure| now < failure.next_at);
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match (&self.held, pause) {
            (Some(held), pause) if Some(&held.bearer) != refused && !is_past(held.expires_at) => {
                let bearer = held.bearer.clone();
                match pause {
                    None if held.is_refused => TokenLookup::Missing,
                    None if is_past(held.renewed_at) => TokenLookup::Expiring(bearer),
                    _ => TokenLookup::Held(bearer),
                }
            }
            (_, Some(pause)) => TokenLookup::Pausing(pause.next_at, pause.status.clone()),
            (_, None) => TokenLookup::Missing,
        }
    }

    /// Why the source failed last; none after a success.
    pub(super) fn failure(&self) -> Option<&Status> {
        self.failure.as_ref().map(|failure| &failure.status)
    }

    /// Takes what the source has returned.
    pub(super) fn fetched(&mut self, result: Result<Token>, now: Instant) {
        let checked = result.and_then(|token| {
            let bearer = Bearer::new(token.secret()).map_err(Status::invalid_argument)?;
            Ok((bearer, token.lifetime()))
        });
        match checked {
            Ok((bearer, lifetime)) => {
                self.backoff.reset();
                self.failure = None;
                let lifetime = lifetime.map(|lifetime| lifetime.max(SHORTEST));
                let renewed = lifetime.map(|lifetime| lifetime.mul_f64(0.7 + 0.1 * self.random.f64()));
                self.held = Some(HeldToken {
                    bearer,
                    fetched_at: now,
                    // A time that no clock can represent is never.
                    renewed_at: renewed.and_then(|after| now.checked_add(after)),
                    expires_at: lifetime.and_then(|after| now.checked_add(after)),
                    is_refused: false,
                });
            }
            Err(status) => {
                let next_at = self.backoff.pause(now);
                self.failure = Some(SourceFailure { status, next_at });
            }
        }
    }

    /// Notes that a server has refused `bearer`. Returns true if there is another one, or if the source may give another one.
    ///
    /// A token that is not older than [`YOUNG`] is kept. Otherwise a server that refuses each token would have each call ask the
    /// source.
    pub(super) fn refused(&mut self, bearer: &Bearer, now: Instant) -> bool {
        match &mut self.held {
            Some(held) if held.bearer == *bearer => {
                held.is_refused |= now >= held.fetched_at + YOUNG;
                held.is_refused
            }
            _ => true,
        }
    }
}

impl TokenLookup {
    /// True if a call that waits until its deadline fails at once all the same: to ask the source again would not help.
    pub(super) fn is_permanent(status: &Status) -> bool {
        status.code() != Code::Unavailable
    }
}

/// The shortest lifetime that a token counts as having. Otherwise no call could use one that is over when it comes.
const SHORTEST: Duration = Duration::from_secs(1);
/// A token that came less than this before is not replaced because a server has refused it.
const YOUNG: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(text: &str) -> Bearer {
        Bearer::new(&text.into()).unwrap()
    }

    fn cache() -> TokenCache {
        TokenCache::new(fastrand::Rng::with_seed(7))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        for seed in 0..50 {
            let (mut cache, now) = (TokenCache::new(fastrand::Rng::with_seed(seed)), Instant::now());
            assert_eq!(cache.look(now, None), TokenLookup::Missing);
            cache.fetched(Ok(Token::new("a").expires_in(seconds(100))), now);
            assert_eq!(
                cache.look(now + seconds(69), None),
                TokenLookup::Held(bearer("a"))
            );
            assert_eq!(
                cache.look(now + seconds(81), None),
                TokenLookup::Expiring(bearer("a"))
            );
            assert_eq!(cache.look(now + seconds(100), None), TokenLookup::Missing);
        }
    }

    #[test]
    fn a_token_without_a_lifetime_stays() {
        let (mut cache, now) = (cache(), Instant::now());
        cache.fetched(Ok(Token::new("a")), now);
        assert_eq!(
            cache.look(now + seconds(1 << 30), None),
            TokenLookup::Held(bearer("a"))
        );
        cache.fetched(Ok(Token::new("b").expires_in(Duration::MAX)), now);
        assert_eq!(
            cache.look(now + seconds(1 << 30), None),
            TokenLookup::Held(bearer("b"))
        );
    }

    #[test]
    fn a_token_that_comes_expired_lives_for_a_second() {
        let (mut cache, now) = (cache(), Instant::now());
        cache.fetched(Ok(Token::new("a").expires_in(Duration::ZERO)), now);
        assert_eq!(cache.look(now, None), TokenLookup::Held(bearer("a")));
        assert_eq!(cache.look(now + seconds(1), None), TokenLookup::Missing);
    }

    #[test]
    fn the_old_token_is_used_while_its_source_fails() {
        let (mut cache, now) = (cache(), Instant::now());
        cache.fetched(Ok(Token::new("a").expires_in(seconds(100))), now);
        let late = now + seconds(90);
        cache.fetched(Err(Status::unavailable("down")), late);
        assert_eq!(
            cache.look(late, None),
            TokenLookup::Held(bearer("a")),
            "it pauses"
        );
        assert_eq!(
            cache.look(late + seconds(1), None),
            TokenLookup::Expiring(bearer("a"))
        );
        cache.fetched(Ok(Token::new("b")), late + seconds(1));
        assert_eq!(
            cache.look(late + seconds(1), None),
            TokenLookup::Held(bearer("b"))
        );
        assert_eq!(cache.failure(), None);
    }

    #[test]
    fn pauses_between_failures_grow() {
        let (mut cache, mut now) = (cache(), Instant::now());
        let begun = now;
        for _ in 0..20 {
            cache.fetched(Err(Status::unavailable("down")), now);
            match cache.look(now, None) {
                TokenLookup::Pausing(at, status) => {
                    assert_eq!(status.message(), "down");
                    now = at;
                }
                TokenLookup::Missing => {}
                other => panic!("{other:?}"),
            }
            assert_eq!(cache.look(now, None), TokenLookup::Missing);
        }
        assert!(now - begun > seconds(100), "{:?}", now - begun);
    }

    #[test]
    fn a_bad_token_is_a_failure_of_the_source() {
        let (mut cache, now) = (cache(), Instant::now());
        cache.fetched(Ok(Token::new("s3cret\n")), now);
        let failure = cache.failure().unwrap();
        assert_eq!(failure.code(), Code::InvalidArgument);
        assert!(!failure.message().contains("s3cret") && TokenLookup::is_permanent(failure));
    }

    #[test]
    fn a_refused_token_is_replaced_unless_it_is_young() {
        let (mut cache, now) = (cache(), Instant::now());
        cache.fetched(Ok(Token::new("a")), now);
        assert!(!cache.refused(&bearer("a"), now + seconds(4)));
        assert_eq!(cache.look(now + seconds(4), None), TokenLookup::Held(bearer("a")));
        assert!(cache.refused(&bearer("older"), now), "there is a newer one");
        assert_eq!(cache.look(now, None), TokenLookup::Held(bearer("a")));
        assert!(cache.refused(&bearer("a"), now + seconds(5)));
        assert_eq!(cache.look(now + seconds(5), None), TokenLookup::Missing);
        cache.fetched(Err(Status::unavailable("away")), now + seconds(5));
        assert_eq!(
            cache.look(now + seconds(5), None),
            TokenLookup::Held(bearer("a")),
            "perhaps another server takes it"
        );
        let refused = bearer("a");
        assert!(matches!(
            cache.look(now + seconds(5), Some(&refused)),
            TokenLookup::Pausing(..)
        ));
        cache.fetched(Ok(Token::new("a")), now + seconds(5));
        assert!(
            !cache.refused(&bearer("a"), now + seconds(6)),
            "the source is not asked by each call"
        );
    }
}
