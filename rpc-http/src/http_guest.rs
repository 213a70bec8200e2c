//! Http: HTTP as a guest of a server.

use std::{future::Future, pin::Pin, time::Duration};

#[cfg(feature = "routes")]
use bytes::Bytes;
#[cfg(feature = "routes")]
use http::{Request, Response};
use rpc_runtime::{
    inspect::{LimitInForce, LimitValue},
    server::{Guest, GuestConnection},
};

use crate::opening;
#[cfg(feature = "routes")]
use crate::{longest_buffer::LONGEST, routes::Routes};

/// HTTP as a guest of a server: give it to [`ServerBuilder::guest`](rpc_runtime::server::ServerBuilder::guest).
///
/// Without a protocol, such as [`Http::grpc`], and without routes it answers each request of HTTP/2 with 404, and of HTTP/1 with 426. A
/// connection has the limits of the server: what it holds
/// counts for [`max_buffered_bytes`](rpc_runtime::server::ServerBuilder::max_buffered_bytes), and the
/// [`Limits`](rpc_runtime::Limits) of age, idle time, denials, faults and slow peers end it as one of our own protocol.
#[derive(Clone, Debug)]
#[must_use = "it does nothing until a server has it"]
pub struct Http(Settings);

/// How connections are served.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) grpc: bool,
    pub(crate) initial_metadata: bool,
    pub(crate) max_streams: u32,
    pub(crate) max_header_list: u32,
    pub(crate) keep_alive: Duration,
    pub(crate) keep_alive_timeout: Duration,
    /// What answers the requests that are no gRPC calls.
    #[cfg(feature = "routes")]
    pub(crate) routes: Option<Routes>,
    #[cfg(feature = "routes")]
    pub(crate) route_limits: RouteLimits,
}

impl Settings {
    /// Returns `text`, which ends with the name of a setting: without that, if the user cannot set it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        #[cfg(feature = "routes")]
        let text = self.route_limits.text(text);
        text
    }

    /// Lists the numbers, each by the name of its setting.
    fn limits(&self) -> Vec<LimitInForce> {
        let default = Http::new().0;
        let limit = |name, value: fn(&Self) -> LimitValue| {
            LimitInForce::new(name, value(self), value(self) == value(&default))
        };
        let limits = [
            limit("Http::max_streams", |of| LimitValue::Count(of.max_streams.into())),
            limit("Http::max_header_list", |of| {
                LimitValue::Bytes(of.max_header_list.into())
            }),
            limit("Http::keep_alive", |of| LimitValue::Time(of.keep_alive)),
            limit("Http::keep_alive_timeout", |of| {
                LimitValue::Time(of.keep_alive_timeout)
            }),
        ];
        #[cfg(feature = "routes")]
        if self.routes.is_some() {
            let of_routes = [
                limit("Http::max_body", |of| {
                    LimitValue::Bytes(of.route_limits.max_body as u64)
                }),
                limit("Http::request_timeout", |of| {
                    LimitValue::Time(of.route_limits.request_timeout)
                }),
                limit("Http::header_timeout", |of| {
                    LimitValue::Time(of.route_limits.header_timeout)
                }),
            ];
            return limits.into_iter().chain(of_routes).collect();
        }
        limits.into()
    }
}

/// What a request for the routes may bring, and how long it may take.
#[cfg(feature = "routes")]
#[derive(Clone, Debug)]
pub(crate) struct RouteLimits {
    pub(crate) max_body: usize,
    pub(crate) request_timeout: Duration,
    /// Of HTTP/1: from the beginning of the connection, or the end of an answer, to the end of the next headers.
    pub(crate) header_timeout: Duration,
    /// False if the user of the program cannot set them.
    pub(crate) are_named: bool,
}

#[cfg(feature = "routes")]
impl RouteLimits {
    /// Returns `text`, which ends with the name of a setting: without that, if the user cannot set it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> &'a str {
        match text.split_once(": Http::") {
            Some((what, _)) if !self.are_named => what,
            _ => text,
        }
    }
}

impl Http {
    /// Creates a guest that serves no protocol yet.
    pub fn new() -> Self {
        Self(Settings {
            grpc: false,
            initial_metadata: false,
            max_streams: 256,
            max_header_list: 16 << 10,
            keep_alive: Duration::from_secs(60),
            keep_alive_timeout: Duration::from_secs(20),
            #[cfg(feature = "routes")]
            routes: None,
            #[cfg(feature = "routes")]
            route_limits: RouteLimits {
                max_body: 1 << 20,
                request_timeout: Duration::from_secs(30),
                header_timeout: Duration::from_secs(30),
                are_named: true,
            },
        })
    }

    /// Serves gRPC calls of the server's procedures.
    pub fn grpc(mut self) -> Self {
        self.0.grpc = true;
        self
    }

    /// Lets handlers add to the headers of their gRPC answers, by [`add_initial_metadata`](crate::add_initial_metadata). Default: they cannot.
    pub fn initial_metadata(mut self) -> Self {
        self.0.initial_metadata = true;
        self
    }

