//! How a client finds its server, and finds it again after a loss.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Server,
    client::{ClientBuilder, ConnectionState},
    status::Phase,
};
use test_support::{LONG, gate, lab::*, mute, own_host, unix, until, wire, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

#[tokio::test(crate = "test_support::gate")]
async fn connect_fails_at_once_without_a_listener() {
    // A port that was free a moment ago.
    let port = TcpListener::bind((own_host(6), 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (address, kind) in [
        (
            format!("tcp://{}:{port}", own_host(6)),
            io::ErrorKind::ConnectionRefused,
        ),
        (
            "mem:client-connect-nobody".to_owned(),
            io::ErrorKind::ConnectionRefused,
        ),
        (unix("nobody"), io::ErrorKind::NotFound),
    ] {
        let error = within(Client::connect(&address)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.phase()),
            (Code::Unavailable, Some(Phase::Connect))
        );
        assert_eq!(
            (error.executed(), error.peer()),
            (Executed::No, Some(address.as_str()))
        );
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
        assert_eq!(source.unwrap().kind(), kind);
        assert!(error.message().starts_with("cannot connect: "), "{error}");
        assert_eq!(format!("{error:?}").lines().count(), 1);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_bad_address_fails_connect_and_every_call_of_a_lazy_client() {
    let error = within(Client::connect("localhost:80")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let client = Client::connect_lazy("localhost:80");
    for error in [
        echo(&client, "x").await.unwrap_err(),
        within(client.call().send(&ADD, 1_u64)).await.unwrap_err(),
        within(client.ping()).await.unwrap_err(),
        within(client.barrier()).await.unwrap_err(),
        within(client.terminate()).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No)
        );
        assert!(error.message().contains("localhost:80"), "{error}");
    }
}

#[test]
fn outside_of_a_runtime_a_call_is_an_error_and_no_panic() {
    let clients = [
        Client::connect_lazy("mem:client-connect-outside"),
        Client::in_process(Lab::default()),
    ];
    let waker = std::task::Waker::noop();
    let mut cx = std::task::Context::from_waker(waker);
    for client in &clients {
        let mut calls: [std::pin::Pin<Box<dyn Future<Output = Error>>>; 4] = [
            Box::pin(async { client.call().send_recv::<_, ()>(&HANG, ()).await.unwrap_err() }),
            Box::pin(async { client.ping().await.unwrap_err() }),
            Box::pin(async { client.barrier().await.unwrap_err() }),
            Box::pin(async { client.terminate().await.unwrap_err() }),
        ];
        for call in &mut calls {
            let std::task::Poll::Ready(error) = call.as_mut().poll(&mut cx) else {
                panic!("the call waits outside of a runtime")
            };
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert!(error.message().contains("tokio runtime"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_lazy_client_finds_a_server_that_comes_later() {
    let client = Client::builder("mem:client-connect-later")
        .timeout(LONG)
        .connect_lazy();
    let call = {
        let client = client.clone();
        tokio::spawn(async move { echo(&client, "hello").await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    let server = Lab::default().serve("mem:client-connect-later").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "hello");
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn many_first_calls_share_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect_lazy(format!("tcp://{}", listener.local_addr().unwrap()));
    let calls: Vec<_> = (0..50).map(|_| hang(&client)).collect();
    let (mut first, _) = within(listener.accept()).await.unwrap();
    let mut byte = [0];
    within(first.read_exact(&mut byte)).await.unwrap();
    for call in calls {
        call.abort();
        let _ = call.await;
    }
    // All of them waited for that one: no other has come.
    let second = std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx))).await;
    assert!(second.is_pending());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_caller_that_gives_up_does_not_abort_the_attempt() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let (address, count) = (server.address.replace("tcp://", ""), Arc::clone(&attempts));
    let client = Client::builder(&address)
        .connector(move |address: String| {
            count.fetch_add(1, Ordering::SeqCst);
            TcpStream::connect(address)
        })
        .connect_lazy();
    let mut first = Box::pin(client.call().send(&ADD, 1_u64));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    drop(first);
    assert_eq!(echo(&client, "hello").await.unwrap(), "hello");
    assert_eq!(attempts.load(Ordering::SeqCst), 1);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_finds_its_server_again_after_a_restart() {
    for address in ["mem:client-connect-restart".to_owned(), unix("restart")] {
        let mut server = Lab::default().serve(&address).await;
        let client = server.client().await;
        for _ in 0..3 {
            assert_eq!(echo(&client, "before").await.unwrap(), "before");
            server.stop().await;
            server = Lab::default().serve(&address).await;
            assert_eq!(echo(&client, "after").await.unwrap(), "after");
        }
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_wait_while_their_server_is_away() {
    let server = Lab::default().serve("mem:client-connect-away").await;
    // Longer than the longest pause between two attempts.
    let client = within(Client::builder(&server.address).timeout(LONG).connect())
        .await
        .unwrap();
    server.stop().await;
    let call = {
        let client = client.clone();
        tokio::spawn(async move { echo(&client, "hello").await })
    };
    tokio::time::sleep(Duration::from_secs(10)).await;
    let _server = Lab::default().serve("mem:client-connect-away").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "hello");
}

#[tokio::test(crate = "test_support::gate")]
async fn connect_tries_once_more_if_the_server_drains() {
    let lab = Lab::default();
    let successor = lab.serve("tcp://127.0.0.1:0").await;
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [
        old.local_addr().unwrap().to_string(),
        successor.address.replace("tcp://", ""),
    ];
    // It has given way, and turns away who has come to it.
    let drains = tokio::spawn(async move {
        loop {
            let (mut socket, _) = old.accept().await.unwrap();
            // Reason 1: drain.
            let goaway = wire::Frame {
                payload: vec![8, 1],
                ..wire::Frame::new(wire::GOAWAY, 0)
            };
            let both = [wire::hello(), goaway]
                .iter()
                .flat_map(wire::encode)
                .collect::<Vec<_>>();
            socket.write_all(&both).await.unwrap();
            socket.shutdown().await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    for turned_away in 0..3 {
        let made = Arc::new(AtomicUsize::new(0));
        let (count, addresses) = (Arc::clone(&made), addresses.clone());
        let connecting = Client::builder("either").connector(move |_| {
            let is_old = count.fetch_add(1, Ordering::SeqCst) < turned_away;
            TcpStream::connect(addresses[usize::from(!is_old)].clone())
        });
        let connected: Result<Client, Error> = within(connecting.connect()).await;
        let made = || made.load(Ordering::SeqCst);
        match connected {
            Ok(client) => {
                assert_eq!(echo(&client, "hello").await.unwrap(), "hello");
                assert_eq!(made(), turned_away + 1);
            }
            Err(error) => assert_eq!(
                (error.code(), turned_away, made()),
                (Code::Unavailable, 2, 2),
                "{error}"
            ),
        }
    }
    drains.abort();
    let _ = drains.await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_draining_server_finishes_a_call_while_the_next_goes_to_its_successor() {
    let old = Lab::default();
    let server = old
        .serve_with("mem:client-connect-drain", |server| server.drain_timeout(LONG))
        .await;
    let client = server.client().await;
    let open = hang(&client);
    until(|| old.hanging() == 1).await;
    server.handle.drain();
    // The name is free as soon as the listener has closed.
    let new = Lab::default();
    let mut next = None;
    within(async {
        while next.is_none() {
            tokio::task::yield_now().await;
            let bound = Server::builder()
                .service(new.clone())
                .listener("mem:client-connect-drain")
                .signals(false);
            next = bound.bind().await.ok();
        }
    })
    .await;
    let serving = gate::serve(next.unwrap());
    within(client.call().send_recv::<_, ()>(&ADD, 1_u64))
        .await
        .unwrap();
    assert_eq!((old.sum(), new.sum()), (0, 1));
    assert_eq!(old.hanging(), 1);
    open.abort();
    server.stop().await;
    serving.abort();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_that_speaks_something_else_fails_calls_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What an HTTP server says to bytes that it does not understand, as far as we look.
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")
                .await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    });
    let error = within(Client::connect(&address)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::FailedPrecondition, Executed::No),
        "{error}"
    );
    let client = Client::connect_lazy(&address);
    for _ in 0..3 {
        let error = echo(&client, "x").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::FailedPrecondition, Executed::No),
            "{error}"
        );
    }
    serving.abort();
}

#[tokio::test(crate = "test_support::gate")]
async fn a_lost_connection_fails_its_calls_and_the_next_call_makes_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect_lazy(format!("tcp://{}", listener.local_addr().unwrap()));
    for _ in 0..3 {
        let call = hang(&client);
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        within(stream.write_all(&wire::encode(&wire::hello())))
            .await
            .unwrap();
        // HELLO, and the CALL right behind it; after a loss, not before the server's HELLO.
        for _ in 0..2 {
            let len = within(stream.read_u32()).await.unwrap();
            within(stream.read_exact(&mut vec![0; len as usize]))
                .await
                .unwrap();
        }
        drop(stream);
        let error = within(call).await.unwrap().unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::Maybe),
            "{error}"
        );
        assert_eq!(error.phase(), Some(Phase::Wait));
    }
}

#[test]
fn a_client_survives_the_runtime_that_it_connected_in() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let running = server.block_on(Lab::default().serve("tcp://127.0.0.1:0"));
    let client = Client::connect_lazy(&running.address);
    for _ in 0..3 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(echo(&client, "hello")).unwrap(), "hello");
    }
}

#[test]
fn a_client_survives_a_runtime_that_ended_before_it_could_connect() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let running = server.block_on(Lab::default().serve("tcp://127.0.0.1:0"));
    let client = Client::connect_lazy(&running.address);
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    // Polled once: the task that is to connect is spawned, and never runs.
    runtime().block_on(async {
        let mut call = std::pin::pin!(echo(&client, "hello"));
        std::future::poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
    });
    assert_eq!(runtime().block_on(echo(&client, "hello")).unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "test_support::gate")]
async fn every_call_ends_after_any_end_of_its_server() {
    let lab = Lab::default();
    for address in ["mem:client-connect-chaos".to_owned(), unix("chaos")] {
        let mut server = lab.serve(&address).await;
        let client = server.client().await;
        let callers: Vec<_> = (0..8)
            .map(|caller| {
                let client = client.clone();
                tokio::spawn(async move {
                    for i in 0..200_u64 {
                        let timeout = Duration::from_micros(200 * (i % 9));
                        match (caller + i) % 4 {
                            0 => drop(client.call().timeout(timeout).send_recv::<_, ()>(&HANG, ()).await),
                            1 => drop(tokio::time::timeout(timeout, echo(&client, "dropped")).await),
                            2 => drop(client.call().send(&ADD, 1_u64).await),
                            _ => drop(echo(&client, vec![7; 40_000]).await),
                        }
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            // It serves: another client gets through.
            within(server.client().await.ping()).await.unwrap();
            server.stop().await;
            server = lab.serve(&address).await;
        }
        for caller in callers {
            within(caller).await.unwrap();
        }
        assert_eq!(echo(&client, "alive").await.unwrap(), "alive");
        until(|| lab.hanging() == 0).await;
        within(client.close()).await.unwrap();
        server.stop().await;
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_of_a_terminated_in_process_server_fail_at_once() {
    let client = Client::in_process(Lab::default());
    assert_eq!(echo(&client, "before").await.unwrap(), "before");
    within(client.terminate()).await.unwrap();
    let start = tokio::time::Instant::now();
    for error in [
        echo(&client, "x").await.unwrap_err(),
        within(client.call().send(&ADD, 1_u64)).await.unwrap_err(),
        within(client.ping()).await.unwrap_err(),
        within(client.terminate()).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.executed(), error.peer()),
            (Code::Unavailable, Executed::No, Some("in-process"))
        );
        assert_eq!(error.message(), "the in-process server was terminated");
    }
    // Each call has 30 s, and would retry that long if the client did not know that this server never comes back.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[cfg(unix)]
#[tokio::test(crate = "test_support::gate")]
async fn a_unix_socket_with_a_full_backlog_is_tried_again() {
    let path = unix("backlog");
    let file = path.strip_prefix("unix:").unwrap();
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(file).unwrap()).unwrap();
    socket.listen(0).unwrap();
    socket.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(socket.into()).unwrap();
    let mut fillers = Vec::new();
    let full = loop {
        match tokio::net::UnixStream::connect(file).await {
            Ok(filler) => fillers.push(filler),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);

    // As long as it is full, that is all there is to say.
    let short = Client::builder(&path).connect_timeout(Duration::from_millis(50));
    let error = within(short.connect()).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let connecting = tokio::spawn(Client::builder(&path).connect_timeout(LONG).connect());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!connecting.is_finished());
    // Then there is room.
    let serving = tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&wire::encode(&wire::hello())).await;
            all.push(stream);
        }
    });
    let client = within(connecting).await.unwrap().unwrap();
    drop(client);
    serving.abort();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn addresses_are_found_while_all_blocking_threads_are_busy() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        let busy = tokio::task::spawn_blocking(move || released.recv());
        let lab = Lab::default();
        let server = within(lab.serve("tcp://localhost:0")).await;
        let port = server.address.rsplit_once(':').unwrap().1;
        for host in ["localhost", "127.0.0.1"] {
            let client = Client::connect(format!("tcp://{host}:{port}"));
            let client = within(client).await.unwrap();
            assert_eq!(echo(&client, "hello").await.unwrap(), "hello");
        }
        // RFC 6761 reserves `.invalid`: no host has this name.
        let error = within(Client::connect("tcp://nobody.invalid:5005"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.phase(), error.executed()),
            (Code::Unavailable, Some(Phase::Resolve), Executed::No)
        );
        assert!(
            error.message().starts_with("cannot resolve nobody.invalid"),
            "{error}"
        );
        let bind = Server::builder()
            .service(Lab::default())
            .listener("tcp://nobody.invalid:5005");
        let error = within(bind.bind()).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("cannot resolve nobody.invalid"),
            "{error:#}"
        );
        assert!(!busy.is_finished());
        drop(release);
        busy.await.unwrap().unwrap_err();
        server.stop().await;
    });
}

