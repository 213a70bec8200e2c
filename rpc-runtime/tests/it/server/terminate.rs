//! Terminates: which peers may ask for one, and what happens to open calls.

use std::time::Duration;

use rpc_runtime::{Client, Code, DrainReport, Executed, Server, server::TerminatePolicy};
use test_support::{Logged, lab::*, loopback, unix, until, within};
use tokio::runtime::Builder;

#[tokio::test(crate = "test_support::gate")]
async fn by_default_only_surely_local_peers_may_terminate() {
    let lab = Lab::default();
    for address in ["mem:terminate-local", &unix("policy")] {
        let server = lab.serve(address).await;
        let report = within(server.client().await.terminate()).await.unwrap();
        assert!(report.is_clean());
        assert_eq!(server.report().await, report);
    }
    let client = Client::in_process(lab);
    assert!(within(client.terminate()).await.unwrap().is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_loopback_peer_may_terminate_only_by_an_explicit_policy() {
    // Of a server that listens to the world: there it does not matter whose the peer is.
    let lab = Lab::default();
    let server = lab.serve("tcp://0.0.0.0:0").await;
    let client = within(Client::connect(loopback(&server.address))).await.unwrap();
    let error = within(client.terminate()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::PermissionDenied, Executed::No)
    );
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    let server = lab
        .serve_with("tcp://0.0.0.0:0", |server| {
            server.terminate_policy(TerminatePolicy::loopback())
        })
        .await;
    let client = within(Client::connect(loopback(&server.address))).await.unwrap();
    within(client.terminate()).await.unwrap();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_loopback_peer_of_the_same_user_may_terminate_by_default() {
    for address in ["tcp://127.0.0.1:0", "tcp://[::1]:0", "tcp://[::ffff:127.0.0.1]:0"] {
        let lab = Lab::default();
        let bind = Server::builder()
            .service(lab.clone())
            .listener(address)
            .signals(false);
        if let Err(error) = bind.bind().await {
            eprintln!("skipped: {error}");
            continue;
        }
        let server = lab.serve(address).await;
        let report = within(server.client().await.terminate()).await.unwrap();
        assert_eq!(server.report().await, report, "{address}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_disabled_terminate_is_an_unknown_procedure() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:terminate-disabled", |server| {
            server.terminate_policy(TerminatePolicy::disabled())
        })
        .await;
    let client = server.client().await;
    let terminate = within(client.terminate()).await.unwrap_err();
    let unknown = plain(&client, &NOWHERE).await.unwrap_err();
    assert_eq!(
        (terminate.code(), terminate.executed()),
        (Code::Unimplemented, Executed::No)
    );
    let same = |text: &str| text.split_once(": ").unwrap().1.to_owned();
    assert_eq!(same(terminate.message()), same(unknown.message()));
    server.handle.drain();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_custom_policy_sees_the_call() {
    let lab = Lab::default();
    let policy = TerminatePolicy::custom(|cx| cx.metadata().get_str("token") == Some("right"));
    let server = lab
        .serve_with("mem:terminate-custom", |server| server.terminate_policy(policy))
        .await;
    let client = server.client().await;
    for token in ["wrong", ""] {
        let error = within(client.call().metadata("token", token).terminate())
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
    }
    within(client.call().metadata("token", "right").terminate())
        .await
        .unwrap();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn every_terminate_gets_the_same_drain() {
    let logged = Logged::here();
    let lab = Lab::default();
    let server = lab.serve("mem:terminate-twice").await;
    let (first, second) = (server.client().await, server.client().await);
    let open = start(&first, &WAIT, "open");
    lab.logged("open began").await;
    let terminates: Vec<_> = [&first, &second, &first]
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.terminate().await })
        })
        .into();
    // A terminate that comes after the drain has begun may find the server closed: so all three come first.
    logged.decided(3).await;
    server.handle.drain();
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    let report = server.report().await;
    assert_eq!((report.completed(), report.is_clean()), (1, true));
    for terminate in terminates {
        assert_eq!(within(terminate).await.unwrap().unwrap(), report);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_lets_open_calls_end_and_takes_no_more() {
    let lab = Lab::default();
    let server = lab.serve("mem:terminate-drain").await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    send(&client, &WAIT, "sent").await;
    lab.logged("open began").await;
    lab.logged("sent began").await;
    server.handle.drain();
    let refused = loop {
        // Until the peer knows, calls may still get in.
        match within(
            client
                .call()
                .fail_fast()
                .send_recv::<_, String>(&ECHO, String::new()),
        )
        .await
        {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.executed(), Executed::No, "{refused}");
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    let report = server.report().await;
    assert!(report.is_clean() && report.completed() >= 2, "{report}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_that_take_too_long_are_dropped_at_the_drains_end() {
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:terminate-timeout", |server| {
            server.drain_timeout(Duration::from_secs(5))
        })
        .await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    send(&client, &WAIT, "sent").await;
    lab.logged("open began").await;
    lab.logged("sent began").await;
    let report = within(client.terminate()).await.unwrap();
    let error = within(open).await.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::Maybe),
        "{error}"
    );
    assert_eq!(
        (report.aborted(), report.one_way_dropped(), report.stuck()),
        (1, 1, 0)
    );
    assert!(!report.is_clean());
    assert_eq!(server.report().await, report);
    lab.logged("open dropped").await;
    lab.logged("sent dropped").await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn an_abort_gives_open_calls_no_more_time() {
    let lab = Lab::default();
    let server = lab.serve("mem:terminate-abort").await;
    let client = server.client().await;
    let _open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    let begun = tokio::time::Instant::now();
    server.handle.drain();
    server.handle.abort();
    assert_eq!(server.report().await.aborted(), 1);
    assert!(
        begun.elapsed() <= Duration::from_secs(3),
        "took {:?}",
        begun.elapsed()
    );
}

#[test]
fn blocking_handlers_do_not_delay_the_drain() {
    // As many as there may be with one worker left; the others block in every way there is.
    let servers = Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let clients = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let lab = Lab::default();
    let configure = |server: rpc_runtime::server::ServerBuilder| {
        server
            .drain_timeout(Duration::from_millis(50))
            .terminate_policy(TerminatePolicy::loopback())
    };
    let server = servers.block_on(lab.serve_with("tcp://127.0.0.1:0", configure));
    let report = clients.block_on(async {
        let client = server.client().await;
        send(&client, &BLOCK, "first poll").await;
        send(&client, &BLOCK_LATER, "second poll").await;
        send(&client, &BLOCK_BLOCKING, "pool").await;
        for name in ["first poll", "second poll", "pool"] {
            lab.logged(&format!("{name} began")).await;
        }
        let told = within(client.terminate()).await;
        let report = server.report().await;
        // On a slow machine the report comes too late for the caller.
        assert!(told.is_err() || told.is_ok_and(|told| told == report));
        report
    });
    assert_eq!((report.stuck(), report.is_clean()), (3, false), "{report}");
    assert!(!lab.log().iter().any(|line| line.ends_with("ended")));
    lab.release();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_handler_that_terminates_its_own_server_does_not_wait_for_itself() {
    for procedure in [&TERMINATE_OWN, &TERMINATE_OWN_SPAWNED] {
        let lab = Lab::default();
        let server = lab.serve("mem:terminate-inside").await;
        let client = server.client().await;
        lab.set_client(client.clone());
        plain(&client, procedure).await.unwrap();
        let report = server.report().await;
        assert_eq!(
            (report.completed(), report.is_clean()),
            (1, true),
            "{}",
            procedure.path()
        );
    }
}

#[tokio::test(flavor = "multi_thread", crate = "test_support::gate")]
async fn a_handler_that_terminates_its_own_server_is_in_the_report() {
    for round in 0..20 {
        let lab = Lab::default();
        let server = lab.serve("tcp://127.0.0.1:0").await;
        lab.set_client(server.client().await);
        plain(&server.client().await, &TERMINATE_OWN).await.unwrap();
        let report = server.report().await;
        assert_eq!(
            (report.completed(), report.is_clean()),
            (1, true),
            "round {round}: {report}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_one_way_terminate_drains_too() {
    let lab = Lab::default();
    let server = lab.serve("mem:terminate-one-way").await;
    let client = server.client().await;
    within(client.call().send_terminate()).await.unwrap();
    assert!(server.report().await.is_clean());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_silent_peer_does_not_delay_the_drain() {
    let lab = Lab::default();
    let server = lab.serve("tcp://127.0.0.1:0").await;
    let mute = tokio::net::TcpStream::connect(server.address.strip_prefix("tcp://").unwrap())
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    server.handle.drain();
    server.report().await;
    // The drain itself may take 30 s.
    assert!(
        begun.elapsed() <= Duration::from_secs(3),
        "took {:?}",
        begun.elapsed()
    );
    drop(mute);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_drained_before_it_serves_ends_at_once() {
    let server = Server::builder()
        .service(Lab::default())
        .listener("mem:terminate-early")
        .signals(false);
    let server = server.bind().await.unwrap();
    let handle = server.handle();
    handle.drain();
    assert_eq!(within(server.serve()).await.unwrap(), DrainReport::default());
    assert_eq!(within(handle.drained()).await, DrainReport::default());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_dropped_server_frees_its_addresses_and_drops_its_calls() {
    let lab = Lab::default();
    let server = lab.serve("mem:terminate-dropped").await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    let handle = server.handle.clone();
    server.serving.abort();
    lab.logged("open dropped").await;
    assert!(within(open).await.unwrap().is_err());
    within(handle.drained()).await;
    let error = within(Client::connect("mem:terminate-dropped"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_dropped_server_logs_which_calls_it_drops_and_no_timeout() {
    const OVER: &str = "drain: ServerBuilder::drain_timeout is over, dropping open calls";
    for has_call in [false, true] {
        let logged = Logged::here();
        let lab = Lab::default();
        let server = lab.serve("mem:terminate-dropped-log").await;
        let (first, second) = (server.client().await, server.client().await);
        first.ping().await.unwrap();
        second.ping().await.unwrap();
        let open = has_call.then(|| start(&first, &WAIT, "open"));
        if has_call {
            lab.logged("open began").await;
        }
        server.serving.abort();
        until(|| !logged.picked("drain ends", &[]).is_empty()).await;
        assert!(logged.picked(OVER, &[]).is_empty(), "{}", logged.all());
        let dropping = logged.picked("drain: the server is aborted, dropping open calls", &["open"]);
        match open {
            Some(open) => {
                assert_eq!(dropping, ["1"]);
                within(open).await.unwrap().unwrap_err();
            }
            None => assert!(dropping.is_empty(), "{dropping:?}"),
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_clear_line_says_why_a_server_cannot_be_bound() {
    let lab = Lab::default();
    let taken = lab.serve("tcp://127.0.0.1:0").await;
    let builder = || Server::builder().signals(false);
    for (server, code, text) in [
        (
            builder().listener("mem:x"),
            Code::FailedPrecondition,
            "a server needs a service".to_owned(),
        ),
        (
            builder().service(lab.clone()),
            Code::FailedPrecondition,
            "a server needs an address".to_owned(),
        ),
        (
            builder()
                .service(lab.clone())
                .service(lab.clone())
                .listener("mem:x"),
            Code::FailedPrecondition,
            "service lab.v1.Lab is added twice".to_owned(),
        ),
        (
            builder().service(lab.clone()).listener("5005"),
            Code::InvalidArgument,
            "bad address \"5005\"".to_owned(),
        ),
        (
            builder().service(lab.clone()).listener(&taken.address),
            Code::Unavailable,
            format!("cannot listen on {}; another server listens there", taken.address),
        ),
    ] {
        let error = server.bind().await.unwrap_err();
        assert_eq!(error.code(), code);
        let line = error.to_string();
        assert!(line.contains(&text) && line.lines().count() == 1, "{line}");
    }
}

#[test]
fn a_server_outside_of_a_runtime_is_an_error_and_no_panic() {
    let bind = Server::builder()
        .service(Lab::default())
        .listener("mem:no-runtime")
        .bind();
    let mut bind = std::pin::pin!(bind);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(result) = bind.as_mut().poll(&mut cx) else {
        panic!("it has nothing to wait for")
    };
    assert_eq!(result.unwrap_err().code(), Code::FailedPrecondition);
}

#[test]
fn serving_can_be_spawned() {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(
        Server::builder()
            .service(Lab::default())
            .listener("mem:spawned")
            .serve(),
    );
}
