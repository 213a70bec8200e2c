//! OfferedTls: what a server offers in its handshakes: its own protocol, and those of a guest.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_rustls::rustls::ServerConfig;

use super::ServerTls;

/// The TLS of a server, which offers the protocols of a guest behind ours. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct OfferedTls {
    tls: ServerTls,
    /// The protocols of the guest, in ALPN.
    guests: &'static [&'static [u8]],
    made: Arc<Mutex<Option<WithGuests>>>,
}

/// A configuration with the protocols of the guest. It is made once for each that the files give.
#[derive(Debug)]
struct WithGuests {
    made_of: Arc<ServerConfig>,
    config: Arc<ServerConfig>,
}

impl OfferedTls {
    /// Offers our protocol alone.
    pub(crate) fn new(tls: ServerTls) -> Self {
        Self {
            tls,
            guests: &[],
            made: Arc::default(),
        }
    }

    /// Offers these protocols of a guest, too.
    pub(crate) fn with_guests(self, guests: &'static [&'static [u8]]) -> Self {
        Self {
            guests,
            made: Arc::default(),
            ..self
        }
    }

    /// The protocols of the guest.
    pub(super) fn guests(&self) -> &'static [&'static [u8]] {
        self.guests
    }

    /// Returns the configuration for a handshake.
    pub(super) async fn fresh(&self) -> Arc<ServerConfig> {
        let config = self.tls.fresh().await;
        if self.guests.is_empty() {
            return config;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = made.as_ref().filter(|made| Arc::ptr_eq(&made.made_of, &config)) {
            return Arc::clone(&made.config);
        }
        // The clone shares the certificate, the tickets and the sessions.
        let mut with_guests = ServerConfig::clone(&config);
        with_guests
            .alpn_protocols
            .extend(self.guests.iter().map(|id| id.to_vec()));
        let with_guests = Arc::new(with_guests);
        *made = Some(WithGuests {
            made_of: config,
            config: Arc::clone(&with_guests),
        });
        with_guests
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::tls::Identity;

    #[tokio::test]
    async fn a_configuration_with_guests_is_made_once_until_the_files_change() {
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = |label: &str, der: &[u8]| {
            let text = STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        let identity = Identity::pem(
            pem("CERTIFICATE", key.cert.der()),
            pem("PRIVATE KEY", key.signing_key.serialized_der()),
        );
        let tls = ServerTls::builder(identity).build().unwrap();
        let offered = OfferedTls::new(tls.clone()).with_guests(&[b"h2"]);
        let first = offered.fresh().await;
        assert_eq!(first.alpn_protocols, [&b"rustrpc"[..], b"h2"]);
        let again = offered.clone().fresh().await;
        assert!(Arc::ptr_eq(&first, &again), "of another connection");
        tls.reload().unwrap();
        let changed = offered.fresh().await;
        assert!(!Arc::ptr_eq(&first, &changed), "it is of the new files");
        assert_eq!(changed.alpn_protocols, first.alpn_protocols);
        assert_eq!(tls.fresh().await.alpn_protocols, [b"rustrpc"]);
    }
}
