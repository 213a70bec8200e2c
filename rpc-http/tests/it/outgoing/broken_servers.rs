//! Servers that refuse, break off, or speak something else.

use std::time::Duration;

use demo_api::demo::kv::v1::{FetchReply, KvClient};
use h2::Reason;
use rpc_runtime::{Code, Error, Executed, client::ConnectionState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    builder,
    raw::{GOOD, RawConnection, RawServer},
};

const LONG: Duration = Duration::from_secs(60);

/// Makes a fetch, and lets `serve` answer its only connection. Returns what came.
async fn fetch(serve: impl AsyncFnOnce(&mut RawConnection, u32)) -> Result<Option<bytes::Bytes>, Error> {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().timeout(LONG).fetch("dog").await });
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    serve(&mut connection, stream).await;
    timeout(LONG, call).await.unwrap().unwrap()
}

fn reply(value: &'static [u8]) -> FetchReply {
    FetchReply {
        value: Some(bytes::Bytes::from_static(value)),
    }
}

#[tokio::test]
async fn a_good_answer_is_read() {
    let value = fetch(async |connection, stream| connection.answer(stream, &reply(b"woof")).await).await;
    assert_eq!(value.unwrap().as_deref(), Some(&b"woof"[..]));
}

#[tokio::test]
async fn a_refused_stream_is_called_again_once_and_was_not_executed() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().fetch("dog").await })
    };
    let mut connection = server.accept().await;
    let first = connection.request().await;
    connection.reset_stream(first, Reason::REFUSED_STREAM).await;
    let again = connection.request().await;
    assert!(again > first);
    connection.answer(again, &reply(b"woof")).await;
    assert!(call.await.unwrap().unwrap().is_some());
    let call = tokio::spawn(async move { kv.send_recv().fetch("dog").await });
    for _ in 0..2 {
        let stream = connection.request().await;
        connection.reset_stream(stream, Reason::REFUSED_STREAM).await;
    }
    let error = call.await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(error.to_string().contains("resent after"), "{error}");
}

#[tokio::test]
async fn calls_above_the_last_stream_of_a_goaway_are_made_again_elsewhere() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = |key: &'static str| {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().fetch(key).await })
    };
    let first = call("first");
    let mut connection = server.accept().await;
    let taken = connection.request().await;
    let second = call("second");
    connection.request().await;
    connection.go_away(taken, Reason::NO_ERROR).await;
    let mut next = server.accept().await;
    let stream = next.request().await;
    next.answer(stream, &reply(b"second")).await;
    assert_eq!(second.await.unwrap().unwrap().as_deref(), Some(&b"second"[..]));
    // What the server has taken goes on.
    connection.answer(taken, &reply(b"first")).await;
    assert_eq!(first.await.unwrap().unwrap().as_deref(), Some(&b"first"[..]));
}

#[tokio::test]
async fn a_goaway_of_a_quiet_connection_makes_the_next_call_connect() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = || {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().fetch("dog").await })
    };
    let one = call();
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    connection.answer(stream, &reply(b"1")).await;
    one.await.unwrap().unwrap();
    let mut states = kv.client().watch_state();
    connection.go_away(stream, Reason::NO_ERROR).await;
    while kv.client().state() == ConnectionState::Ready {
        timeout(LONG, states.changed()).await.unwrap();
    }
    let two = call();
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    connection.answer(stream, &reply(b"2")).await;
    assert_eq!(two.await.unwrap().unwrap().as_deref(), Some(&b"2"[..]));
}

#[tokio::test]
async fn a_connection_that_is_lost_leaves_doubt() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().fetch("dog").await });
    let mut connection = server.accept().await;
    connection.request().await;
    drop(connection);
    let error = timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe)
    );
    assert!(error.is_closed(), "{error}");
}

#[tokio::test]
async fn a_cancelled_call_resets_its_stream() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).connect_lazy();
    let call = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.send_recv().fetch("dog").await })
    };
    let mut connection = server.accept().await;
    connection.request().await;
    call.abort();
    let reason = timeout(LONG, connection.reset()).await.unwrap();
    assert_eq!(reason, u32::from(Reason::CANCEL));
}

/// What a server sends, and the code, whether the call ran, and the text that come of it.
struct Case<'a> {
    headers: &'a [(&'a str, &'a str)],
    body: &'a [u8],
    /// None: the stream ends with the headers.
    trailers: Option<&'a [(&'a str, &'a str)]>,
    code: Code,
    executed: Executed,
    text: &'a str,
}

