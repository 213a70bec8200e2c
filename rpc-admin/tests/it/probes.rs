//! `/healthz` and `/readyz`.

use std::{sync::mpsc, thread};

use rpc_services::ServingStatus;
use test_support::within;
use tokio::runtime::Builder;

use crate::{Demo, web::get};

#[tokio::test]
async fn a_process_that_only_calls_is_alive_and_ready() {
    let admin = rpc_admin::listen("tcp://127.0.0.1:0").await.unwrap();
    for (page, body) in [("/healthz", "alive\n"), ("/readyz", "ready\n")] {
        let answer = get(admin.address(), page).await;
        assert_eq!((answer.status, answer.text()), (200, body));
    }
    let answer = get(admin.address(), "/readyz?service=demo.kv.v1.Kv").await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("AdminBuilder::health"),
        "{}",
        answer.text()
    );
    admin.stop().await;
}

#[tokio::test]
async fn a_server_is_ready_as_its_health_says() {
    let demo = Demo::start().await;
    let admin = rpc_admin::builder().health(demo.health.clone());
    let admin = admin.listen("tcp://127.0.0.1:0").await.unwrap();
    let kv = "/readyz?service=demo.kv.v1.Kv";
    let statuses = async || {
        let mut statuses = Vec::new();
        for page in ["/healthz", "/readyz", kv] {
            statuses.push(get(admin.address(), page).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200, 200]);
    demo.health.set("demo.kv.v1.Kv", ServingStatus::NotServing);
    assert_eq!(statuses().await, [200, 200, 503]);
    demo.health.set("", ServingStatus::NotServing);
    assert_eq!(statuses().await, [200, 503, 503]);
    let answer = get(admin.address(), "/readyz").await;
    assert_eq!(
        answer.text(),
        "not ready: the program has set \"\" to NOT_SERVING\n"
    );
    demo.health.set("", ServingStatus::Serving);
    demo.health.set("demo.kv.v1.Kv", ServingStatus::Serving);
    assert_eq!(statuses().await, [200, 200, 200]);
    for (page, status) in [
        ("/readyz?service=demo.kv.v1.Kw", 404),
        ("/readyz?servise=demo.kv.v1.Kv", 400),
    ] {
        assert_eq!(get(admin.address(), page).await.status, status, "{page}");
    }

    demo.handle.drain();
    assert_eq!(
        statuses().await,
        [200, 503, 503],
        "from the moment on that it drains"
    );
    let answer = get(admin.address(), "/readyz").await;
    assert_eq!(answer.text(), "not ready: the server drains\n");
    demo.stop().await;
    // The process is there as long as it wants.
    assert_eq!(statuses().await, [200, 503, 503]);
    admin.stop().await;
}

#[test]
fn a_process_whose_threads_are_blocked_is_not_alive() {
    let program = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let admin = program
        .block_on(program.spawn(rpc_admin::listen("tcp://127.0.0.1:0")))
        .unwrap()
        .unwrap();
    let curl = Builder::new_current_thread().enable_all().build().unwrap();
    let status = |page| curl.block_on(within(get(admin.address(), page)));
    assert_eq!(status("/healthz").status, 200);

    let (unblock, blocked) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    program.spawn(async move {
        begin.send(thread::current().id()).unwrap();
        let _ = blocked.recv();
    });
    begun.recv().unwrap();
    for page in ["/healthz", "/readyz"] {
        let answer = status(page);
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("has run no task for 2s"),
            "{}",
            answer.text()
        );
    }
    // The other pages answer meanwhile.
    assert_eq!(status("/metrics").status, 200);
    drop(unblock);
    assert_eq!(status("/healthz").status, 200);
    program.block_on(admin.stop());
}
