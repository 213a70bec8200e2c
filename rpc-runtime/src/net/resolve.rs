//! Resolve: from `host:port` to socket addresses, without the runtime's pool of blocking threads.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::time::timeout;

use crate::base::look_ups::LookUps;

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
    static SYSTEM: LazyLock<Names> = LazyLock::new(|| LookUps::new("rpc-resolve", system));
    resolve_by(&SYSTEM, host).await
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

/// The look-ups of names: each gives the addresses of a name, all with port 0.
type Names = LookUps<Arc<str>, Vec<SocketAddr>>;

/// Resolves `host:port` by `names`, as [`resolve`] does.
async fn resolve_by(names: &'static Names, host: &str) -> io::Result<Vec<SocketAddr>> {
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
    let mut found = names.find(&name.into()).await?;
    if found.is_empty() {
        let text = "the name has no addresses";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    found.iter_mut().for_each(|address| address.set_port(port));
    Ok(alternate(found))
}

fn system(name: &Arc<str>) -> io::Result<Vec<SocketAddr>> {
    Ok((&**name, 0).to_socket_addrs()?.collect())
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

/// Time limit for the look-up of a name to listen on.
const BIND_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn names(look_up: fn(&Arc<str>) -> io::Result<Vec<SocketAddr>>) -> &'static Names {
        Box::leak(Box::new(LookUps::new("test", look_up)))
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn never(name: &Arc<str>) -> io::Result<Vec<SocketAddr>> {
        panic!("{name} is looked up")
    }

    #[tokio::test]
    async fn ip_addresses_and_localhost_are_not_looked_up() {
        let names = names(never);
        for (host, expected) in [
            ("127.0.0.1:80", &["127.0.0.1:80"][..]),
            ("[::1]:80", &["[::1]:80"]),
            ("::1:80", &["[::1]:80"]),
            ("localhost:80", &["127.0.0.1:80", "[::1]:80"]),
            ("LocalHost.:80", &["127.0.0.1:80", "[::1]:80"]),
            ("kv.localhost:80", &["127.0.0.1:80", "[::1]:80"]),
        ] {
            assert_eq!(
                resolve_by(names, host).await.unwrap(),
                addresses(expected),
                "{host}"
            );
        }
        for host in ["kv", "kv:", "kv:x", "kv:65536"] {
            let error = resolve_by(names, host).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{host}");
        }
    }

    #[tokio::test]
    async fn families_take_turns_and_no_address_comes_twice() {
        let names = names(|_| {
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
        let found = resolve_by(names, "kv.example:5").await.unwrap();
        let expected = ["[1::1]:5", "1.1.1.1:5", "[1::2]:5", "1.1.1.2:5", "[1::3]:5"];
        assert_eq!(found, addresses(&expected));
    }

    #[tokio::test]
    async fn a_look_up_that_fails_tells_why() {
        let names = names(|_| Err(io::Error::new(io::ErrorKind::NotFound, "no such name")));
        let error = resolve_by(names, "kv.example:5").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string()),
            (io::ErrorKind::NotFound, "no such name".into())
        );
        let error = resolve_by(self::names(|_| Ok(Vec::new())), "kv.example:5")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = resolve_by(self::names(never), "kv.example:5").await.unwrap_err();
        assert_eq!(error.to_string(), "the look-up panicked");
    }
}
