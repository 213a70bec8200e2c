//! One service at several addresses: the order of attempts, and what calls see of it.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use rpc_runtime::{Bytes, Client, Code, Error, Executed, client::ConnectionState, status::Phase};
use test_support::{LONG, Running, lab::*, mute, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

fn client(addresses: &[&str]) -> Client {
    let builder = Client::builder(addresses[0]).timeout(LONG);
    addresses[1..]
        .iter()
        .fold(builder, |builder, address| builder.fallback(address))
        .connect_lazy()
}

/// Which of the servers has the next call.
async fn add(client: &Client) {
    within(client.call().send_recv::<_, ()>(&ADD, 1_u64))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_first_address_that_answers_is_used() {
    let (b, c) = (Lab::default(), Lab::default());
    let _b = b.serve("mem:failover-first-b").await;
    let _c = c.serve("mem:failover-first-c").await;
    let client = client(&[
        "mem:failover-first-a",
        "mem:failover-first-b",
        "mem:failover-first-c",
    ]);
    add(&client).await;
    assert_eq!((b.sum(), c.sum()), (1, 0));
    assert!(client.last_failure().is_none());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_lost_server_is_followed_by_the_next_and_the_last_by_the_first() {
    let names = [
        "mem:failover-wrap-a",
        "mem:failover-wrap-b",
        "mem:failover-wrap-c",
    ];
    let labs = [Lab::default(), Lab::default(), Lab::default()];
    let mut servers = Vec::new();
    for (lab, name) in labs.iter().zip(names) {
        servers.push(lab.serve(name).await);
    }
    let client = client(&names);
    let mut order = Vec::new();
    for _ in 0..7 {
        let before = labs.each_ref().map(Lab::sum);
        add(&client).await;
        let after = labs.each_ref().map(Lab::sum);
        let at = (0..3).find(|&i| before[i] != after[i]).unwrap();
        order.push(at);
        // It comes back at once, and yet the next one is tried.
        servers.remove(at).stop().await;
        servers.insert(at, labs[at].serve(names[at]).await);
    }
    assert_eq!(order, [0, 1, 2, 0, 1, 2, 0]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn connect_fails_only_if_all_addresses_do_and_its_error_names_them() {
    let builder = || Client::builder("mem:failover-all-a").fallback("mem:failover-all-b");
    let error = within(builder().connect()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed(), error.phase()),
        (Code::Unavailable, Executed::No, Some(Phase::Connect))
    );
    assert_eq!(
        error.to_string(),
        "UNAVAILABLE: mem:failover-all-a: cannot connect: no server listens there: connection refused; \
         mem:failover-all-b: cannot connect: no server listens there: connection refused \
         (at mem:failover-all-a, mem:failover-all-b)"
    );
    let _server = Lab::default().serve("mem:failover-all-b").await;
    let client = within(builder().connect()).await.unwrap();
    assert_eq!(client.state(), ConnectionState::Ready);
    assert!(
        format!("{client:?}").contains("mem:failover-all-a, mem:failover-all-b"),
        "{client:?}"
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_wait_until_one_of_the_addresses_answers() {
    let client = client(&["mem:failover-wait-a", "mem:failover-wait-b"]);
    let call = tokio::spawn({
        let client = client.clone();
        async move { echo(&client, "hello").await }
    });
    sleep(Duration::from_secs(5)).await;
    assert_eq!(client.state(), ConnectionState::BackingOff);
    assert!(!call.is_finished());
    let _server = Lab::default().serve("mem:failover-wait-b").await;
    assert_eq!(within(call).await.unwrap().unwrap(), "hello");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_bad_address_makes_every_call_fail_and_is_named() {
    let _server = Lab::default().serve("mem:failover-bad").await;
    let builder = || Client::builder("mem:failover-bad").fallback("localhost:80");
    let error = within(builder().connect()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("localhost:80"), "{error}");
    let error = echo(&builder().connect_lazy(), "x").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::No)
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_that_speaks_something_else_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let lab = Lab::default();
    let _server = lab.serve("mem:failover-http").await;
    // The call that finds out is resent: it cannot have run there.
    add(&client(&[&address, "mem:failover-http"])).await;
    let connecting = Client::builder(&address).fallback("mem:failover-http").connect();
    add(&within(connecting).await.unwrap()).await;
    assert_eq!(lab.sum(), 2);
    serving.abort();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_mute_first_address_does_not_keep_calls_from_the_second() {
    let names = ["mem:failover-mute-a", "mem:failover-mute-b"];
    let _mute = mute(names[0]).await;
    let lab = Lab::default();
    let _server = lab.serve(names[1]).await;
    // Shorter than the bound of one attempt, so another that waits for its end comes too late.
    let short = Duration::from_secs(2);
    let client = client(&names);
    for _ in 0..3 {
        let call = client.call().timeout(short);
        within(call.send_recv::<_, ()>(&ADD, 1_u64)).await.unwrap();
    }
    let builder = Client::builder(names[0])
        .fallback(names[1])
        .connect_timeout(short);
    add(&within(builder.connect()).await.unwrap()).await;
    assert_eq!(lab.sum(), 4);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_black_hole_does_not_keep_calls_from_the_second_address() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let good = server.address.strip_prefix("tcp://").unwrap().to_owned();
    let tried = Arc::new(Mutex::new(Vec::new()));
    let connector = {
        let (good, tried) = (good.clone(), Arc::clone(&tried));
        move |address: String| {
            tried.lock().unwrap().push(address.clone());
            let is_hole = address != good;
            async move {
                if is_hole {
                    std::future::pending::<()>().await;
                }
                TcpStream::connect(address).await
            }
        }
    };
    // The call fails before the attempt to the first address does.
    let client = Client::builder("hole")
        .fallback(&good)
        .fallback("never")
        .connector(connector)
        .connect_timeout(LONG)
        .timeout(LONG / 2)
        .connect_lazy();
    add(&client).await;
    assert_eq!(*tried.lock().unwrap(), ["hole", &good]);
    assert_eq!(lab.sum(), 1);
}

/// A server at `[::1]`, and who has its port at `127.0.0.1`; none on a machine without IPv6.
async fn two_places<T>(lab: &Lab, first: impl Fn() -> (T, u16)) -> Option<(T, Running, String)> {
    loop {
        let (listener, port) = first();
        let address = format!("tcp://[::1]:{port}");
        match TcpListener::bind(("::1", port)).await {
            Ok(free) => drop(free),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
            Err(_) => return None,
        }
        return Some((
            listener,
            lab.serve(&address).await,
            format!("tcp://localhost:{port}"),
        ));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn the_second_address_of_a_name_answers_when_the_first_is_mute_or_a_black_hole() {
    /// Takes this many connections, and no more.
    fn listen(backlog: i32) -> (socket2::Socket, u16) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).unwrap();
        socket.listen(backlog).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    }
    let lab = Lab::default();
    for backlog in [128, 0] {
        let Some((hole, _server, address)) = two_places(&lab, || listen(backlog)).await else {
            eprintln!("there is no IPv6");
            return;
        };
        let hole = hole.local_addr().unwrap().as_socket().unwrap();
        let fill = || std::net::TcpStream::connect_timeout(&hole, Duration::from_millis(300)).ok();
        // Until the backlog is full.
        let _fillers: Vec<_> = if backlog == 0 {
            std::iter::from_fn(fill).collect()
        } else {
            Vec::new()
        };
        // The call fails before the attempt to the first address does.
        let client = Client::builder(&address)
            .connect_timeout(LONG)
            .timeout(LONG / 2)
            .connect_lazy();
        add(&client).await;
        add(&within(Client::connect(&address)).await.unwrap()).await;
    }
    assert_eq!(lab.sum(), 4);
}

/// Starts callers that call until `stop` is true. Every call must succeed.
fn load(client: &Client, callers: usize, stop: &tokio::sync::watch::Receiver<bool>) -> Vec<JoinHandle<u64>> {
    let caller = |i: usize| {
        let (client, stop) = (client.clone(), stop.clone());
        async move {
            let mut calls = 0;
            while !*stop.borrow() {
                let len = [0, 10, 1000, 150_000][(i + calls as usize) % 4];
                let bytes = Bytes::from(vec![7; len]);
                let reply = echo(&client, bytes.clone()).await;
                assert_eq!(reply.unwrap_or_else(|error| panic!("{error}")), bytes);
                calls += 1;
                sleep(Duration::from_millis(5)).await;
            }
            calls
        }
    };
    (0..callers).map(|i| tokio::spawn(caller(i))).collect()
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_rolling_restart_of_two_servers_fails_no_call() {
    let names = ["mem:failover-rolling-a", "mem:failover-rolling-b"];
    let labs = [Lab::default(), Lab::default()];
    let mut servers = Vec::new();
    for (lab, name) in labs.iter().zip(names) {
        servers.push(lab.serve(name).await);
    }
    let client = client(&names);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers = load(&client, 20, &stopped);
    for round in 0..10 {
        sleep(Duration::from_millis(300)).await;
        let at = round % 2;
        servers.remove(at).stop().await;
        sleep(Duration::from_millis(200)).await;
        servers.insert(at, labs[at].serve(names[at]).await);
    }
    stop.send_replace(true);
    for caller in callers {
        assert!(within(caller).await.unwrap() > 10);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_restart_of_the_only_server_fails_no_call() {
    let lab = Lab::default();
    let mut server = lab.serve("mem:failover-alone").await;
    let client = client(&["mem:failover-alone"]);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers = load(&client, 20, &stopped);
    for _ in 0..10 {
        sleep(Duration::from_millis(300)).await;
        server.stop().await;
        sleep(Duration::from_secs(1)).await;
        server = lab.serve("mem:failover-alone").await;
    }
    stop.send_replace(true);
    for caller in callers {
        assert!(within(caller).await.unwrap() > 10);
    }
}

/// Waits until `address` is free, and serves `lab` there.
async fn succeed(lab: &Lab, address: &str) -> Running {
    loop {
        let bound = rpc_runtime::Server::builder()
            .service(lab.clone())
            .listener(address)
            .signals(false);
        match bound.bind().await {
            Ok(server) => {
                drop(server);
                return lab.serve(address).await;
            }
            Err(_) => sleep(Duration::from_millis(1)).await,
        }
    }
}

/// A client whose connection leads to a server that drains, and the server that has taken over its address.
async fn replaced(address: &str) -> (Client, Lab, Running, Running, JoinHandle<Result<(), Error>>) {
    let old = Lab::default();
    let server = old.serve_with(address, |server| server.drain_timeout(LONG)).await;
    let client = server.client().await;
    let open = tokio::spawn({
        let client = client.clone();
        async move { client.call().timeout(None).send_recv(&HANG, ()).await }
    });
    until(|| old.hanging() == 1).await;
    server.handle.drain();
    let new = Lab::default();
    let successor = succeed(&new, address).await;
    (client, new, server, successor, open)
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_terminate_does_not_hit_the_server_that_took_over() {
    let (client, new, server, successor, open) = replaced("mem:failover-terminate").await;
    // The client knows nothing but its old connection, which takes no more calls.
    let error = within(client.terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.status().map(rpc_runtime::Status::message)),
        (
            Code::FailedPrecondition,
            Some("the server is not the instance to terminate")
        )
    );
    add(&client).await;
    assert_eq!(new.sum(), 1);
    // Now it is connected to that one, and means it.
    assert!(within(client.terminate()).await.unwrap().is_clean());
    within(successor.stop()).await;
    open.abort();
    server.stop().await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_one_way_terminate_does_not_hit_the_server_that_took_over() {
    let (client, new, server, successor, open) = replaced("mem:failover-send-terminate").await;
    within(client.call().send_terminate()).await.unwrap();
    let account = within(client.barrier()).await.unwrap();
    assert_eq!(account.received(), 1);
    add(&client).await;
    assert_eq!(new.sum(), 1);
    open.abort();
    server.stop().await;
    successor.stop().await;
}
