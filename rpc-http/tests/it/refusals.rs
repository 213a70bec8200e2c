//! Requests that are refused, and with what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use demo_api::demo::kv::v1::{FetchRequest, UpdateRequest};
use rpc_runtime::{
    Code, Error, Executed, Limits, Status,
    middleware::{self, Middleware, Next, ServerCall},
    server::TerminatePolicy,
};
use test_support::{Lab, lab::ECHO, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    TestServer,
    caller::{Caller, prefixed},
    outgoing,
};

const FETCH: &str = "/demo.kv.v1.Kv/rpc_fetch";

#[tokio::test]
async fn what_is_no_call_gets_a_status_of_http() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    for (content_type, status) in [
        ("application/grpc", 200),
        ("application/grpc+proto", 200),
        ("application/grpc;charset=utf-8", 200),
        ("application/grpc+json", 415),
        ("application/grpc-web", 415),
        ("text/html", 415),
    ] {
        let answer = grpc
            .call(
                FETCH,
                &[("content-type", content_type)],
                prefixed(&FetchRequest::default()),
            )
            .await;
        assert_eq!(answer.status.as_u16(), status, "{content_type}");
        if status == 415 {
            assert_eq!(answer.headers["content-type"], "text/plain");
            assert_eq!(answer.headers["content-length"], answer.body.len().to_string());
            assert_eq!(
                answer.body,
                "this port speaks gRPC: the content-type of a request is application/grpc or application/grpc+proto\n"
            );
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refused_caller_that_takes_no_text_loses_its_stream() {
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.limits(Limits::default().write_stall(Duration::from_millis(50)))
    })
    .await;
    let grpc = Caller::connect_with_window(&server.address, 0).await;
    let (response, _stream) = grpc.open(FETCH, &[("content-type", "text/html")]).await;
    let response = within(response).await.unwrap();
    assert_eq!(response.status().as_u16(), 415);
    let error = within(response.into_body().data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL), "{error}");
    // The connection goes on.
    let (response, _stream) = grpc.open("/none", &[]).await;
    assert_eq!(within(response).await.unwrap().headers()["grpc-status"], "12");
    server.stop().await;
}

#[tokio::test]
async fn a_request_of_http1_is_answered_in_one_line() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let (_, socket) = server.address.split_once("://").unwrap();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE",
    ];
    for method in methods {
        let mut stream = TcpStream::connect(socket).await.unwrap();
        let request = format!("{method} /v1/keys HTTP/1.1\r\nHost: kv\r\nContent-Length: 100000\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // A body that nobody reads must not reset what the caller has not read.
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
            "{method}: {answer}"
        );
        assert!(
            head.contains("\r\nUpgrade: h2c\r\n")
                && head.contains(&format!("Content-Length: {}", body.len())),
            "{answer}"
        );
        assert_eq!(
            body,
            "this port speaks HTTP/2 with prior knowledge, for gRPC, and not HTTP/1\n"
        );
    }
    let rejected = server.handle.counters().handshakes_rejected();
    assert_eq!(rejected, methods.len() as u64);
    server.stop().await;
}

/// Path, headers, body, and the code and text of the refusal.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Bytes, &'a str, &'a str);

