//! A gRPC caller on bare h2, so that the tests say each byte and each header.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
};

/// An HTTP/2 connection to a server.
pub(crate) struct Caller {
    requests: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// What came back for a call.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BytesMut,
    /// The headers themselves, for an answer without a body.
    pub(crate) trailers: HeaderMap,
}

impl Caller {
    pub(crate) async fn connect(address: &str) -> Self {
        match address.split_once("://").unwrap_or(("unix", "")) {
            ("tcp", socket) => Self::over(TcpStream::connect(socket).await.unwrap()).await,
            #[cfg(unix)]
            _ => {
                let path = address.trim_start_matches("unix:");
                let socket = tokio::net::UnixStream::connect(path).await.unwrap();
                Self::over(socket).await
            }
            #[cfg(not(unix))]
            _ => panic!("{address} is no address of TCP"),
        }
    }

    /// Connects by TCP. The server may send `window` bytes of each answer before they are read.
    pub(crate) async fn connect_with_window(address: &str, window: u32) -> Self {
        let socket = TcpStream::connect(address.trim_start_matches("tcp://"))
            .await
            .unwrap();
        Self::over_with_window(socket, window).await
    }

    pub(crate) async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self::over_with_window(stream, 65_535).await
    }

    async fn over_with_window(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        window: u32,
    ) -> Self {
        let mut builder = client::Builder::new();
        builder.initial_window_size(window);
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Opens a call of `path`.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_open(path, headers).await.unwrap()
    }

    /// Opens a call of `path`, unless the connection has ended.
    pub(crate) async fn try_open(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = Request::post(format!("http://test{path}"));
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request.body(()).unwrap(), false)
    }

    /// Calls `path` with `body`, and waits for the whole answer.
    pub(crate) async fn call(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let (response, mut stream) = self.open(path, headers).await;
        stream.send_data(body.into(), true).unwrap();
        Answer::read(response).await
    }
}

impl Answer {
    pub(crate) async fn read(response: ResponseFuture) -> Self {
        let (parts, mut body) = response.await.unwrap().into_parts();
        let mut all = BytesMut::new();
        while let Some(chunk) = read_chunk(&mut body).await {
            all.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.unwrap();
        Self {
            status: parts.status,
            trailers: trailers.unwrap_or_else(|| parts.headers.clone()),
            headers: parts.headers,
            body: all,
        }
    }

    /// The number of `grpc-status`.
    pub(crate) fn code(&self) -> &str {
        self.trailers["grpc-status"].to_str().unwrap()
    }

    /// The text of `grpc-message`.
    pub(crate) fn text(&self) -> &str {
        self.trailers["grpc-message"].to_str().unwrap()
    }

    /// All messages of the body.
    pub(crate) fn messages<M: Message + Default>(&self) -> Vec<M> {
        let (mut body, mut messages) = (&self.body[..], Vec::new());
        while let Some(message) = take_message(&mut body) {
            messages.push(message);
        }
        assert!(body.is_empty(), "{} bytes are left", body.len());
        messages
    }
}

pub(crate) async fn read_chunk(body: &mut RecvStream) -> Option<Bytes> {
    let chunk = body.data().await?.unwrap();
    body.flow_control().release_capacity(chunk.len()).unwrap();
    Some(chunk)
}

pub(crate) fn take_message<M: Message + Default>(body: &mut impl Buf) -> Option<M> {
    if !body.has_remaining() {
        return None;
    }
    assert_eq!(body.get_u8(), 0, "not compressed");
    let len = body.get_u32() as usize;
    Some(M::decode(body.copy_to_bytes(len)).unwrap())
}

/// A message behind its five bytes.
pub(crate) fn prefixed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}
