//! How a client finds its server, and finds it again; and how it ends.

mod desk;
mod gate;

use std::{io, time::Duration};

use desk::*;
use rpc_runtime::{Client, ClientBuilder, Code, ConnectionState, Error, Executed, Phase, Server};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A server on `address` that takes connections and never shakes hands.
async fn silent(address: &str) -> Server {
    Server::builder()
        .service(Desk::default())
        .listen(address)
        .signals(false)
        .bind()
        .await
        .unwrap()
}

fn hang(client: &Client) -> JoinHandle<Result<(), Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.call().timeout(None).send_recv(&HANG, ()).await })
}

#[tokio::test(crate = "gate")]
async fn connect_fails_at_once_when_nobody_listens() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    for (address, kind) in [
        (
            format!("tcp://127.0.0.1:{port}"),
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

#[tokio::test(crate = "gate")]
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
        Client::in_process(Desk::default()),
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
                panic!("it waits")
            };
            assert_eq!(error.code(), Code::FailedPrecondition);
            assert!(error.message().contains("tokio runtime"), "{error}");
        }
    }
}

#[test]
fn outside_of_a_runtime_a_close_is_an_error_and_closes_all_the_same() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let (desk, client) = runtime.block_on(async {
        let desk = Desk::default();
        let server = desk.serve("mem:client-connect-close-outside").await;
        let client = server.client().await;
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
        (desk, client)
    });
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut close = std::pin::pin!(client.close());
    match close.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(Err(error)) => assert!(error.message().contains("tokio runtime"), "{error}"),
        other => panic!("{other:?}"),
    }
    runtime.block_on(async {
        until(|| desk.sum() == 1).await;
        within(client.close()).await.unwrap();
    });
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn a_lazy_client_finds_a_server_that_comes_later() {
    let client = Client::builder("mem:client-connect-later")
        .timeout(LONG)
        .connect_lazy();
    let call = {
        let client = client.clone();
        tokio::spawn(async move { echo(&client, "hello").await })
    };
    tokio::time::sleep(Duration::from_secs(5)).await;
    let server = Desk::default().serve("mem:client-connect-later").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "hello");
    server.stop().await;
}

#[tokio::test(crate = "gate")]
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