#[tokio::test]
async fn odd_answers_become_clear_errors() {
    const OK: &[(&str, &str)] = &[("grpc-status", "0")];
    const MESSAGE: &[u8] = &[0, 0, 0, 0, 0];
    let cases = [
        Case {
            headers: &[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-status", "5"),
                ("grpc-message", "no %22dog%22"),
            ],
            body: b"",
            trailers: None,
            code: Code::NotFound,
            executed: Executed::Yes,
            text: "no \"dog\"",
        },
        Case {
            headers: &GOOD,
            body: MESSAGE,
            trailers: Some(&[("grpc-status", "14"), ("grpc-message", "later")]),
            code: Code::Unavailable,
            executed: Executed::Maybe,
            text: "later",
        },
        // A message came, so a handler ran, whatever the server says.
        Case {
            headers: &GOOD,
            body: MESSAGE,
            trailers: Some(&[
                ("grpc-status", "9"),
                ("grpc-message", "odd"),
                ("rpc-executed", "no"),
            ]),
            code: Code::FailedPrecondition,
            executed: Executed::Yes,
            text: "odd",
        },
        Case {
            headers: &GOOD,
            body: b"",
            trailers: Some(&[
                ("grpc-status", "9"),
                ("grpc-message", "refused"),
                ("rpc-executed", "no"),
            ]),
            code: Code::FailedPrecondition,
            executed: Executed::No,
            text: "refused",
        },
        Case {
            headers: &GOOD,
            body: b"",
            trailers: Some(&[
                ("grpc-status", "9"),
                ("grpc-message", "odd"),
                ("rpc-executed", "yes"),
            ]),
            code: Code::FailedPrecondition,
            executed: Executed::Yes,
            text: "odd",
        },
        Case {
            headers: &[(":status", "502"), ("content-type", "text/html")],
            body: b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n",
            trailers: Some(&[("x", "y")]),
            code: Code::Unavailable,
            executed: Executed::Maybe,
            text: "the server sent HTTP 502 Bad Gateway in place of gRPC: \"502 Bad Gateway\"",
        },
        Case {
            headers: &[(":status", "404")],
            body: b"",
            trailers: None,
            code: Code::Unimplemented,
            executed: Executed::Maybe,
            text: "the server sent HTTP 404 Not Found in place of gRPC",
        },
        Case {
            headers: &[(":status", "200"), ("content-type", "text/plain")],
            body: b"hello\n",
            trailers: Some(&[("x", "y")]),
            code: Code::Unknown,
            executed: Executed::Maybe,
            text: "the server sent an answer of the content type \"text/plain\" in place of gRPC: \"hello\"",
        },
        Case {
            headers: &GOOD,
            body: MESSAGE,
            trailers: Some(&[("x", "y")]),
            code: Code::Unknown,
            executed: Executed::Maybe,
            text: "the server ended the call without grpc-status",
        },
        Case {
            headers: &GOOD,
            body: b"",
            trailers: Some(OK),
            code: Code::Unimplemented,
            executed: Executed::Maybe,
            text: "the server sent no reply, and the procedure has one",
        },
        Case {
            headers: &GOOD,
            body: &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            trailers: Some(OK),
            code: Code::Unimplemented,
            executed: Executed::Maybe,
            text: "the server sent several replies, and the procedure has one",
        },
        Case {
            headers: &GOOD,
            body: &[0, 0, 0],
            trailers: Some(OK),
            code: Code::Internal,
            executed: Executed::Maybe,
            text: "the body ends within a message",
        },
        Case {
            headers: &GOOD,
            body: &[9, 0, 0, 0, 0],
            trailers: Some(OK),
            code: Code::Internal,
            executed: Executed::Maybe,
            text: "a message begins with 9, not with 0 or 1",
        },
        Case {
            headers: &[
                (":status", "200"),
                ("content-type", "application/grpc"),
                ("grpc-encoding", "br"),
            ],
            body: MESSAGE,
            trailers: Some(OK),
            code: Code::Internal,
            executed: Executed::Maybe,
            text: NOT_BR,
        },
        Case {
            headers: &GOOD,
            body: MESSAGE,
            trailers: Some(&[("grpc-status", "0"), ("x-bin", "!")]),
            code: Code::Internal,
            executed: Executed::Maybe,
            text: "the value of x-bin is not base64",
        },
    ];
    for case in cases {
        let error = fetch(async |connection, stream| match case.trailers {
            None => connection.end(stream, case.headers).await,
            Some(trailers) => {
                connection.headers(stream, case.headers).await;
                connection.body(stream, case.body.to_vec()).await;
                connection.end(stream, trailers).await;
            }
        })
        .await
        .unwrap_err();
        assert_eq!(error.message(), case.text);
        assert_eq!(
            (error.code(), error.executed()),
            (case.code, case.executed),
            "{error}"
        );
    }
}

