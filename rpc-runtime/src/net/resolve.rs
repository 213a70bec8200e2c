//! Resolve: from `host:port` to socket addresses, without the runtime's pool of blocking threads.
//!
//! `blocking` handlers may hold every thread of that pool, and a look-up would wait behind them.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    panic,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// Finds the socket addresses of `host:port`, in the order to try them.
///
/// Address families alternate, as RFC 8305 says.
///
/// IP addresses and `localhost` need no look-up; `localhost` is `127.0.0.1`, then `::1` (RFC 6761: always this
/// machine).
///
/// # Errors
///
/// The OS's error for the name; `InvalidInput` if there is no port.
///
/// # Cancel safety
///
/// Dropping the future leaves a running look-up to its thread; the next caller for that name gets its answer.
pub(crate) async fn resolve(host: &str) -> io::Result<Vec<SocketAddr>> {
    static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| Resolver::new(system));
    SYSTEM.resolve(host).await
}

/// Resolves like [`resolve`], within a time limit, so that a server's `bind` fails instead of hanging.
///
/// # Errors
///
/// The errors of [`resolve`], with the name; `TimedOut`.
pub(super) async fn resolve_to_bind(host: &str) -> io::Result<Vec<SocketAddr>> {
    match timeout(BIND_WITHIN, resolve(host)).await {
        Ok(resolved) => resolved.map_err(|error| cannot(host, error.kind(), &error.to_string())),
        Err(_) => {
            let text = format!("no answer within {BIND_WITHIN:?}");
            Err(cannot(host, io::ErrorKind::TimedOut, &text))
        }
    }
}

fn cannot(host: &str, kind: io::ErrorKind, text: &str) -> io::Error {
    io::Error::new(kind, format!("cannot resolve {}: {text}", name_of(host)))
}

