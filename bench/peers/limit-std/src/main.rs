//! Limit L2: std blocking sockets, a thread per connection, a 4-byte length
//! prefix, one call in flight. No runtime, no protobuf.

use harness::{Driver, Key, Load, Store};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

struct Std;

/// Reads one frame into `buf`; None at the end of the stream.
fn read_frame<'b>(stream: &mut TcpStream, buf: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    let mut have = 0;
    let mut need = 4;
    while have < need {
        if buf.len() < need {
            buf.resize(need.max(4096), 0);
        }
        let n = stream.read(&mut buf[have..]).ok().filter(|&n| n > 0)?;
        have += n;
        if have >= 4 {
            need = 4 + u32::from_be_bytes(buf[..4].try_into().unwrap()) as usize;
        }
    }
    Some(&buf[4..need])
}

fn write_frame(stream: &mut TcpStream, out: &mut Vec<u8>, body: &[u8]) {
    out.clear();
    out.extend((body.len() as u32).to_be_bytes());
    out.extend(body);
    stream.write_all(out).unwrap();
}

struct Client(TcpStream, Vec<u8>, Vec<u8>);

impl Client {
    fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream, Vec::new(), Vec::new())
    }

    fn fetch(&mut self, key: &Key) {
        write_frame(&mut self.0, &mut self.2, key.text.as_bytes());
        key.check(read_frame(&mut self.0, &mut self.1).unwrap());
    }
}

impl Driver for Std {
    const NAME: &'static str = "limit-std";

    fn server(store: Arc<Store>, ready: impl FnOnce(String)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        ready(listener.local_addr().unwrap().to_string());
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let store = store.clone();
            std::thread::spawn(move || {
                stream.set_nodelay(true).unwrap();
                let (mut buf, mut out) = (Vec::new(), Vec::new());
                while let Some(key) = read_frame(&mut stream, &mut buf) {
                    let value = store.fetch(std::str::from_utf8(key).unwrap()).unwrap();
                    write_frame(&mut stream, &mut out, value);
                }
            });
        }
    }

    fn drive(addr: &str, load: Arc<Load>) {
        assert_eq!(load.inflight, 1, "one call in flight per connection");
        let mut clients: Vec<_> = (0..load.conns).map(|_| Client::connect(addr)).collect();
        load.begin();
        std::thread::scope(|scope| {
            for (i, client) in clients.iter_mut().enumerate() {
                let mut worker = load.worker(i, 1);
                scope.spawn(move || {
                    while let Some(key) = worker.next_key() {
                        client.fetch(key);
                        worker.done(key);
                    }
                });
            }
        });
    }

    fn idle(addr: &str, conns: usize, key: &'static Key, hold: impl FnOnce()) {
        let mut open: Vec<_> = (0..conns).map(|_| Client::connect(addr)).collect();
        open.iter_mut().for_each(|client| client.fetch(key));
        hold();
    }
}

fn main() {
    harness::run_driver::<Std>();
}
