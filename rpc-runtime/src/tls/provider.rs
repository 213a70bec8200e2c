//! The cryptography: aws-lc-rs, or ring with the feature `tls-ring` alone.

use std::sync::{Arc, LazyLock};

use tokio_rustls::rustls::crypto::CryptoProvider;

/// Returns the provider of all configurations.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(default_provider()));
    Arc::clone(&PROVIDER)
}

/// Prefers a key exchange that also resists quantum computers: what is recorded today could be read later.
#[cfg(feature = "tls")]
fn default_provider() -> CryptoProvider {
    use tokio_rustls::rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768};

    let mut provider = default_provider();
    provider
        .kx_groups
        .retain(|group| group.name() != X25519MLKEM768.name());
    provider.kx_groups.insert(0, X25519MLKEM768);
    provider
}

#[cfg(all(feature = "tls-ring", not(feature = "tls")))]
use tokio_rustls::rustls::crypto::ring::default_provider;

#[cfg(not(any(feature = "tls", feature = "tls-ring")))]
compile_error!("rpc-runtime: `tls-dev` needs cryptography: add the feature `tls`, or `tls-ring`");

#[cfg(not(any(feature = "tls", feature = "tls-ring")))]
fn default_provider() -> CryptoProvider {
    unreachable!("it does not compile")
}
