//! The pages over TLS.

use std::{env, fs, path::Path, process, sync::Arc};

use rpc_runtime::tls::{self, Identity, ServerTls};
use test_support::within;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::TLS13,
    },
};

use crate::web::ask_over;

/// Trusts the CA of a PEM file.
fn connector(ca: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn pages_are_served_over_tls() {
    let folder = env::temp_dir().join(format!("rpc-admin-tls-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    tls::dev().unwrap().write_to(&folder).unwrap();
    let identity = Identity::pem_files(folder.join("server.pem"), folder.join("server.key"));
    let admin = rpc_admin::builder()
        .tls(ServerTls::builder(identity).build().unwrap())
        .listen("tls://127.0.0.1:0")
        .await
        .unwrap();
    let connect = || TcpStream::connect(admin.address().trim_start_matches("tls://"));
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector(&folder.join("ca.pem")).connect(name, connect().await.unwrap());
    let answer = ask_over(
        within(stream).await.unwrap(),
        "GET",
        "/debug/limits",
        "Host: localhost\r\n",
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // A peer without TLS gets nothing.
    let mut plain = connect().await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut heard = Vec::new();
    let _ = within(plain.read_to_end(&mut heard)).await;
    assert!(!heard.starts_with(b"HTTP/"), "{}", heard.escape_ascii());
    admin.stop().await;
    fs::remove_dir_all(folder).unwrap();
}
