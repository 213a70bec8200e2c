//! Dns: the addresses that the system's resolver has for a name.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::time;

use super::{Endpoint, Found, Resolver};
use crate::{
    Code, Error, Phase,
    net::{self, Mistake, check_host, name_of},
};

/// Finds the servers of a service by DNS: all IPv4 and IPv6 addresses of a name. The target `dns:///name:port` means one with its defaults.
///
/// It asks the system's resolver, which knows `/etc/hosts`, `/etc/resolv.conf` and their search domains. It asks again when a server is
/// lost, and every 30 s.
///
/// ```
/// use std::time::Duration;
///
/// use rpc_runtime::discover::{Dns, Following};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rpc_runtime::Error> {
/// let dns = Dns::new("localhost:5005")?.every(Duration::from_secs(5));
/// let endpoints = Following::new(dns).next().await?;
/// assert_eq!(endpoints[0].address(), "127.0.0.1:5005");
/// assert_eq!(endpoints[0].server_name(), Some("localhost"));
/// # Ok(())
/// # }
/// ```
///
/// # What fails
///
/// A look-up that fails, or that takes longer than 10 s, is an error: the client keeps the addresses that it has. So is a name without
/// addresses. The system's resolver says the same of a name that does not exist, of a service without a ready server, and often of a
/// server of DNS that fails. So a set that was found is never replaced by an empty one.
///
/// # In a simulation
///
/// A name is a node there, so `dns:///node:port` is one endpoint, and nothing is looked up.
#[derive(Clone, Debug)]
pub struct Dns {
    /// A name or an IP address, and a port.
    host: String,
    every: Duration,
}

impl Dns {
    /// Follows the addresses of a name, for a port: `kv.example.com:5005`.
    ///
    /// Each endpoint has the name as its [server name](Endpoint::with_server_name), without a final dot, so that certificates are checked
    /// against the name.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if the text is no name and port; it says what to write.
    pub fn new(host: impl Into<String>) -> Result<Self, Error> {
        let host = host.into();
        match check(&host) {
            Ok(()) => Ok(Self::checked(host)),
            Err(Mistake { why, proposal }) => {
                let proposal = proposal.unwrap_or_else(|| "name:port".to_owned());
                let text = format!("bad name {host:?}: {why}; write {proposal}");
                Err(Error::local(Code::InvalidArgument, text))
            }
        }
    }

    /// The same for a host that [`check_host`] has accepted.
    pub(super) fn checked(host: String) -> Self {
        Self { host, every: EVERY }
    }

    /// Sets how often the name is looked up when nothing is lost, with up to a fifth more or less. Default: 30 s. At least 1 s.
    ///
    /// A time below that of the caches between here and the zone finds nothing sooner.
    #[must_use]
    pub fn every(self, time: Duration) -> Self {
        let every = time.max(SHORTEST);
        Self { every, ..self }
    }

    /// Follows the name by `resolve`.
    async fn follow_by<R>(&self, found: &Found, resolve: impl Fn() -> R) -> Result<(), Error>
    where
        R: Future<Output = io::Result<Vec<SocketAddr>>>,
    {
        loop {
            let looked_up = time::timeout(LOOK_UP_WITHIN, resolve()).await;
            let addresses = looked_up
                .map_err(|_| self.failed(&format!(": no answer within {LOOK_UP_WITHIN:?}")))?
                .map_err(|error| self.failed("").with_source(error))?;
            // Servers of DNS shuffle their answers. Another order is no news.
            let addresses: BTreeSet<_> = addresses.into_iter().collect();
            let addresses = addresses.into_iter().map(|address| address.to_string());
            found.set(addresses.map(|address| self.endpoint(address)));
            // Clients that begin together do not ask together.
            found.wait(self.every.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        }
    }

    fn endpoint(&self, address: String) -> Endpoint {
        let endpoint = Endpoint::new(address);
        let name = name_of(&self.host);
        let is_address = name.starts_with('[') || name.parse::<IpAddr>().is_ok();
        match is_address {
            // The host of the address is the same.
            true => endpoint,
            false => endpoint.with_server_name(name.strip_suffix('.').unwrap_or(name)),
        }
    }

    fn failed(&self, why: &str) -> Error {
        let text = format!("cannot resolve {}{why}", name_of(&self.host));
        Error::local(Code::Unavailable, text).with_phase(Phase::Resolve)
    }
}

impl Resolver for Dns {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        if net::is_simulated() {
            found.set([Endpoint::new(&*self.host)]);
            return Ok(());
        }
        self.follow_by(found, || net::resolve(&self.host)).await
    }
}

fn check(host: &str) -> Result<(), Mistake> {
    if let Some((_, rest)) = host.split_once("://") {
        let rest = rest.trim_matches('/');
        return Err(Mistake {
            why: "a name has no scheme".into(),
            proposal: check_host(rest).map_or_else(|mistake| mistake.proposal, |()| Some(rest.to_owned())),
        });
    }
    check_host(host)
}

