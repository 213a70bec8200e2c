//! TLS: grpcs:// addresses.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchReply, KvClient};
use h2::server;
use http::{HeaderMap, HeaderValue, Response};
use rpc_http::Grpc;
use rpc_runtime::{
    Code, Error, Executed,
    client::ClientBuilder,
    tls::{self, ClientTls, DevCa, ServerTls, TlsError, TlsFault},
};
use test_support::{Logged, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::calls::all_kinds;
use crate::{
    TestServer,
    caller::prefixed,
    certificates::{Ca, SERVER},
};

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

#[tokio::test]
async fn a_server_without_tls_is_answered_with_the_address_of_grpc() {
    let tls = || {
        ClientTls::builder()
            .roots(tls::dev().unwrap().roots())
            .build()
            .unwrap()
    };
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    // Our own server names itself by its own protocol. Those of others begin with SETTINGS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = format!("tcp://{}", listener.local_addr().unwrap());
    let greet = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\0\0\0\x04\0\0\0\0\0").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    for (address, scheme, says) in [
        (
            &server.address,
            "grpcs:",
            "this protocol without TLS: connect by grpc://, or let it use TLS",
        ),
        (
            &other,
            "grpcs:",
            "HTTP/2 without TLS: connect by grpc://, or let it use TLS",
        ),
        (
            &other,
            "tls:",
            "HTTP/2 without TLS: for a gRPC server write grpc:// and .protocol(rpc_http::Grpc::new())",
        ),
    ] {
        let address = address.replacen("tcp:", scheme, 1);
        let connecting = KvClient::builder(address).protocol(Grpc::new()).tls(tls());
        let error = within(connecting.connect()).await.unwrap_err();
        let says = format!("the server speaks {says}");
        assert!(error.to_string().contains(&says), "{error:#}");
    }
    greet.await.unwrap();
    server.stop().await;
}

/// A server of ours with TLS.
async fn serve(tls: ServerTls) -> TestServer {
    TestServer::start_with("tls://127.0.0.1:0", |server| server.tls(tls)).await
}

/// A builder of a client that speaks gRPC over TLS to a server of ours.
fn builder(server: &TestServer, tls: ClientTls) -> ClientBuilder<KvClient> {
    let address = server.address.replacen("tls:", "grpcs:", 1);
    KvClient::builder(address).protocol(Grpc::new()).tls(tls)
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_tls_to_our_own_port() {
    let ca = Ca::new();
    let server = serve(ca.server_tls().build().unwrap()).await;
    let kv = builder(&server, ca.client_tls().build().unwrap());
    let kv = kv.connect().await.unwrap();
    all_kinds(&kv).await;
    // Nothing of ours went to the native side of the port: gRPC has no ping.
    assert_eq!(kv.ping().await.unwrap_err().code(), Code::FailedPrecondition);
    drop(kv);
    server.stop().await;
}

#[tokio::test]
async fn calls_of_all_kinds_go_over_mutual_tls_to_our_own_port() {
    let ca = Ca::new();
    let server = serve(ca.server_tls().client_roots(ca.roots()).build().unwrap()).await;
    let tls = ca.client_tls().identity(ca.client().identity());
    let kv = builder(&server, tls.build().unwrap()).connect().await.unwrap();
    all_kinds(&kv).await;
    drop(kv);
    server.stop().await;
}

/// Who refuses the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Client,
    Server,
}

/// Lets a client fail to connect for `fault`. Returns the error in its one line, and what the server has logged.
async fn refused(server: ServerTls, client: ClientTls, fault: TlsFault, by: By) -> (String, String) {
    let logged = Logged::here();
    let server = serve(server).await;
    let error = within(builder(&server, client).connect()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unauthenticated, Executed::No),
        "{error:#}"
    );
    let found = TlsError::find(&error).unwrap_or_else(|| panic!("no TLS error: {error:#}"));
    assert_eq!((found.fault(), found.is_from_peer()), (fault, by == By::Server));
    until(|| server.handle.counters().tls_handshakes_failed() == 1).await;
    let at_server = logged.picked("TLS handshake failed", &["text"]);
    assert_eq!(at_server.len(), 1, "{at_server:?}");
    let at_client = error.to_string().replace(&server.address[4..], "//server");
    server.stop().await;
    (at_client, at_server[0].clone())
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_is_refused() {
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let client = ClientTls::builder().roots(other.roots()).server_name(SERVER);
    let (server, client) = (ca.server_tls().build().unwrap(), client.build().unwrap());
    let (at_client, at_server) = refused(server, client, TlsFault::UnknownIssuer, By::Client).await;
    assert_eq!(
        at_client,
        "UNAUTHENTICATED: cannot connect: the server's certificate is signed by no CA that is trusted here: add that CA to the \
         `Roots`, or let the server send its whole chain (at grpcs://server)"
    );
    assert!(
        at_server.starts_with("the client refuses us: our certificate is signed by no CA that it trusts"),
        "{at_server}"
    );
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let ca = Ca::new();
    let client = ca.client_tls().server_name("other.test");
    let (server, client) = (ca.server_tls().build().unwrap(), client.build().unwrap());
    let (at_client, at_server) = refused(server, client, TlsFault::WrongName, By::Client).await;
    assert!(
        at_client.starts_with(
            "UNAUTHENTICATED: cannot connect: the server's certificate is not for \"other.test\" but for "
        ),
        "{at_client}"
    );
    assert!(
        at_server.starts_with("the client refuses us: our certificate is bad"),
        "{at_server}"
    );
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = Ca::new();
    let server = ca.server_tls().client_roots(ca.roots()).build().unwrap();
    let client = ca.client_tls().build().unwrap();
    let (at_client, at_server) = refused(server, client, TlsFault::NoCertificate, By::Server).await;
    assert_eq!(
        at_client,
        "UNAUTHENTICATED: cannot connect: the server refuses us: it requires a certificate, and we have none (at grpcs://server)"
    );
    assert!(
        at_server.starts_with("the client has no certificate, and one is required"),
        "{at_server}"
    );
}

#[tokio::test]
async fn a_client_of_an_unknown_ca_is_refused() {
    let (ca, other) = (Ca::new(), Ca::named("other"));
    let server = ca.server_tls().client_roots(ca.roots()).build().unwrap();
    let client = ca
        .client_tls()
        .identity(other.client().identity())
        .build()
        .unwrap();
    let (at_client, at_server) = refused(server, client, TlsFault::UnknownIssuer, By::Server).await;
    assert!(
        at_client.starts_with(
            "UNAUTHENTICATED: cannot connect: the server refuses us: our certificate is signed by no CA that it trusts"
        ),
        "{at_client}"
    );
    assert!(
        at_server.starts_with("the client's certificate is signed by no CA that is trusted here"),
        "{at_server}"
    );
}
