//! What SIGTERM and Ctrl-C do. A binary of its own: signals concern the whole process.

mod lab;

use std::process::Command;

use lab::*;

#[tokio::test]
async fn the_first_signal_drains_and_the_second_aborts() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:signals", |server| {
            server.signals(true).drain_timeout(10 * LONG)
        })
        .await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    signal("-TERM");
    let refused = loop {
        match rpc_runtime::Client::connect("mem:signals").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(refused.is_closed());
    assert!(!open.is_finished());
    signal("-INT");
    let report = server.report().await;
    assert_eq!((report.completed(), report.aborted()), (0, 1));
    within(open).await.unwrap().unwrap_err();
}

fn signal(name: &str) {
    let status = Command::new("kill")
        .args([name, &std::process::id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
