//! Routes: what the program answers to requests that are no gRPC calls.

mod held_body;
pub(crate) mod http1;
mod http2;

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, UPGRADE},
    request,
};
use hyper::body::Body;
use rpc_runtime::server::{GuestServer, HeldMemory};
use tokio::{task::JoinSet, time::timeout_at};

use crate::{http_guest::RouteLimits, pace::after};

/// The function of the program that answers requests.
#[derive(Clone)]
pub(crate) struct Routes(Arc<AnswerFn>);

type AnswerFn = dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Bytes>> + Send>> + Send + Sync;

impl Routes {
    pub(crate) fn new<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(answer(request))))
    }

    /// Reads the body of a request, and lets the program answer it, within the time of a request. The answer can be written as it is.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops that of the program.
    async fn answer<B>(
        &self,
        limits: &RouteLimits,
        server: &GuestServer,
        request: Request<B>,
    ) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (head, body) = request.into_parts();
        let method = head.method.clone();
        let answer = match method {
            // An answer to it might turn the connection into a tunnel.
            Method::CONNECT => plain(StatusCode::METHOD_NOT_ALLOWED, "this port is no proxy"),
            _ => self.of_program(limits, server, head, body).await,
        };
        writable(&method, answer)
    }

    async fn of_program<B>(
        &self,
        limits: &RouteLimits,
        server: &GuestServer,
        mut head: request::Parts,
        body: B,
    ) -> Response<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let due = after(limits.request_timeout);
        // The memory counts until the program has answered.
        let (body, _held) = match timeout_at(due, read(body, limits.max_body, server)).await {
            Ok(Ok(read)) => read,
            Ok(Err(unread)) => return unread.answer(limits),
            Err(_) => {
                let text = "the body of the request did not come in time: Http::request_timeout";
                return plain(StatusCode::REQUEST_TIMEOUT, limits.text(text));
            }
        };
        head.extensions.insert(server.peer().clone());
        let path = head.uri.path().to_owned();
        let (answer, request) = (Arc::clone(&self.0), Request::from_parts(head, body));
        // A task of its own, so that a panic ends no connection. Dropping the set ends it.
        let mut answering = JoinSet::new();
        answering.spawn(async move { answer(request).await });
        match timeout_at(due, answering.join_next()).await {
            Ok(Some(Ok(answer))) => answer,
            Ok(_) => {
                tracing::error!(path, "the answer to a request of HTTP panicked");
                plain(StatusCode::INTERNAL_SERVER_ERROR, FAILED)
            }
            Err(_) => {
                let timeout = limits.request_timeout;
                let text = "the answer to a request of HTTP took too long: Http::request_timeout";
                tracing::warn!(path, ?timeout, "{}", limits.text(text));
                let text = "the server took too long for this request: Http::request_timeout";
                plain(StatusCode::SERVICE_UNAVAILABLE, limits.text(text))
            }
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Routes")
    }
}

/// Why the body of a request was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unread {
    TooLong,
    NoMemory,
    /// The peer is gone, or breaks the protocol.
    Lost,
}

impl Unread {
    fn answer(self, limits: &RouteLimits) -> Response<Bytes> {
        match self {
            Self::TooLong => plain(
                StatusCode::PAYLOAD_TOO_LARGE,
                limits.text("the body of the request is too long: Http::max_body"),
            ),
            Self::NoMemory => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server has no memory for this request (ServerBuilder::max_buffered_bytes): try again later",
            ),
            Self::Lost => plain(StatusCode::BAD_REQUEST, "the body of the request is not complete"),
        }
    }
}

/// Reads a whole body of at most `most` bytes.
async fn read<B>(mut body: B, most: usize, server: &GuestServer) -> Result<(Bytes, HeldMemory), Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    // A peer that asks by `Expect: 100-continue` then sends nothing of it.
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLong);
    }
    let mut held = server.hold(0).map_err(|_| Unread::NoMemory)?;
    let mut gathered = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        // What is no data is the trailers, which nobody asks for.
        let Ok(data) = frame.map_err(|_| Unread::Lost)?.into_data() else {
            continue;
        };
        if gathered.len() + data.len() > most {
            return Err(Unread::TooLong);
        }
        let had = gathered.capacity();
        gathered.reserve(data.len());
        // Short pieces cost no look at the account.
        if gathered.capacity() > had {
            let resized = held.resize(gathered.capacity() as u64);
            resized.map_err(|_| Unread::NoMemory)?;
        }
        gathered.extend_from_slice(&data);
    }
    Ok((gathered.freeze(), held))
}