/// A client whose attempts to connect fail when the test sets the watch to true, and not before.
fn held_back(address: &str) -> (ClientBuilder, tokio::sync::watch::Sender<bool>) {
    let (tell, told) = tokio::sync::watch::channel(false);
    let builder = Client::builder(address).connector(move |_| {
        let mut told = told.clone();
        async move {
            told.wait_for(|told| *told).await.map_err(io::Error::other)?;
            Err::<tokio::io::DuplexStream, _>(io::ErrorKind::ConnectionRefused.into())
        }
    });
    (builder, tell)
}

async fn ends_at_once(call: impl Future<Output = Result<(), Error>>) -> Error {
    let start = tokio::time::Instant::now();
    let error = within(call).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::ZERO, "{error}");
    error
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_that_fails_fast_does_not_wait_for_a_server_that_is_away() {
    let client = Client::connect_lazy("mem:client-connect-fast");
    let fast = || client.call().fail_fast();
    for _ in 0..3 {
        for error in [
            ends_at_once(fast().send_recv(&ADD, 1_u64)).await,
            ends_at_once(fast().send(&ADD, 1_u64)).await,
        ] {
            assert_eq!(
                (error.code(), error.phase(), error.executed()),
                (Code::Unavailable, Some(Phase::Connect), Executed::No)
            );
            assert!(
                error
                    .message()
                    .starts_with("cannot connect: no server listens there"),
                "{error}"
            );
        }
    }
    // While others wait for the end of the pause, too.
    let waiting = hang(&client);
    tokio::task::yield_now().await;
    ends_at_once(fast().send_recv(&ADD, 1_u64)).await;
    let _server = Lab::default().serve("mem:client-connect-fast").await;
    let error = within(waiting_is_served(&client, waiting)).await;
    assert!(error.is_none(), "{error:?}");
    within(fast().send_recv::<_, ()>(&ADD, 1_u64)).await.unwrap();
}

