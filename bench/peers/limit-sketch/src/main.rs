//! Limit L3: how near to L1 a call API on tokio and prost can come. Real prost
//! messages, many tasks calling one shared connection, async handlers; but no
//! deadlines, cancellation, metadata, errors or limits. A yardstick, not a
//! framework. What it does:
//! - the caller encodes straight into the connection's out-buffer; one writer
//!   task swaps and writes it, after a yield that lets other callers join;
//! - a caller that is alone writes inline, which saves a task switch;
//! - the reader drains all frames of a read under one lock, then wakes callers;
//! - the server polls a handler inline and spawns it only if it is pending;
//! - no allocation per call but prost's own `String`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use harness::{Conn, Key, Load, Peer, Store};
use prost::Message;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::ReusableBoxFuture;

#[derive(Clone, PartialEq, Message)]
struct FetchRequest {
    #[prost(string, tag = "1")]
    key: String,
}

#[derive(Clone, PartialEq, Message)]
struct FetchResponse {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Id of a message that wants no answer.
const ONE_WAY: u32 = u32::MAX;
const READ: usize = 64 << 10;
/// One-way senders wait while this much is buffered.
const OUT_LIMIT: usize = 256 << 10;

fn put_frame(out: &mut BytesMut, id: u32, message: &impl Message) {
    let len = message.encoded_len();
    out.reserve(8 + len);
    out.put_u32(4 + len as u32);
    out.put_u32(id);
    message.encode_raw(out);
}

/// The complete frames at the start of `buf`, split off together.
fn complete(buf: &mut BytesMut) -> Bytes {
    let mut end = 0;
    while let Some(len) = buf.get(end..end + 4) {
        let next = end + 4 + u32::from_be_bytes(len.try_into().unwrap()) as usize;
        if next > buf.len() {
            buf.reserve(next - buf.len());
            break;
        }
        end = next;
    }
    buf.split_to(end).freeze()
}

async fn fill(read: &mut OwnedReadHalf, buf: &mut BytesMut) -> bool {
    if buf.capacity() - buf.len() < READ / 2 {
        buf.reserve(READ);
    }
    matches!(read.read_buf(buf).await, Ok(n) if n > 0)
}

fn next_frame(batch: &mut Bytes) -> (u32, Bytes) {
    let len = batch.get_u32() as usize - 4;
    let id = batch.get_u32();
    (id, batch.split_to(len))
}

// ---- server

async fn fetch(store: Arc<Store>, req: FetchRequest) -> FetchResponse {
    store.work().await;
    FetchResponse {
        value: store.fetch(&req.key).unwrap().clone(),
    }
}

async fn serve_one(stream: TcpStream, store: Arc<Store>) {
    stream.set_nodelay(true).unwrap();
    let (mut read, mut write) = stream.into_split();
    let (late, mut late_replies) = mpsc::unbounded_channel::<(u32, FetchResponse)>();
    let (mut buf, mut out) = (BytesMut::with_capacity(READ), BytesMut::new());
    let mut handler = ReusableBoxFuture::new(fetch(store.clone(), FetchRequest::default()));
    loop {
        tokio::select! {
            more = fill(&mut read, &mut buf) => if !more { return },
            Some((id, reply)) = late_replies.recv() => put_frame(&mut out, id, &reply),
        }
        let mut batch = complete(&mut buf);
        while !batch.is_empty() {
            let (id, body) = next_frame(&mut batch);
            if id == ONE_WAY {
                let put = PutRequest::decode(body).unwrap();
                store.put(&put.key, &put.value);
                continue;
            }
            handler.set(fetch(store.clone(), FetchRequest::decode(body).unwrap()));
            match handler.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reply) => put_frame(&mut out, id, &reply),
                Poll::Pending => {
                    let fresh = ReusableBoxFuture::new(fetch(store.clone(), FetchRequest::default()));
                    let mut pending = std::mem::replace(&mut handler, fresh);
                    let late = late.clone();
                    tokio::spawn(async move {
                        let reply = poll_fn(|cx| pending.poll(cx)).await;
                        let _ = late.send((id, reply));
                    });
                }
            }
        }
        if !out.is_empty() && write.write_all(&out).await.is_err() {
            return;
        }
        out.clear();
    }
}

// ---- client

enum Slot {
    Free(u32),
    Waiting(Option<Waker>),
    Done(Bytes),
}

struct State {
    out: BytesMut,
    /// The writer task has been told, or is at work.
    writing: bool,
    slots: Vec<Slot>,
    free: u32,
    open: usize,
}

