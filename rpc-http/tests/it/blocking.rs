//! A handler that blocks its thread holds up no other call of its connection.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use demo_api::demo::kv::v1::FetchRequest;
use rpc_runtime::middleware::{self, Next, ServerCall};
use tokio::{runtime::Builder, time::timeout};

use crate::{
    TestServer,
    caller::{Answer, Caller, prefixed},
};

const FETCH: &str = "/demo.kv.v1.Kv/rpc_fetch";

#[test]
fn calls_before_and_behind_a_handler_that_blocks_are_answered_and_so_are_later_ones() {
    let (release, released) = mpsc::channel::<()>();
    let (released, calls) = (Mutex::new(Some(released)), AtomicUsize::new(0));
    let block = middleware::from_fn(move |call: ServerCall, next: Next<ServerCall>| {
        let is_second = calls.fetch_add(1, SeqCst) == 1;
        let released = released.lock().unwrap().take_if(|_| is_second);
        async move {
            if let Some(released) = released {
                released.recv().unwrap();
            }
            next.run(call).await
        }
    });
    let servers = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let server = servers.block_on(TestServer::start_with("tcp://127.0.0.1:0", |server| {
        server.layer(block)
    }));

    let callers = Builder::new_current_thread().enable_all().build().unwrap();
    callers.block_on(async {
        let grpc = Caller::connect(&server.address).await;
        let fetch = prefixed(&FetchRequest { key: "k".to_owned() });
        let mut responses = Vec::new();
        // They go out together.
        for _ in 0..3 {
            let (response, mut stream) = grpc.open(FETCH, &[]).await;
            stream.send_data(fetch.clone(), true).unwrap();
            responses.push(response);
        }
        let third = responses.pop().unwrap();
        let second = responses.pop().unwrap();
        let first = responses.pop().unwrap();
        for response in [first, third] {
            let answer = timeout(LONG, Answer::read(response)).await.unwrap();
            assert_eq!(answer.code(), "0");
        }
        let later = timeout(LONG, grpc.call(FETCH, &[], fetch)).await.unwrap();
        assert_eq!(later.code(), "0");
        release.send(()).unwrap();
        assert_eq!(timeout(LONG, Answer::read(second)).await.unwrap().code(), "0");
    });
    servers.block_on(server.stop());
}

/// Longer than anything takes that is not held up.
const LONG: Duration = Duration::from_secs(60);