/// The features of the crate say what else there is.
const NOT_BR: &str = match cfg!(feature = "zstd") {
    true => "grpc-encoding br is not supported; use one of: zstd, gzip, identity",
    false => "grpc-encoding br is not supported; use one of: gzip, identity",
};

#[tokio::test]
async fn resets_become_the_codes_of_grpc() {
    for (reason, code) in [
        (Reason::CANCEL, Code::Cancelled),
        (Reason::ENHANCE_YOUR_CALM, Code::ResourceExhausted),
        (Reason::INADEQUATE_SECURITY, Code::PermissionDenied),
        (Reason::PROTOCOL_ERROR, Code::Internal),
        (Reason::INTERNAL_ERROR, Code::Internal),
    ] {
        let error = fetch(async |connection, stream| connection.reset_stream(stream, reason).await)
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (code, Executed::Maybe),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_call_whose_answer_has_begun_may_have_run_whatever_its_reset_says() {
    let error = fetch(async |connection, stream| {
        connection.headers(stream, &GOOD).await;
        connection.reset_stream(stream, Reason::REFUSED_STREAM).await;
    })
    .await
    .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe),
        "{error}"
    );
}

#[tokio::test]
async fn a_page_that_does_not_end_is_no_call_that_does_not_end() {
    let server = RawServer::bind().await;
    let kv: KvClient = builder(&server.address()).timeout(None).connect_lazy();
    let call = tokio::spawn(async move { kv.send_recv().fetch("dog").await });
    let mut connection = server.accept().await;
    let stream = connection.request().await;
    let page = [(":status", "200"), ("content-type", "text/event-stream")];
    connection.headers(stream, &page).await;
    connection.body(stream, &b"data: one"[..]).await;
    let error = timeout(LONG, call).await.unwrap().unwrap().unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::Unknown, Executed::Maybe));
    assert!(error.message().ends_with(": \"data: one\""), "{error}");
    drop(connection);
}

/// Connects to a server that sends `greeting` and closes. Returns the error.
async fn greeted_by(greeting: &'static [u8]) -> Error {
    let server = RawServer::bind().await;
    let address = server.address();
    let greet = async move {
        let mut stream = server.accept_stream().await;
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        // A reset could reach the client before the greeting.
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let greet = tokio::spawn(greet);
    let error = builder(&address).connect().await.unwrap_err();
    greet.abort();
    error
}

#[tokio::test]
async fn what_is_no_http2_is_named_in_one_line() {
    for (greeting, says) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"[..],
            "the server does not speak HTTP/2, and so no gRPC: it answered \"HTTP/1.1 400 Bad Request\"",
        ),
        (
            b"\x15\x03\x03\0\x02\x02\x28",
            "it speaks TLS: connect by grpcs://",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            "its first bytes are \"SSH-2.0-OpenSSH_\"",
        ),
    ] {
        let error = greeted_by(greeting).await;
        assert_eq!(
            (error.code(), error.executed()),
            (Code::FailedPrecondition, Executed::No)
        );
        assert!(error.message().contains(says), "{error}");
        assert!(!error.message().contains('\n'));
    }
    let error = greeted_by(b"").await;
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("left before it answered"), "{error}");
}

#[tokio::test]
async fn a_server_of_our_own_protocol_alone_is_named() {
    use demo_api::demo::kv::v1::KvServer;
    use rpc_runtime::Server;

    let server = Server::builder()
        .service(KvServer::new(demo_server::Store::default()))
        .listener("tcp://127.0.0.1:0")
        .signals(false)
        .bind()
        .await
        .unwrap();
    let address = super::grpc(&server.addresses()[0]);
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    let error = builder(&address).connect().await.unwrap_err();
    assert!(error.message().contains("connect by tcp://"), "{error}");
    handle.drain();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_the_connect_timeout() {
    let server = RawServer::bind().await;
    let silent = builder(&server.address()).connect_timeout(Duration::from_millis(50));
    let error = silent.connect().await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
}
