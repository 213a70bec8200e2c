//! Certificates of the matrix: of its servers, callers and proxies.

use std::{env, sync::Arc};

use rcgen::{SanType, date_time_ymd};
use rpc_runtime::tls::{ClientTls, Identity, Roots, ServerTls};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{caller::near_miss, table::Caller};
use crate::tls::certs::{CLIENT, Ca, Leaf, SERVER, Side, World};

/// A CA that all trust, one that nobody trusts, and certificates of both.
pub(super) struct Certificates {
    world: World,
    stranger: Ca,
    proxy: Leaf,
}

impl Certificates {
    pub(super) fn new() -> Self {
        let world = World::new();
        let proxy = world
            .root
            .leaf(Side::Client, |params| params.subject_alt_names = vec![uri(PROXY)]);
        Self {
            stranger: Ca::root("stranger", |_| {}),
            proxy,
            world,
        }
    }

    /// The server of a door with mutual TLS.
    pub(super) fn server_with_clients(&self) -> ServerTls {
        self.world.server().build().unwrap()
    }

    /// The server of a door that asks for no certificate.
    pub(super) fn server(&self) -> ServerTls {
        ServerTls::builder(self.world.server.identity()).build().unwrap()
    }

    /// What `caller` shows.
    pub(super) fn caller(&self, caller: Caller) -> ClientTls {
        let tls = ClientTls::builder()
            .roots(self.world.root.roots())
            .server_name(SERVER);
        let Some(leaf) = self.leaf(caller) else {
            return tls.build().unwrap();
        };
        tls.identity(leaf.identity()).build().unwrap()
    }

    fn leaf(&self, caller: Caller) -> Option<Leaf> {
        let root = &self.world.root;
        match caller {
            Caller::Good | Caller::OtherUser => Some(self.world.client.clone()),
            Caller::Absent => None,
            Caller::Bad => Some(self.stranger.leaf(Side::Client, |_| {})),
            Caller::Expired => Some(root.leaf(Side::Client, |params| {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            })),
            near => {
                let (scheme, name) = CLIENT.split_at("spiffe://test/".len());
                let name = format!("{scheme}{}", near_miss(near, name));
                Some(root.leaf(Side::Client, |params| params.subject_alt_names = vec![uri(&name)]))
            }
        }
    }

    /// Ends TLS for callers, as a proxy does. It asks them for nothing.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let (chain, key) = parsed(&self.world.server);
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    /// Connects to a server, as a proxy does: with a certificate of its own.
    pub(super) fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.world.root.certificate.clone()))
            .unwrap();
        let (chain, key) = parsed(&self.proxy);
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    /// The variables by which a process of another user gets what a good caller shows.
    pub(super) fn variables(&self) -> [(&'static str, String); 3] {
        let good = &self.world.client;
        [
            (ROOT, self.world.root.pem()),
            (CHAIN, good.chain_pem()),
            (KEY, good.key.clone()),
        ]
    }
}

/// What a good caller shows, in a process that has [`Certificates::variables`].
pub(super) fn of_variables() -> ClientTls {
    let [root, chain, key] = [ROOT, CHAIN, KEY].map(|name| env::var(name).unwrap());
    let tls = ClientTls::builder()
        .roots(Roots::pem(root))
        .server_name(SERVER)
        .identity(Identity::pem(chain, key));
    tls.build().unwrap()
}

fn parsed(leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = leaf.chain.iter().map(|der| CertificateDer::from(der.clone()));
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    (chain.collect(), key)
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// The id of the proxy.
const PROXY: &str = "spiffe://test/proxy";
const ALPN: &[u8] = b"rustrpc";
const ROOT: &str = "RPC_TEST_LET_IN_ROOT";
const CHAIN: &str = "RPC_TEST_LET_IN_CHAIN";
const KEY: &str = "RPC_TEST_LET_IN_KEY";
