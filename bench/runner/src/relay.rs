//! A relay between client and server that counts bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Bytes so far, of all its connections.
#[derive(Clone, Default)]
pub struct Relayed {
    pub to_server: Arc<AtomicU64>,
    pub to_client: Arc<AtomicU64>,
}

/// Relays to the TCP address within `addr`. Returns `addr` with the relay's own address instead, and the counters; none
/// if there is no such address. Its threads end with their connections, or with the process.
pub fn relay(addr: &str) -> Option<(String, Relayed)> {
    let start = addr.find("127.0.0.1:")?;
    let server = addr[start..].to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let own = listener.local_addr().ok()?.to_string();
    let relayed = Relayed::default();
    let counters = relayed.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&server) else {
                return;
            };
            copy(&client, &server, &counters.to_server);
            copy(&server, &client, &counters.to_client);
        }
    });
    Some((format!("{}{own}", &addr[..start]), relayed))
}

fn copy(from: &TcpStream, to: &TcpStream, counter: &Arc<AtomicU64>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
        return;
    };
    let counter = counter.clone();
    let _ = to.set_nodelay(true);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            counter.fetch_add(len as u64, Ordering::Relaxed);
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
