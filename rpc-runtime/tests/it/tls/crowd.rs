//! More TLS handshakes than a server has places for.

use std::time::Duration;

use rpc_runtime::Client;
use test_support::{
    LONG, Lab, Logged, Running,
    lab::{ECHO, text},
    until, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{certs::World, connect, counted};

fn socket(server: &Running) -> String {
    server.address.strip_prefix("tls://").unwrap().to_owned()
}

/// The first bytes of a ClientHello, whose rest never comes.
const HALF_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[tokio::test(crate = "test_support::gate")]
async fn a_tls_peer_that_does_not_go_on_loses_its_place_to_a_newcomer() {
    let world = World::new();
    for sent in [&b""[..], HALF_HELLO] {
        let logged = Logged::here();
        let tls = world.server().build().unwrap();
        let server = Lab::default()
            .serve_with("tls://127.0.0.1:0", |server| server.tls(tls).max_handshakes(1))
            .await;
        let mut stranger = TcpStream::connect(socket(&server)).await.unwrap();
        stranger.write_all(sent).await.unwrap();

        let client = connect(&server, world.client().build().unwrap()).await.unwrap();
        assert_eq!(text(&client, &ECHO, "in").await.unwrap(), "in");
        counted(&server.handle, |counters| counters.handshakes_evicted() == 1).await;
        // It is closed, or reset because the server has not read all.
        let mut rest = Vec::new();
        let _ = within(stranger.read_to_end(&mut rest)).await;
        let says = "handshake given up: too many peers are in theirs: ServerBuilder::max_handshakes";
        until(|| logged.all().contains(says)).await;
        assert_eq!(
            server.handle.counters().tls_handshakes_failed(),
            0,
            "it did not fail"
        );
    }
}

/// Relays connections to a server, and each byte takes `delay`.
async fn far(server: &Running, delay: Duration) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tls://{}", listener.local_addr().unwrap());
    let server = socket(server);
    let mut relay = JoinSet::new();
    relay.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
            connections.spawn(carry(from_client, to_server, delay));
            connections.spawn(carry(from_server, to_client, delay));
        }
    });
    (address, relay)
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin + Send + 'static,
    delay: Duration,
) {
    let (arrived, mut due) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(64);
    let mut writing = JoinSet::new();
    writing.spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The other side may have closed already.
        let _ = to.shutdown().await;
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        if arrived
            .send((Instant::now() + delay, buffer[..len].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
    drop(arrived);
    writing.join_all().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_far_client_shakes_hands_beside_a_flood_of_mute_peers() {
    const PLACES: usize = 8;
    let world = World::new();
    let tls = world.server().build().unwrap();
    let server = Lab::default()
        .serve_with("tls://127.0.0.1:0", |server| {
            server.tls(tls).max_handshakes(PLACES)
        })
        .await;
    // A flood that takes each place that becomes free.
    let mut flood = JoinSet::new();
    for number in 0..2 * PLACES {
        let address = socket(&server);
        flood.spawn(async move {
            loop {
                let Ok(mut stranger) = TcpStream::connect(&address).await else {
                    return;
                };
                if number % 2 == 0 {
                    // The server may have closed it.
                    let _ = stranger.write_all(HALF_HELLO).await;
                }
                let _ = stranger.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    counted(&server.handle, |counters| counters.handshakes_evicted() > 0).await;
    // A round trip of 400 ms. A busy machine adds to it, so the client has some tries.
    let (address, relay) = far(&server, Duration::from_millis(200)).await;
    let tls = world.client().build().unwrap();
    let client = timeout(LONG, async {
        loop {
            match Client::builder(&address).tls(tls.clone()).connect().await {
                Ok(client) => return Client::clone(&client),
                Err(error) => {
                    println!("{error:#}");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    });
    let client = client.await.expect("a far client gets in");
    assert_eq!(text(&client, &ECHO, "from far").await.unwrap(), "from far");
    drop((client, relay, flood));
}
