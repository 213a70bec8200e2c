//! Middleware of a server: each shape of call, the order, refusals, metadata, values, panics, and the end of a call.

use std::{future::pending, sync::Arc, time::Duration};

use rpc_runtime::{
    Client, Code, Context, Executed, Result, Server, Status,
    client::DropReason,
    middleware::{Answer, Layered, Middleware, Next, ServerCall, from_fn},
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
};
use test_support::{LONG, Running, all, lab::*, serve, until, within};

use tokio::sync::Notify;

use super::{NoteDrop, Noting};

/// A client of `lab` behind middleware.
fn client_of(lab: &Lab, middleware: impl Middleware<ServerCall>) -> Client {
    Client::in_process(Layered::new(lab.clone()).layer(middleware))
}

/// A server of `lab` at `address`, and its client.
async fn served(
    lab: &Lab,
    address: &str,
    layers: impl FnOnce(ServerBuilder) -> ServerBuilder,
) -> (Running, Client) {
    let server = lab.serve_with(address, layers).await;
    let client = server.client().await;
    (server, client)
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_wraps_every_shape_of_call() {
    let lab = Lab::default();
    let client = client_of(&lab, Noting("m", lab.clone()));

    assert_eq!(echo(&client, "unary").await.unwrap(), "unary");
    assert_eq!(lab.take_log(), ["m: echo begins", "m: echo ends"]);

    send(&client, &NOTE, "one-way").await;
    within(client.settled()).await.unwrap();
    assert_eq!(lab.take_log(), ["m: note begins", "one-way", "m: note ends"]);

    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    assert_eq!(all::<u64>(&mut counted).await.0, [0, 1, 2]);
    assert_eq!(counted.metadata().unwrap().get_str("count"), Some("3"));
    assert_eq!(lab.take_log(), ["m: count begins", "m: count ends"]);

    let (mut sender, sum) = client.call().request_stream(&SUM, Ok::<u64, _>).await.unwrap();
    for number in [1_u64, 2, 3] {
        sender.send(number).await.unwrap();
    }
    sender.finish();
    assert_eq!(within(sum).await.unwrap(), 6);
    assert_eq!(lab.take_log(), ["m: sum begins", "m: sum ends"]);

    let (mut sender, mut echoed) = client
        .call()
        .both_streams::<String, String>(&ECHO_STREAM)
        .await
        .unwrap();
    sender.send("both".to_owned()).await.unwrap();
    sender.finish();
    assert_eq!(all(&mut echoed).await.0, ["both"]);
    assert_eq!(lab.take_log(), ["m: echo_stream begins", "m: echo_stream ends"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_sees_how_a_handler_fails() {
    let lab = Lab::default();
    let client = client_of(&lab, Noting("m", lab.clone()));
    let error = plain(&client, &FAIL).await.unwrap_err();
    assert_eq!((error.code(), error.executed()), (Code::NotFound, Executed::Yes));
    assert_eq!(error.details(), "more");
    assert_eq!(
        lab.take_log(),
        ["m: fail begins", "m: fail fails: NOT_FOUND: no such thing"]
    );
    for procedure in [&PANIC, &PANIC_LATER] {
        let error = plain(&client, procedure).await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unknown, "handler panicked")
        );
        assert!(lab.take_log()[1].ends_with("fails: UNKNOWN: handler panicked"));
    }
    let mut failing = client.call().reply_stream(&FAIL_STREAM, ()).await.unwrap();
    let (messages, end) = all::<String>(&mut failing).await;
    assert_eq!(
        (messages, end.unwrap_err().code()),
        (vec!["before".to_owned()], Code::DataLoss)
    );
    assert!(lab.take_log()[1].contains("DATA_LOSS"));
}

#[tokio::test(crate = "test_support::gate")]
async fn layers_wrap_in_the_order_in_which_they_were_added() {
    let lab = Lab::default();
    let inner = Layered::new(lab.clone())
        .layer(Noting("4", lab.clone()))
        .layer(Noting("5", lab.clone()));
    let builder = Server::builder()
        .layer(Noting("1", lab.clone()))
        .layer_for("lab.v1.Lab/echo", Noting("2", lab.clone()))
        .layer_for("lab.v1.Lab/double", Noting("never", lab.clone()))
        .layer_for("lab.v1.Lab", Noting("3", lab.clone()))
        .service(inner)
        .service(Other)
        .listener("mem:middleware-order")
        .signals(false);
    let server = serve(builder).await;
    let client = server.client().await;
    echo(&client, "").await.unwrap();
    let layers = ["1", "2", "3", "4", "5"];
    let begins = layers.iter().map(|name| format!("{name}: echo begins"));
    let ends = layers.iter().rev().map(|name| format!("{name}: echo ends"));
    assert_eq!(lab.take_log(), begins.chain(ends).collect::<Vec<_>>());

    let text: String = within(client.call().send_recv(&OTHER, ())).await.unwrap();
    assert_eq!(text, "other");
    assert_eq!(
        lab.take_log(),
        ["1: other begins", "1: other ends"],
        "another service"
    );
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_layer_for_nothing_is_refused_by_name() {
    for path in ["lab.v1.Lap", "lab.v1.Lab/ekko", "lab.v1", ""] {
        let server = Server::builder()
            .service(Lab::default())
            .layer_for(path, from_fn(async |call: ServerCall, next| next.run(call).await))
            .listener("mem:middleware-nothing");
        let error = server.bind().await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound);
        assert!(
            error.message().contains(&format!("layer_for names {path},")),
            "{error}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_layer_for_a_misspelled_procedure_is_told_the_right_one() {
    for path in ["lab.v1.Lab/rpc_echo", "lab.v1.Lab/Echo", "lab.v1.Lab/rpcEcho"] {
        let server = Server::builder()
            .service(Lab::default())
            .layer_for(path, from_fn(async |call: ServerCall, next| next.run(call).await))
            .listener("mem:middleware-misspelled");
        let error = server.bind().await.unwrap_err();
        assert_eq!(
            error.message(),
            format!("layer_for names {path}, which this server does not have: write lab.v1.Lab/echo")
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_refused_call_was_not_executed() {
    let lab = Lab::default();
    let refuse = from_fn(async |_: ServerCall, _| Err(Status::unauthenticated("who are you?")));
    let client = client_of(&lab, refuse);
    let error = text(&client, &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message(), error.executed()),
        (Code::Unauthenticated, "who are you?", Executed::No)
    );
    let mut counted = client.call().reply_stream(&COUNT, 3_u64).await.unwrap();
    let (messages, end) = all::<u64>(&mut counted).await;
    assert_eq!((messages.len(), end.unwrap_err().executed()), (0, Executed::No));
    let (_sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    assert_eq!(within(sum).await.unwrap_err().executed(), Executed::No);

    send(&client, &NOTE, "never").await;
    let account = within(client.settled()).await.unwrap();
    assert_eq!(
        account.dropped().collect::<Vec<_>>(),
        [(DropReason::Refused, 1)],
        "{account}"
    );
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_refusal_after_a_wait_was_not_executed() {
    let lab = Lab::default();
    let refuse = from_fn(async |call: ServerCall, _| {
        tokio::task::yield_now().await;
        let text = format!("{} is full", call.procedure());
        drop(call);
        Err(Status::resource_exhausted(text))
    });
    let client = client_of(&lab, refuse);
    let error = text(&client, &WAIT, "never").await.unwrap_err();
    assert_eq!(
        (error.message(), error.executed()),
        ("lab.v1.Lab/wait is full", Executed::No)
    );
    send(&client, &NOTE, "never").await;
    let account = within(client.settled()).await.unwrap();
    assert_eq!(account.dropped().collect::<Vec<_>>(), [(DropReason::Overload, 1)]);
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn an_error_behind_the_handler_was_executed() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |call: ServerCall, next| {
            let answer: Answer = next.run(call).await?;
            let text: String = answer.message()?;
            Err(Status::internal(format!("{text} is secret")))
        }),
    );
    let error = text(&client, &ECHO, "this").await.unwrap_err();
    assert_eq!(
        (error.message(), error.executed()),
        ("this is secret", Executed::Yes)
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_replaces_metadata_and_adds_reply_metadata() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |mut call: ServerCall, next| {
            assert_eq!(call.metadata().get_str("k"), Some("old"));
            call.metadata_mut().insert("k", "new");
            let cx = call.context().clone();
            cx.add_reply_metadata("before", "1")?;
            let mut answer: Answer = next.run(call).await?;
            cx.add_reply_metadata("after", "2")?;
            answer.metadata_mut().insert("answer", "3");
            Ok(answer)
        }),
    );
    let call = client
        .call()
        .metadata("k", "old")
        .send_recv::<_, String>(&ENTRY, ());
    let (value, receipt) = within(call.with_receipt()).await.unwrap();
    assert_eq!(value, "new");
    let mut entries: Vec<_> = receipt
        .metadata()
        .iter()
        .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value)))
        .collect();
    entries.sort();
    assert_eq!(entries, ["after=2", "answer=3", "before=1"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn reply_metadata_that_does_not_fit_fails_the_call() {
    let client = client_of(
        &Lab::default(),
        from_fn(async |call: ServerCall, next| {
            let mut answer: Answer = next.run(call).await?;
            answer.metadata_mut().insert("k", vec![b'x'; 1 << 20]);
            Ok(answer)
        }),
    );
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, Executed::Yes)
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_reads_and_replaces_messages() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |mut call: ServerCall, next| {
            if call.has_request_stream() {
                let error = call.message::<u64>().unwrap_err();
                assert_eq!(error.code(), Code::FailedPrecondition);
                return next.run(call).await;
            }
            let number: u64 = call.message()?;
            call.set_message(&(number + 1))?;
            let mut answer: Answer = next.run(call).await?;
            let double: u64 = answer.message()?;
            answer.set_message(&(double + 100));
            Ok(answer)
        }),
    );
    let number: u64 = within(client.call().send_recv(&DOUBLE, 4_u64)).await.unwrap();
    assert_eq!(number, 110);
    let (sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    sender.finish();
    assert_eq!(within(sum).await.unwrap(), 0);
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_answers_in_place_of_the_handler() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |_: ServerCall, _| Ok(Answer::new(&"from the cache".to_owned()))),
    );
    assert_eq!(text(&client, &WAIT, "never").await.unwrap(), "from the cache");
    send(&client, &NOTE, "never").await;
    let account = within(client.settled()).await.unwrap();
    assert_eq!((account.handled(), account.failed()), (1, 0));
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_handler_reads_the_values_of_middleware() {
    let client = Client::in_process(
        Layered::new(Other)
            .layer(from_fn(async |mut call: ServerCall, next| {
                assert!(call.get::<User>().is_none());
                call.insert(User("grace"));
                call.insert(7_u8);
                next.run(call).await
            }))
            .layer(from_fn(async |mut call: ServerCall, next| {
                assert_eq!(call.get::<User>().map(|user| user.0), Some("grace"));
                call.insert(User("ada"));
                next.run(call).await
            })),
    );
    let text: String = within(client.call().send_recv(&OTHER, ())).await.unwrap();
    assert_eq!(text, "ada 7");
}

#[tokio::test(crate = "test_support::gate")]
async fn a_panic_in_middleware_is_a_panic_of_the_handler() {
    let lab = Lab::default();
    for is_late in [false, true] {
        let client = client_of(
            &lab,
            from_fn(move |call: ServerCall, next: Next<ServerCall>| async move {
                if is_late {
                    next.run(call).await?;
                }
                panic!("on purpose")
            }),
        );
        let error = echo(&client, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unknown, "handler panicked")
        );
        assert_eq!(error.executed(), Executed::Yes);
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_cancelled_call_drops_its_middleware() {
    let lab = Lab::default();
    let noting = lab.clone();
    let client = client_of(
        &lab,
        from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let guard = NoteDrop("middleware dropped", noting.clone());
            async move {
                let result = next.run(call).await;
                drop(guard);
                result
            }
        }),
    );
    let call = start(&client, &WAIT, "handler");
    lab.logged("handler began").await;
    call.abort();
    lab.logged("middleware dropped").await;
    assert_eq!(
        lab.log(),
        ["handler began", "handler dropped", "middleware dropped"]
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_deadline_drops_middleware_that_waits() {
    let lab = Lab::default();
    let noting = lab.clone();
    let client = client_of(
        &lab,
        from_fn(move |_: ServerCall, _: Next<ServerCall>| {
            let guard = NoteDrop("middleware dropped", noting.clone());
            async move {
                let _guard = guard;
                pending().await
            }
        }),
    );
    let call = client.call().timeout(Duration::from_secs(1));
    let error = within(call.send_recv::<_, String>(&ECHO, "never".to_owned()))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    lab.logged("middleware dropped").await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn middleware_may_drop_the_rest_of_a_call() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |call: ServerCall, next| {
            let rest = tokio::time::timeout(Duration::from_secs(1), next.run(call));
            rest.await
                .unwrap_or_else(|_| Err(Status::unavailable("too slow")))
        }),
    );
    let error = text(&client, &WAIT, "handler").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message(), error.executed()),
        (Code::Unavailable, "too slow", Executed::Yes)
    );
    assert_eq!(lab.log(), ["handler began", "handler dropped"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_task_that_middleware_spawned_may_run_the_rest() {
    let lab = Lab::default();
    let client = client_of(
        &lab,
        from_fn(async |call: ServerCall, next| {
            tokio::spawn(next.run(call))
                .await
                .unwrap_or_else(|_| Err(Status::internal("the task panicked")))
        }),
    );
    assert_eq!(echo(&client, "spawned").await.unwrap(), "spawned");
    let error = plain(&client, &PANIC).await.unwrap_err();
    assert_eq!(error.message(), "handler panicked");
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_decides_also_about_a_handler_that_a_task_of_it_still_runs() {
    for is_nested in [false, true] {
        let lab = Lab::default();
        let noting = lab.clone();
        let unwaited = from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let lab = noting.clone();
            async move {
                if call.procedure() == ECHO.path() {
                    return next.run(call).await;
                }
                let task = tokio::spawn(next.run(call));
                lab.logged("handler began").await;
                tokio::spawn(async move {
                    let answer = within(task).await.unwrap().unwrap();
                    lab.note(format!("the task gets {}", answer.message::<String>().unwrap()));
                });
                Err(Status::internal("not waited for"))
            }
        });
        let layered = Layered::new(lab.clone()).layer(unwaited);
        let client = Client::in_process(match is_nested {
            true => Layered::new(layered).layer(Noting("m", lab.clone())),
            false => layered,
        });
        let error = within(start(&client, &WAIT, "handler"))
            .await
            .unwrap()
            .unwrap_err();
        assert_eq!(
            (error.code(), error.message(), error.executed()),
            (Code::Internal, "not waited for", Executed::Yes)
        );
        assert!(
            !lab.log().contains(&"handler ended".to_owned()),
            "{:?}",
            lab.log()
        );
        lab.release();
        lab.logged("the task gets handler").await;
        assert_eq!(echo(&client, "alive").await.unwrap(), "alive");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn middleware_that_decides_first_keeps_the_handler_from_starting() {
    let lab = Lab::default();
    let (go, went) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let notify = (Arc::clone(&go), Arc::clone(&went));
    let client = client_of(
        &lab,
        from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let (go, went) = notify.clone();
            async move {
                tokio::spawn(async move {
                    go.notified().await;
                    next.run(call).await.unwrap_err();
                    went.notify_one();
                });
                Err(Status::permission_denied("decided"))
            }
        }),
    );
    let error = text(&client, &WAIT, "handler").await.unwrap_err();
    assert_eq!((error.message(), error.executed()), ("decided", Executed::No));
    go.notify_one();
    within(went.notified()).await;
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn control_calls_pass_no_middleware() {
    let lab = Lab::default();
    let (server, client) = served(&lab, "mem:middleware-control", |server| {
        server.layer(Noting("m", lab.clone()))
    })
    .await;
    within(client.ping()).await.unwrap();
    within(client.settled()).await.unwrap();
    within(client.terminate()).await.unwrap();
    server.report().await;
    assert_eq!(lab.log(), [""; 0]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_waits_for_middleware() {
    let lab = Lab::default();
    let (server, client) = served(&lab, "mem:middleware-drain", |server| {
        server.layer(Noting("m", lab.clone()))
    })
    .await;
    let call = start(&client, &WAIT, "handler");
    lab.logged("handler began").await;
    server.handle.drain();
    lab.release();
    let report = server.report().await;
    assert_eq!(report.completed(), 1, "{report}");
    within(call).await.unwrap().unwrap();
    assert_eq!(lab.log().last().map(String::as_str), Some("m: wait ends"));
}

#[tokio::test(crate = "test_support::gate")]
async fn blocking_and_spawned_handlers_have_middleware_too() {
    let lab = Lab::default();
    lab.release();
    let client = client_of(&lab, Noting("m", lab.clone()));
    for procedure in [&BLOCK_BLOCKING, &BLOCK_SPAWNED] {
        assert_eq!(text(&client, procedure, "b").await.unwrap(), "b");
        let log = lab.take_log();
        assert_eq!(log.len(), 4, "{log:?}");
        assert_eq!(log[1..3], ["b began", "b ended"]);
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_that_middleware_makes_inherit_the_deadline() {
    let hanging = Lab::default();
    let other = Client::in_process(hanging.clone());
    let client = client_of(
        &Lab::default(),
        from_fn(move |call: ServerCall, next: Next<ServerCall>| {
            let other = other.clone();
            async move {
                let (): () = other.call().timeout(None).send_recv(&HANG, ()).await?;
                next.run(call).await
            }
        }),
    );
    let begun = tokio::time::Instant::now();
    let call = client.call().timeout(Duration::from_secs(1));
    let error = within(call.send_recv::<_, String>(&ECHO, String::new()))
        .await
        .unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert!(begun.elapsed() < LONG / 2);
    until(|| hanging.hanging() == 0).await;
}

struct User(&'static str);

/// A service beside the lab.
struct Other;

static OTHER: Procedure = Procedure::new("other.v1.Other/other", 701);
static OTHERS: [Procedure; 1] = [OTHER];

impl Service for Other {
    fn name(&self) -> &'static str {
        "other.v1.Other"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &OTHERS
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|cx: Context, (): ()| async move {
            Ok::<_, Status>(whoami(&cx).unwrap_or_else(|| "other".to_owned()))
        })
    }
}

fn whoami(cx: &Context) -> Option<String> {
    Some(format!("{} {}", cx.get::<User>()?.0, cx.get::<u8>()?))
}

/// A named function is middleware, too.
async fn named(call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
    next.run(call).await
}

#[tokio::test(crate = "test_support::gate")]
async fn a_named_function_is_middleware() {
    let client = client_of(&Lab::default(), from_fn(named));
    assert_eq!(echo(&client, "named").await.unwrap(), "named");
}
