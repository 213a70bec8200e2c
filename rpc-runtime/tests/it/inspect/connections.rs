//! Connections.

use std::time::Duration;

use rpc_runtime::{
    Client, Server,
    auth::{Caller, Roles},
    inspect::{CallState, ConnectionQuery, ConnectionStage, Side},
    middleware::{Next, ServerCall, from_fn},
    server::Transport,
};
use test_support::{
    lab::*,
    serve,
    wire::{call, encode, hello},
    within,
};
use tokio::{
    io::{AsyncWriteExt, duplex},
    time::{Instant, sleep},
};

use super::{accepted, all_of, found, only};

#[tokio::test(crate = "test_support::gate")]
async fn a_connection_is_listed_at_both_ends_until_it_has_ended() {
    let before = Instant::now();
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    assert!(accepted(&server).is_empty());
    let client = server.client().await;
    assert_eq!(text(&client, &ECHO, &"x".repeat(1000)).await.unwrap().len(), 1000);
    let made = || {
        let [made] = &all_of(Side::Client, &server.address)[..] else {
            panic!("one client has one connection")
        };
        made.clone()
    };
    // A driver tells what it has written when it looks again.
    let (served, made) = found(|| {
        let (served, made) = (only(&server), made());
        let bytes = (made.bytes_sent(), made.bytes_received());
        ((served.bytes_received(), served.bytes_sent()) == bytes).then_some((served, made))
    })
    .await;
    for view in [&served, &made] {
        assert_eq!(
            (view.stage(), view.protocol(), view.transport()),
            (ConnectionStage::Open, "native", Transport::Tcp)
        );
        assert!(!view.is_tls());
        assert_eq!(
            view.calls_in_flight() + view.one_ways() + view.waiting(),
            0,
            "{view}"
        );
        assert_eq!((view.backlog_bytes(), view.held_bytes()), (0, 0), "{view}");
        assert!(view.bytes_received() > 1000 && view.bytes_sent() > 1000, "{view}");
        assert!(view.age() <= before.elapsed(), "{view:?}");
        assert_eq!((view.stalled_for(), view.caller()), (None, None));
    }
    assert_eq!(made.peer(), server.address);
    assert!(served.peer().starts_with("tcp://127.0.0.1:") && served.peer() != server.address);
    drop(client);
    found(|| accepted(&server).is_empty().then_some(())).await;
    let address = server.address.clone();
    server.stop().await;
    assert!(all_of(Side::Client, &address).is_empty());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_barrier_tells_the_round_trip() {
    let server = Lab::default().serve("mem:inspect-ping").await;
    let client = server.client().await;
    assert_eq!(only(&server).round_trip(), None);
    client.call().send(&ADD, 1_u64).await.unwrap();
    within(client.barrier()).await.unwrap();
    let [made] = &all_of(Side::Client, "mem:inspect-ping")[..] else {
        panic!("one client has one connection")
    };
    let round_trip = made.round_trip().expect("its PING was answered");
    assert!(round_trip <= made.age(), "{made}");
}

/// While short replies go by, long ones wait for PONGs: the OS has taken all that it was offered.
#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_peer_that_answers_no_ping_is_seen_with_its_silence() {
    let (mut peer, theirs) = duplex(64 << 20);
    let server = Server::builder()
        .service(Lab::default())
        .incoming("inspect-silent:", stream_of_one(theirs))
        .signals(false);
    let server = serve(server).await;
    peer.write_all(&encode(&hello())).await.unwrap();
    let mut requests = Vec::new();
    for n in 0..4 {
        requests.extend(encode(&call(4 * n + 1, &FILL, &2_000_000_u64)));
        requests.extend(encode(&call(4 * n + 3, &ECHO, &"short".to_owned())));
    }
    peer.write_all(&requests).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    let silent = only(&server);
    assert!(silent.backlog_bytes() > 1_000_000, "{silent}");
    assert_eq!(silent.stalled_for(), None, "{silent}");
    assert!(silent.to_string().contains(" peer_silent_for=10.0s"), "{silent}");
    drop(peer);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_peer_that_does_not_read_is_seen_with_its_backlog_and_for_how_long() {
    let (mut peer, theirs) = duplex(1000);
    let streams = stream_of_one(theirs);
    let server = Server::builder()
        .service(Lab::default())
        .incoming("inspect-deaf:", streams)
        .signals(false);
    let server = serve(server).await;
    peer.write_all(&encode(&hello())).await.unwrap();
    for n in 0..10 {
        let call = call(2 * n + 1, &ECHO, &"x".repeat(50_000));
        peer.write_all(&encode(&call)).await.unwrap();
    }
    sleep(Duration::from_secs(20)).await;
    let deaf = only(&server);
    let stalled = deaf.stalled_for().expect("it takes nothing");
    assert!(
        stalled <= Duration::from_secs(20) && stalled > Duration::from_secs(19),
        "{stalled:?}"
    );
    assert!(deaf.held_bytes() > 400_000, "{deaf}");
    let memory = super::limits::limit(Side::Server, &server.address, "max_buffered_bytes");
    assert!(memory.used() > Some(400_000), "{memory}");
    assert_eq!(memory.used_by(), Some(deaf.id()));
    assert!(deaf.backlog_bytes() > 50_000 && deaf.calls_served() > 0, "{deaf}");
    assert!(
        deaf.bytes_sent() <= 1000 && deaf.bytes_received() > 500_000,
        "{deaf}"
    );
    assert!(deaf.to_string().contains(" peer_takes_nothing_for="), "{deaf}");
    // Their replies would find no room, so their handlers do not start.
    let waiting = super::calls_of(&server);
    assert_eq!(waiting.len(), deaf.calls_served());
    assert!(
        waiting.iter().all(|call| call.state() == CallState::Queued),
        "{waiting:?}"
    );
    drop(peer);
    found(|| accepted(&server).is_empty().then_some(())).await;
}

/// A list of one stream, which never ends.
fn stream_of_one<S: Send + 'static>(one: S) -> impl rpc_runtime::Stream<Item = std::io::Result<S>> + Send {
    struct One<S>(Option<S>);
    impl<S> Unpin for One<S> {}
    impl<S> rpc_runtime::Stream for One<S> {
        type Item = std::io::Result<S>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            match self.0.take() {
                Some(one) => std::task::Poll::Ready(Some(Ok(one))),
                None => std::task::Poll::Pending,
            }
        }
    }
    One(Some(one))
}