#[tokio::test]
async fn what_is_wrong_with_a_call_is_said() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let good = prefixed(&FetchRequest::default());
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let cases: [Case<'_>; 11] = [
        (
            "/demo.kv.v1.Kv/rpc_none",
            &[],
            good.clone(),
            "12",
            "no procedure demo.kv.v1.Kv/rpc_none",
        ),
        ("/", &[], good.clone(), "12", "no procedure "),
        (
            FETCH,
            &[("grpc-timeout", "soon")],
            good.clone(),
            "13",
            "malformed grpc-timeout",
        ),
        (
            FETCH,
            &[("grpc-encoding", "br")],
            good.clone(),
            "12",
            "grpc-encoding br is not supported",
        ),
        (
            FETCH,
            &[("key-bin", "!")],
            good.clone(),
            "13",
            "the value of key-bin is not base64",
        ),
        (
            FETCH,
            &[],
            Bytes::new(),
            "12",
            "the call carried no message, and this procedure takes one",
        ),
        (
            FETCH,
            &[],
            twice,
            "12",
            "the call carried several messages, and this procedure takes one",
        ),
        (
            FETCH,
            &[],
            good.slice(..3),
            "13",
            "the body ends within a message",
        ),
        (
            FETCH,
            &[],
            Bytes::from_static(&[2, 0, 0, 0, 0]),
            "13",
            "a message begins with 2, not with 0 or 1",
        ),
        (
            FETCH,
            &[],
            Bytes::from_static(&[1, 0, 0, 0, 1, 7]),
            "13",
            "a message is compressed",
        ),
        (
            FETCH,
            &[],
            Bytes::from_static(&[0, 255, 255, 255, 255]),
            "8",
            "message of 4294967295 bytes or more",
        ),
    ];
    for (path, headers, body, code, text) in cases {
        let answer = grpc.call(path, headers, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (200, code), "{text}");
        assert!(answer.text().starts_with(text), "{}", answer.text());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_handlers_failure_has_its_text_and_details() {
    let server = TestServer::start("tcp://127.0.0.1:0").await;
    let grpc = Caller::connect(&server.address).await;
    let answer = grpc
        .call(
            "/demo.kv.v1.Kv/rpc_update",
            &[],
            prefixed(&UpdateRequest::default()),
        )
        .await;
    assert_eq!(answer.code(), "3");
    assert_eq!(answer.text(), "a key has 1 to 256 bytes, this one has 0");
    assert!(answer.trailers.contains_key("grpc-status-details-bin"));
    server.stop().await;
}

/// Refuses the calls of a caller that asks for it.
fn refuse_on_request() -> impl Middleware<ServerCall> {
    middleware::from_fn(async |call: ServerCall, next: Next<ServerCall>| {
        match call.metadata().contains_key("x-refuse") {
            true => Err(Status::invalid_argument("refused on request")),
            false => next.run(call).await,
        }
    })
}

#[tokio::test]
async fn a_refusal_before_the_handler_says_that_it_did_not_run() {
    let server =
        TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(refuse_on_request())).await;
    let grpc = Caller::connect(&server.address).await;
    let update = || prefixed(&UpdateRequest::default());
    for (headers, executed) in [
        (&[("x-refuse", "1")][..], Some("no")),
        // A proxy may have made the call before, and of that this server knows nothing.
        (&[("x-refuse", "1"), ("grpc-previous-rpc-attempts", "1")], None),
        // The handler refuses the empty key.
        (&[], None),
    ] {
        let answer = grpc.call("/demo.kv.v1.Kv/rpc_update", headers, update()).await;
        assert_eq!(answer.code(), "3", "{headers:?}");
        let said = answer.trailers.get("rpc-executed");
        assert_eq!(said.map(|value| value.to_str().unwrap()), executed, "{headers:?}");
    }
    for (path, body, code) in [
        ("/none", update(), "12"),
        (FETCH, Bytes::from_static(&[2, 0, 0, 0, 0]), "13"),
    ] {
        let answer = grpc.call(path, &[], body).await;
        assert_eq!(
            (answer.code(), &answer.trailers["rpc-executed"]),
            (code, &"no".parse().unwrap())
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn our_client_knows_of_a_refusal_what_it_knows_natively() {
    let server =
        TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(refuse_on_request())).await;
    for kv in [outgoing::connect(&server.address).await, server.native().await] {
        let refused = kv.send_recv().metadata("x-refuse", "1");
        let error = refused.update("", &b"v"[..]).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No)
        );
        let error = kv.send_recv().update("", &b"v"[..]).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::Yes)
        );
        let refused = kv.send_recv().metadata("x-refuse", "1").watch("");
        let mut events = refused.await.unwrap();
        let error = events.message().await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No)
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn our_client_comes_back_after_a_hint() {
    let refused = Arc::new(AtomicBool::new(false));
    let once = middleware::from_fn({
        let refused = Arc::clone(&refused);
        move |call: ServerCall, next: Next<ServerCall>| {
            let is_first = !refused.swap(true, Ordering::SeqCst);
            async move {
                match is_first {
                    true => {
                        let status = Status::resource_exhausted("come back");
                        Err(status.with_retry_after(Duration::from_millis(1)))
                    }
                    false => next.run(call).await,
                }
            }
        }
    });
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.layer(once)).await;
    let kv = outgoing::connect(&server.address).await;
    kv.send_recv().noop().await.unwrap();
    assert!(refused.load(Ordering::SeqCst));
    drop(kv);
    server.stop().await;
}

const TERMINATE: &str = "/rpc.control.v1.Control/rpc_terminate";

#[tokio::test]
async fn terminate_is_not_there_unless_the_program_decides_about_each_caller() {
    for policy in [
        TerminatePolicy::default(),
        TerminatePolicy::loopback(),
        TerminatePolicy::disabled(),
    ] {
        let server =
            TestServer::start_with("tcp://127.0.0.1:0", |server| server.terminate_policy(policy)).await;
        let grpc = Caller::connect(&server.address).await;
        for path in [TERMINATE, "/rpc.control.v1.Control/rpc_ping"] {
            let answer = grpc.call(path, &[], prefixed(&())).await;
            assert_eq!(answer.code(), "12", "{path}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn terminate_asks_the_policy_that_is_set() {
    let policy = TerminatePolicy::custom(|cx| cx.metadata().get_str("x-stop-token") == Some("a long one"));
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.terminate_policy(policy)).await;
    let grpc = Caller::connect(&server.address).await;
    let denied = grpc
        .call(TERMINATE, &[("x-stop-token", "a guess")], prefixed(&()))
        .await;
    assert_eq!(denied.code(), "7", "{denied:?}");
    assert_eq!(
        grpc.call(FETCH, &[], prefixed(&FetchRequest::default()))
            .await
            .code(),
        "0"
    );
    let allowed = grpc
        .call(TERMINATE, &[("x-stop-token", "a long one")], prefixed(&()))
        .await;
    assert_eq!(allowed.code(), "0", "{allowed:?}");
    let report = within(server.serving).await.unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn a_callback_to_a_grpc_caller_fails_with_what_to_do_instead() {
    let lab = Lab::default();
    let server = TestServer::start_with("tcp://127.0.0.1:0", |server| server.service(lab.clone())).await;
    let grpc = Caller::connect(&server.address).await;
    assert_eq!(
        grpc.call("/lab.v1.Lab/keep", &[], prefixed(&())).await.code(),
        "0"
    );
    let caller = lab.client();
    let called: Result<String, Error> = within(caller.call().send_recv(&ECHO, "hello".to_owned())).await;
    let error = called.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unimplemented, Executed::No)
    );
    assert_eq!(
        error.message(),
        "the caller speaks gRPC, which has no callbacks: use a stream of replies instead"
    );
    // The caller has done nothing wrong.
    assert_eq!(server.handle.counters().unknown_procedures(), 0);
    lab.forget_client();
    drop((caller, grpc));
    server.stop().await;
}
