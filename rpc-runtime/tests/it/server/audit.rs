//! Each terminate request is one line of the audit log, and no line contains a secret.

use rpc_runtime::{Bytes, Client, Code, DrainReport, Error, Executed, server::TerminatePolicy};
use test_support::{Logged, lab::*, unix, within};

const CANARY: &str = "canary-0x5eed-token";

/// Returns these fields of each line of the audit log.
fn picked(logged: &Logged, fields: &[&str]) -> Vec<String> {
    let lines = logged.audit();
    lines.iter().map(|line| line.pick(fields)).collect()
}

/// Checks that a terminate was refused with `code` and not executed.
#[track_caller]
fn denied(result: Result<DrainReport, Error>, code: Code) {
    let error = result.unwrap_err();
    assert_eq!((error.code(), error.executed()), (code, Executed::No), "{error}");
}

#[tokio::test(crate = "test_support::gate")]
async fn each_terminate_is_one_audit_line_and_no_line_contains_a_token() {
    let logged = Logged::here();
    let lab = Lab::default();
    let policy = TerminatePolicy::custom(|cx| cx.metadata().get_str("x-stop-token") == Some(CANARY));
    let server = lab
        .serve_with("mem:audit-token", |server| server.terminate_policy(policy))
        .await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;

    let wrong = client.call().metadata("x-stop-token", format!("{CANARY}-wrong"));
    denied(within(wrong.terminate()).await, Code::PermissionDenied);
    let lines = logged.audit();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        lines[0].pick(&["decision", "reason", "wish", "by", "peer", "transport", "policy"]),
        "denied policy drain peer mem:audit-token mem TerminatePolicy::custom"
    );
    assert_eq!(lines[0].get("first"), "");

    let terminate = {
        let client = client.clone();
        tokio::spawn(async move { client.call().metadata("x-stop-token", CANARY).terminate().await })
    };
    logged.decided(2).await;
    server.handle.drain();
    server.handle.abort();
    let report = server.report().await;
    assert_eq!(within(terminate).await.unwrap().unwrap(), report);
    within(open).await.unwrap().unwrap_err();

    let lines = logged.audit();
    let picked = picked(&logged, &["decision", "first", "wish", "by", "transport"]);
    assert_eq!(
        picked,
        [
            "denied  drain peer mem",
            "allowed true drain peer mem",
            "allowed false drain handle ",
            "allowed false abort handle "
        ]
    );
    let instance = lines[0].get("instance");
    assert!(instance.len() == 32 && instance.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert!(lines.iter().all(|line| line.get("instance") == instance));
    assert!(lines.iter().all(|line| line.get("message") == "terminate"));
    assert!(!logged.all().contains(CANARY), "{}", logged.all());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_terminate_of_another_instance_is_refused_and_the_server_goes_on() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = lab.serve("mem:audit-instance").await;
    let client = server.client().await;
    let request = TerminateRequest {
        instance_id: Bytes::from_static(&[7; 16]),
        ..TerminateRequest::default()
    };
    let error = within(client.call().send_recv::<_, ()>(&TERMINATE, request.clone()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::FailedPrecondition, Executed::No)
    );
    within(client.call().send(&TERMINATE, request)).await.unwrap();
    let account = within(client.barrier()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (1, 0), "{account}");
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    within(client.terminate()).await.unwrap();
    server.report().await;
    let picked = picked(&logged, &["decision", "reason", "first"]);
    assert_eq!(picked, ["denied instance ", "denied instance ", "allowed  true"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn the_audit_names_the_user_if_the_transport_does() {
    // A user of Windows has no uid.
    #[cfg(windows)]
    let own = String::new();
    #[cfg(unix)]
    let own = {
        use std::os::unix::fs::MetadataExt;
        let file = std::env::temp_dir().join(format!("rpc-{}-audit-own", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let uid = std::fs::metadata(&file).unwrap().uid();
        std::fs::remove_file(&file).unwrap();
        uid.to_string()
    };
    let local = unix("audit");
    for (address, transport, uid) in [
        (&*local, local.split_once(':').unwrap().0, true),
        ("tcp://127.0.0.1:0", "tcp", true),
        ("mem:audit-user", "mem", false),
    ] {
        let logged = Logged::here();
        let server = Lab::default().serve(address).await;
        within(server.client().await.terminate()).await.unwrap();
        server.handle.abort();
        server.report().await;
        let lines = logged.audit();
        assert_eq!(lines[0].get("transport"), transport);
        assert_eq!(
            lines[0].get("uid"),
            if uid { own.as_str() } else { "" },
            "{transport}"
        );
        if address == local && !cfg!(target_os = "macos") {
            assert_eq!(lines[0].get("pid"), std::process::id().to_string());
        }
        assert_eq!(lines[0].get("policy"), "TerminatePolicy::default");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn an_in_process_terminate_is_in_the_audit_too() {
    let logged = Logged::here();
    let client = Client::in_process(Lab::default());
    within(client.terminate()).await.unwrap();
    let lines = logged.audit();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        lines[0].pick(&["decision", "first", "by", "transport"]),
        "allowed true peer in-process"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn the_audit_shows_a_terminate_that_a_disabled_policy_hides() {
    let logged = Logged::here();
    let server = Lab::default()
        .serve_with("mem:audit-disabled", |server| {
            server.terminate_policy(TerminatePolicy::disabled())
        })
        .await;
    let error = within(server.client().await.terminate()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    server.handle.drain();
    server.report().await;
    let picked = picked(&logged, &["decision", "by", "policy"]);
    assert_eq!(
        picked,
        [
            "denied peer TerminatePolicy::disabled",
            "allowed handle TerminatePolicy::disabled"
        ]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_policy_that_panics_denies() {
    let logged = Logged::here();
    let policy = TerminatePolicy::custom(|_| panic!("on purpose"));
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:audit-panic", |server| server.terminate_policy(policy))
        .await;
    let client = server.client().await;
    denied(within(client.terminate()).await, Code::PermissionDenied);
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    assert_eq!(logged.audit().len(), 1);
    server.handle.drain();
    server.report().await;
}
