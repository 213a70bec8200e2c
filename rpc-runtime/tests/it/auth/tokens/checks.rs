//! What a server makes of tokens.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Executed, Limits, Status,
    auth::{BearerTokens, Caller, Secret, Verified},
    client::DropReason,
    middleware::{Layered, ServerCall, from_fn},
};
use test_support::{Lab, all, lab::*, unix, within};

use super::{ADA, BOB, connect, fixed, noting, serve, served};

#[tokio::test(crate = "test_support::gate")]
async fn every_shape_of_call_has_the_caller_of_its_connection() {
    let (lab, server) = served("mem:tokens-shapes", fixed()).await;
    let client = connect(&server, |client| client.token(ADA)).await.unwrap();
    echo(&client, "unary").await.unwrap();
    assert_eq!(lab.take_log(), ["ada calls echo"]);
    for text in ["1", "2", "3"] {
        send(&client, &NOTE, text).await;
    }
    assert_eq!(within(client.settled()).await.unwrap().handled(), 3);
    let noted = lab.take_log();
    assert_eq!(
        noted.iter().filter(|line| *line == "ada calls note").count(),
        3,
        "{noted:?}"
    );
    let mut counted = client.call().reply_stream(&COUNT, 2_u64).await.unwrap();
    assert_eq!(all::<u64>(&mut counted).await.0, [0, 1]);
    assert_eq!(lab.take_log(), ["ada calls count"]);
    let (sender, sum) = client
        .call()
        .request_stream::<u64, _, _>(&SUM, Ok::<u64, _>)
        .await
        .unwrap();
    sender.finish();
    within(sum).await.unwrap();
    assert_eq!(lab.take_log(), ["ada calls sum"]);
    let (sender, mut echoed) = client
        .call()
        .both_streams::<String, String>(&ECHO_STREAM)
        .await
        .unwrap();
    sender.finish();
    all(&mut echoed).await.1.unwrap();
    assert_eq!(lab.take_log(), ["ada calls echo_stream"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn the_token_of_a_call_wins_over_that_of_its_connection() {
    let (lab, server) = served("mem:tokens-own", fixed()).await;
    let client = connect(&server, |client| client.token(ADA)).await.unwrap();
    let call = |authorization: String| {
        let call = client.call().metadata("authorization", authorization);
        within(call.send_recv::<_, String>(&ECHO, String::new()))
    };
    call(format!("Bearer {BOB}")).await.unwrap();
    assert_eq!(lab.take_log(), ["bob calls echo"]);
    let error = call(format!("Bearer {BOB}!")).await.unwrap_err();
    assert_eq!(
        error.code(),
        Code::Unauthenticated,
        "a wrong one is not passed over"
    );
    assert!(lab.take_log().is_empty());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_second_look_finds_the_token_of_the_call_and_not_that_of_its_connection() {
    let admins = BearerTokens::fixed([(ADA, Caller::new("ada").with_role("admin"))]);
    let lab = Lab::default();
    let server = lab.serve_with("mem:tokens-twice", |server| {
        server.layer(fixed()).layer(admins).layer(noting(&lab))
    });
    let server = server.await;
    let client = connect(&server, |client| client.token(ADA)).await.unwrap();
    let call = client.call().metadata("authorization", format!("Bearer {BOB}"));
    let error = within(call.send_recv::<_, String>(&ECHO, String::new()))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unauthenticated, Executed::No)
    );
    echo(&client, "her own").await.unwrap();
    assert_eq!(lab.take_log(), ["ada calls echo"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_wrong_token_is_refused_before_anything_runs() {
    let (lab, server) = served("mem:tokens-wrong", fixed()).await;
    let unknown = "the token is not valid";
    let no_token = "the authorization entry is no bearer token";
    for (authorization, why) in [
        (None, "this call needs a token: set one by ClientBuilder::token"),
        (Some(String::new()), no_token),
        (Some("Bearer".to_owned()), no_token),
        (Some("Bearer ".to_owned()), no_token),
        (Some(ADA.to_owned()), no_token),
        (Some(format!("Basic {ADA}")), no_token),
        (Some(format!("Bearer  {ADA}")), no_token),
        (Some(format!("Bearer {ADA} ")), no_token),
        (Some(format!("Bearer {ADA}x")), unknown),
        (Some(format!("Bearer x{ADA}")), unknown),
        (Some(format!("Bearer {}", &ADA[1..])), unknown),
        (Some(format!("Bearer {}", &ADA[..ADA.len() - 1])), unknown),
        (Some(format!("Bearer {}", ADA.to_uppercase())), unknown),
        (Some("Bearer x".repeat(500)), no_token),
        (Some(format!("Bearer {}", "x".repeat(7000))), unknown),
    ] {
        for of_connection in [false, true] {
            let client = connect(&server, |client| match authorization.clone() {
                None => client,
                Some(value) if of_connection => client.connection_metadata("authorization", value),
                Some(value) => client.metadata("authorization", value),
            });
            let error = echo(&client.await.unwrap(), "").await.unwrap_err();
            assert_eq!(
                (error.code(), error.executed()),
                (Code::Unauthenticated, Executed::No)
            );
            assert!(error.message().starts_with(why), "{authorization:?}: {error}");
            assert!(!format!("{error:?} {error:#}").contains("cret"), "{error:?}");
        }
    }
    let twice = |client: rpc_runtime::client::ClientBuilder| {
        let entry = format!("Bearer {ADA}");
        client
            .metadata("authorization", entry.clone())
            .metadata("authorization", entry)
    };
    let error = echo(&connect(&server, twice).await.unwrap(), "")
        .await
        .unwrap_err();
    assert!(
        error.message().contains("several authorization entries"),
        "{error}"
    );
    assert!(lab.log().is_empty());
}

#[tokio::test(crate = "test_support::gate")]
async fn one_wrong_token_again_and_again_ends_no_connection_of_another_caller() {
    let (_, server) = serve("mem:tokens-shared", fixed(), |server| {
        server.limits(Limits::default().max_denials(3))
    })
    .await;
    let client = server.client().await;
    let call = async |token: &str| {
        let call = client.call().metadata("authorization", format!("Bearer {token}"));
        let call = call.fail_fast().send_recv::<_, String>(&ECHO, String::new());
        within(call).await.map(drop).map_err(|error| error.code())
    };
    assert_eq!(call(ADA).await, Ok(()));
    for number in 0..6 {
        let expected = match number {
            0..3 => Code::Unauthenticated,
            _ => Code::ResourceExhausted,
        };
        assert_eq!(call("expired").await, Err(expected), "{number}");
        assert_eq!(call(ADA).await, Ok(()));
    }
    assert_eq!(server.handle.counters().drained_by_denials(), 0);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_one_way_call_without_a_token_counts_as_refused() {
    let (lab, server) = served("mem:tokens-one-way", fixed()).await;
    let client = server.client().await;
    send(&client, &NOTE, "never").await;
    let account = within(client.settled()).await.unwrap();
    assert_eq!(account.dropped().collect::<Vec<_>>(), [(DropReason::Refused, 1)]);
    assert!(lab.log().is_empty());
}

#[tokio::test(crate = "test_support::gate")]
async fn optional_tokens_let_calls_without_one_pass_and_no_others() {
    let (lab, server) = served("mem:tokens-optional", fixed().optional()).await;
    echo(&server.client().await, "").await.unwrap();
    let client = connect(&server, |client| client.token(BOB)).await.unwrap();
    echo(&client, "").await.unwrap();
    let client = connect(&server, |client| client.token("wrong")).await.unwrap();
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    assert_eq!(lab.take_log(), ["nobody calls echo", "bob calls echo"]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_token_is_verified_again_when_its_time_is_over() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let tokens = BearerTokens::verified_by(move |token: Secret| {
        counted.fetch_add(1, SeqCst);
        async move {
            match token.expose() {
                "short" => Ok(Verified::new(Caller::new("ada")).valid_for(Duration::from_secs(60))),
                "each" => Ok(Caller::new("bob").into()),
                "down" => Err(Status::unavailable("the identity provider does not answer")),
                _ => Err(Status::unauthenticated("unknown here")),
            }
        }
    });
    let (lab, server) = served("mem:tokens-verified", tokens).await;
    let client = connect(&server, |client| client.token("short")).await.unwrap();
    for _ in 0..3 {
        echo(&client, "").await.unwrap();
    }
    assert_eq!(asked.load(SeqCst), 1, "once for the connection");
    let other = connect(&server, |client| client.metadata("authorization", "bearer short"));
    echo(&other.await.unwrap(), "").await.unwrap();
    assert_eq!(asked.load(SeqCst), 1, "nor for another connection");
    tokio::time::sleep(Duration::from_secs(61)).await;
    echo(&client, "").await.unwrap();
    assert_eq!(asked.load(SeqCst), 2);

    let client = connect(&server, |client| client.token("each")).await.unwrap();
    echo(&client, "").await.unwrap();
    echo(&client, "").await.unwrap();
    assert_eq!(asked.load(SeqCst), 4);
    for (token, code) in [("down", Code::Unavailable), ("other", Code::Unauthenticated)] {
        let client = connect(&server, |client| client.token(token)).await.unwrap();
        let call = client.call().timeout(Duration::from_secs(1)).fail_fast();
        let error = within(call.send_recv::<_, String>(&ECHO, String::new()))
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.executed()), (code, Executed::No), "{error}");
    }
    assert_eq!(lab.log().len(), 7);
}

#[tokio::test(crate = "test_support::gate")]
async fn the_token_of_a_connection_is_said_again_on_the_next_one() {
    let address = unix("tokens-reconnect");
    let (lab, server) = served(&address, fixed()).await;
    let client = connect(&server, |client| client.token(ADA)).await.unwrap();
    echo(&client, "").await.unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    server.stop().await;
    let (lab, server) = served(&address, fixed()).await;
    echo(&client, "").await.unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_does_not_send_tokens_back_to_its_callers() {
    let (lab, server) = served("mem:tokens-callbacks", fixed()).await;
    let own = Lab::default();
    let service = Layered::new(own.clone()).layer(noting(&own));
    let client = connect(&server, |client| client.token(ADA).service(service))
        .await
        .unwrap();
    assert_eq!(text(&client, &BACK, "back").await.unwrap(), "back");
    assert_eq!(lab.log(), ["ada calls back"]);
    assert_eq!(own.log(), ["nobody calls echo"]);
}

#[tokio::test(crate = "test_support::gate")]
async fn entries_of_the_connection_reach_handlers_without_the_token() {
    let lab = Lab::default();
    let notes = lab.clone();
    let noting = from_fn(move |call: ServerCall, next| {
        let all = call.connection_metadata().get_str("authorization");
        assert_eq!(all, Some(&*format!("Bearer {ADA}")));
        let shown = call.context().connection_metadata();
        notes.note(format!(
            "{shown:?} {:?} {:?}",
            shown.get_str("x-build"),
            call.metadata()
        ));
        next.run(call)
    });
    let server = lab
        .serve_with("mem:tokens-connection", |server| server.layer(noting))
        .await;
    let client = connect(&server, |client| {
        client.connection_metadata("X-Build", "7").token(ADA)
    });
    let client = client.await.unwrap();
    for _ in 0..2 {
        echo(&client, "").await.unwrap();
    }
    let line = r#"{"x-build": [1 bytes]} Some("7") {}"#;
    assert_eq!(lab.log(), [line, line]);
}

#[tokio::test(crate = "test_support::gate")]
async fn entries_that_a_connection_cannot_have_fail_every_call() {
    let (_, server) = served("mem:tokens-bad-entries", fixed()).await;
    let many = (0..65).map(|number| (format!("k{number}"), String::new()));
    let long = [("k".to_owned(), "x".repeat(9000))];
    let reserved = [("rpc-x".to_owned(), String::new())];
    let entries: [(Vec<_>, _); 3] = [
        (many.collect(), "exceeds limit of 64 entries or 8192 bytes"),
        (long.into(), "exceeds limit of 64 entries or 8192 bytes"),
        (reserved.into(), "is reserved"),
    ];
    for (entries, why) in entries {
        let client = connect(&server, |client| {
            let add = |client: rpc_runtime::client::ClientBuilder, (key, value)| {
                client.connection_metadata(key, value)
            };
            entries.into_iter().fold(client, add)
        });
        let error = client.await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(error.message().contains(why), "{error}");
    }
    for (token, why) in [("", "the token is empty"), ("s3cret\n", "trim it")] {
        let error = connect(&server, |client| client.token(token)).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(
            error.message().contains(why) && !format!("{error:?}").contains("s3cret"),
            "{error}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn tokens_are_checked_in_this_process_too() {
    let lab = Lab::default();
    let client = Client::in_process(Layered::new(lab.clone()).layer(fixed()));
    let error = echo(&client, "").await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
}
