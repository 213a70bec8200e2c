//! TlsStream: a byte stream over TLS.

use std::{
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::CommonState, server};

use super::{
    ALPN, CertificateSlot, ClientTls, OfferedTls, PeerCertificate, TlsError,
    explain::{self, PeerRole},
    first_bytes::Kept,
};
use crate::{
    api::tls_protocol::TlsProtocol,
    metrics::{Side, TlsTotals},
};

/// A byte stream over TLS.
///
/// That of a server begins before the handshake, and whoever reads or writes it drives the handshake. So the accept loop waits
/// for no handshake, and the time limit of the connection's own handshake covers both.
pub(crate) struct TlsStream {
    state: State,
    peer: PeerRole,
}

/// Sets a time limit of a socket.
type SetTimeout = fn(&TcpStream, Duration);

type Session = tokio_rustls::TlsStream<Kept<TcpStream>>;

enum State {
    Handshake {
        handshake: Pin<Box<dyn Future<Output = io::Result<Session>> + Send>>,
        certificate: CertificateSlot,
        /// What is done to the socket when the handshake has ended.
        then: Option<(Duration, SetTimeout)>,
    },
    Open(Box<Session>),
    Failed(Failure),
}

/// The protocols that a handshake may agree on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// Ours.
    Ours,
    /// Ours, and those of a guest.
    Any,
}

/// Why a handshake failed. It can be reported several times.
enum Failure {
    Tls(TlsError),
    Io(io::ErrorKind),
}

/// Begins a handshake with a client. The verified certificate goes to `certificate`.
pub(crate) fn accept(tls: &OfferedTls, stream: TcpStream, certificate: CertificateSlot) -> TlsStream {
    let tls = tls.clone();
    TlsStream {
        state: State::Handshake {
            handshake: Box::pin(async move { shake_hands(tls, stream).await }),
            certificate,
            then: None,
        },
        peer: PeerRole::Client,
    }
}

/// Shakes hands with the server at `host`, and returns the stream and the server's certificate. Both must speak the protocol `other`; `None`
/// for ours.
///
/// # Errors
///
/// A [`TlsError`] within, or the error of the OS.
///
/// # Cancel safety
///
/// Dropping the future closes the stream.
pub(crate) async fn connect(
    tls: Option<&ClientTls>,
    other: Option<&TlsProtocol>,
    stream: TcpStream,
    host: &str,
) -> io::Result<(TlsStream, Option<PeerCertificate>)> {
    let connected = connect_uncounted(tls, other, stream, host).await;
    TlsTotals::of(Side::Client).ended(connected.is_ok());
    connected
}

async fn connect_uncounted(
    tls: Option<&ClientTls>,
    other: Option<&TlsProtocol>,
    stream: TcpStream,
    host: &str,
) -> io::Result<(TlsStream, Option<PeerCertificate>)> {
    let tls = match tls {
        Some(tls) => tls.clone(),
        None => ClientTls::of_this_machine().await.map_err(TlsError::into_io)?,
    };
    let name = tls.name_for(host).map_err(TlsError::into_io)?;
    let mut config = tls.fresh().await;
    if let Some(other) = other {
        Arc::make_mut(&mut config).alpn_protocols = vec![other.alpn.to_vec()];
    }
    let alpn = other.map_or(ALPN, |other| other.alpn);
    let connector = TlsConnector::from(config);
    let connecting = connector.connect(name, Kept::new(stream)).into_fallible();
    let mut session = connecting
        .await
        .map_err(|(error, stream)| explain::handshake_with_server(error, other, &stream.first))?;
    if session.get_ref().1.alpn_protocol() != Some(alpn) {
        // The server is told; whether it hears does not matter.
        let _ = session.shutdown().await;
        return Err(explain::wrong_protocol(PeerRole::Server, &[alpn]).into_io());
    }
    let chain = session
        .get_ref()
        .1
        .peer_certificates()
        .filter(|_| tls.is_verified());
    let certificate = PeerCertificate::of_verified(chain);
    let stream = TlsStream {
        state: State::Open(Box::new(session.into())),
        peer: PeerRole::Server,
    };
    Ok((stream, certificate))
}

async fn shake_hands(tls: OfferedTls, stream: TcpStream) -> io::Result<Session> {
    let acceptor = TlsAcceptor::from(tls.fresh().await);
    let accepting = acceptor.accept(Kept::new(stream)).into_fallible();
    let mut session: server::TlsStream<_> = match accepting.await {
        Ok(session) => session,
        Err((error, mut stream)) => {
            let error = explain::handshake_with_client(error, &with_ours(tls.guests()), &stream.first);
            linger(&mut stream.stream).await;
            return Err(error);
        }
    };
    // A client without ALPN. One that offers other protocols has failed above.
    if session.get_ref().1.alpn_protocol().is_none() {
        let _ = session.shutdown().await;
        linger(&mut session.get_mut().0.stream).await;
        return Err(explain::wrong_protocol(PeerRole::Client, &with_ours(tls.guests())).into_io());
    }
    Ok(session.into())
}