impl State {
    fn open(&mut self) -> u32 {
        self.open += 1;
        if self.free == u32::MAX {
            self.slots.push(Slot::Waiting(None));
            return self.slots.len() as u32 - 1;
        }
        let id = self.free;
        let slot = &mut self.slots[id as usize];
        let Slot::Free(next) = std::mem::replace(slot, Slot::Waiting(None)) else {
            unreachable!()
        };
        self.free = next;
        id
    }

    fn poll(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Bytes> {
        let slot = &mut self.slots[id as usize];
        if let Slot::Waiting(waker) = slot {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let done = std::mem::replace(slot, Slot::Free(self.free));
        self.free = id;
        self.open -= 1;
        let Slot::Done(body) = done else { unreachable!() };
        Poll::Ready(body)
    }
}

struct Shared {
    state: Mutex<State>,
    write: OwnedWriteHalf,
    to_write: Notify,
    drained: Notify,
}

impl Shared {
    /// Encodes, and writes or sees to it that it is written.
    fn send(&self, state: &mut State, id: u32, message: &impl Message) {
        put_frame(&mut state.out, id, message);
        if state.writing {
            return;
        }
        if state.open == 1 && id != ONE_WAY {
            if let Ok(n) = self.write.try_write(&state.out) {
                state.out.advance(n);
            }
            if state.out.is_empty() {
                return;
            }
        }
        state.writing = true;
        self.to_write.notify_one();
    }

    async fn writer(self: Arc<Self>) {
        let mut mine = BytesMut::new();
        loop {
            self.to_write.notified().await;
            loop {
                tokio::task::yield_now().await;
                {
                    let mut state = self.state.lock().unwrap();
                    if state.out.is_empty() {
                        state.writing = false;
                        break;
                    }
                    std::mem::swap(&mut mine, &mut state.out);
                }
                self.drained.notify_one();
                while !mine.is_empty() {
                    match self.write.try_write(&mine) {
                        Ok(n) => mine.advance(n),
                        Err(_) if self.write.writable().await.is_ok() => {}
                        Err(_) => return,
                    }
                }
                mine.clear();
            }
        }
    }

    async fn reader(self: Arc<Self>, mut read: OwnedReadHalf) {
        let mut buf = BytesMut::with_capacity(READ);
        let mut wake = Vec::new();
        while fill(&mut read, &mut buf).await {
            let mut batch = complete(&mut buf);
            let mut state = self.state.lock().unwrap();
            while !batch.is_empty() {
                let (id, body) = next_frame(&mut batch);
                let slot = &mut state.slots[id as usize];
                if let Slot::Waiting(Some(waker)) = std::mem::replace(slot, Slot::Done(body)) {
                    wake.push(waker);
                }
            }
            drop(state);
            wake.drain(..).for_each(Waker::wake);
        }
    }
}

#[derive(Clone)]
struct Client(Arc<Shared>);

impl Conn for Client {
    async fn fetch(&self, key: &Key) {
        let id = {
            let state = &mut *self.0.state.lock().unwrap();
            let id = state.open();
            self.0.send(
                state,
                id,
                &FetchRequest {
                    key: key.text.clone(),
                },
            );
            id
        };
        let body = poll_fn(|cx| self.0.state.lock().unwrap().poll(id, cx)).await;
        key.check(&FetchResponse::decode(body).unwrap().value);
    }

    async fn one_way(&self, load: Arc<Load>) -> bool {
        load.begin();
        let value = Bytes::from(vec![7; load.keys[0].len]);
        let mut worker = load.worker(0, 1);
        while let Some(key) = worker.next_key() {
            let put = PutRequest {
                key: key.text.clone(),
                value: value.clone(),
            };
            loop {
                {
                    let state = &mut *self.0.state.lock().unwrap();
                    if state.out.len() < OUT_LIMIT {
                        self.0.send(state, ONE_WAY, &put);
                        break;
                    }
                }
                self.0.drained.notified().await;
            }
            worker.sent(1);
        }
        self.fetch(&load.keys[0]).await;
        true
    }
}

struct Sketch;

impl Peer for Sketch {
    const NAME: &'static str = "limit-sketch";
    type Conn = Client;

    async fn serve(store: Arc<Store>, ready: impl FnOnce(String) + Send + 'static) {
        let listener = harness::socket::listen_tcp(ready).await;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve_one(stream, store.clone()));
        }
    }

    async fn connect(addr: String) -> Client {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        let state = State {
            out: BytesMut::new(),
            writing: false,
            slots: Vec::new(),
            free: u32::MAX,
            open: 0,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            write,
            to_write: Notify::new(),
            drained: Notify::new(),
        });
        tokio::spawn(shared.clone().writer());
        tokio::spawn(shared.clone().reader(read));
        Client(shared)
    }
}

fn main() {
    harness::run::<Sketch>();
}
