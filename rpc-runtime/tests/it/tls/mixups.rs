//! TLS where the other side has none, and strangers that speak TLS.

use std::sync::Arc;

use rpc_runtime::{
    Client, Code, Executed, Limits,
    tls::{ClientTls, TlsFault},
};
use test_support::{Lab, Logged, lab::ECHO, text, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};

use super::{
    certs::{SERVER, World},
    counted, fault, serve,
};

/// Returns the socket address of a server.
fn socket(address: &str) -> String {
    address.split_once("://").unwrap().1.to_owned()
}

#[tokio::test(crate = "test_support::gate")]
async fn a_plain_client_on_a_tls_port_is_named_at_both_ends() {
    let world = World::new();
    let logged = Logged::here();
    let (_lab, server) = serve(world.server().build().unwrap()).await;
    let address = server.address.replace("tls://", "tcp://");

    let error = within(Client::connect(&address)).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error:#}");
    let says = "peer speaks TLS (it has sent an alert) instead of this protocol: connect by tls://";
    assert!(error.to_string().contains(says), "{error:#}");
    // A call that goes ahead of the handshake did not run either.
    let client: Client = Client::builder(&address).connect_lazy();
    let error = text(&client, &ECHO, "early").await.unwrap_err();
    assert!(format!("{error:#}").contains("connect by tls://"), "{error:#}");

    counted(&server.handle, |counters| counters.tls_handshakes_failed() == 2).await;
    let lines = logged.picked("TLS handshake failed", &["fault", "text"]);
    let expected = "NoTls the client speaks this protocol without TLS on a TLS port: connect by tls://";
    assert_eq!(lines[0], expected);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_tls_client_on_a_plain_port_is_named_at_both_ends() {
    let logged = Logged::here();
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let address = server.address.replace("tcp://", "tls://");
    let tls = World::new().client().build().unwrap();
    let connecting = Client::builder(&address).tls(tls).connect();
    let error = within::<Result<Client, _>>(connecting).await.unwrap_err();
    assert_eq!(fault(&error), (TlsFault::NoTls, false), "{error:#}");
    assert_eq!(
        (error.code(), error.executed()),
        (Code::FailedPrecondition, Executed::No)
    );
    let says = "the server speaks this protocol without TLS: connect by tcp://, or let it listen on tls://";
    assert!(format!("{error:#}").contains(says), "{error:#}");

    counted(&server.handle, |counters| counters.handshakes_rejected() == 1).await;
    let says = "peer speaks TLS instead of this protocol: let it connect by tcp://, or listen on tls://";
    // The log comes after the count.
    until(|| logged.all().contains(says)).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn other_protocols_on_a_tls_port_are_named() {
    let world = World::new();
    for (sent, says) in [
        (
            &b"GET /?token=secret HTTP/1.1\r\n\r\n"[..],
            "the client speaks HTTP/1 without TLS on a TLS port",
        ),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "the client speaks HTTP/2 without TLS on a TLS port",
        ),
        (
            b"SSH-2.0-x\r\n",
            "the client speaks SSH without TLS on a TLS port",
        ),
        (
            b"\xff\xfe\x00hello",
            "the client speaks something else (its first bytes are \"\\xff\\xfe\\x00hello\")",
        ),
    ] {
        let logged = Logged::here();
        let (_lab, server) = serve(world.server().build().unwrap()).await;
        let mut stranger = TcpStream::connect(socket(&server.address)).await.unwrap();
        stranger.write_all(sent).await.unwrap();
        let mut answer = Vec::new();
        within(stranger.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.first(), Some(&0x15), "an alert, and no reset: {answer:?}");
        drop(stranger);
        counted(&server.handle, |counters| counters.tls_handshakes_failed() == 1).await;
        let lines = logged.picked("TLS handshake failed", &["text"]);
        assert!(lines.len() == 1 && lines[0].contains(says), "{lines:?}");
        assert!(!logged.all().contains("secret"), "{}", logged.all());
        server.stop().await;
    }
}

/// The configuration of a client of rustls alone.
fn stranger(world: &World, protocols: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(world.root.pem().as_bytes()).unwrap())
        .unwrap();
    let chain = world
        .client
        .chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let key = PrivateKeyDer::from_pem_slice(world.client.key.as_bytes()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|&protocol| protocol.to_owned()).collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test(crate = "test_support::gate")]