/// Makes an answer writable: it has the length of its body, and nothing that is for the protocol to say.
fn writable(method: &Method, answer: Response<Bytes>) -> Response<Bytes> {
    let (mut head, mut body) = answer.into_parts();
    if head.status.is_informational() {
        tracing::error!(status = %head.status, "an answer to a request of HTTP has a status that ends none");
        return writable(method, plain(StatusCode::INTERNAL_SERVER_ERROR, FAILED));
    }
    for name in OF_CONNECTIONS {
        head.headers.remove(name);
    }
    match head.status {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => {
            head.headers.remove(CONTENT_LENGTH);
            body.clear();
        }
        _ => {
            // The answer to a HEAD may say the length of a body that it does not have.
            if *method != Method::HEAD || !body.is_empty() || !head.headers.contains_key(CONTENT_LENGTH) {
                head.headers.insert(CONTENT_LENGTH, body.len().into());
            }
            if *method == Method::HEAD {
                body.clear();
            }
        }
    }
    Response::from_parts(head, body)
}

/// Makes an answer of one line.
fn plain(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(format!("{text}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}

/// What a peer reads if the program has panicked, or has answered nonsense.
const FAILED: &str = "the server failed at this request";
/// Headers that are about a connection. HTTP/2 forbids them.
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: StatusCode, headers: &[(HeaderName, &'static str)], body: &'static str) -> Response<Bytes> {
        let mut answer = Response::new(Bytes::from_static(body.as_bytes()));
        *answer.status_mut() = status;
        for (name, value) in headers {
            answer.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        answer
    }

    /// Status, length and body of an answer as it is written.
    fn written(method: Method, answer: Response<Bytes>) -> (u16, Option<String>, String) {
        let answer = writable(&method, answer);
        let length = answer.headers().get(CONTENT_LENGTH);
        let length = length.map(|length| length.to_str().unwrap().to_owned());
        let body = String::from_utf8(answer.body().to_vec()).unwrap();
        (answer.status().as_u16(), length, body)
    }

    #[test]
    fn an_answer_has_the_length_of_its_body_whatever_the_program_says() {
        let wrong = [(CONTENT_LENGTH, "7")];
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            written(Method::GET, of(StatusCode::OK, &wrong, "ab")),
            (200, some("2"), "ab".to_owned())
        );
        assert_eq!(
            written(Method::HEAD, of(StatusCode::OK, &wrong, "ab")),
            (200, some("2"), String::new())
        );
        assert_eq!(
            written(Method::HEAD, of(StatusCode::OK, &wrong, "")),
            (200, some("7"), String::new())
        );
        assert_eq!(
            written(Method::GET, of(StatusCode::NO_CONTENT, &wrong, "ab")),
            (204, None, String::new())
        );
    }

    #[test]
    fn a_status_that_ends_nothing_becomes_an_error() {
        let (status, _, body) = written(Method::GET, of(StatusCode::CONTINUE, &[], "ab"));
        assert_eq!((status, body.is_empty()), (500, false));
        let (status, _, body) = written(Method::HEAD, of(StatusCode::CONTINUE, &[], "ab"));
        assert_eq!((status, body.is_empty()), (500, true));
    }

    #[test]
    fn headers_of_connections_are_not_the_programs() {
        let headers = [
            (CONNECTION, "keep-alive"),
            (TRANSFER_ENCODING, "chunked"),
            (CONTENT_TYPE, "a/b"),
        ];
        let answer = writable(&Method::GET, of(StatusCode::OK, &headers, ""));
        let mut names: Vec<_> = answer.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type"]);
    }
}
