//! GrpcCaller: a gRPC caller on bare h2, which may send anything as a body.

use std::{fmt, io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    Reason, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request};
use test_support::LONG;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::door::Door;

/// A gRPC caller.
pub struct GrpcCaller {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this `grpc-status`.
    Status(u32),
    /// With this status of HTTP, and no gRPC.
    Http(u16),
    /// By a RST_STREAM with this code, or with its connection.
    Reset(Option<Reason>),
}

impl GrpcCaller {
    /// Connects. The server may send `window` bytes of each answer before they are read.
    ///
    /// # Errors
    ///
    /// The error of the OS or of HTTP/2, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future abandons the attempt.
    pub async fn connect(door: &Door, window: u32) -> io::Result<Self> {
        let socket = door.socket().await?;
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(window)
            .initial_connection_window_size(16 << 20);
        let (requests, connection) = timeout(LONG, builder.handshake(socket))
            .await?
            .map_err(io::Error::other)?;
        Ok(Self {
            requests,
            connection: tokio::spawn(connection),
        })
    }

    /// Opens a call of the procedure `name`.
    ///
    /// # Errors
    ///
    /// The error of HTTP/2, or `TimedOut` after [`LONG`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future makes no call.
    pub async fn open(&self, name: &str, encoding: &str) -> io::Result<(ResponseFuture, SendStream<Bytes>)> {
        let request = Request::post(format!("http://target/target.v1.Target/{name}"))
            .header("content-type", "application/grpc")
            .header("grpc-encoding", encoding)
            .body(())
            .map_err(io::Error::other)?;
        let ready = timeout(LONG, self.requests.clone().ready()).await?;
        let mut requests = ready.map_err(io::Error::other)?;
        requests.send_request(request, false).map_err(io::Error::other)
    }

    /// Makes a call with `body`, and returns how it ends.
    ///
    /// # Errors
    ///
    /// As those of [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn call(&self, name: &str, encoding: &str, body: Bytes) -> io::Result<End> {
        let (response, mut stream) = self.open(name, encoding).await?;
        stream.send_data(body, true).map_err(io::Error::other)?;
        end(response, Duration::ZERO).await
    }

    /// Makes a call as a legitimate caller does.
    ///
    /// # Errors
    ///
    /// If it fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn echo(&self) -> io::Result<()> {
        match self.try_echo().await? {
            End::Status(0) => Ok(()),
            other => Err(io::Error::other(format!(
                "a legitimate gRPC call ended with {other:?}"
            ))),
        }
    }

    /// As [`echo`](Self::echo), but returns how the call ends.
    ///
    /// # Errors
    ///
    /// As those of [`open`](Self::open).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the call.
    pub async fn try_echo(&self) -> io::Result<End> {
        let message = Bytes::from_static(b"\x0a\x05hello");
        self.call("rpc_echo", "identity", prefixed(0, &message)).await
    }
}

/// Reads an answer to its end, a chunk after each `pause`.
///
/// # Errors
///
/// `TimedOut` if there is no end after [`LONG`].
///
/// # Cancel safety
///
/// Dropping the future cancels the call.
pub async fn end(response: ResponseFuture, pause: Duration) -> io::Result<End> {
    let read = async {
        let (parts, mut body) = response.await?.into_parts();
        if parts.status != 200 {
            return Ok(End::Http(parts.status.as_u16()));
        }
        while let Some(chunk) = body.data().await {
            let len = chunk?.len();
            sleep(pause).await;
            body.flow_control().release_capacity(len)?;
        }
        let trailers = body.trailers().await?;
        let status = |headers: &HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
        let status = trailers.as_ref().map_or_else(|| status(&parts.headers), status);
        Ok(status.map_or(End::Reset(None), End::Status))
    };
    let read: Result<End, h2::Error> = timeout(LONG, read).await?;
    Ok(read.unwrap_or_else(|error| End::Reset(error.reason())))
}

/// A message behind its five bytes.
pub fn prefixed(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(message.len() as u32);
    bytes.put_slice(message);
    bytes.freeze()
}

impl Drop for GrpcCaller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl fmt::Debug for GrpcCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcCaller").finish_non_exhaustive()
    }
}