async fn a_stranger_without_our_protocol_in_alpn_is_refused() {
    let world = World::new();
    for protocols in [&[][..], &[&b"h2"[..]], &[b"h2", b"http/1.1"]] {
        let logged = Logged::here();
        let (_lab, server) = serve(world.server().build().unwrap()).await;
        let tcp = TcpStream::connect(socket(&server.address)).await.unwrap();
        let name = ServerName::try_from(SERVER).unwrap();
        let connected = within(stranger(&world, protocols).connect(name, tcp)).await;
        if let Ok(mut stream) = connected {
            let mut answer = Vec::new();
            // The server has taken no byte of ours as a frame, and said nothing.
            let _ = within(stream.read_to_end(&mut answer)).await;
            assert_eq!(answer, b"", "{protocols:?}");
        }
        counted(&server.handle, |counters| counters.tls_handshakes_failed() == 1).await;
        let lines = logged.picked("TLS handshake failed", &["fault"]);
        assert_eq!(lines, ["WrongProtocol"], "{protocols:?}");
        server.stop().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_of_another_protocol_over_tls_is_refused() {
    let world = World::new();
    for protocols in [&[][..], &[&b"h2"[..]]] {
        let chain = world
            .server
            .chain
            .iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        let key = PrivateKeyDer::from_pem_slice(world.server.key.as_bytes()).unwrap();
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|&protocol| protocol.to_owned()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tls://{}", listener.local_addr().unwrap());
        let accepting = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut heard = Vec::new();
                let _ = stream.read_to_end(&mut heard).await;
                assert_eq!(heard, b"", "no byte is sent to a server that may be another one");
            }
        });
        let connecting = Client::builder(&address)
            .tls(world.client().build().unwrap())
            .connect();
        let error = within::<Result<Client, _>>(connecting).await.unwrap_err();
        assert_eq!(fault(&error).0, TlsFault::WrongProtocol, "{error:#}");
        within(accepting).await.unwrap();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_that_stops_in_its_tls_handshake_is_dropped_in_time_and_delays_nobody() {
    let world = World::new();
    let tls = world.server().build().unwrap();
    let limits = Limits::default().handshake_timeout(std::time::Duration::from_secs(2));
    let server = Lab::default()
        .serve_with("tls://127.0.0.1:0", |server| server.tls(tls).limits(limits))
        .await;
    let mut mute = Vec::new();
    for sent in [&b""[..], b"\x16\x03\x01\x00\xff", b"\x16"] {
        let mut stream = TcpStream::connect(socket(&server.address)).await.unwrap();
        stream.write_all(sent).await.unwrap();
        mute.push(stream);
    }
    let connecting = Client::builder(&server.address)
        .tls(world.client().build().unwrap())
        .connect();
    let client: Client = within(connecting).await.unwrap();
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
    for mut stream in mute {
        let mut answer = Vec::new();
        let _ = within(stream.read_to_end(&mut answer)).await;
    }
    counted(&server.handle, |counters| counters.handshakes_timed_out() == 3).await;
    assert_eq!(text(&client, &ECHO, "again").await.unwrap(), "again");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_does_not_wait_longer_than_its_connect_timeout_for_a_mute_tls_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls://{}", listener.local_addr().unwrap());
    let tls: ClientTls = World::new().client().build().unwrap();
    let connecting = Client::builder(&address)
        .tls(tls)
        .connect_timeout(std::time::Duration::from_millis(50))
        .connect();
    let error = within::<Result<Client, _>>(connecting).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error:#}");
}
