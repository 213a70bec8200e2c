//! TLS: grpcs:// addresses.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchReply, KvClient};
use h2::server;
use http::{HeaderMap, HeaderValue, Response};
use rpc_http::Grpc;
use rpc_runtime::{
    Code, Error, Executed,
    tls::{self, ClientTls, DevCa},
};
use tokio::net::TcpListener;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::caller::prefixed;

fn acceptor(ca: &DevCa, alpn: &[&[u8]]) -> TlsAcceptor {
    let folder = std::env::temp_dir().join(format!("rpc-http-tls-{}-{}", std::process::id(), alpn.len()));
    fs::create_dir_all(&folder).unwrap();
    ca.write_to(&folder).unwrap();
    let config = config(&folder, alpn);
    fs::remove_dir_all(folder).unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn config(folder: &Path, alpn: &[&[u8]]) -> ServerConfig {
    let chain = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let chain = chain.collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|id| id.to_vec()).collect();
    config
}

/// Fetches a value from a TLS server that offers these protocols.
async fn fetch(alpn: &'static [&'static [u8]]) -> Result<Option<Bytes>, Error> {
    let ca = tls::dev().unwrap();
    let acceptor = acceptor(&ca, alpn);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = acceptor.accept(stream).await else {
            return;
        };
        let Ok(mut connection) = server::handshake(stream).await else {
            return;
        };
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().scheme_str(), Some("https"));
            let response = Response::builder().header("content-type", "application/grpc");
            let mut answer = respond.send_response(response.body(()).unwrap(), false).unwrap();
            let value = Some(Bytes::from_static(b"woof"));
            answer.send_data(prefixed(&FetchReply { value }), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            answer.send_trailers(trailers).unwrap();
        }
    });
    let tls = ClientTls::builder().roots(ca.roots()).build().unwrap();
    let kv: KvClient = KvClient::builder(format!("grpcs://localhost:{port}"))
        .protocol(Grpc::new())
        .tls(tls)
        .connect_lazy();
    let fetched = kv.send_recv().fail_fast().fetch("dog").await;
    serving.abort();
    fetched
}

#[tokio::test]
async fn grpcs_is_http2_over_tls() {
    let value = fetch(&[b"http/1.1", b"h2"]).await.unwrap();
    assert_eq!(value.as_deref(), Some(&b"woof"[..]));
}

#[tokio::test]
async fn a_tls_server_without_http2_is_named() {
    const OTHERS: &[&[u8]] = &[b"http/1.1"];
    for alpn in [&[][..], OTHERS] {
        let error = fetch(alpn).await.unwrap_err();
        assert_eq!(error.executed(), Executed::No);
        assert_ne!(error.code(), Code::DeadlineExceeded);
        assert!(error.message().contains("ALPN"), "{error}");
    }
}
