//! Cuts: a relay between clients and a server that cuts and stalls connections, as networks do.

mod fate;
mod stream;

use std::{
    fmt, io,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::RwLock,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

pub use self::fate::Cuts;
use self::{
    fate::{Cut, Fate, Stall},
    stream::{Listener, Stream},
};

/// A relay of bytes between clients and a server. The fate of each connection says when it is cut.
///
/// The server may be replaced at any time. A dropped relay ends all its connections.
#[derive(Debug)]
pub struct Relay {
    address: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Locked for reading while a connection to it is made.
    upstream: RwLock<String>,
    counts: Mutex<Counts>,
}

impl Relay {
    /// Listens on `address`, `tcp://127.0.0.1:0`, the same with `tls://`, or `unix:/path`, and relays to `upstream`.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops listening.
    pub async fn start(
        address: &str,
        upstream: impl Into<String>,
        cuts: Cuts,
        random: fastrand::Rng,
    ) -> io::Result<Self> {
        let (listener, address) = Listener::bind(address).await?;
        let shared = Arc::new(Shared {
            upstream: RwLock::new(upstream.into()),
            counts: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), cuts, random));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Returns the address for clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Relays new connections to another server.
    ///
    /// When this returns, the old server has accepted or refused all earlier connections.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn redirect(&self, upstream: impl Into<String>) {
        *self.shared.upstream.write().await = upstream.into();
    }

    /// Returns the counts so far.
    pub fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The counts of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that it accepted.
    pub connections: u64,
    /// Connections that found no server.
    pub nobody: u64,
    /// Connections that it closed after some byte.
    pub closed: u64,
    /// Connections that it reset after some byte.
    pub reset: u64,
    /// Connections of which it ended one direction.
    pub half_closed: u64,
    /// Connections of which it stalled one direction for a while.
    pub stalled: u64,
}

impl Counts {
    /// Returns the number of connections that it ended.
    pub fn cuts(&self) -> u64 {
        self.closed + self.reset + self.half_closed
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.nobody += other.nobody;
        self.closed += other.closed;
        self.reset += other.reset;
        self.half_closed += other.half_closed;
        self.stalled += other.stalled;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} connections: {} closed, {} reset, {} half-closed; {} stalled; {} found no server",
            self.cuts(),
            self.connections,
            self.closed,
            self.reset,
            self.half_closed,
            self.stalled,
            self.nobody
        )
    }
}

async fn accept(listener: Listener, shared: Arc<Shared>, cuts: Cuts, mut random: fastrand::Rng) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept() => match client {
                Ok(client) => {
                    shared.count(|counts| counts.connections += 1);
                    let fate = cuts.fate(&mut random);
                    connections.spawn(connection(client, Arc::clone(&shared), fate));
                }
                // For example, no file is left: the client tries again.
                Err(_) => sleep(Duration::from_millis(5)).await,
            },
            Some(ended) = connections.join_next() => {
                // A panic of the relay ends the course, because a faulty relay proves nothing.
                ended.expect("a relayed connection does not panic");
            }
        }
    }
}

impl Shared {
    fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut lock(&self.counts));
    }
}

/// Relays one connection until its end.
async fn connection(client: Stream, shared: Arc<Shared>, fate: Fate) {
    let upstream = shared.upstream.read().await;
    let Ok(server) = Stream::connect(&upstream).await else {
        shared.count(|counts| counts.nobody += 1);
        return;
    };
    drop(upstream);
    if fate.stall_upwards.is_some() || fate.stall_downwards.is_some() {
        shared.count(|counts| counts.stalled += 1);
    }
    let mut upwards = std::pin::pin!(pump(&client, &server, fate.stall_upwards, fate.after_upwards));
    let mut downwards = std::pin::pin!(pump(&server, &client, fate.stall_downwards, fate.after_downwards));
    let mut over = (false, false);
    let end = loop {
        let (end, to) = tokio::select! {
            end = &mut upwards, if !over.0 => {
                over.0 = true;
                (end, &server)
            }
            end = &mut downwards, if !over.1 => {
                over.1 = true;
                (end, &client)
            }
            else => return,
        };
        match end {
            End::Eof => to.shutdown(),
            End::Cut if fate.cut == Cut::HalfClose => {
                shared.count(|counts| counts.half_closed += 1);
                to.shutdown();
                // The other direction goes on until the peers end it, but not for ever.
                let _ = match over {
                    (true, true) => return,
                    (true, false) => timeout(fate.patience, downwards).await,
                    (false, _) => timeout(fate.patience, upwards).await,
                };
                return;
            }
            end => break end,
        }
    };
    match (end, fate.cut) {
        (End::Cut, Cut::Close | Cut::HalfClose) => shared.count(|counts| counts.closed += 1),
        (End::Cut, Cut::Reset) => {
            shared.count(|counts| counts.reset += 1);
            client.reset_on_close();
            server.reset_on_close();
        }
        // An error of one side is a reset for the other side.
        _ => {
            client.reset_on_close();
            server.reset_on_close();
        }
    }
}

/// The end of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The sender has ended it.
    Eof,
    /// The permitted number of bytes has passed.
    Cut,
    /// An error.
    Broken,
}

/// Relays exactly `limit` bytes in one direction.
async fn pump(from: &Stream, to: &Stream, stall: Option<Stall>, most: Option<u64>) -> End {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    let mut stall = stall;
    loop {
        if let Some(due) = stall.take_if(|stall| passed >= stall.after) {
            sleep(due.time).await;
        }
        let until = match (stall, most) {
            (Some(stall), Some(most)) => stall.after.min(most),
            (Some(stall), None) => stall.after,
            (None, Some(most)) => most,
            (None, None) => u64::MAX,
        };
        if most.is_some_and(|most| passed >= most) {
            return End::Cut;
        }
        let room = usize::try_from(until - passed).map_or(buffer.len(), |left| left.min(buffer.len()));
        let len = match from.read(&mut buffer[..room]).await {
            Ok(0) => return End::Eof,
            Ok(len) => len,
            Err(_) => return End::Broken,
        };
        if to.write_all(&buffer[..len]).await.is_err() {
            return End::Broken;
        }
        passed += len as u64;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
