//! Here: the node whose code runs on this thread, and how it listens and connects.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream as Sequence;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::network::{Dialer, ListenAddress, Net, NodeId};
use crate::{
    Peer, Transport,
    net::{
        Address, IncomingStreams, Stream,
        network::{self, Connecting, Network},
    },
};

/// The node whose code runs on this thread.
#[derive(Clone)]
pub(crate) struct Here {
    net: Arc<Net>,
    node: NodeId,
}

impl Here {
    pub(super) fn new(net: Arc<Net>, node: NodeId) -> Self {
        Self { net, node }
    }

    /// Runs `f` as code of this node.
    pub(super) fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        let _entered = network::enter(Arc::new(self.clone()));
        f()
    }

    /// Resolves `address` as this node sees it; true if only this node reaches it.
    fn place(&self, address: &Address) -> io::Result<(ListenAddress, bool)> {
        if let Address::Tls(_) = address {
            let text = "a simulation has no TLS: use tcp:// in it";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let Address::Tcp(host) = address else {
            let name = address.to_string();
            return Ok((
                ListenAddress::Name {
                    node: self.node,
                    name,
                },
                true,
            ));
        };
        let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
        let port = port.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
        let (node, only_here) = match name {
            "localhost" | "127.0.0.1" | "[::1]" => (self.node, true),
            "0.0.0.0" | "[::]" => (self.node, false),
            name => {
                let found = self.net.with(|network| network.find_node(name));
                let text = format!("no node of the simulation is called {name:?}");
                (
                    found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, text))?,
                    false,
                )
            }
        };
        Ok((ListenAddress::Port { node, port }, only_here))
    }
}

impl Network for Here {
    fn listen(&self, address: &Address) -> io::Result<(Address, IncomingStreams)> {
        let net = Arc::clone(&self.net);
        let (place, only_here) = self.place(address)?;
        if place.node() != self.node {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        let place = net.with(|network| network.listen(place, only_here))?;
        let bound = match &place {
            ListenAddress::Port { port, .. } if only_here => Address::Tcp(format!("localhost:{port}")),
            ListenAddress::Port { node, port } => {
                let name = net.with(|network| network.name(*node).to_owned());
                Address::Tcp(format!("{name}:{port}"))
            }
            ListenAddress::Name { .. } => address.clone(),
        };
        let listener = SimListener {
            net,
            place,
            only_here,
            address: bound.clone(),
        };
        Ok((bound, IncomingStreams::of(listener)))
    }

    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let (place, _) = self.place(address)?;
            let is_here = place.node() == self.node;
            let dialing = Dialing {
                number: self.net.with(|network| network.dial(self.node, place)),
                net: Arc::clone(&self.net),
            };
            let number = dialing.await?;
            let stream = SimStream {
                net: Arc::clone(&self.net),
                number,
                side: 0,
            };
            let peer = Peer::simulated(transport(address), address.to_string(), is_here);
            Ok((Stream::unbuffered(stream), peer))
        })
    }
}

fn transport(address: &Address) -> Transport {
    match address {
        // A simulation refuses TLS.
        Address::Tcp(_) | Address::Tls(_) => Transport::Tcp,
        Address::Local(_) => Transport::LOCAL,
        Address::Memory(_) => Transport::Memory,
        Address::Custom(_) => Transport::Custom,
    }
}

/// An attempt to connect.
struct Dialing {
    net: Arc<Net>,
    number: u64,
}

impl Future for Dialing {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = self
            .net
            .with(|network| network.poll_dial(self.number, cx.waker()));
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.net.with(|network| network.drop_dial(self.number));
    }
}

/// A listener of one node.
pub(crate) struct SimListener {
    net: Arc<Net>,
    place: ListenAddress,
    only_here: bool,
    address: Address,
}

impl SimListener {
    fn pair(&self, number: u64, caller: Dialer) -> (Stream, Peer) {
        let stream = SimStream {
            net: Arc::clone(&self.net),
            number,
            side: 1,
        };
        let transport = transport(&self.address);
        let address = match transport {
            Transport::Tcp => {
                let name = self.net.with(|network| network.name(caller.node).to_owned());
                format!("tcp://{name}:{}", caller.port)
            }
            _ => self.address.to_string(),
        };
        (
            Stream::unbuffered(stream),
            Peer::simulated(transport, address, self.only_here),
        )
    }
}

impl Sequence for SimListener {
    type Item = io::Result<(Stream, Peer)>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = self.net.with(|network| network.accept(&self.place, cx.waker()));
        match accepted {
            Some((number, caller)) => Poll::Ready(Some(Ok(self.pair(number, caller)))),
            None => Poll::Pending,
        }
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.with(|network| network.stop_listening(&self.place));
    }
}

/// One end of a connection between two nodes.
struct SimStream {
    net: Arc<Net>,
    number: u64,
    side: usize,
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let max = buf.remaining();
        let read = self
            .net
            .with(|network| network.read(self.number, self.side, max, cx.waker()));
        let put = |bytes: Bytes| buf.put_slice(&bytes);
        read.map_or(Poll::Pending, |read| Poll::Ready(read.map(put)))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self
            .net
            .with(|network| network.write(self.number, self.side, buf, cx.waker()));
        written.map_or(Poll::Pending, Poll::Ready)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.with(|network| network.shut_down(self.number, self.side));
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net
            .with(|network| network.close(self.number, self.side, false));
    }
}