/// The name in `host:port`.
pub(crate) fn name_of(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Looks names up on its own threads.
///
/// A look-up cannot be stopped, so a thread may hang for as long as the OS lets it. There are at most [`THREADS`]
/// threads, and never two for one name. Callers that ask for a name that is being looked up share its answer.
struct Resolver {
    work: Mutex<LookUps>,
    look_up: LookUp,
}

/// Returns the addresses of a name, all with port 0.
type LookUp = fn(&str) -> io::Result<Vec<SocketAddr>>;
/// The result of a look-up; `None` until it ends.
type LookUpResult = Option<Result<Vec<SocketAddr>, Arc<io::Error>>>;

#[derive(Default)]
struct LookUps {
    /// The names that callers ask for, including those that wait for a thread.
    asked: HashMap<String, watch::Sender<LookUpResult>>,
    /// The names that wait for a thread.
    waiting: VecDeque<String>,
    threads: usize,
}

impl Resolver {
    fn new(look_up: LookUp) -> Self {
        Self {
            work: Mutex::default(),
            look_up,
        }
    }

    async fn resolve(&'static self, host: &str) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let parts = host.rsplit_once(':');
        let parts = parts.and_then(|(name, port)| Some((name, port.parse::<u16>().ok()?)));
        let (name, port) = parts.ok_or(io::ErrorKind::InvalidInput)?;
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if is_localhost(name) {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|ip| SocketAddr::new(ip, port)).into());
        }
        let mut found = self.find(name).await?;
        if found.is_empty() {
            let text = "the name has no addresses";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        found.iter_mut().for_each(|address| address.set_port(port));
        Ok(alternate(found))
    }

    async fn find(&'static self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut answer = self.ask(name)?;
        let answer = answer.wait_for(Option::is_some).await;
        let answer = answer.ok().and_then(|answer| LookUpResult::clone(&answer));
        match answer {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err(io::Error::new(error.kind(), error)),
            None => Err(io::Error::other("the look-up ended without an answer")),
        }
    }

    /// Asks for a name, and starts a thread for it if there may be one more.
    fn ask(&'static self, name: &str) -> io::Result<watch::Receiver<LookUpResult>> {
        let mut work = self.lock();
        if let Some(asked) = work.asked.get(name) {
            return Ok(asked.subscribe());
        }
        work.forget_unwanted();
        if work.waiting.len() >= WAITING_MAX {
            let text = format!("too many look-ups: {WAITING_MAX} names already wait for a thread");
            return Err(io::Error::other(text));
        }
        let (sender, receiver) = watch::channel(None);
        work.asked.insert(name.to_owned(), sender);
        if work.threads >= THREADS {
            work.waiting.push_back(name.to_owned());
            return Ok(receiver);
        }
        let first = name.to_owned();
        let thread = thread::Builder::new().name("rpc-resolve".to_owned());
        // The thread cannot end before this function unlocks.
        if let Err(error) = thread.spawn(move || self.work(first)) {
            work.asked.remove(name);
            return Err(error);
        }
        work.threads += 1;
        Ok(receiver)
    }

    /// Looks names up until no more wait.
    fn work(&self, first: String) {
        let mut next = Some(first);
        while let Some(name) = next {
            let looked_up = panic::catch_unwind(|| (self.look_up)(&name));
            let answer = looked_up.unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")));
            let mut work = self.lock();
            let asked = work.asked.remove(&name);
            work.forget_unwanted();
            next = work.waiting.pop_front();
            if next.is_none() {
                work.threads -= 1;
            }
            drop(work);
            if let Some(sender) = asked {
                sender.send_replace(Some(answer.map_err(Arc::new)));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LookUps> {
        // Nothing panics while it holds the lock, and the work is complete at every step.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookUps {
    /// Drops the names that wait and that no caller asks for any more.
    fn forget_unwanted(&mut self) {
        let Self { asked, waiting, .. } = self;
        waiting.retain(|name| {
            let is_wanted = asked.get(name).is_some_and(|sender| sender.receiver_count() > 0);
            if !is_wanted {
                asked.remove(name);
            }
            is_wanted
        });
    }
}

fn system(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

/// True for `localhost` and every name below it.
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost")
}

/// Alternates the address families, beginning with that of the first address; within a family the order stays.
fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first =
        |address: &SocketAddr| Some(address.is_ipv4()) == addresses.first().map(SocketAddr::is_ipv4);
    let (one, other): (Vec<_>, Vec<_>) = addresses.iter().copied().partition(is_first);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut all: Vec<SocketAddr> = Vec::with_capacity(addresses.len());
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return all;
        }
        for address in pair.into_iter().flatten() {
            // The OS may return an address several times.
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
}

/// Maximum number of look-ups that run at once in a process; further names wait.
const THREADS: usize = 8;
/// Maximum number of names that wait for a thread.
const WAITING_MAX: usize = 1024;
/// Time limit for the look-up of a name to listen on.
const BIND_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Condvar,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Waker},
    };

    use super::*;

    fn leak(look_up: LookUp) -> &'static Resolver {
        Box::leak(Box::new(Resolver::new(look_up)))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn never(name: &str) -> io::Result<Vec<SocketAddr>> {
        panic!("{name} is looked up")
    }

    #[tokio::test]
    async fn ip_addresses_and_localhost_are_not_looked_up() {
        let resolver = leak(never);
        for (host, expected) in [
            ("127.0.0.1:80", &["127.0.0.1:80"][..]),
            ("[::1]:80", &["[::1]:80"]),
            ("::1:80", &["[::1]:80"]),
            ("localhost:80", &["127.0.0.1:80", "[::1]:80"]),
            ("LocalHost.:80", &["127.0.0.1:80", "[::1]:80"]),
            ("kv.localhost:80", &["127.0.0.1:80", "[::1]:80"]),
        ] {
            assert_eq!(
                resolver.resolve(host).await.unwrap(),
                addresses(expected),
                "{host}"
            );
        }
        for host in ["kv", "kv:", "kv:x", "kv:65536"] {
            let error = resolver.resolve(host).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host}");
        }
    }

    #[tokio::test]
    async fn families_take_turns_and_no_address_comes_twice() {
        let resolver = leak(|_| {
            let all = [
                "[1::1]:0",
                "[1::2]:0",
                "[1::2]:0",
                "1.1.1.1:0",
                "[1::3]:0",
                "1.1.1.2:0",
            ];
            Ok(addresses(&all))
        });
        let found = resolver.resolve("kv.example:5").await.unwrap();
        let expected = ["[1::1]:5", "1.1.1.1:5", "[1::2]:5", "1.1.1.2:5", "[1::3]:5"];
        assert_eq!(found, addresses(&expected));
    }

    #[tokio::test]
    async fn a_look_up_that_fails_tells_why() {
        let resolver = leak(|_| Err(io::Error::new(io::ErrorKind::NotFound, "no such name")));
        let error = resolver.resolve("kv.example:5").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::NotFound, "no such name".into())
        );
        let error = leak(|_| Ok(Vec::new()))
            .resolve("kv.example:5")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = leak(never).resolve("kv.example:5").await.unwrap_err();
        assert_eq!(error.to_string(), "the look-up panicked");
    }

    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    static OPEN: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

    /// Hangs until `OPEN` is true.
    fn hangs(_: &str) -> io::Result<Vec<SocketAddr>> {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        let mut open = OPEN.0.lock().unwrap();
        while !*open {
            open = OPEN.1.wait(open).unwrap();
        }
        Ok(addresses(&["10.0.0.1:0"]))
    }

    #[tokio::test]
    async fn look_ups_that_hang_are_bounded_and_one_for_each_name() {
        const NAMES: usize = THREADS + 5;
        let resolver = leak(hangs);
        let ask = |i: usize| async move { resolver.resolve(&format!("kv{i}.example:5")).await };
        let mut cx = Context::from_waker(Waker::noop());
        // Each name three times. All callers of the last name give up; of the other names only the first one does.
        let mut asked = Vec::new();
        for i in 0..3 * NAMES {
            let mut asking = Box::pin(ask(i % NAMES));
            assert!(asking.as_mut().poll(&mut cx).is_pending());
            if i >= NAMES && i % NAMES != NAMES - 1 {
                asked.push(asking);
            }
        }
        while BEGUN.load(Ordering::SeqCst) < THREADS {
            tokio::task::yield_now().await;
        }
        let counts = |work: &LookUps| (work.threads, work.asked.len());
        assert_eq!(counts(&resolver.lock()), (THREADS, NAMES));
        *OPEN.0.lock().unwrap() = true;
        OPEN.1.notify_all();
        for asking in asked {
            assert_eq!(asking.await.unwrap(), addresses(&["10.0.0.1:5"]));
        }
        while resolver.lock().threads > 0 {
            tokio::task::yield_now().await;
        }
        // A name that was asked for three times was looked up once.
        assert_eq!(BEGUN.load(Ordering::SeqCst), NAMES - 1);
        assert!(resolver.lock().asked.is_empty());
    }
}