#[tokio::test(crate = "test_support::gate")]
async fn the_caller_of_a_connection_is_the_one_that_authentication_has_found() {
    let believe = from_fn(async |mut call: ServerCall, next: Next<ServerCall>| {
        let name = call.metadata().get_str("x-name").unwrap_or("nobody").to_owned();
        call.insert(Caller::new(name));
        next.run(call).await
    });
    let server = Server::builder()
        .service(Lab::default())
        .layer(believe)
        .policy(Roles::new())
        .allow("lab.v1.Lab", ["authenticated"])
        .listener("mem:inspect-caller")
        .signals(false);
    let server = serve(server).await;
    let client = server.client().await;
    assert_eq!(only(&server).caller(), None);
    let call_as = async |name: &str| {
        let call = client.call().metadata("x-name", name.to_owned());
        within(call.send_recv::<_, String>(&ECHO, "x".to_owned()))
            .await
            .unwrap();
    };
    call_as("ada").await;
    call_as("ada").await;
    let one = only(&server);
    assert_eq!((one.caller(), one.has_several_callers()), (Some("ada"), false));
    call_as("bob").await;
    let several = only(&server);
    assert_eq!(
        (several.caller(), several.has_several_callers()),
        (Some("ada"), true)
    );
    assert!(
        several.to_string().ends_with("caller=\"ada\" and others"),
        "{several}"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_serves_has_one_connection_with_the_calls_of_both_directions() {
    let lab = Lab::default();
    let _server = lab.serve("mem:inspect-callback").await;
    let of_client = Lab::default();
    let client: Client = Client::builder("mem:inspect-callback")
        .service(of_client.clone())
        .connect()
        .await
        .unwrap();
    let call = start(&client, &BACK_WAIT, "x");
    of_client.logged("x began").await;
    let [one] = &all_of(Side::Client, "mem:inspect-callback")[..] else {
        panic!("{:?}", all_of(Side::Client, "mem:inspect-callback"))
    };
    assert_eq!((one.calls_made(), one.calls_served()), (1, 1));
    let calls = rpc_runtime::inspect::CallQuery::new().connection(one.id()).run();
    let mut calls: Vec<_> = calls
        .iter()
        .map(|call| (call.side(), call.procedure().to_owned()))
        .collect();
    calls.sort_by_key(|(side, _)| side.name());
    assert_eq!(
        calls,
        [
            (Side::Client, "lab.v1.Lab/back_wait".to_owned()),
            (Side::Server, "lab.v1.Lab/wait".to_owned()),
        ]
    );
    of_client.release();
    within(call).await.unwrap().unwrap();
}

#[tokio::test(crate = "test_support::gate")]
async fn pages_go_on_behind_the_last_number() {
    let server = Lab::default().serve("mem:inspect-pages").await;
    let clients = [
        server.client().await,
        server.client().await,
        server.client().await,
    ];
    let ids: Vec<u64> = accepted(&server).iter().map(|one| one.id()).collect();
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    let page = ConnectionQuery::new().after(ids[0]).most(1).run();
    let [next] = page.entries() else {
        panic!("{page:?}")
    };
    assert!(next.id() > ids[0] && next.id() <= ids[1], "{next}");
    assert!(page.left_out() >= 1);
    drop(clients);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_connection_that_drains_says_so() {
    let lab = Lab::default();
    let server = lab.serve("mem:inspect-drain").await;
    let client = server.client().await;
    let call = start(&client, &WAIT, "x");
    lab.logged("x began").await;
    server.handle.drain();
    let draining = || {
        let stage = only(&server).stage();
        (stage == ConnectionStage::Draining).then_some(())
    };
    found(draining).await;
    lab.release();
    within(call).await.unwrap().unwrap();
    server.report().await;
}
