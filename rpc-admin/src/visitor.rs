//! Visitors: who may see the debug pages.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderMap, Uri, header::HOST};
use rpc_runtime::server::{Peer, Transport};

/// Decides by the peer and the headers of its request.
pub(crate) type PolicyFn = dyn Fn(&Peer, &HeaderMap) -> bool + Send + Sync;

/// Who may see the debug pages.
#[derive(Clone)]
pub(crate) enum Visitors {
    /// Peers of this machine that ask by themselves.
    OfThisMachine,
    ByPolicy(Arc<PolicyFn>),
}

impl Visitors {
    /// Checks that a peer may see the debug pages.
    ///
    /// # Errors
    ///
    /// What to tell it otherwise.
    pub(crate) fn check(
        &self,
        peer: Option<&Peer>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), &'static str> {
        // Whatever has no peer did not come over a connection of ours.
        let Some(peer) = peer else {
            return Err(NOT_LOCAL);
        };
        match self {
            Self::ByPolicy(may_see) if may_see(peer, headers) => Ok(()),
            Self::ByPolicy(_) => {
                Err("the policy of this process denies it: see rpc_admin::AdminBuilder::policy\n")
            }
            Self::OfThisMachine if !peer.is_local() => Err(NOT_LOCAL),
            // A proxy of this machine, whose peer may be anybody.
            Self::OfThisMachine if FORWARDED.iter().any(|name| headers.contains_key(*name)) => Err(
                "the debug pages answer no request that a proxy has forwarded: let it in by \
                 rpc_admin::AdminBuilder::policy\n",
            ),
            Self::OfThisMachine
                if !matches!(peer.transport(), Transport::Unix | Transport::Pipe)
                    && !is_local_host(uri, headers) =>
            {
                Err(
                    "the debug pages answer requests for an IP address or localhost only, because a name may be that of a web \
                 page which a browser of this machine shows: let others in by rpc_admin::AdminBuilder::policy\n",
                )
            }
            Self::OfThisMachine => Ok(()),
        }
    }
}

impl fmt::Debug for Visitors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OfThisMachine => "OfThisMachine",
            Self::ByPolicy(_) => "ByPolicy",
        })
    }
}

/// True if a request is for an IP address or `localhost`. A browser sends the name of the page that made the request, also if that name was made to lead
/// to this machine.
fn is_local_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = match (uri.host(), headers.get(HOST)) {
        (Some(host), _) => host,
        (None, Some(host)) => match host.to_str() {
            Ok(host) => without_port(host),
            Err(_) => return false,
        },
        // HTTP/1.0, which no browser speaks.
        (None, None) => return true,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}

/// The host of `host:port` and of `[address]:port`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') && port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    }
}

/// The headers by which proxies say whose request they forward.
const FORWARDED: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

const NOT_LOCAL: &str = "the debug pages answer peers of this machine only: let others in by \
                         rpc_admin::AdminBuilder::policy\n";

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(entries: &[(&'static str, &'static str)]) -> HeaderMap {
        let entry = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn a_host_is_local_if_no_web_page_can_have_its_name() {
        for (host, is_local) in [
            ("127.0.0.1:9464", true),
            ("10.1.2.3", true),
            ("[::1]:9464", true),
            ("[::1]", true),
            ("localhost", true),
            ("LocalHost:9464", true),
            ("evil.example:9464", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            let found = is_local_host(&Uri::from_static("/debug/calls"), &headers(&[("host", host)]));
            assert_eq!(found, is_local, "{host:?}");
        }
        let http2 = Uri::from_static("http://evil.example/debug/calls");
        assert!(!is_local_host(&http2, &HeaderMap::new()));
        assert!(is_local_host(&Uri::from_static("/"), &HeaderMap::new()));
    }

    #[test]
    fn a_request_without_a_peer_is_a_strangers() {
        let uri = Uri::from_static("/debug/calls");
        for visitors in [Visitors::OfThisMachine, Visitors::ByPolicy(Arc::new(|_, _| true))] {
            assert_eq!(visitors.check(None, &uri, &HeaderMap::new()), Err(NOT_LOCAL));
        }
    }
}
