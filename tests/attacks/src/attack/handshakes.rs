//! Attacks on the handshake of TLS.

use std::{io, time::Duration};

use test_support::LONG;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConnection, pki_types::ServerName},
};

use super::{Failure, Outcome, Scene, attacks, outcome};
use crate::{certificates::Shown, probe::once};

attacks! {
    tls_garbage "other protocols, noise, and records that TLS does not have" usual Served
    huge_records "records and handshake messages that claim to be longer than TLS allows" hasty Served
    half_hellos "a ClientHello that ends at each of its bytes" usual Served
    held_hellos "connections that send half a ClientHello and wait" usual Served
    unfinished_handshakes "handshakes whose last message never comes" usual Served
    slow_hellos "a ClientHello that arrives byte by byte, slowly" hasty Served
    hellos_again "a ClientHello in place of the first message" usual Served
    handshake_flood "whole handshakes, each with a new key, and nothing after them" usual Served
    key_updates "a flood of changes of the key, without reading" usual Served
}

/// Returns a connector of this attacker. It resumes no session.
fn connector(scene: &Scene<'_>) -> Result<TlsConnector, Failure> {
    let certificates = scene.door().certificates();
    let certificates = certificates.ok_or_else(|| Failure("the target has no TLS".to_owned()))?;
    Ok(certificates.attacker(Shown::Nothing)?)
}

/// Returns the bytes of a good ClientHello.
fn hello(scene: &Scene<'_>) -> Result<Vec<u8>, Failure> {
    let config = connector(scene)?.config().clone();
    let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
    let mut client = ClientConnection::new(config, name).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads until the server ends the connection.
async fn refused(socket: &mut TcpStream) -> Result<(), Failure> {
    match timeout(LONG, socket.read_to_end(&mut Vec::new())).await {
        // A reset is an end, too.
        Ok(_) => Ok(()),
        Err(_) => Err(Failure("the server does not end the connection".to_owned())),
    }
}

/// Sends each of `inputs` on a connection of its own, which the server must end.
async fn refused_each(scene: &Scene<'_>, few: u64, inputs: &[&[u8]]) -> Result<Outcome, Failure> {
    let mut sent = 0;
    while scene.goes_on(sent, few) {
        for input in inputs {
            let mut socket = scene.door().socket().await?;
            socket.write_all(input).await?;
            refused(&mut socket).await?;
            sent += 1;
        }
    }
    outcome(sent, "connections", "closed")
}

async fn tls_garbage(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let noise = [0xa5; 3000];
    let inputs: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: target\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &noise,
        // Application data, an alert of an unknown kind, and a ServerHello, each as the first record.
        b"\x17\x03\x03\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x02\xff",
        b"\x16\x03\x03\x00\x04\x02\x00\x00\x00",
        // A ClientHello of nothing.
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    ];
    refused_each(scene, 24, &inputs).await
}

async fn huge_records(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    // A record of 64 KiB, one that is a byte too long, and a handshake message of 16 MiB, for which the server waits in vain.
    let inputs: [&[u8]; 3] = [
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x48\x01",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
    ];
    refused_each(scene, 3, &inputs).await
}

async fn half_hellos(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let hello = hello(scene)?;
    let mut sent = 0;
    while scene.goes_on(sent, 300) {
        let mut socket = scene.door().socket().await?;
        // In a test the steps are long, so that all of it is covered.
        let step = if scene.time.is_some() {
            1
        } else {
            hello.len() / 200 + 1
        };
        socket
            .write_all(&hello[..sent as usize * step % hello.len()])
            .await?;
        sent += 1;
    }
    outcome(sent, "connections", "closed")
}

/// Holds connections that have sent `first`, while a legitimate client connects again and again.
async fn held(scene: &Scene<'_>, first: &[u8]) -> Result<Outcome, Failure> {
    let count = scene.count(600, 5000);
    let mut all = Vec::new();
    for number in 0..count {
        let mut socket = scene.door().socket().await?;
        socket.write_all(first).await?;
        all.push(socket);
        if number % 200 == 199 {
            once(scene.door()).await?;
        }
    }
    let memory = scene.target.usage()?.memory_kib;
    outcome(
        count as u64,
        "connections",
        format!(
            "their places go to other connections; {} MiB resident",
            memory >> 10
        ),
    )
}

async fn held_hellos(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let hello = hello(scene)?;
    held(scene, &hello[..hello.len() / 2]).await
}

async fn unfinished_handshakes(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    held(scene, &hello(scene)?).await
}

async fn slow_hellos(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let hello = hello(scene)?;
    let mut socket = scene.door().socket().await?;
    let mut sent = 0;
    for byte in hello.chunks(1) {
        if socket.write_all(byte).await.is_err() {
            return outcome(sent, "bytes", "closed");
        }
        sent += 1;
        sleep(Duration::from_millis(100)).await;
        let mut answer = [0; 1];
        match socket.try_read(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // An alert, the end or a reset.
            _ => return outcome(sent, "bytes", "closed when the time of a handshake is over"),
        }
    }
    Err(Failure(format!("the server reads {sent} slow bytes")))
}

async fn hellos_again(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let (connector, hello) = (connector(scene)?, hello(scene)?);
    let mut sent = 0;
    while scene.goes_on(sent, 20) {
        let mut stream = scene.door().secured(&connector).await?;
        // Past the session, as a client of TLS 1.2 that wants to negotiate again.
        stream.get_mut().0.write_all(&hello).await?;
        refused(stream.get_mut().0).await?;
        sent += 1;
    }
    outcome(sent, "connections", "closed")
}

async fn handshake_flood(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let mut sent = 0;
    while scene.goes_on(sent, 200) {
        // A new configuration has no session to resume.
        let connector = connector(scene)?;
        drop(scene.door().secured(&connector).await?);
        sent += 1;
    }
    outcome(sent, "handshakes", "closed")
}

async fn key_updates(scene: &Scene<'_>) -> Result<Outcome, Failure> {
    let connector = connector(scene)?;
    let mut sent = 0;
    while scene.goes_on(sent, 5_000) {
        let mut stream = scene.door().secured(&connector).await?;
        for _ in 0..2_500 {
            let (_, session) = stream.get_mut();
            session.refresh_traffic_keys().map_err(io::Error::other)?;
            sent += 1;
            if stream.flush().await.is_err() {
                break;
            }
        }
    }
    let memory = scene.target.usage()?.memory_kib;
    outcome(
        sent,
        "changes",
        format!("each followed; {} MiB resident", memory >> 10),
    )
}