#[tokio::test(crate = "gate")]
async fn a_caller_that_gives_up_does_not_abort_the_attempt() {
    let desk = Desk::default();
    let server = desk.serve("tcp://127.0.0.1:0").await;
    let client = Client::connect_lazy(&server.address);
    let mut first = Box::pin(client.call().send(&ADD, 1_u64));
    let pending =
        std::future::poll_fn(|cx| std::task::Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    drop(first);
    assert_eq!(echo(&client, "hello").await.unwrap(), "hello");
}

#[tokio::test(crate = "gate")]
async fn a_client_finds_its_server_again_after_a_restart() {
    for address in ["mem:client-connect-restart".to_owned(), unix("restart")] {
        let mut server = Desk::default().serve(&address).await;
        let client = server.client().await;
        for _ in 0..3 {
            assert_eq!(echo(&client, "before").await.unwrap(), "before");
            server.stop().await;
            server = Desk::default().serve(&address).await;
            assert_eq!(echo(&client, "after").await.unwrap(), "after");
        }
    }
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn calls_wait_while_their_server_is_away() {
    let server = Desk::default().serve("mem:client-connect-away").await;
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
    let _server = Desk::default().serve("mem:client-connect-away").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "hello");
}

#[tokio::test(crate = "gate")]
async fn a_draining_server_finishes_a_call_while_the_next_goes_to_its_successor() {
    let old = Desk::default();
    let server = old
        .serve_with("mem:client-connect-drain", |server| server.drain_timeout(LONG))
        .await;
    let client = server.client().await;
    let open = hang(&client);
    until(|| old.hanging() == 1).await;
    server.handle.drain();
    // The name is free as soon as the listener has closed.
    let new = Desk::default();
    let mut next = None;
    within(async {
        while next.is_none() {
            tokio::task::yield_now().await;
            let bound = Server::builder()
                .service(new.clone())
                .listen("mem:client-connect-drain")
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

#[tokio::test(start_paused = true, crate = "gate")]
async fn every_close_waits_for_the_last_connection() {
    let old = Desk::default();
    let server = old.serve("mem:client-connect-two").await;
    let client = server.client().await;
    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    let first = hang(&client);
    until(|| old.hanging() == 1).await;
    server.handle.drain();
    let new = Desk::default();
    let server_again = loop {
        let bound = Server::builder()
            .service(new.clone())
            .listen("mem:client-connect-two")
            .signals(false);
        match bound.bind().await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let serving = gate::serve(server_again);
    let last = hang(&client);
    // The pause before the next connection has to pass.
    while new.hanging() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let closing = tokio::spawn({
        let client = client.clone();
        async move { client.close().await }
    });
    tokio::task::yield_now().await;
    // The old connection, which carries a send, ends; the new one does not.
    first.abort();
    server.stop().await;
    let mut again = std::pin::pin!(client.close());
    let second = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(second, again.as_mut()).await.is_err(),
        "it did not wait"
    );
    last.abort();
    within(again).await.unwrap();
    within(closing).await.unwrap().unwrap();
    serving.abort();
}

#[tokio::test(crate = "gate")]
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

#[tokio::test(crate = "gate")]
async fn a_lost_connection_fails_its_calls_and_the_next_call_makes_another() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect_lazy(format!("tcp://{}", listener.local_addr().unwrap()));
    for _ in 0..3 {
        let call = hang(&client);
        let (mut stream, _) = within(listener.accept()).await.unwrap();
        within(stream.write_all(&server_hello())).await.unwrap();
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

#[tokio::test(crate = "gate")]
async fn a_closed_client_takes_no_more_calls() {
    let desk = Desk::default();
    let server = desk.serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    for _ in 0..100 {
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
    }
    let clone = client.clone();
    let (one, other) = tokio::join!(within(client.close()), within(clone.close()));
    one.unwrap();
    other.unwrap();
    until(|| desk.sum() == 100).await;
    for error in [
        echo(&clone, "x").await.unwrap_err(),
        within(client.call().send(&ADD, 1_u64)).await.unwrap_err(),
        within(client.ping()).await.unwrap_err(),
        within(client.barrier()).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unavailable, Executed::No)
        );
        assert_eq!(error.message(), "the client is closed: make a new one");
    }
    within(client.close()).await.unwrap();
    within(Client::connect_lazy(&server.address).close())
        .await
        .unwrap();
}

#[tokio::test(crate = "gate")]
async fn close_lets_open_calls_finish() {
    let desk = Desk::default();
    let server = desk.serve("mem:client-connect-close").await;
    let client = server.client().await;
    let replies: Vec<_> = (0..100)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call().send_recv::<_, ()>(&ADD, 1_u64).await })
        })
        .collect();
    until(|| desk.sum() > 0).await;
    within(client.close()).await.unwrap();
    for reply in replies {
        match within(reply).await.unwrap() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.executed(), Executed::No, "{error}"),
        }
    }
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn close_cuts_what_does_not_finish_in_time() {
    let desk = Desk::default();
    let server = desk.serve("mem:client-connect-cut").await;
    let client = within(
        Client::builder(&server.address)
            .timeout(Duration::from_secs(3))
            .connect(),
    )
    .await
    .unwrap();
    let open = hang(&client);
    until(|| desk.hanging() == 1).await;
    let start = tokio::time::Instant::now();
    let error = within(client.close()).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(start.elapsed().as_secs(), 3);
    let error = within(open).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    until(|| desk.hanging() == 0).await;
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn close_ends_callers_that_wait_for_a_connection() {
    let _silent = silent("mem:client-connect-silent-to-close").await;
    for address in [
        "mem:client-connect-nobody-to-close",
        "mem:client-connect-silent-to-close",
    ] {
        let client = Client::builder(address)
            .timeout(Duration::from_secs(3))
            .connect_lazy();
        let call = hang(&client);
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A handshake that never comes is waited for no longer than a call.
        assert_eq!(within(client.close()).await.is_err(), address.contains("silent"));
        let error = within(call).await.unwrap().unwrap_err();
        assert!(error.is_closed(), "{error}");
    }
}

#[tokio::test(crate = "gate")]
async fn what_a_dropped_client_has_sent_still_arrives() {
    let desk = Desk::default();
    for address in ["tcp://127.0.0.1:0", "mem:client-connect-dropped"] {
        let server = desk.serve(address).await;
        let before = desk.sum();
        let client = Client::connect_lazy(&server.address);
        for _ in 0..1000 {
            within(client.call().send(&ADD, 1_u64)).await.unwrap();
        }
        drop(client);
        until(|| desk.sum() == before + 1000).await;
        // Its connection has ended too: a server without connections drains at once.
        server.stop().await;
    }
}

#[test]
fn a_client_survives_the_runtime_that_it_connected_in() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let running = server.block_on(Desk::default().serve("tcp://127.0.0.1:0"));
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
    let running = server.block_on(Desk::default().serve("tcp://127.0.0.1:0"));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4, crate = "gate")]
