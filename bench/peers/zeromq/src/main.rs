//! ZeroMQ: PUSH and PULL over TCP by libzmq, its own defaults. One-way messages only: it has no calls. A message is a key
//! and a value, as in the frames of L1; it is looked up where it is taken. It tells nobody what has come, so a second pair
//! of sockets (REQ and REP over a Unix socket) asks.

use harness::{Driver, Key, Load, Put, Store};
use std::sync::Arc;
use std::time::Duration;

const KEY_LEN: usize = "s/key-00000000".len();

struct ZeroMq;

impl Driver for ZeroMq {
    const NAME: &'static str = "zeromq";

    fn server(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let context = zmq::Context::new();
        let pull = context.socket(zmq::PULL).unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        let counter = context.socket(zmq::REP).unwrap();
        let path = harness::socket_path();
        counter.bind(&format!("ipc://{path}")).unwrap();
        ready(format!(
            "ipc://{path}|{}",
            pull.get_last_endpoint().unwrap().unwrap()
        ));
        let counted = store.clone();
        std::thread::spawn(move || {
            while counter.recv_bytes(0).is_ok() {
                counter.send(&counted.put_count().to_le_bytes()[..], 0).unwrap();
            }
        });
        let mut message = zmq::Message::new();
        while pull.recv(&mut message, 0).is_ok() {
            let (key, value) = message.split_at(KEY_LEN);
            store.put(std::str::from_utf8(key).unwrap(), value);
        }
    }

    fn drive(_: &str, _: Arc<Load>) {
        panic!("ZeroMQ has no calls: the runner measures only its one-way messages");
    }

    fn idle(_: &str, _: usize, _: &'static Key, _: impl FnOnce()) {
        panic!("ZeroMQ has no calls: the runner measures only its one-way messages");
    }

    fn one_way(addr: &str, load: Arc<Load>) -> bool {
        let (counter_addr, addr) = addr.split_once('|').unwrap();
        let context = zmq::Context::new();
        let counter = context.socket(zmq::REQ).unwrap();
        counter.connect(counter_addr).unwrap();
        let come = || {
            counter.send("", 0).unwrap();
            u64::from_le_bytes(counter.recv_bytes(0).unwrap().try_into().unwrap())
        };
        let before = come();
        let push = context.socket(zmq::PUSH).unwrap();
        push.connect(addr).unwrap();
        load.begin();
        let mut worker = load.worker(0, 1);
        let mut sent = 0;
        loop {
            match worker.put() {
                Put::Now(key) => {
                    let value = worker.value_slice();
                    let mut message = zmq::Message::with_size(KEY_LEN + value.len());
                    message[..KEY_LEN].copy_from_slice(key.text.as_bytes());
                    message[KEY_LEN..].copy_from_slice(value);
                    push.send(message, 0).unwrap();
                    worker.sent(1);
                    sent += 1;
                }
                Put::Later => worker.nap(),
                Put::Stop => break,
            }
        }
        while come() < before + sent {
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn paced(addr: &str, load: Arc<Load>) -> bool {
        Self::one_way(addr, load)
    }
}

fn main() {
    harness::run_driver::<ZeroMq>();
}
