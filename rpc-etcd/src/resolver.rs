//! EtcdResolver: finds the servers of a service in etcd, and follows their changes.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rpc_runtime::{
    Error, Status,
    discover::{Found, Resolver},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    Etcd,
    backoff::jittered,
    known::Known,
    naming,
    watching::{News, Watching},
};

/// Finds the servers of a service in etcd, and follows their changes; [`Etcd::resolver`] makes one.
///
/// It reads the keys of the service, and watches them from then on. Every 4 minutes or so it reads them again, also if it has missed nothing.
///
/// The last servers stay when etcd is away, when a watch ends, and when etcd has forgotten the changes since. If etcd has lost its data, the
/// servers that it knew stay for 30 s, in which they register again. A value that is no server is skipped, with a warning in the log.
///
/// ```no_run
/// # #[tokio::main]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// use rpc_etcd::Etcd;
/// use rpc_runtime::discover::Following;
///
/// let etcd = Etcd::builder().endpoint("grpc://127.0.0.1:2379").build()?;
/// let mut servers = Following::new(etcd.resolver("orders"));
/// for endpoint in servers.next().await? {
///     println!("{} in {:?}", endpoint.address(), endpoint.zone());
/// }
/// # Ok(())
/// # }
/// ```
pub struct EtcdResolver {
    etcd: Etcd,
    service: String,
    known: Mutex<Known>,
}

impl EtcdResolver {
    pub(crate) fn new(etcd: Etcd, service: String) -> Self {
        Self {
            etcd,
            service,
            known: Mutex::default(),
        }
    }

    /// Reads all keys.
    async fn read(&self, prefix: &str, found: &Found) -> Result<(), Error> {
        // One more than a client takes, so that it tells so.
        let all = self
            .etcd
            .range(prefix.as_bytes(), &naming::end_of(prefix), MAX_SERVERS + 1)
            .await?;
        let mut known = self.known();
        known.set(all, Instant::now());
        found.set(known.endpoints());
        Ok(())
    }

    /// Watches the keys until it is time to read all of them again; the error is why that is at once.
    async fn watch(&self, prefix: &str, found: &Found) -> Result<Result<(), String>, Error> {
        let read_at = Instant::now();
        let (start, lost_until) = {
            let known = self.known();
            (known.revision(), known.lost_until())
        };
        let again = read_at + jittered(READ_AGAIN);
        let again = lost_until.map_or(again, |until| until.min(again));
        let begun =
            Watching::begin(&self.etcd, prefix.as_bytes(), &naming::end_of(prefix), start + 1).await?;
        let mut watching = match begun {
            Ok(watching) => watching,
            Err(why) => return Ok(Err(why)),
        };
        loop {
            let news = tokio::select! {
                news = watching.news() => news?,
                () = sleep_until(again) => return Ok(Ok(())),
                () = found.refresh_asked() => match read_at.elapsed() < SHORTEST {
                    // The watch has told all that there is to know.
                    true => continue,
                    false => return Ok(Ok(())),
                },
            };
            let changes = match news {
                News::Changes(changes) => changes,
                News::Stale(why) => return Ok(Err(why)),
            };
            if changes.header.is_some_and(|header| header.revision < start) {
                return Ok(Err("etcd has gone back to an older revision".to_owned()));
            }
            let mut known = self.known();
            if known.change(changes.events) {
                found.set(known.endpoints());
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Resolver for EtcdResolver {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        if self.service.is_empty() {
            return Err(Status::invalid_argument("the service of an etcd resolver has no name").into());
        }
        let prefix = naming::prefix(&self.service);
        let mut stale = 0;
        loop {
            self.read(&prefix, found).await?;
            match self.watch(&prefix, found).await? {
                Ok(()) => stale = 0,
                Err(why) if stale < MAX_STALE => {
                    tracing::debug!(service = self.service, why, "etcd: reading the servers again");
                    stale += 1;
                }
                // The caller waits before it comes again.
                Err(why) => return Err(Status::unavailable(why).into()),
            }
        }
    }
}

impl fmt::Debug for EtcdResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdResolver")
            .field("etcd", &self.etcd)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// How many servers a client takes.
const MAX_SERVERS: i64 = 10_000;
/// When all keys are read again, a fifth sooner or later: changes that etcd has not told are found then.
const READ_AGAIN: Duration = Duration::from_secs(240);
/// The shortest time between two readings that the client asks for.
const SHORTEST: Duration = Duration::from_secs(10);
/// How many watches in a row may be stale before the resolver waits.
const MAX_STALE: u32 = 1;
