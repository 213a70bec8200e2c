//! Limit L1: bare tokio sockets. Frames of a 4-byte length, a 4-byte id and a
//! body; one task per connection on either side, which drains all frames a read
//! brought, answers them into one buffer and writes that once. No protobuf, no
//! task, channel or allocation per call. Bodies of 16 KiB and up are not copied
//! but written with writev.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use harness::tokio_peer::runtime;
use harness::{Driver, Key, Listener, Load, Put, Store, Worker, socket, socket::Socket};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Id of a frame that wants no answer.
const ONE_WAY: u32 = u32::MAX;
/// Id of a frame that wants a stream of answers.
const WATCH: u32 = u32::MAX - 1;
const READ: usize = 64 << 10;
const COPY_BELOW: usize = 16 << 10;

struct Frames {
    buf: BytesMut,
}

impl Frames {
    fn new() -> Self {
        Frames {
            buf: BytesMut::with_capacity(READ),
        }
    }

    /// Reads once; false at the end of the stream.
    async fn fill(&mut self, stream: &mut Box<dyn Socket>) -> bool {
        let need = match self.buf.len() {
            n @ 4.. => 4 + u32::from_be_bytes(self.buf[..4].try_into().unwrap()) as usize - n,
            _ => READ,
        };
        self.buf.reserve(need.max(READ));
        matches!(stream.read_buf(&mut self.buf).await, Ok(n) if n > 0)
    }

    /// Calls `each` with (id, body) of every complete frame.
    fn drain(&mut self, mut each: impl FnMut(u32, &[u8])) {
        let mut rest = &self.buf[..];
        while rest.len() >= 8 {
            let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            if rest.len() < 4 + len {
                break;
            }
            let id = u32::from_be_bytes(rest[4..8].try_into().unwrap());
            each(id, &rest[8..4 + len]);
            rest = &rest[4 + len..];
        }
        let used = self.buf.len() - rest.len();
        self.buf.advance(used);
    }
}

fn put_header(out: &mut BytesMut, id: u32, len: usize) {
    out.put_u32(4 + len as u32);
    out.put_u32(id);
}

/// Small bodies copied together, large ones by reference.
#[derive(Default)]
struct Out {
    tail: BytesMut,
    chunks: VecDeque<Bytes>,
}

impl Out {
    fn push(&mut self, id: u32, body: &Bytes) {
        put_header(&mut self.tail, id, body.len());
        if body.len() < COPY_BELOW {
            self.tail.put_slice(body);
        } else {
            self.chunks.push_back(self.tail.split().freeze());
            self.chunks.push_back(body.clone());
        }
    }

    /// Writes all of it. TLS keeps a part back until it is flushed; TCP has nothing to flush.
    async fn flush(&mut self, stream: &mut Box<dyn Socket>) -> std::io::Result<()> {
        while !self.chunks.is_empty() {
            let mut slices = [IoSlice::new(&[]); 32];
            for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                *slice = IoSlice::new(chunk);
            }
            let filled = self.chunks.len().min(32);
            let mut n = stream.write_vectored(&slices[..filled]).await?;
            while n > 0 || self.chunks.front().is_some_and(|c| c.is_empty()) {
                let front = self.chunks.front_mut().unwrap();
                let step = n.min(front.len());
                front.advance(step);
                n -= step;
                if front.is_empty() {
                    self.chunks.pop_front();
                }
            }
        }
        if !self.tail.is_empty() {
            stream.write_all(&self.tail).await?;
            self.tail.clear();
        }
        stream.flush().await
    }
}

async fn serve_one(mut stream: Box<dyn Socket>, store: Arc<Store>) {
    let (mut frames, mut out) = (Frames::new(), Out::default());
    while frames.fill(&mut stream).await {
        let mut watched = None;
        frames.drain(|id, body| match id {
            ONE_WAY => {
                let key = std::str::from_utf8(&body[..KEY_LEN]).unwrap();
                store.put(key, &body[KEY_LEN..]);
            }
            WATCH => {
                let (key, count) = body.split_at(KEY_LEN);
                let value = store.fetch(std::str::from_utf8(key).unwrap()).unwrap();
                watched = Some((value, u64::from_be_bytes(count.try_into().unwrap())));
            }
            _ => {
                store.burn();
                out.push(id, store.fetch(std::str::from_utf8(body).unwrap()).unwrap());
            }
        });
        if let Some((value, count)) = watched {
            return flood(stream, value, count).await;
        }
        if out.flush(&mut stream).await.is_err() {
            return;
        }
    }
}

/// Sends `value` so many times, or until nobody reads it.
async fn flood(mut stream: Box<dyn Socket>, value: &Bytes, mut count: u64) {
    let mut out = Out::default();
    while count > 0 {
        while out.tail.len() < READ && count > 0 {
            out.push(WATCH, value);
            count -= 1;
        }
        if out.flush(&mut stream).await.is_err() {
            return;
        }
    }
}

const KEY_LEN: usize = "s/key-00000000".len();

struct Client {
    stream: Box<dyn Socket>,
    frames: Frames,
    out: BytesMut,
}

impl Client {
    async fn connect(addr: &str) -> Self {
        let stream = socket::connect(addr).await;
        Client {
            stream,
            frames: Frames::new(),
            out: BytesMut::new(),
        }
    }

    async fn fetch(&mut self, key: &Key) {
        put_header(&mut self.out, 0, key.text.len());
        self.out.put_slice(key.text.as_bytes());
        self.stream.write_all(&self.out).await.unwrap();
        self.stream.flush().await.unwrap();
        self.out.clear();
        let mut done = false;
        while !done {
            assert!(self.frames.fill(&mut self.stream).await);
            self.frames.drain(|_, body| {
                key.check(body);
                done = true;
            });
        }
    }