/// How often a name is looked up by default. Kubernetes' server of DNS keeps answers as long.
const EVERY: Duration = Duration::from_secs(30);
/// The shortest time between two look-ups that no refresh asks for.
const SHORTEST: Duration = Duration::from_secs(1);
/// Time limit for one look-up. Its thread goes on, and the next look-up waits for the same answer.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::discover::Following;

    type Answers = fn(usize) -> io::Result<Vec<SocketAddr>>;

    /// A name whose look-ups have the answers of a script, which knows how many came before.
    struct Scripted(Dns, AtomicUsize, Answers);

    impl Resolver for Scripted {
        async fn follow(&self, found: &Found) -> Result<(), Error> {
            let resolve = || async { (self.2)(self.1.fetch_add(1, Relaxed)) };
            self.0.follow_by(found, resolve).await
        }
    }

    fn scripted(dns: Dns, answers: Answers) -> Following {
        Following::new(Scripted(dns, AtomicUsize::new(0), answers))
    }

    fn kv() -> Dns {
        Dns::new("kv.example.com:5005").unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// One address, another one with each look-up.
    fn another(turn: usize) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses(&[&format!("10.0.0.{turn}:5005")]))
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_is_an_endpoint_with_the_name_for_its_certificate() {
        let both: Answers = |_| Ok(addresses(&["10.0.0.7:5005", "[1::7]:5005"]));
        for (host, name) in [
            ("kv.example.com:5005", Some("kv.example.com")),
            ("kv.example.com.:5005", Some("kv.example.com")),
            ("10.0.0.7:5005", None),
            ("[1::7]:5005", None),
        ] {
            let endpoints = scripted(Dns::new(host).unwrap(), both).next().await.unwrap();
            let found: Vec<_> = endpoints
                .iter()
                .map(|endpoint| (endpoint.address(), endpoint.server_name()))
                .collect();
            assert_eq!(found, [("10.0.0.7:5005", name), ("[1::7]:5005", name)], "{host}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_again_after_its_time_with_a_fifth_more_or_less() {
        for (dns, usual) in [
            (kv(), 30.0),
            (kv().every(Duration::from_secs(5)), 5.0),
            (kv().every(Duration::ZERO), 1.0),
        ] {
            let mut following = scripted(dns, another);
            following.next().await.unwrap();
            let mut pauses = Vec::new();
            for _ in 0..200 {
                let before = Instant::now();
                following.next().await.unwrap();
                pauses.push(before.elapsed().as_secs_f64() / usual);
            }
            let shortest = pauses.iter().copied().fold(f64::MAX, f64::min);
            let longest = pauses.iter().copied().fold(0.0, f64::max);
            // Of 200 draws some are near each end.
            assert!((0.8..0.84).contains(&shortest), "{usual}: {shortest}");
            assert!((1.16..=1.202).contains(&longest), "{usual}: {longest}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_looks_up_at_once() {
        let mut following = scripted(kv(), another);
        following.next().await.unwrap();
        let before = Instant::now();
        following.refresh();
        assert_eq!(following.next().await.unwrap()[0].address(), "10.0.0.1:5005");
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_look_up_is_told_and_the_next_answer_is_followed() {
        let mut following = scripted(kv(), |turn| match turn {
            0 => another(7),
            1 => Err(io::Error::new(io::ErrorKind::NotFound, "no such name")),
            _ => another(8),
        });
        assert_eq!(following.next().await.unwrap()[0].address(), "10.0.0.7:5005");
        let error = following.next().await.unwrap_err();
        assert_eq!(
            (error.code(), error.phase()),
            (Code::Unavailable, Some(Phase::Resolve))
        );
        let text = "UNAVAILABLE: cannot resolve kv.example.com: no such name";
        assert_eq!(format!("{error:#}"), text);
        let before = Instant::now();
        assert_eq!(following.next().await.unwrap()[0].address(), "10.0.0.8:5005");
        assert!(before.elapsed() <= Duration::from_millis(1300), "{before:?}");
    }

    /// A name that is never answered.
    struct Hanging(Dns);

    impl Resolver for Hanging {
        async fn follow(&self, found: &Found) -> Result<(), Error> {
            self.0.follow_by(found, pending).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_up_that_hangs_has_failed_after_ten_seconds() {
        let before = Instant::now();
        let error = Following::new(Hanging(kv())).next().await.unwrap_err();
        assert_eq!(
            error.message(),
            "cannot resolve kv.example.com: no answer within 10s"
        );
        // Timers of tokio count in milliseconds.
        assert_eq!(before.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn the_system_is_asked() {
        let mut following = Following::new(Dns::new("kv.localhost:5005").unwrap());
        let endpoints = following.next().await.unwrap();
        let addresses: Vec<_> = endpoints.iter().map(Endpoint::address).collect();
        assert_eq!(addresses, ["127.0.0.1:5005", "[::1]:5005"]);
    }

    #[test]
    fn a_bad_name_says_what_to_write() {
        for (host, why, proposal) in [
            ("kv.example.com", "the port is missing", "kv.example.com:<port>"),
            ("kv:", "the port is missing", "kv:<port>"),
            ("kv:80/", "nothing may follow the port", "kv:80"),
            ("kv: 80", "it contains a space", "kv:80"),
            ("::1:80", "an IPv6 address needs brackets", "[::1]:80"),
            ("dns:///kv:80", "a name has no scheme", "kv:80"),
            ("tcp://kv", "a name has no scheme", "kv:<port>"),
            ("", "the port is missing", "name:port"),
        ] {
            let error = Dns::new(host).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(
                error.message(),
                format!("bad name {host:?}: {why}; write {proposal}")
            );
        }
    }
}
