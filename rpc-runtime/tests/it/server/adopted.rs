//! Sockets that listen already: from the program, kept by another process, or handed over from one server to the next.

use std::{net, os::fd::OwnedFd, os::unix, time::Duration};

use rpc_runtime::{
    Client, Code, Server,
    server::{Endpoint, ListeningSocket},
};
use test_support::{Lab, Running, lab::*, serve, unix as unix_address, within};
use tokio::time::timeout;

async fn serve_by(endpoint: Endpoint) -> Running {
    let server = Server::builder().service(Lab::default()).listener(endpoint);
    serve(server.signals(false)).await
}

async fn echoes(address: &str) {
    let client = within(Client::connect(address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, "hello").await.unwrap(), "hello");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_socket_of_the_program_is_served_and_closed_at_the_end() {
    let socket = ListeningSocket::from(net::TcpListener::bind("127.0.0.1:0").unwrap());
    let address = socket.address().to_owned();
    // Its own address counts, and not what was asked for.
    let server = serve_by(Endpoint::sockets("tcp://127.0.0.1:0", [socket])).await;
    assert_eq!(server.handle.addresses()[0], address);
    echoes(&address).await;
    server.stop().await;
    assert!(within(Client::connect(&address)).await.is_err());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_unix_socket_of_the_program_is_removed_at_the_end() {
    let address = unix_address("adopted-own");
    let path = address.strip_prefix("unix:").unwrap();
    let socket = unix::net::UnixListener::bind(path).unwrap();
    let server = serve_by(Endpoint::sockets(address.as_str(), [socket])).await;
    assert_eq!(server.handle.addresses()[0], address);
    echoes(&address).await;
    server.stop().await;
    assert!(!std::fs::exists(path).unwrap());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_socket_that_is_kept_elsewhere_stays_with_its_file_and_its_queue() {
    let address = unix_address("adopted-kept");
    let path = address.strip_prefix("unix:").unwrap();
    let kept = unix::net::UnixListener::bind(path).unwrap();
    let socket = || ListeningSocket::from(kept.try_clone().unwrap()).kept_elsewhere();
    for _ in 0..3 {
        let server = serve_by(Endpoint::sockets(address.as_str(), [socket()])).await;
        echoes(&address).await;
        server.stop().await;
        // It connects while nobody accepts.
        let client = Client::connect_lazy(&address);
        let early = tokio::spawn(async move { text(&client, &ECHO, "early").await });
        tokio::task::yield_now().await;
        let server = serve_by(Endpoint::sockets(address.as_str(), [socket()])).await;
        assert_eq!(within(early).await.unwrap().unwrap(), "early");
        server.stop().await;
        assert!(std::fs::exists(path).unwrap());
    }
    std::fs::remove_file(path).unwrap();
}

/// Hands the sockets of a server at `address` over to another one, while a client calls. `workers` are those of both servers.
async fn hand_over(address: &str, workers: [usize; 2]) {
    let server = |endpoint: Endpoint, workers: usize| {
        let server = Server::builder().service(Lab::default()).listener(endpoint);
        serve(server.workers(workers).signals(false))
    };
    let old = server(Endpoint::new(address), workers[0]).await;
    let real = old.address.clone();
    let client = within(Client::connect(&real)).await.unwrap();
    text(&client, &ECHO, "old").await.unwrap();
    let sockets = old.handle.listening_sockets().unwrap();
    assert!(
        sockets
            .iter()
            .all(|socket| socket.address() == address && !socket.is_kept_elsewhere())
    );
    let new = server(Endpoint::sockets(address, sockets), workers[1]).await;
    assert_eq!(new.address, real);
    old.handle.give_way();
    for number in 0..20 {
        let sent = number.to_string();
        assert_eq!(text(&client, &ECHO, &sent).await.unwrap(), sent);
        // Each of several sockets is accepted by. The old server turns a newcomer away that it accepts as it gives way: then `connect` fails, and a call is made
        // again.
        let newcomer = Client::connect_lazy(&real);
        assert_eq!(text(&newcomer, &ECHO, &sent).await.unwrap(), sent);
    }
    let handle = old.handle.clone();
    assert!(old.report().await.is_clean());
    let error = handle.listening_sockets().unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    echoes(&real).await;
    new.stop().await;
    assert!(
        within(Client::connect(&real)).await.is_err(),
        "nobody has the socket"
    );
    if let Some(path) = real.strip_prefix("unix:") {
        assert!(
            !std::fs::exists(path).unwrap(),
            "the last server removes the file"
        );
    }
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_handed_over_and_no_call_fails() {
    hand_over("tcp://127.0.0.1:0", [0, 0]).await;
    hand_over(&unix_address("adopted-over"), [0, 0]).await;
}

#[tokio::test(crate = "test_support::gate", flavor = "multi_thread", worker_threads = 2)]
async fn sockets_of_workers_are_handed_over_to_any_number_of_workers() {
    for workers in [[2, 0], [0, 2], [3, 2]] {
        hand_over("tcp://127.0.0.1:0", workers).await;
    }
    hand_over(&unix_address("adopted-workers"), [2, 2]).await;
}

#[tokio::test(crate = "test_support::gate")]
async fn what_does_not_listen_is_refused_when_it_is_bound() {
    let datagrams = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let no_listener = net::TcpListener::from(OwnedFd::from(datagrams));
    let none: [ListeningSocket; 0] = [];
    let (pair, _other) = unix::net::UnixStream::pair().unwrap();
    let stream = unix::net::UnixListener::from(OwnedFd::from(pair));
    for (endpoint, says) in [
        (
            Endpoint::sockets("tcp://127.0.0.1:0", [no_listener]),
            "it does not listen",
        ),
        (Endpoint::sockets("unix:/nowhere", [stream]), "it does not listen"),
        (Endpoint::sockets("tcp://127.0.0.1:0", none), "give at least one"),
    ] {
        let server = Server::builder().service(Lab::default()).listener(endpoint);
        let error = server.bind().await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_responds_while_the_runtimes_that_accept_run() {
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| server.workers(1))
        .await;
    let client = server.client().await;
    within(server.handle.responds()).await;
    let blocking = start(&client, &BLOCK, "blocking");
    lab.logged("blocking began").await;
    // The only thread that accepts is blocked until the release.
    let responds = timeout(Duration::from_millis(20), server.handle.responds());
    assert!(responds.await.is_err());
    lab.release();
    within(server.handle.responds()).await;
    within(blocking).await.unwrap().unwrap();
    let handle = server.handle.clone();
    assert!(!handle.is_stopping());
    server.stop().await;
    assert!(handle.is_stopping());
    within(handle.responds()).await;
}