    /// Sends messages that want no answer, and writes as many at once as are due.
    async fn send_all(&mut self, mut worker: Worker) {
        let mut n = 0;
        loop {
            let next = worker.put();
            if let Put::Now(key) = next {
                let value = worker.value_slice();
                put_header(&mut self.out, ONE_WAY, KEY_LEN + value.len());
                self.out.put_slice(key.text.as_bytes());
                self.out.put_slice(value);
                n += 1;
                if self.out.len() < READ {
                    continue;
                }
            }
            if n > 0 {
                self.stream.write_all(&self.out).await.unwrap();
                self.out.clear();
                worker.sent(n);
                n = 0;
            }
            match next {
                Put::Now(_) => {}
                Put::Later => worker.tick().await,
                Put::Stop => return,
            }
        }
    }

    /// Keeps `inflight` calls outstanding; answers come in order.
    async fn pipeline(&mut self, mut worker: Worker, inflight: usize) {
        let mut open: VecDeque<(u32, Instant, &'static Key)> = VecDeque::new();
        let mut next_id = 0;
        let mut now = Instant::now();
        loop {
            while open.len() < inflight
                && let Some(key) = worker.next_key()
            {
                put_header(&mut self.out, next_id, key.text.len());
                self.out.put_slice(key.text.as_bytes());
                open.push_back((next_id, now, key));
                next_id = (next_id + 1) & 0x7fff_ffff;
            }
            if open.is_empty() {
                return;
            }
            if !self.out.is_empty() {
                self.stream.write_all(&self.out).await.unwrap();
                self.stream.flush().await.unwrap();
                self.out.clear();
            }
            assert!(self.frames.fill(&mut self.stream).await);
            now = Instant::now();
            self.frames.drain(|id, body| {
                let (want, start, key) = open.pop_front().unwrap();
                assert_eq!(id, want);
                key.check(body);
                worker.done_at(start, now, key);
            });
        }
    }
}

struct Tokio;

impl Driver for Tokio {
    const NAME: &'static str = "limit-tokio";

    fn server(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let rt = runtime();
        let server = rt.spawn(async move {
            let listener = Listener::bind(ready).await;
            loop {
                tokio::spawn(serve_one(listener.accept().await, store.clone()));
            }
        });
        rt.block_on(server).unwrap();
    }

    fn drive(addr: &str, load: Arc<Load>) {
        let addr = addr.to_string();
        let rt = runtime();
        let client = rt.spawn(async move {
            let mut clients = Vec::new();
            for _ in 0..load.conns {
                let mut client = Client::connect(&addr).await;
                client.fetch(&load.keys[0]).await;
                clients.push(client);
            }
            load.begin();
            let mut tasks = Vec::new();
            for (i, mut client) in clients.into_iter().enumerate() {
                let worker = load.worker(i, load.inflight);
                let inflight = load.inflight;
                tasks.push(tokio::spawn(
                    async move { client.pipeline(worker, inflight).await },
                ));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        rt.block_on(client).unwrap();
    }

    fn idle(addr: &str, conns: usize, key: &'static Key, hold: impl FnOnce()) {
        let rt = runtime();
        let open = rt.block_on(async {
            let mut open = Vec::new();
            for _ in 0..conns {
                let mut client = Client::connect(addr).await;
                client.fetch(key).await;
                open.push(client);
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            open
        });
        hold();
        drop(open);
    }

    fn handshakes(addr: &str, load: Arc<Load>) -> bool {
        let addr = addr.to_string();
        let rt = runtime();
        let client = rt.spawn(async move {
            Client::connect(&addr).await.fetch(&load.keys[0]).await;
            load.begin();
            let mut tasks = Vec::new();
            for i in 0..load.inflight {
                let (addr, mut worker) = (addr.clone(), load.worker(i, 1));
                tasks.push(tokio::spawn(async move {
                    while let Some(key) = worker.next_key() {
                        Client::connect(&addr).await.fetch(key).await;
                        worker.done(key);
                    }
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
        rt.block_on(client).unwrap();
        true
    }

    fn one_way(addr: &str, load: Arc<Load>) -> bool {
        let addr = addr.to_string();
        let rt = runtime();
        let client = rt.spawn(async move {
            let mut client = Client::connect(&addr).await;
            load.begin();
            client.send_all(load.worker(0, 1)).await;
            client.fetch(&load.keys[0]).await; // after all the messages
        });
        rt.block_on(client).unwrap();
        true
    }

    fn paced(addr: &str, load: Arc<Load>) -> bool {
        Self::one_way(addr, load)
    }

    fn upload(addr: &str, load: Arc<Load>) -> bool {
        Self::one_way(addr, load)
    }

    fn ping_pong(addr: &str, load: Arc<Load>) -> bool {
        Self::drive(addr, load);
        true
    }

    fn watch(addr: &str, load: Arc<Load>) -> bool {
        let addr = addr.to_string();
        let rt = runtime();
        let client = rt.spawn(async move {
            let mut client = Client::connect(&addr).await;
            let key = &load.keys[0];
            put_header(&mut client.out, WATCH, key.text.len() + 8);
            client.out.put_slice(key.text.as_bytes());
            client.out.put_u64(load.count());
            client.stream.write_all(&client.out).await.unwrap();
            load.begin();
            let mut worker = load.worker(0, 1);
            let mut left = load.count();
            while left > 0 && worker.next_key().is_some() {
                assert!(client.frames.fill(&mut client.stream).await);
                let mut read = 0;
                client.frames.drain(|_, body| {
                    key.check(body);
                    read += 1;
                });
                worker.sent(read);
                left -= read;
            }
        });
        rt.block_on(client).unwrap();
        true
    }
}

fn main() {
    harness::run_driver::<Tokio>();
}
