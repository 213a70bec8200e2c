//! Registration: keeps a server in etcd, as long as it serves.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use rpc_runtime::{
    Code, Error, Status,
    discover::{Endpoint, Registrar, Serving},
};
use tokio::time::sleep;

use crate::{Etcd, backoff::Backoff, naming};

/// Keeps a server in etcd, as long as it serves; [`Etcd::registration`] makes one.
///
/// The server's key is bound to a lease, which is renewed three times in its life. If the lease is lost, the server gets a new one, for as
/// long as it takes. Once per life of the lease it also reads its own key, and sets it again if it is gone. At a drain the key goes first.
///
/// ```no_run
/// # async fn serve(service: impl rpc_runtime::server::Service) -> Result<(), rpc_runtime::Error> {
/// use rpc_etcd::Etcd;
/// use rpc_runtime::Server;
///
/// let etcd = Etcd::builder().endpoint("grpc://127.0.0.1:2379").build()?;
/// let server = Server::builder()
///     .service(service)
///     .listener("tcp://0.0.0.0:5005")
///     .register(etcd.registration("orders").address("tcp://10.0.0.7:5005").zone("a"));
/// server.serve().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a server has it"]
pub struct Registration {
    etcd: Etcd,
    service: String,
    address: Option<String>,
    weight: u32,
    zone: Option<String>,
    metadata: Vec<(String, String)>,
    ttl: Duration,
    /// Makes the key its own, also beside another process of the same address that ends or begins.
    instance: u64,
}

/// A lease of etcd.
struct Lease {
    id: i64,
    /// The time after which it ends unless it is renewed.
    ttl: Duration,
    /// Whether the key of the server is bound to it.
    has_key: bool,
    renewals: u32,
}

impl Registration {
    pub(crate) fn new(etcd: Etcd, service: String) -> Self {
        Self {
            etcd,
            service,
            address: None,
            weight: 1,
            zone: None,
            metadata: Vec::new(),
            ttl: TTL,
            instance: fastrand::u64(..),
        }
    }

    /// Sets the address at which clients reach the server. Default: the first TCP or TLS listener that has a host.
    ///
    /// `tcp://`, `tls://`, `grpc://` and `grpcs://` are left out in etcd, because clients of gRPC-Go do not know them. A client of this
    /// library uses the scheme that it is set to.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets how many calls the server gets beside others. Default: 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the zone in which the server stands. Default: none.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds an entry that describes the server. Default: none.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Sets after how long etcd forgets a server that has died, in whole seconds. Default: 15 s.
    ///
    /// etcd itself takes at least 2 s with its usual settings.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The endpoint that clients will find for a server that listens at `addresses`.
    fn endpoint(&self, addresses: &[String]) -> Result<Endpoint, Error> {
        let address = match &self.address {
            Some(address) => bare(address),
            None => addresses
                .iter()
                .find_map(|address| reachable(address))
                .ok_or_else(|| {
                    let text = format!(
                        "clients cannot reach this server by what it listens on ({}): set its address by \
                         Registration::address(\"tcp://10.0.0.7:5005\")",
                        addresses.join(", ")
                    );
                    Status::failed_precondition(text)
                })?,
        };
        let mut endpoint = Endpoint::new(address).with_weight(self.weight);
        if let Some(zone) = &self.zone {
            endpoint = endpoint.with_zone(zone);
        }
        for (key, value) in &self.metadata {
            endpoint = endpoint.with_metadata(key, value);
        }
        Ok(endpoint)
    }

    /// Keeps `key` in etcd. `lease` is that to which the key is bound.
    async fn keep(&self, key: &str, value: &str, lease: &mut Option<Lease>) -> Infallible {
        let mut backoff = Backoff::new((self.ttl / 3).clamp(MIN_PAUSE, MAX_PAUSE));
        let mut is_away = false;
        loop {
            match self.step(key, value, lease).await {
                Ok(()) => {
                    let Some(lease) = lease.as_ref().filter(|lease| lease.has_key) else {
                        continue;
                    };
                    backoff.reset();
                    if is_away {
                        is_away = false;
                        tracing::info!(key, "etcd: this server is registered again");
                    }
                    sleep(lease.ttl / 3).await;
                }
                Err(error) => {
                    let pause = backoff.pause();
                    match is_away {
                        false => {
                            tracing::warn!(%error, key, "etcd: cannot keep this server registered; trying until it works")
                        }
                        true => {
                            tracing::debug!(%error, key, ?pause, "etcd: still cannot keep this server registered")
                        }
                    }
                    is_away = true;
                    sleep(pause).await;
                }
            }
        }
    }