    /// Sets how many calls of one connection may be open at once. Default: 256.
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.0.max_streams = streams;
        self
    }

    /// Sets how many bytes the headers of one request may have, as HTTP/2 counts them, or as they are on the wire of HTTP/1. Default: 16 KiB.
    ///
    /// A request with longer ones is answered with 431.
    pub fn max_header_list(mut self, bytes: u32) -> Self {
        self.0.max_header_list = bytes;
        self
    }

    /// Sets how long a peer may be silent before it gets a PING. Default: 60 s.
    ///
    /// The server looks once per interval, so the PING goes out after one to two intervals.
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.0.keep_alive = interval;
        self
    }

    /// Sets how long a peer may send nothing after a PING before its connection ends. Default: 20 s.
    pub fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.0.keep_alive_timeout = timeout;
        self
    }
}

#[cfg(feature = "routes")]
#[cfg_attr(docsrs, doc(cfg(feature = "routes")))]
impl Http {
    /// Answers requests that are no gRPC calls by `answer`, over HTTP/1.1 and HTTP/2. Default: such requests are refused.
    ///
    /// A request comes with its whole body, and the answer goes with its whole body. The [`Peer`](rpc_runtime::server::Peer) that asks is among
    /// the request's extensions. The program decides about paths and methods; it may hand the request to a router of
    /// another crate, such as axum's. For a HEAD it may answer as for a GET: the body is left out.
    ///
    /// Each request is bounded: by [`Http::max_header_list`], [`Http::max_body`] (413) and [`Http::request_timeout`] (408 while the body is read, 503
    /// later). A panic of `answer` is answered with 500. If the peer goes away, the future is dropped. A connection of HTTP/1 is closed
    /// after 1,000 requests or an hour, with the answer that is due then, and a drain closes it at once if no request is open.
    ///
    /// ```
    /// # struct Hello;
    /// # impl rpc_runtime::server::Service for Hello {
    /// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
    /// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
    /// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
    /// # }
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), rpc_runtime::Error> {
    /// use bytes::Bytes;
    /// use http::{Request, Response, StatusCode};
    /// use rpc_http::Http;
    /// use rpc_runtime::{Server, server::Peer};
    /// use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
    ///
    /// async fn page(request: Request<Bytes>) -> Response<Bytes> {
    ///     let peer = request.extensions().get::<Peer>().map_or("", Peer::address);
    ///     let mut answer = Response::new(Bytes::from(format!("hello, {peer}\n")));
    ///     if request.uri().path() != "/hello" {
    ///         *answer.status_mut() = StatusCode::NOT_FOUND;
    ///     }
    ///     answer
    /// }
    ///
    /// let guest = Http::new().grpc().routes(page);
    /// let server = Server::builder().service(Hello).guest(guest).listener("tcp://127.0.0.1:0").signals(false).bind().await?;
    /// let address = server.addresses()[0].replace("tcp://", "");
    /// let handle = server.handle();
    /// let serving = tokio::spawn(server.serve());
    ///
    /// let mut curl = TcpStream::connect(address).await.unwrap();
    /// curl.write_all(b"GET /hello HTTP/1.1\r\nHost: kv\r\nConnection: close\r\n\r\n").await.unwrap();
    /// let mut answer = String::new();
    /// curl.read_to_string(&mut answer).await.unwrap();
    /// assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("hello, tcp://127.0.0.1:"));
    /// # handle.drain();
    /// # serving.await.unwrap()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn routes<F, A>(mut self, answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.0.routes = Some(Routes::new(answer));
        self
    }

    /// Sets how many bytes the body of a request for the [routes](Http::routes) may have. Default: 1 MiB.
    ///
    /// A longer one is answered with 413. On a system of 32 bits the highest limit is 256 MiB, and a higher one becomes that.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.0.route_limits.max_body = bytes.min(LONGEST);
        self
    }

    /// Sets how long a request for the [routes](Http::routes) may take, from its headers until it is answered. Default: 30 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.0.route_limits.request_timeout = timeout;
        self
    }

    /// Sets how long a peer of HTTP/1 may take to send the headers of a request, and may be idle before it sends them. Default: 30 s.
    ///
    /// Then the connection is closed. The first request of a connection has the time of
    /// [`Limits::handshake_timeout`](rpc_runtime::Limits::handshake_timeout), too, and a place among the handshakes.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.0.route_limits.header_timeout = timeout;
        self
    }

    /// Leaves the names of these settings out of answers and log lines, because the user of the program cannot set them.
    #[doc(hidden)]
    pub fn with_fixed_limits(mut self) -> Self {
        self.0.route_limits.are_named = false;
        self
    }
}

impl Default for Http {
    fn default() -> Self {
        Self::new()
    }
}

impl Guest for Http {
    /// True for the first byte of `PRI * HTTP/2.0`, and of the methods of HTTP/1. Without routes, a request of HTTP/1 is answered with 426, and a
    /// line that says what the port speaks.
    fn takes(&self, first: u8) -> bool {
        b"PGHDCOT".contains(&first)
    }

    fn alpn(&self) -> &'static [&'static [u8]] {
        #[cfg(feature = "routes")]
        if self.0.routes.is_some() {
            return &[b"h2", b"http/1.1"];
        }
        &[b"h2"]
    }

    fn limits(&self) -> Vec<LimitInForce> {
        self.0.limits()
    }

    fn serve(&self, connection: GuestConnection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(opening::serve(self.0.clone(), connection))
    }
}

#[cfg(all(test, feature = "routes"))]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_at_most_as_long_as_a_buffer() {
        let max_body = |bytes| Http::new().max_body(bytes).0.route_limits.max_body;
        assert_eq!(max_body(LONGEST), LONGEST);
        assert_eq!(max_body(usize::MAX), LONGEST);
    }
}
