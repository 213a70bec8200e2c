//! Attacks over HTTP/1 on the routes of a server. Its other clients speak the native protocol.

use std::time::Duration;

use test_support::LONG;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{Failure, Outcome, Scene, accepts_beside, attacks, outcome};
use crate::probe::once;

attacks! {
    slow_requests "headers of HTTP/1 that arrive byte by byte, slowly" hasty_routes Served
    held_requests "connections that send half a head of HTTP/1 and wait" routes Served
    long_heads "heads of HTTP/1 without an end" routes Served
    endless_bodies "bodies of HTTP/1 in chunks without an end" routes Served
    held_bodies "connections that send half a body of HTTP/1 and wait" routes Served
    unread_answers "requests of HTTP/1 one behind the other, whose answers are not read" hasty_routes Served
    smuggled_requests "requests of HTTP/1 that two readers may read in two ways" routes Served
}

/// Reads until the server ends the connection; returns the first line. A reset is an end, too.
async fn refusal(socket: &mut TcpStream) -> Result<String, Failure> {
    let mut answer = Vec::new();
    if timeout(LONG, socket.read_to_end(&mut answer)).await.is_err() {
        return Err(Failure("the server does not end the connection".to_owned()));
    }
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// Sends `head`, and then `more` until the server ends the connection. Expects an answer with this status.
async fn without_end(
    scene: &Scene<'_>,
    few: u64,
    head: &str,
    more: &[u8],
    status: &str,
) -> Result<Outcome, Failure> {
    let (mut sent, mut answer) = (0, String::new());
    while scene.goes_on(sent, few) {
        let mut socket = scene.door().socket().await?;
        socket.write_all(head.as_bytes()).await?;
        let (mut reader, mut writer) = socket.split();
        let mut bytes = Vec::new();
        let writing = async {
            // It fails when the server has closed.
            while writer.write_all(more).await.is_ok() {}
        };
        let reading = async {
            // The answer may be lost if the server resets the connection, since bytes are on the way.
            let _ = reader.read_to_end(&mut bytes).await;
        };
        let both = async { tokio::join!(writing, reading) };
        if timeout(LONG, both).await.is_err() {
            return Err(Failure("the server does not end the connection".to_owned()));
        }
        let heard = String::from_utf8_lossy(&bytes);
        if !heard.is_empty() && !heard.starts_with(status) {
            return Err(Failure(format!("expected {status}, got {heard}")));
        }
        if !heard.is_empty() {
            answer = status.to_owned();
        }
        sent += 1;
    }
    outcome(sent, "connections", answer)
}

async fn slow_requests(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut socket = scene.door().socket().await?;
    socket
        .write_all(b"GET / HTTP/1.1\r\nHost: target\r\nSlow: ")
        .await?;
    for sent in 1..600 {
        sleep(Duration::from_millis(100)).await;
        if socket.write_all(b"x").await.is_err() {
            let ended = outcome(sent, "bytes", "closed when the time of a handshake is over")?;
            return Ok(ended.counting("handshakes_timed_out", 1));
        }
    }
    Err(Failure("the server reads headers for a minute".to_owned()))
}

async fn held_requests(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let count = scene.count(600, 5000);
    let mut all = Vec::new();
    for number in 0..count {
        let mut socket = scene.door().socket().await?;
        socket.write_all(b"GET / HTTP/1.1\r\nHost: target\r\n").await?;
        all.push(socket);
        if number % 200 == 199 {
            once(scene.door()).await?;
        }
    }
    let ended = outcome(
        count as u64,
        "connections",
        "their places go to other connections",
    )?;
    Ok(ended.counting("handshakes_evicted", 1))
}

async fn long_heads(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let long = [b'x'; 8 << 10];
    let ended = without_end(
        scene,
        20,
        "GET / HTTP/1.1\r\nHost: target\r\nLong: ",
        &long,
        "HTTP/1.1 431 ",
    )
    .await?;
    let connections = ended.sent;
    Ok(ended.counting("ended_by_protocol", connections))
}

async fn endless_bodies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let head = "POST / HTTP/1.1\r\nHost: target\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = b"8\r\n8 bytes \r\n".repeat(10_000);
    without_end(scene, 2, head, &chunks, "HTTP/1.1 413 ").await
}

async fn held_bodies(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // More than the memory of the target, if all were kept.
    let count = scene.count(400, 2000);
    let half = vec![b'x'; 1 << 19];
    let head = format!(
        "POST / HTTP/1.1\r\nHost: target\r\nContent-Length: {}\r\n\r\n",
        half.len() * 2
    );
    let mut all = Vec::new();
    for _ in 0..count {
        let mut socket = scene.door().socket().await?;
        // The server may refuse the body before it has read all of it.
        let _ = socket.write_all(head.as_bytes()).await;
        let _ = timeout(Duration::from_millis(20), socket.write_all(&half)).await;
        all.push(socket);
    }
    accepts_beside(scene, count).await
}

async fn unread_answers(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let requests = b"GET /large HTTP/1.1\r\nHost: target\r\n\r\n".repeat(100);
    let mut socket = scene.door().socket().await?;
    let mut sent = 0;
    let writing = async {
        while socket.write_all(&requests).await.is_ok() {
            sent += 100;
        }
    };
    match timeout(LONG, writing).await {
        Ok(()) => Ok(outcome(sent, "requests", "closed")?.counting("ended_by_write_stall", 1)),
        Err(_) => Err(Failure("the server does not end the connection".to_owned())),
    }
}

async fn smuggled_requests(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let requests = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
    ];
    let mut sent = 0;
    while scene.goes_on(sent, 12) {
        for request in requests {
            let mut socket = scene.door().socket().await?;
            socket.write_all(request.as_bytes()).await?;
            let line = refusal(&mut socket).await?;
            if !line.starts_with("HTTP/1.1 400 ") {
                return Err(Failure(format!("expected 400 for {request:?}, got {line:?}")));
            }
            sent += 1;
        }
    }
    Ok(outcome(sent, "requests", "400")?.counting("ended_by_protocol", sent))
}
