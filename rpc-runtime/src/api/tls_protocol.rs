//! TlsProtocol: another protocol than ours that a client speaks over TLS.

use std::sync::Arc;

/// Another protocol that a client speaks over TLS.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "_tls"), allow(dead_code, reason = "only TLS reads it"))]
pub(crate) struct TlsProtocol {
    /// The id of the protocol in ALPN.
    pub(crate) alpn: &'static [u8],
    /// The scheme of its addresses without TLS, if there is one: what to write if a server does not speak TLS.
    pub(crate) without_tls: Option<Arc<str>>,
}
