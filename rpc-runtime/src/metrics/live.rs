//! Live: the servers, clients and certificates of this process that are asked when a snapshot is taken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::labels::Side;
use crate::api::counters::{Counters, Counts};

/// A server that is asked for its state.
pub(crate) trait LiveServer: Send + Sync {
    /// The state of this moment.
    fn gauges(&self) -> ServerGauges;
}

/// The state of a server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServerGauges {
    /// How many bytes all connections hold.
    pub(crate) buffered: u64,
    /// How many they may hold; none for no limit.
    pub(crate) buffered_limit: Option<u64>,
    pub(crate) handler_tasks: u64,
    pub(crate) handler_tasks_limit: u64,
    /// True if a drain has begun and not ended.
    pub(crate) is_draining: bool,
}

/// A client that is asked for its state.
pub(crate) trait LiveClient: Send + Sync {
    /// The part of the retry budget that is left: 1 if it is full.
    fn budget_left(&self) -> f64;
}

/// A certificate that this process shows, and that expires.
pub(crate) trait LiveCertificate: Send + Sync {
    /// The side that shows it.
    fn side(&self) -> Side;
    /// The path of its file, as the program gave it.
    fn name(&self) -> String;
    /// How many seconds are left until it expires; none if that is not known.
    fn seconds_left(&self) -> Option<i64>;
}

/// Things of this process that are asked as long as they live.
struct Live<T: ?Sized>(Mutex<Vec<Weak<T>>>);

impl<T: ?Sized> Live<T> {
    const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    fn add(&self, one: Weak<T>) {
        let mut all = lock(&self.0);
        // Dead ones go when the list would grow, so adding costs little on average.
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(one);
    }

    fn all(&self) -> Vec<Arc<T>> {
        lock(&self.0).iter().filter_map(Weak::upgrade).collect()
    }
}

static CLIENTS: Live<dyn LiveClient> = Live::new();
static CERTIFICATES: Live<dyn LiveCertificate> = Live::new();
static SERVERS: Mutex<Servers> = Mutex::new(Servers {
    known: Vec::new(),
    gone: None,
});

struct Servers {
    known: Vec<KnownServer>,
    /// The counters of servers that are gone.
    gone: Option<Counters>,
}

struct KnownServer {
    server: Weak<dyn LiveServer>,
    /// Kept until nobody can count any more, so that nothing is lost.
    counts: Arc<Counts>,
}

impl Servers {
    /// Adds the counters of servers that are gone to those of earlier ones.
    fn forget_gone(&mut self) {
        let gone = &mut self.gone;
        self.known.retain_mut(|known| {
            let is_gone = known.server.strong_count() == 0 && Arc::get_mut(&mut known.counts).is_some();
            if is_gone {
                *gone = Some(gone.unwrap_or_default().and(known.counts.read()));
            }
            !is_gone
        });
    }
}

/// Adds a server, whose connections count in `counts`.
pub(crate) fn add_server(server: Weak<dyn LiveServer>, counts: Arc<Counts>) {
    let mut servers = lock(&SERVERS);
    servers.forget_gone();
    servers.known.push(KnownServer { server, counts });
}

/// Adds a client.
pub(crate) fn add_client(client: Weak<dyn LiveClient>) {
    CLIENTS.add(client);
}

/// Adds a certificate.
#[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS has certificates"))]
pub(crate) fn add_certificate(certificate: Weak<dyn LiveCertificate>) {
    CERTIFICATES.add(certificate);
}

/// The state of each server, and what all servers have counted, also those that are gone.
pub(super) fn servers() -> (Vec<ServerGauges>, Counters) {
    let mut servers = lock(&SERVERS);
    servers.forget_gone();
    let counted = servers.known.iter().map(|known| known.counts.read());
    let counters = counted.fold(servers.gone.unwrap_or_default(), Counters::and);
    let live: Vec<_> = servers
        .known
        .iter()
        .filter_map(|known| known.server.upgrade())
        .collect();
    drop(servers);
    // Without the lock: the last owner of a server may be here.
    let gauges = live.iter().map(|server| server.gauges()).collect();
    (gauges, counters)
}

/// The part of the retry budget that is left, of the client that has least; none without clients.
pub(super) fn least_retry_budget() -> Option<f64> {
    let budgets = CLIENTS.all().into_iter().map(|client| client.budget_left());
    budgets.reduce(f64::min)
}

/// The seconds that are left of each certificate; of several with one name, the least.
pub(super) fn certificates() -> Vec<(Side, String, i64)> {
    let all = CERTIFICATES.all();
    let known = all
        .iter()
        .filter_map(|one| Some((one.side(), one.name(), one.seconds_left()?)));
    let mut known: Vec<_> = known.collect();
    known.sort_unstable();
    known.dedup_by(|next, kept| (next.0, &next.1) == (kept.0, &kept.1));
    known
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake;

    impl LiveServer for Fake {
        fn gauges(&self) -> ServerGauges {
            ServerGauges {
                buffered: 7_000_000_007,
                ..ServerGauges::default()
            }
        }
    }

    #[test]
    fn the_counters_of_a_server_stay_when_it_is_gone_and_its_state_goes() {
        let (server, counts) = (Arc::new(Fake), Arc::<Counts>::default());
        let weak: Weak<Fake> = Arc::downgrade(&server);
        add_server(weak, Arc::clone(&counts));
        let is_listed = || servers().0.iter().any(|one| one.buffered == 7_000_000_007);
        let before = servers().1.early_pings();
        counts.early_pings.add_many(1000);
        assert!(is_listed());
        drop(server);
        assert!(!is_listed());
        // A connection may outlive its server.
        counts.early_pings.add_many(1000);
        drop(counts);
        // Other tests only add.
        assert!(servers().1.early_pings() >= before + 2000);
        assert!(servers().1.early_pings() >= before + 2000, "not only once");
    }

    #[test]
    fn the_list_of_what_lives_does_not_grow_by_what_is_gone() {
        struct Client;
        impl LiveClient for Client {
            fn budget_left(&self) -> f64 {
                0.5
            }
        }
        let live: Live<dyn LiveClient> = Live::new();
        let kept = Arc::new(Client);
        let weak: Weak<Client> = Arc::downgrade(&kept);
        live.add(weak);
        for _ in 0..1000 {
            let gone: Weak<Client> = Arc::downgrade(&Arc::new(Client));
            live.add(gone);
        }
        assert!(lock(&live.0).len() <= 8);
        assert_eq!(live.all().len(), 1);
    }
}
