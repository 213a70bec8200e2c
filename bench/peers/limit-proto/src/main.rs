//! Limit L4: a second sketch, with the protobuf envelope of WIRE.md. One task per connection reads and writes; callers
//! encode in place under one short lock; the server polls handlers inline (`PEER_VARIANT=spawn`: a task per call, to compare).
//! PROTO_YIELD=1 lets other ready tasks run before a write: good on many connections, bad on one (see the reference).
//! It copies large values, and has no deadlines, cancellation, metadata, errors or limits. A yardstick, not a framework.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use prost::Message;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[derive(Clone, PartialEq, prost::Message)]
struct FetchRequest {
    #[prost(string, tag = "1")]
    key: String,
}
#[derive(Clone, PartialEq, prost::Message)]
struct FetchReply {
    #[prost(bytes = "bytes", tag = "1")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    id: u64,
    #[prost(fixed64, tag = "3")]
    method: u64,
    #[prost(uint64, tag = "4")]
    timeout_us: u64,
    #[prost(bytes = "bytes", tag = "15")]
    payload: Bytes,
}
fn varint_len(v: u64) -> usize {
    (((v | 1).leading_zeros() ^ 63) as usize * 9 + 73) / 64
}
fn encode_frame(out: &mut BytesMut, kind: u32, id: u64, method: u64, msg: &impl Message) {
    let n = msg.encoded_len();
    let mut body = 1 + varint_len(kind as u64) + 1 + varint_len(id) + 1 + varint_len(n as u64) + n;
    if method != 0 {
        body += 9;
    }
    out.reserve(4 + body);
    out.put_u32(body as u32);
    out.put_u8(0x08);
    prost::encoding::encode_varint(kind as u64, out);
    out.put_u8(0x10);
    prost::encoding::encode_varint(id, out);
    if method != 0 {
        out.put_u8(0x19);
        out.put_u64_le(method);
    }
    out.put_u8(0x7a);
    prost::encoding::encode_varint(n as u64, out);
    msg.encode_raw(out);
}
fn next_frame(buf: &mut BytesMut) -> Option<Frame> {
    if buf.len() < 4 {
        return None;
    }
    let n = u32::from_be_bytes(buf[..4].try_into().unwrap()) as usize;
    if buf.len() < 4 + n {
        buf.reserve(4 + n - buf.len());
        return None;
    }
    buf.advance(4);
    let b = buf.split_to(n).freeze();
    Some(Frame::decode(b).unwrap())
}
fn poll_read(s: &mut TcpStream, buf: &mut BytesMut, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
    if buf.capacity() - buf.len() < 4096 {
        buf.reserve(64 * 1024);
    }
    let before = buf.len();
    let spare = buf.spare_capacity_mut();
    let mut rb = ReadBuf::uninit(spare);
    match Pin::new(s).poll_read(cx, &mut rb) {
        Poll::Ready(Ok(())) => {
            let n = rb.filled().len();
            unsafe { buf.set_len(before + n) };
            Poll::Ready(Ok(n))
        }
        Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
        Poll::Pending => Poll::Pending,
    }
}
struct Shared {
    m: Mutex<SharedIn>,
}
#[derive(Default)]
struct SharedIn {
    out: BytesMut,
    waker: Option<Waker>,
}

