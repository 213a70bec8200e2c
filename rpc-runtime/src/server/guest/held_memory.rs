//! HeldMemory: what a guest holds for its peer, in the server's account of memory.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    Code, Status,
    api::server_limit::ServerLimit,
    conn::{MEMORY_SHORT, Settings, memory::Share},
};

/// Memory that a guest holds for its peer: a part of a request, or a reply that the peer has not taken.
///
/// It counts for [`ServerBuilder::max_buffered_bytes`](crate::server::ServerBuilder::max_buffered_bytes) until it is dropped.
/// [`GuestServer::hold`](crate::server::GuestServer::hold) returns one.
///
/// ```
/// use rpc_runtime::{Result, server::GuestServer};
///
/// fn gather(server: &GuestServer, chunks: &[&[u8]]) -> Result<Vec<u8>> {
///     let mut gathered = Vec::new();
///     let mut held = server.hold(0)?;
///     for chunk in chunks {
///         held.resize(gathered.len() as u64 + chunk.len() as u64)?;
///         gathered.extend_from_slice(chunk);
///     }
///     Ok(gathered)
/// }
/// ```
#[derive(Debug)]
#[must_use = "it counts until it is dropped"]
pub struct HeldMemory {
    account: Arc<PeerAccount>,
    bytes: u64,
}

impl HeldMemory {
    /// Changes how many bytes are held.
    ///
    /// What grows is a request that is not whole. Such requests together may fill nine tenths of the server's memory: beyond nineteen twentieths the
    /// server accepts no connections, and a peer whose requests never end could keep others out.
    ///
    /// # Errors
    ///
    /// As [`GuestServer::hold`](crate::server::GuestServer::hold), and beyond nine tenths; then nothing has changed. It never fails if the number becomes smaller.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Status> {
        if bytes > self.bytes {
            self.account.grow(bytes - self.bytes)?;
        } else if bytes < self.bytes {
            self.account.remove(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Changes how many bytes are held, where nothing can be refused: they have come already, and the guest bounds them.
    pub fn note(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.account.put(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.account.remove(self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// Takes `bytes` of it, or all if it is less, to be dropped at another time.
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            account: Arc::clone(&self.account),
            bytes,
        }
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.remove(self.bytes);
        }
    }
}

/// What a guest holds for one peer.
pub(super) struct PeerAccount {
    /// Those of the server.
    settings: Arc<Settings>,
    log: RefusalLine,
    held: Mutex<Held>,
}

/// Logs that memory is short.
pub(super) type RefusalLine = Box<dyn Fn() + Send + Sync>;

impl fmt::Debug for PeerAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerAccount")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Held {
    bytes: u64,
    /// What is reported of it.
    share: Share,
}

impl PeerAccount {
    /// Nothing is held. `log` is called when memory is refused.
    pub(super) fn new(settings: &Arc<Settings>, log: RefusalLine) -> Self {
        Self {
            settings: Arc::clone(settings),
            log,
            held: Mutex::new(Held {
                bytes: 0,
                share: Share::new(Arc::clone(&settings.memory)),
            }),
        }
    }

    /// Holds `bytes` more.
    ///
    /// # Errors
    ///
    /// RESOURCE_EXHAUSTED if that is more than the part of one connection.
    pub(super) fn hold(self: &Arc<Self>, bytes: u64) -> Result<HeldMemory, Status> {
        self.add(bytes)?;
        Ok(HeldMemory {
            account: Arc::clone(self),
            bytes,
        })
    }

    /// Holds `bytes` more of a request that is not whole.
    fn grow(&self, bytes: u64) -> Result<(), Status> {
        if self.settings.memory.is_tight_with(bytes) {
            return Err(self.refusal());
        }
        self.add(bytes)
    }

    fn add(&self, bytes: u64) -> Result<(), Status> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let more = held.bytes.saturating_add(bytes);
        // The rule for native connections: half of what is left.
        if self.settings.memory.is_large(more) {
            drop(held);
            return Err(self.refusal());
        }
        held.bytes = more;
        held.share.hold(more);
        Ok(())
    }

    /// Holds `bytes` more, whatever is held.
    fn put(&self, bytes: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes = held.bytes.saturating_add(bytes);
        let more = held.bytes;
        held.share.hold(more);
    }

    /// Counts and logs a refusal.
    fn refusal(&self) -> Status {
        let counts = &self.settings.counts;
        counts.refuse(ServerLimit::MaxBufferedBytes, false, 1);
        (self.log)();
        Status::new(Code::ResourceExhausted, MEMORY_SHORT)
    }

    fn remove(&self, bytes: u64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes = held.bytes.saturating_sub(bytes);
        let left = held.bytes;
        held.share.hold(left);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{Limits, conn::memory::Memory};

    fn account(max: u64) -> Arc<PeerAccount> {
        sharing(&Arc::new(Memory::new(max)))
    }

    fn sharing(memory: &Arc<Memory>) -> Arc<PeerAccount> {
        let settings = Settings {
            memory: Arc::clone(memory),
            ..Settings::new(&Limits::default(), Duration::from_secs(60), Bytes::new(), 0)
        };
        Arc::new(PeerAccount::new(&Arc::new(settings), Box::new(|| {})))
    }

    #[test]
    fn what_is_held_counts_until_all_of_it_is_dropped() {
        let account = account(1 << 20);
        let memory = &account.settings.memory;
        let mut held = account.hold(40_000).unwrap();
        assert_eq!(memory.held(), 40_000);
        held.resize(100_000).unwrap();
        let part = held.split(60_000);
        drop(held);
        assert_eq!(memory.held(), 60_000);
        drop(part);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_peer_that_holds_half_of_what_is_left_is_refused_more_and_counted() {
        let account = account(300_000);
        let mut held = account.hold(90_000).unwrap();
        let refused = held.resize(120_000).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(account.settings.memory.held(), 90_000, "nothing has changed");
        assert_eq!(account.settings.counts.read().calls_refused(), 1);
        assert!(account.hold(30_000).is_err());
        held.resize(0).unwrap();
        assert!(account.hold(90_000).is_ok());
    }

    #[test]
    fn what_is_noted_counts_even_if_there_is_no_room() {
        let account = account(300_000);
        let mut held = account.hold(90_000).unwrap();
        held.note(400_000);
        assert_eq!(account.settings.memory.held(), 400_000);
        held.note(50_000);
        assert_eq!(account.settings.memory.held(), 50_000);
        drop(held);
        assert_eq!(account.settings.memory.held(), 0);
    }

    #[test]
    fn requests_that_are_not_whole_leave_the_server_able_to_accept() {
        let memory = Arc::new(Memory::new(1 << 30));
        let mut held = Vec::new();
        // Many peers, each with its own account: only the last ones find no memory.
        let refused = (0..2000)
            .filter(|_| {
                let mut part = sharing(&memory).hold(0).unwrap();
                let is_refused = part.resize(1 << 20).is_err();
                held.push(part);
                is_refused
            })
            .count();
        assert_eq!(refused, 2000 - 921);
        assert!(!memory.is_scarce());
        assert!(sharing(&memory).hold(1 << 20).is_ok(), "a reply is whole");
    }

    #[test]
    fn of_a_part_no_more_is_taken_than_there_is() {
        let account = account(1 << 20);
        let mut held = account.hold(20_000).unwrap();
        let part = held.split(50_000);
        drop(held);
        assert_eq!(account.settings.memory.held(), 20_000);
        drop(part);
        assert_eq!(account.settings.memory.held(), 0);
    }
}