/// Waits until `waiting` is served, and gives it up.
async fn waiting_is_served(client: &Client, waiting: JoinHandle<Result<(), Error>>) -> Option<Error> {
    while client.state() != ConnectionState::Ready {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    waiting.abort();
    client.last_failure()
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_that_fails_fast_waits_for_the_attempt_that_is_on_its_way() {
    let (builder, tell) = held_back("elsewhere");
    let client = builder.connect_timeout(LONG * 2).connect_lazy();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call().fail_fast().send_recv::<_, ()>(&ADD, 1_u64).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!call.is_finished());
    tell.send_replace(true);
    let error = within(call).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(error.message().starts_with("cannot connect"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_client_that_fails_fast_gets_over_a_restart_and_may_wait_for_single_calls() {
    let address = "mem:client-connect-fast-restart";
    let server = Lab::default().serve(address).await;
    let client = Client::builder(address).fail_fast(true).connect_lazy();
    assert_eq!(echo(&client, "before").await.unwrap(), "before");
    server.stop().await;
    // Nothing has failed yet but the connection.
    let server = Lab::default().serve(address).await;
    assert_eq!(echo(&client, "after").await.unwrap(), "after");
    server.stop().await;
    let error = echo(&client, "away").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    ends_at_once(client.call().send_recv(&ADD, 1_u64)).await;
    let patient = tokio::spawn({
        let client = client.clone();
        async move {
            let call = client.call().wait_for_ready();
            call.send_recv::<_, ()>(&ADD, 1_u64).await
        }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let _server = Lab::default().serve(address).await;
    within(patient).await.unwrap().unwrap();
    assert_eq!(echo(&client, "back").await.unwrap(), "back");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_missing_hello_is_named_in_the_error() {
    let _silent = mute("mem:client-connect-mute").await;
    let client = Client::builder("mem:client-connect-mute")
        .timeout(Duration::from_secs(2))
        .connect_lazy();
    let error = echo(&client, "x").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::DeadlineExceeded, Executed::Maybe)
    );
    assert!(error.message().contains("the peer has not said HELLO"), "{error}");
}

#[cfg(unix)]
#[tokio::test(crate = "test_support::gate")]
async fn a_too_long_unix_path_is_an_error_with_the_limit() {
    let address = format!("unix:/{}", "x".repeat(200));
    let error = Client::connect(&address).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("path of 201 bytes exceeds limit of"),
        "{error:#}"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_connect_timeout_bounds_the_handshake_of_a_call_that_went_ahead() {
    let _silent = mute("mem:client-connect-ahead").await;
    let client = Client::builder("mem:client-connect-ahead")
        .connect_timeout(Duration::from_secs(2))
        .timeout(LONG)
        .connect_lazy();
    let error = echo(&client, "x").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert!(
        error
            .message()
            .contains("no HELLO from peer in 2s: Limits::handshake_timeout"),
        "{error}"
    );
}
