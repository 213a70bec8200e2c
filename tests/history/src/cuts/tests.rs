use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// Makes a connection through a relay with these cuts, and returns the client's end and the server's end.
async fn relayed(fate: Fate) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("tcp://{}", listener.local_addr().unwrap());
    let (front, address) = Listener::bind("tcp://127.0.0.1:0").await.unwrap();
    let shared = Arc::new(Shared {
        upstream: RwLock::new(upstream),
        counts: Mutex::default(),
    });
    tokio::spawn(async move {
        let client = front.accept().await.unwrap();
        connection(client, shared, fate).await;
    });
    let client = TcpStream::connect(address.strip_prefix("tcp://").unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (client, server)
}

fn fate(cut: Cut) -> Fate {
    Fate {
        cut,
        after_upwards: None,
        after_downwards: None,
        stall_upwards: None,
        stall_downwards: None,
        patience: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_cut_lets_exactly_its_bytes_pass() {
    let (mut client, mut server) = relayed(Fate {
        after_upwards: Some(7),
        ..fate(Cut::Close)
    })
    .await;
    client.write_all(b"0123456789").await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"0123456");
}

#[tokio::test]
async fn a_reset_reaches_both_ends() {
    let (mut client, mut server) = relayed(Fate {
        after_downwards: Some(3),
        ..fate(Cut::Reset)
    })
    .await;
    server.write_all(b"0123456789").await.unwrap();
    for end in [&mut client, &mut server] {
        let error = end.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_half_close_ends_one_direction_and_leaves_the_other() {
    let (mut client, mut server) = relayed(Fate {
        after_upwards: Some(2),
        ..fate(Cut::HalfClose)
    })
    .await;
    client.write_all(b"0123").await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"01");
    server.write_all(b"still here").await.unwrap();
    let mut still = [0; 10];
    client.read_exact(&mut still).await.unwrap();
    assert_eq!(&still, b"still here");
}

#[tokio::test]
async fn without_a_cut_an_end_is_passed_on_unchanged() {
    let (mut client, mut server) = relayed(fate(Cut::Close)).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"answer");
}

#[tokio::test(start_paused = true)]
async fn a_stall_loses_nothing() {
    let (mut client, mut server) = relayed(Fate {
        stall_upwards: Some(Stall {
            after: 3,
            time: Duration::from_secs(5),
        }),
        ..fate(Cut::Close)
    })
    .await;
    client.write_all(b"0123456789").await.unwrap();
    client.shutdown().await.unwrap();
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"0123456789");
}

#[test]
fn fates_follow_from_the_seed() {
    let fates = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let fates: Vec<_> = (0..50).map(|_| Cuts::many().fate(&mut random)).collect();
        format!("{fates:?}")
    };
    assert_eq!(fates(7), fates(7));
    assert_ne!(fates(7), fates(8));
}