/// The ids of our protocol and of `guests`.
fn with_ours(guests: &[&'static [u8]]) -> Vec<&'static [u8]> {
    iter::once(ALPN).chain(guests.iter().copied()).collect()
}

/// True if ALPN has agreed on our protocol.
fn speaks_ours(session: &CommonState) -> bool {
    session.alpn_protocol() == Some(ALPN)
}

/// Half-closes, and reads what the peer still sends, for a while. A reset, which closing at once would cause, could reach the
/// peer before the alert that tells it what is wrong.
async fn linger(stream: &mut TcpStream) {
    let _ = stream.shutdown().await;
    let read_rest = async {
        let mut rest = vec![0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(count @ 1..) = stream.read(&mut rest).await {
            left = left.saturating_sub(count);
            if left == 0 {
                return;
            }
        }
    };
    // However it ends, the stream is closed next.
    let _ = timeout(LINGER, read_rest).await;
}

impl TlsStream {
    /// Calls `set` with the socket and `time`, as soon as the handshake has ended.
    pub(crate) fn set_timeout(&mut self, time: Duration, set: SetTimeout) {
        match &mut self.state {
            State::Handshake { then, .. } => *then = Some((time, set)),
            State::Open(session) => set(&session.get_ref().0.stream, time),
            State::Failed(_) => {}
        }
    }

    /// Makes reads ask the OS when tokio knows of no input, if true. Not during the handshake.
    pub(crate) fn ask_socket(&mut self, asks: bool) {
        if let State::Open(session) = &mut self.state {
            session.get_mut().0.asks_socket = asks;
        }
    }

    /// Waits for the end of the handshake. Returns whether it has agreed on our protocol, and not on one of a guest.
    ///
    /// # Errors
    ///
    /// A [`TlsError`] within, or the error of the OS.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the handshake to whoever reads or writes the stream.
    pub(crate) async fn is_ours(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            let session = ready!(self.poll_session(cx, Accepted::Any))?;
            Poll::Ready(Ok(speaks_ours(session.get_ref().1)))
        })
        .await
    }

    /// Returns the session when the handshake has ended, to read or write it.
    ///
    /// A handshake that ends only now must have agreed on our protocol. Nobody has waited for its end by [`TlsStream::is_ours`].
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&mut Session>> {
        self.poll_session(cx, Accepted::Ours)
    }

    /// Returns the session when the handshake has ended. One that ends now fails if its protocol is not accepted.
    fn poll_session(&mut self, cx: &mut Context<'_>, accepted: Accepted) -> Poll<io::Result<&mut Session>> {
        if let State::Handshake {
            handshake,
            certificate,
            then,
        } = &mut self.state
        {
            self.state = match ready!(handshake.as_mut().poll(cx)) {
                // The server drains, and has not waited for this.
                Ok(session) if accepted == Accepted::Ours && !speaks_ours(session.get_ref().1) => {
                    State::Failed(Failure::Io(io::ErrorKind::ConnectionAborted))
                }
                Ok(session) => {
                    if let Some(verified) =
                        PeerCertificate::of_verified(session.get_ref().1.peer_certificates())
                    {
                        // Nothing else sets it.
                        let _ = certificate.set(verified);
                    }
                    if let Some((time, set)) = *then {
                        set(&session.get_ref().0.stream, time);
                    }
                    State::Open(Box::new(session))
                }
                Err(error) => State::Failed(match TlsError::find(&error) {
                    Some(found) => Failure::Tls(found.clone()),
                    None => Failure::Io(error.kind()),
                }),
            };
            TlsTotals::of(Side::Server).ended(matches!(self.state, State::Open(_)));
            // The session may hold bytes that came with the end of the handshake, and the socket does not tell of them.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(match &mut self.state {
            State::Open(session) => Ok(session),
            State::Failed(Failure::Tls(error)) => Err(error.clone().into_io()),
            State::Failed(Failure::Io(kind)) => Err((*kind).into()),
            State::Handshake { .. } => unreachable!("it has ended above"),
        })
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let peer = this.peer;
        let session = ready!(this.poll_open(cx))?;
        let read = Pin::new(session).poll_read(cx, buf);
        read.map_err(|error| explain::stream(error, peer))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(ready!(self.get_mut().poll_open(cx))?).poll_shutdown(cx)
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsStream")
    }
}

/// How long, and for how many bytes, a refused peer is read on.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;