type StoreRef = Arc<harness::Store>;
async fn rpc_fetch(store: &harness::Store, r: FetchRequest) -> Result<FetchReply, ()> {
    store.work().await;
    Ok(FetchReply {
        value: store.fetch(&r.key).cloned().unwrap_or_default(),
    })
}
struct ServerConn {
    s: TcpStream,
    inb: BytesMut,
    out: BytesMut,
    store: StoreRef,
    shared: Arc<Shared>,
    spawn: u8,
}
impl Future for ServerConn {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        if me.spawn > 0 {
            let mut g = me.shared.m.lock();
            if !g.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                g.waker = Some(cx.waker().clone());
            }
        }
        let mut done = false;
        let mut more = false;
        for k in 0..4 {
            while let Some(f) = next_frame(&mut me.inb) {
                let (id, kind) = (f.id, f.kind);
                let store = me.store.clone();
                if me.spawn == 2 {
                    let shared = me.shared.clone();
                    tokio::spawn(async move {
                        let req = FetchRequest::decode(f.payload).unwrap();
                        let r = rpc_fetch(&store, req).await.unwrap();
                        if kind == 1 {
                            let mut g = shared.m.lock();
                            let empty = g.out.is_empty();
                            encode_frame(&mut g.out, 2, id, 0, &r);
                            if empty && let Some(w) = g.waker.take() {
                                drop(g);
                                w.wake();
                            }
                        }
                    });
                    continue;
                }
                let mut fut: Pin<Box<dyn Future<Output = Result<FetchReply, ()>> + Send>> =
                    Box::pin(async move {
                        let req = FetchRequest::decode(f.payload).unwrap();
                        rpc_fetch(&store, req).await
                    });
                match fut.as_mut().poll(cx) {
                    Poll::Ready(r) => {
                        if kind == 1 {
                            encode_frame(&mut me.out, 2, id, 0, &r.unwrap())
                        }
                    }
                    Poll::Pending => panic!("a handler of this sketch must not wait"),
                }
            }
            if k == 3 {
                more = true;
                break;
            }
            match poll_read(&mut me.s, &mut me.inb, cx) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => {
                    done = true;
                    break;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        if me.spawn > 0 {
            let mut g = me.shared.m.lock();
            if !g.out.is_empty() {
                if me.out.is_empty() {
                    std::mem::swap(&mut me.out, &mut g.out)
                } else {
                    me.out.extend_from_slice(&g.out);
                    g.out.clear();
                }
            }
        }
        while !me.out.is_empty() {
            match Pin::new(&mut me.s).poll_write(cx, &me.out) {
                Poll::Ready(Ok(n)) => me.out.advance(n),
                Poll::Ready(Err(_)) => {
                    done = true;
                    break;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if me.out.is_empty() && me.out.capacity() < 4096 {
            me.out = BytesMut::with_capacity(64 * 1024);
        }
        if done {
            return Poll::Ready(());
        }
        if more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
// ---- client
enum Slot {
    Free(u32),
    Wait(Option<Waker>),
    Done(Bytes),
}
struct ClientIn {
    slots: Vec<Slot>,
    free: u32,
    out: BytesMut,
    waker: Option<Waker>,
}
#[derive(Clone)]
struct Client(Arc<Mutex<ClientIn>>);
struct ClientConn {
    s: TcpStream,
    inb: BytesMut,
    out: BytesMut,
    st: Arc<Mutex<ClientIn>>,
    wake: Vec<Waker>,
    yields: bool,
    yielded: bool,
}
impl Future for ClientConn {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        loop {
            match poll_read(&mut me.s, &mut me.inb, cx) {
                Poll::Ready(Ok(0)) | Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {
                    let mut g = me.st.lock();
                    while let Some(f) = next_frame(&mut me.inb) {
                        if let Slot::Wait(w) =
                            std::mem::replace(&mut g.slots[f.id as usize], Slot::Done(f.payload))
                            && let Some(w) = w
                        {
                            me.wake.push(w)
                        }
                    }
                    drop(g);
                    for w in me.wake.drain(..) {
                        w.wake()
                    }
                }
                Poll::Pending => break,
            }
        }
        // Let the other ready tasks add their calls before the write.
        if me.yields && me.out.is_empty() && !me.yielded && !me.st.lock().out.is_empty() {
            me.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        me.yielded = false;
        loop {
            if me.out.is_empty() {
                let mut g = me.st.lock();
                if g.out.is_empty() {
                    if !g.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                        g.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                std::mem::swap(&mut me.out, &mut g.out);
            }
            match Pin::new(&mut me.s).poll_write(cx, &me.out) {
                Poll::Ready(Ok(n)) => me.out.advance(n),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
            if me.out.is_empty() && me.out.capacity() < 4096 {
                me.out = BytesMut::with_capacity(64 * 1024);
            }
        }
    }
}
struct Call {
    c: Client,
    id: u32,
}
impl Future for Call {
    type Output = Bytes;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Bytes> {
        let mut g = self.c.0.lock();
        let g = &mut *g;
        match &mut g.slots[self.id as usize] {
            Slot::Wait(w) => {
                if !w.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *w = Some(cx.waker().clone())
                }
                Poll::Pending
            }
            s @ Slot::Done(_) => {
                let Slot::Done(b) = std::mem::replace(s, Slot::Free(g.free)) else {
                    unreachable!()
                };
                g.free = self.id;
                Poll::Ready(b)
            }
            _ => unreachable!(),
        }
    }
}
impl Client {
    async fn dial(addr: String) -> Client {
        let s = TcpStream::connect(addr).await.unwrap();
        s.set_nodelay(true).unwrap();
        let st = Arc::new(Mutex::new(ClientIn {
            slots: vec![],
            free: u32::MAX,
            out: BytesMut::new(),
            waker: None,
        }));
        tokio::spawn(ClientConn {
            s,
            inb: BytesMut::new(),
            out: BytesMut::new(),
            st: st.clone(),
            wake: vec![],
            yields: std::env::var_os("PROTO_YIELD").is_some(),
            yielded: false,
        });
        Client(st)
    }
    fn start(&self, kind: u32, m: &impl Message) -> u32 {
        let mut g = self.0.lock();
        let mut id = 0;
        if kind == 1 {
            id = g.free;
            if id == u32::MAX {
                id = g.slots.len() as u32;
                g.slots.push(Slot::Wait(None))
            } else {
                let Slot::Free(n) = g.slots[id as usize] else {
                    unreachable!()
                };
                g.free = n;
                g.slots[id as usize] = Slot::Wait(None)
            }
        }
        encode_frame(&mut g.out, kind, id as u64, 0x1122334455667788, m);
        if let Some(w) = g.waker.take() {
            drop(g);
            w.wake()
        }
        id
    }
    async fn fetch(&self, r: FetchRequest) -> FetchReply {
        let id = self.start(1, &r);
        FetchReply::decode(Call { c: self.clone(), id }.await).unwrap()
    }
}

impl harness::Conn for Client {
    async fn fetch(&self, key: &harness::Key) {
        let r = Client::fetch(
            self,
            FetchRequest {
                key: key.text.clone(),
            },
        )
        .await;
        key.check(&r.value);
    }
}
struct Proto;
impl harness::Peer for Proto {
    const NAME: &'static str = "limit-proto";
    type Conn = Client;
    async fn serve(store: Arc<harness::Store>, ready: impl FnOnce(String) + Send + 'static) {
        let l = harness::socket::listen_tcp(ready).await;
        let spawn = if harness::variant() == "spawn" { 2 } else { 0 };
        loop {
            let (s, _) = l.accept().await.unwrap();
            s.set_nodelay(true).unwrap();
            tokio::spawn(ServerConn {
                s,
                inb: BytesMut::new(),
                out: BytesMut::new(),
                store: store.clone(),
                shared: Arc::new(Shared { m: Mutex::default() }),
                spawn,
            });
        }
    }
    async fn connect(addr: String) -> Client {
        Client::dial(addr).await
    }
}
fn main() {
    let _ = Duration::ZERO;
    harness::run::<Proto>();
}