    /// Does what is to be done next: begins a lease, sets the key, or renews the lease.
    async fn step(&self, key: &str, value: &str, held: &mut Option<Lease>) -> Result<(), Error> {
        let Some(lease) = held else {
            let seconds = self.ttl.as_secs() + u64::from(self.ttl.subsec_nanos() > 0);
            let granted = self
                .etcd
                .grant(i64::try_from(seconds.max(1)).unwrap_or(i64::MAX))
                .await?;
            *held = Some(Lease {
                id: granted.id,
                ttl: seconds_of(granted.ttl),
                has_key: false,
                renewals: 0,
            });
            return Ok(());
        };
        if !lease.has_key {
            let set = self.etcd.put(key, value, lease.id).await;
            if set.as_ref().is_err_and(|error| error.code() == Code::NotFound) {
                *held = None;
            } else {
                lease.has_key = set.is_ok();
            }
            return set;
        }
        let ttl = self.etcd.renew(lease.id).await?;
        if ttl <= 0 {
            tracing::warn!(
                key,
                "etcd: the lease of this server was lost; registering it again"
            );
            *held = None;
            return Ok(());
        }
        lease.ttl = seconds_of(ttl);
        lease.renewals += 1;
        if lease.renewals % LOOK_EVERY == 0 {
            let found = self.etcd.range(key.as_bytes(), &[], 1).await?;
            if !found.kvs.iter().any(|kv| kv.lease == lease.id) {
                tracing::warn!(key, "etcd: the key of this server was gone; setting it again");
                lease.has_key = false;
            }
        }
        Ok(())
    }
}

impl Registrar for Registration {
    fn check(&self, addresses: &[String]) -> Result<(), Error> {
        if self.service.is_empty() {
            return Err(Status::invalid_argument("the service of an etcd registration has no name").into());
        }
        self.endpoint(addresses).map(drop)
    }

    async fn register(&self, serving: &Serving) -> Result<(), Error> {
        let endpoint = self.endpoint(serving.addresses())?;
        let prefix = naming::prefix(&self.service);
        let key = format!("{prefix}{}/{:016x}", endpoint.address(), self.instance);
        let value = naming::write(&endpoint);
        let mut lease = None;
        tokio::select! {
            never = self.keep(&key, &value, &mut lease) => match never {},
            () = serving.ending() => {}
        }
        match lease {
            Some(lease) => self.etcd.revoke(lease.id).await,
            None => Ok(()),
        }
    }
}

/// `address` without its scheme, if clients of gRPC-Go do not know that.
fn bare(address: &str) -> String {
    let schemes = ["tcp://", "tls://", "grpc://", "grpcs://"];
    let rest = schemes.iter().find_map(|scheme| address.strip_prefix(scheme));
    rest.unwrap_or(address).to_owned()
}

/// The host and the port of a listener, if others can connect to it.
fn reachable(address: &str) -> Option<String> {
    let place = address
        .strip_prefix("tcp://")
        .or_else(|| address.strip_prefix("tls://"))?;
    let (host, _) = place.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_any = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    (!is_any).then(|| place.to_owned())
}

fn seconds_of(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or_default().clamp(1, MAX_TTL))
}

const TTL: Duration = Duration::from_secs(15);
/// The longest time of a lease in seconds that counts: a year.
const MAX_TTL: u64 = 365 * 24 * 3600;
/// The bounds of the pause after failures.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// After how many renewals the key is looked at: once in the life of the lease.
const LOOK_EVERY: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        let etcd = Etcd::builder().endpoint("grpc://127.0.0.1:2379").build();
        etcd.unwrap().registration("orders")
    }

    #[test]
    fn the_default_address_is_the_first_listener_with_a_host() {
        let addresses = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        for (listeners, address) in [
            (&["tcp://127.0.0.1:5005"][..], "127.0.0.1:5005"),
            (
                &["unix:/run/app", "tcp://0.0.0.0:1", "tls://10.0.0.7:5006"],
                "10.0.0.7:5006",
            ),
            (&["tcp://[::]:1", "tcp://[fd00::7]:5005"], "[fd00::7]:5005"),
        ] {
            let endpoint = registration().endpoint(&addresses(listeners)).unwrap();
            assert_eq!(endpoint.address(), address);
        }
        for listeners in [
            &["tcp://0.0.0.0:5005"][..],
            &["tcp://[::]:5005"],
            &["mem:a", "unix:/run/app"],
            &[],
        ] {
            let error = registration().check(&addresses(listeners)).unwrap_err();
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert!(error.message().contains("Registration::address"), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_set_goes_to_etcd_without_its_scheme() {
        for (set, written) in [
            ("tcp://10.0.0.7:5005", "10.0.0.7:5005"),
            ("tls://orders.example.com:5005", "orders.example.com:5005"),
            ("10.0.0.7:5005", "10.0.0.7:5005"),
            ("unix:/run/app", "unix:/run/app"),
        ] {
            let endpoint = registration().address(set).endpoint(&[]).unwrap();
            assert_eq!(endpoint.address(), written);
        }
    }

    #[test]
    fn a_service_without_a_name_is_refused() {
        let etcd = registration().etcd;
        let error = etcd
            .registration("")
            .check(&["tcp://127.0.0.1:5005".to_owned()])
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
}
