//! Messages of streams are compressed if both sides agree: fewer bytes pass than the messages have.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use interop::{
    Failed, Outcome, Over, Site, body,
    interop::v1::{OutputRequest, TestServiceClient, Wish},
};
use rpc_runtime::{Bytes, Client, Compression};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
};

/// Counts the bytes between one client and its server, each way.
#[derive(Clone, Debug, Default)]
struct Relay {
    up: Arc<AtomicU64>,
    down: Arc<AtomicU64>,
}

impl Relay {
    async fn open(&self, server: &str) -> Outcome<String> {
        let server = server.trim_start_matches("tcp://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("tcp://{}", listener.local_addr()?);
        let counts = self.clone();
        tokio::spawn(async move {
            let (client, _) = listener.accept().await?;
            let server = TcpStream::connect(server).await?;
            let ((from_client, to_client), (from_server, to_server)) =
                (client.into_split(), server.into_split());
            tokio::try_join!(
                pass(from_client, to_server, &counts.up),
                pass(from_server, to_client, &counts.down)
            )
        });
        Ok(address)
    }
}

async fn pass(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    count: &AtomicU64,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = from.read(&mut buffer).await?;
        if len == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(len as u64, Ordering::Relaxed);
        to.write_all(&buffer[..len]).await?;
    }
}

/// Exchanges ten messages of 100,000 bytes each way in one call, and returns the number of bytes that passed each way.
async fn ten_each_way(theirs: Option<Compression>, ours: Option<Compression>) -> Outcome<(u64, u64)> {
    let site = Site::open(Over::Tcp, theirs).await?;
    let relay = Relay::default();
    let mut builder = Client::builder(relay.open(site.address()).await?);
    if let Some(compression) = ours {
        builder = builder.compression(compression);
    }
    let client = TestServiceClient::from(builder.connect().await?);
    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    for _ in 0..10 {
        let request = OutputRequest {
            body: body(LEN),
            wishes: vec![Wish {
                len: LEN as u32,
                interval_us: 0,
            }],
            status: None,
        };
        sender.send(request).await?;
        let reply = replies.message().await?;
        assert_eq!(reply.map(|reply| reply.body), Some(body(LEN)));
    }
    sender.finish();
    assert_eq!(replies.message().await?, None);
    client.close().await?;
    site.close().await?;
    Ok((
        relay.up.load(Ordering::Relaxed),
        relay.down.load(Ordering::Relaxed),
    ))
}

#[tokio::test(crate = "test_support::gate")]
async fn messages_of_streams_are_compressed_when_both_sides_agree() -> Outcome {
    let (zstd, lz4) = (Some(Compression::Zstd), Some(Compression::Lz4));
    for (theirs, ours) in [(zstd, zstd), (lz4, lz4), (zstd, lz4)] {
        let (up, down) = ten_each_way(theirs, ours).await?;
        let limit = LEN as u64;
        assert!(up < limit && down < limit, "{theirs:?} {ours:?}: {up} {down}");
    }
    Ok(())
}

#[tokio::test(crate = "test_support::gate")]
async fn messages_of_streams_stay_uncompressed_unless_both_sides_agree() -> Outcome {
    for (theirs, ours) in [
        (None, None),
        (Some(Compression::Zstd), None),
        (None, Some(Compression::Lz4)),
    ] {
        let (up, down) = ten_each_way(theirs, ours).await?;
        let all = 10 * LEN as u64;
        assert!(up > all && down > all, "{theirs:?} {ours:?}: {up} {down}");
    }
    Ok(())
}

#[tokio::test(crate = "test_support::gate")]
async fn messages_that_fill_every_limit_travel_compressed_in_both_directions() -> Outcome {
    for compression in [Compression::Zstd, Compression::Lz4] {
        let site = Site::open(Over::Mem, Some(compression)).await?;
        let client = site.client().await?;
        // Just below the limit of a message, which counts the bytes before compression.
        let len = (4 << 20) - 64;
        let request = interop::interop::v1::UnaryRequest {
            body: body(len),
            reply_len: len as u32,
            status: None,
        };
        let reply = client.send_recv().unary_call(request).await?;
        assert!(reply.body == body(len));
        let request = interop::interop::v1::UnaryRequest {
            body: Bytes::from(vec![0; (4 << 20) + 64]),
            ..Default::default()
        };
        let error = client.send_recv().unary_call(request).await.err();
        let error = error.ok_or_else(|| Failed::new("a message over the limit was sent"))?;
        assert_eq!(error.code(), rpc_runtime::Code::ResourceExhausted, "{error}");
        site.close().await?;
    }
    Ok(())
}

const LEN: usize = 100_000;
