//! VerifiedCache: tokens that were verified, for as long as that holds.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Caller;
use crate::base::sha256::Hash;

/// Tokens that were verified, for as long as that holds. It keeps their hashes alone.
///
/// A look-up takes a time that depends on the hash. That tells nothing of a token: nobody can choose a token by its hash.
#[derive(Default)]
pub(super) struct VerifiedCache(HashMap<Hash, (Caller, Instant)>);

impl VerifiedCache {
    /// The most tokens that it keeps. Only valid tokens are kept, so a stranger cannot fill it.
    pub(super) const MAX_LEN: usize = 1024;

    /// Returns the caller of a token that was verified and still holds.
    pub(super) fn get(&self, token: &Hash, now: Instant) -> Option<Caller> {
        let (caller, until) = self.0.get(token)?;
        (now < *until).then(|| caller.clone())
    }

    /// Keeps the caller of a token until then. If there is no room, this drops tokens whose time is over, or else any one.
    pub(super) fn insert(&mut self, token: Hash, caller: Caller, until: Instant, now: Instant) {
        if self.0.len() >= Self::MAX_LEN && !self.0.contains_key(&token) {
            self.0.retain(|_, (_, until)| now < *until);
        }
        if self.0.len() >= Self::MAX_LEN && !self.0.contains_key(&token) {
            let any = self.0.keys().next().copied();
            any.and_then(|any| self.0.remove(&any));
        }
        self.0.insert(token, (caller, until));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn token(number: usize) -> Hash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
        hash
    }

    fn kept(cache: &VerifiedCache, now: Instant) -> usize {
        (0..5000)
            .filter(|number| cache.get(&token(*number), now).is_some())
            .count()
    }

    #[test]
    fn a_token_is_kept_until_its_time_is_over() {
        let (mut cache, now) = (VerifiedCache::default(), Instant::now());
        let second = Duration::from_secs(1);
        cache.insert(token(1), Caller::new("ada"), now + second, now);
        assert_eq!(cache.get(&token(1), now).unwrap().name(), "ada");
        assert!(cache.get(&token(2), now).is_none());
        assert!(cache.get(&token(1), now + second).is_none());
    }

    #[test]
    fn it_keeps_a_limited_number_of_tokens() {
        let (mut cache, now) = (VerifiedCache::default(), Instant::now());
        let second = Duration::from_secs(1);
        for number in 0..VerifiedCache::MAX_LEN {
            cache.insert(token(number), Caller::new("ada"), now + second, now);
        }
        for number in 2000..3000 {
            cache.insert(token(number), Caller::new("bob"), now + 3 * second, now);
            cache.insert(token(number), Caller::new("bob"), now + 3 * second, now);
        }
        assert_eq!(kept(&cache, now), VerifiedCache::MAX_LEN);
        assert!(cache.get(&token(2999), now).is_some(), "the newest is kept");
        for number in 4000..4100 {
            cache.insert(
                token(number),
                Caller::new("eve"),
                now + 3 * second,
                now + 2 * second,
            );
        }
        let late = now + 2 * second;
        assert!(kept(&cache, late) > 100 && cache.0.len() <= VerifiedCache::MAX_LEN);
    }
}
