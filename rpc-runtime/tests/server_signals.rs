//! What SIGTERM and Ctrl-C do. A binary of its own: signals concern the whole process.

mod gate;
mod lab;

use std::{process::Command, sync::Arc};

use lab::{audit::Logged, *};
use rpc_runtime::{Client, TerminatePolicy};
use tokio::sync::{Barrier, Mutex};

/// Held by each test: a signal is for all servers of the process.
static PROCESS: Mutex<()> = Mutex::const_new(());

#[tokio::test(crate = "gate")]
async fn the_first_signal_drains_and_the_second_aborts() {
    let _alone = PROCESS.lock().await;
    let logged = Logged::here();
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
        match Client::connect("mem:signals").await {
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
    let audit: Vec<_> = logged
        .audit()
        .iter()
        .map(|line| line.pick(&["decision", "first", "wish", "by", "signal", "peer"]))
        .collect();
    assert_eq!(
        audit,
        [
            "allowed true drain signal SIGTERM ",
            "allowed false abort signal SIGINT "
        ]
    );
}

#[tokio::test(crate = "gate")]
async fn a_hundred_terminates_a_signal_and_handles_are_one_drain() {
    let _alone = PROCESS.lock().await;
    let logged = Logged::here();
    let lab = Lab::default();
    let unix = format!(
        "unix:{}",
        std::env::temp_dir()
            .join(format!("rpc-{}-hundred", std::process::id()))
            .display()
    );
    let server = lab
        .serve_with("mem:signals-hundred", |server| {
            server
                .signals(true)
                .terminate(TerminatePolicy::loopback())
                .listen("tcp://127.0.0.1:0")
                .listen(unix)
                .drain_timeout(10 * LONG)
        })
        .await;
    let open = start(&server.client().await, &WAIT, "open");
    lab.logged("open began").await;

    let together = Arc::new(Barrier::new(HUNDRED + 1));
    let mut terminates = Vec::new();
    for i in 0..HUNDRED {
        let addresses = server.handle.addresses();
        let client = within(Client::connect(&addresses[i % addresses.len()]))
            .await
            .unwrap();
        let (together, handle) = (Arc::clone(&together), server.handle.clone());
        terminates.push(tokio::spawn(async move {
            together.wait().await;
            if i % 10 == 0 {
                handle.drain();
            }
            client.terminate().await
        }));
    }
    together.wait().await;
    signal("-TERM");
    logged.decided(HUNDRED + HUNDRED / 10 + 1).await;
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");

    let handle = server.handle.clone();
    let report = server.report().await;
    assert_eq!((report.completed(), report.is_clean()), (1, true), "{report}");
    for terminate in terminates {
        assert_eq!(within(terminate).await.unwrap().unwrap(), report);
    }
    assert_eq!(within(handle.drained()).await, report);
    let audit = logged.audit();
    assert_eq!(audit.len(), HUNDRED + HUNDRED / 10 + 1);
    assert!(audit.iter().all(|line| line.get("decision") == "allowed"));
    let first = audit.iter().filter(|line| line.get("first") == "true").count();
    assert_eq!(first, 1, "there was one drain");
    for (by, count) in [("peer", HUNDRED), ("handle", HUNDRED / 10), ("signal", 1)] {
        assert_eq!(
            audit.iter().filter(|line| line.get("by") == by).count(),
            count,
            "{by}"
        );
    }
}

fn signal(name: &str) {
    let status = Command::new("kill")
        .args([name, &std::process::id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

const HUNDRED: usize = 100;