async fn every_call_ends_whatever_becomes_of_its_server() {
    let desk = Desk::default();
    for address in ["mem:client-connect-chaos".to_owned(), unix("chaos")] {
        let mut server = desk.serve(&address).await;
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
            server = desk.serve(&address).await;
        }
        for caller in callers {
            within(caller).await.unwrap();
        }
        assert_eq!(echo(&client, "alive").await.unwrap(), "alive");
        until(|| desk.hanging() == 0).await;
        within(client.close()).await.unwrap();
        server.stop().await;
    }
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn calls_of_a_terminated_in_process_server_fail_at_once() {
    let client = Client::in_process(Desk::default());
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
    // Each has 30 s, and tried for so long if it were not known that nobody comes back.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test(crate = "gate")]
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
            let _ = stream.write_all(&server_hello()).await;
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
        let desk = Desk::default();
        let server = within(desk.serve("tcp://localhost:0")).await;
        let port = server.address.rsplit_once(':').unwrap().1;
        for host in ["localhost", "127.0.0.1"] {
            let client = Client::connect(format!("tcp://{host}:{port}"));
            let client = within(client).await.unwrap();
            assert_eq!(echo(&client, "hello").await.unwrap(), "hello");
        }
        // A name that nobody has: RFC 6761 reserves it.
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
            .service(Desk::default())
            .listen("tcp://nobody.invalid:5005");
        let error = within(bind.bind()).await.unwrap_err();
        assert!(
            error.to_string().contains("cannot resolve nobody.invalid"),
            "{error}"
        );
        assert!(!busy.is_finished());
        drop(release);
        busy.await.unwrap().unwrap_err();
        server.stop().await;
    });
}

/// A client of nobody, and of somebody who connects when told.
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

#[tokio::test(start_paused = true, crate = "gate")]
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
    let _server = Desk::default().serve("mem:client-connect-fast").await;
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

#[tokio::test(start_paused = true, crate = "gate")]
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

#[tokio::test(start_paused = true, crate = "gate")]
async fn a_client_that_fails_fast_gets_over_a_restart_and_may_wait_for_single_calls() {
    let address = "mem:client-connect-fast-restart";
    let server = Desk::default().serve(address).await;
    let client = Client::builder(address).fail_fast(true).connect_lazy();
    assert_eq!(echo(&client, "before").await.unwrap(), "before");
    server.stop().await;
    // Nothing has failed yet but the connection.
    let server = Desk::default().serve(address).await;
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
    let _server = Desk::default().serve(address).await;
    within(patient).await.unwrap().unwrap();
    assert_eq!(echo(&client, "back").await.unwrap(), "back");
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn a_call_whose_peer_never_said_hello_says_so() {
    let _silent = silent("mem:client-connect-mute").await;
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

#[tokio::test(crate = "gate")]
async fn a_unix_path_that_is_too_long_is_told_with_the_limit() {
    let address = format!("unix:/{}", "x".repeat(200));
    let error = Client::connect(&address).await.unwrap_err();
    assert!(
        error.to_string().contains("path of 201 bytes exceeds limit of"),
        "{error}"
    );
}

#[tokio::test(start_paused = true, crate = "gate")]
async fn the_connect_timeout_bounds_the_handshake_of_a_call_that_went_ahead() {
    let _silent = silent("mem:client-connect-ahead").await;
    let client = Client::builder("mem:client-connect-ahead")
        .connect_timeout(Duration::from_secs(2))
        .timeout(LONG)
        .connect_lazy();
    let error = echo(&client, "x").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert!(error.message().contains("no HELLO from peer in 2s"), "{error}");
}
