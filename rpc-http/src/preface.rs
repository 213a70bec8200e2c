//! Preface: what a peer sends first, which tells whether it speaks HTTP/2.

use std::{io, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// What a client of HTTP/2 sends first.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a peer speaks, by the first bytes that it has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/2. All of the preface was read, and nothing behind it.
    Http2,
    /// HTTP/1: a method stands in place of the preface. These bytes were read.
    Http1(Bytes),
    Unknown,
}

/// Reads the preface.
///
/// # Errors
///
/// Those of the stream; `UnexpectedEof` if it ends before it is clear what the peer speaks.
///
/// # Cancel safety
///
/// Dropping the future loses what was read.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Spoken> {
    let (mut bytes, mut len) = ([0; PREFACE.len()], 0);
    while len < bytes.len() {
        let count = stream.read(&mut bytes[len..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += count;
        let read = &bytes[..len];
        if !PREFACE.starts_with(read) {
            return Ok(match read {
                // `PO` already is no preface. What else begins with a capital and comes to this port is no worse off with an answer.
                [b'A'..=b'Z', ..] => Spoken::Http1(Bytes::copy_from_slice(read)),
                _ => Spoken::Unknown,
            });
        }
    }
    Ok(Spoken::Http2)
}

/// Answers a request of HTTP/1 with 426, and says in one line what is spoken here.
pub(crate) async fn answer_http1(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let answer = format!(
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{SPOKEN_HERE}",
        SPOKEN_HERE.len()
    );
    let answering = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await
    };
    // A peer that does not take the answer needs no further time.
    if let Ok(Ok(())) = timeout(LINGER, answering).await {
        linger(stream).await;
    }
}

/// Ends what is written, and reads on for a moment: the stream is closed next.
///
/// Closing with unread bytes would reset the connection, and a reset may reach the peer before the answer.
pub(crate) async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let lingering = async {
        stream.shutdown().await?;
        let (mut rest, mut left) = ([0; 4096], LINGER_BYTES);
        while left > 0 {
            match stream.read(&mut rest).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // However it ends, the stream is closed.
    let _ = timeout(LINGER, lingering).await;
}

const SPOKEN_HERE: &str = "this port speaks HTTP/2 with prior knowledge, for gRPC, and not HTTP/1\n";
/// How long, and for how many bytes, a peer that got its answer is read on.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn what_a_peer_speaks_is_known_as_soon_as_it_differs() {
        let http1 = || Some(Spoken::Http1(Bytes::new()));
        for (sent, spoken) in [
            (&PREFACE[..], Some(Spoken::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(Spoken::Http2)),
            (b"POST / HTTP/1.1\r\n", http1()),
            (b"PO", http1()),
            (b"GET / HTTP/1.1\r\n", http1()),
            (b"PRI * HTTP/2.0\r\n\r\nXY", http1()),
            (b"\x16\x03\x01", Some(Spoken::Unknown)),
            (b"P", None),
            (b"", None),
        ] {
            // With reads of all lengths.
            for len in [1, 3, 64] {
                let (mut peer, mut ours) = duplex(len);
                let writing = async move { peer.write_all(sent).await };
                let (read, _) = tokio::join!(
                    async {
                        let read = read(&mut ours).await.ok();
                        // So that the rest of the writing ends.
                        let mut rest = Vec::new();
                        let _ = ours.read_to_end(&mut rest).await;
                        match read {
                            Some(Spoken::Http1(begun)) => {
                                assert_eq!([&begun[..], &rest[..]].concat(), sent, "no byte is lost");
                                http1()
                            }
                            read => read,
                        }
                    },
                    writing
                );
                assert_eq!(read, spoken, "{}", sent.escape_ascii());
            }
        }
    }

    #[tokio::test]
    async fn a_peer_that_sends_its_whole_body_first_gets_its_answer() {
        // Room for the answer, and not for the body.
        let (mut peer, mut ours) = duplex(1024);
        let answering = tokio::spawn(async move { answer_http1(&mut ours).await });
        peer.write_all(&[b'x'; 10_000]).await.unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with(SPOKEN_HERE), "{answer}");
        drop(peer);
        answering.await.unwrap();
    }
}
