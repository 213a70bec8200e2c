//! Over which transports tokens go.

use rpc_runtime::{Bytes, Client, Code, Executed, auth::Token, client::ClientBuilder};
use test_support::{Logged, lab::*, unix, within};

use super::{ADA, connect, fixed, served};

#[tokio::test(crate = "test_support::gate")]
async fn a_client_sends_no_token_over_plain_tcp() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let source = async || -> rpc_runtime::Result<Token> { panic!("nobody may ask") };
    let tokens: [&dyn Fn(ClientBuilder) -> ClientBuilder; 4] = [
        &|client| client.token(ADA),
        &|client| client.token_source(source),
        &|client| client.metadata("Authorization", "Bearer s3cret"),
        &|client| client.connection_metadata("Authorization", "Bearer s3cret"),
    ];
    let behind_unix = |builder: ClientBuilder| builder.fallback(&address);
    let nowhere = unix("tokens-nowhere");
    let connector = |builder: ClientBuilder| {
        builder.connector(|_| async { Err::<tokio::net::TcpStream, _>(std::io::Error::other("never")) })
    };
    for token in tokens {
        for (how, builder) in [
            ("over plain TCP", Client::builder(&address)),
            ("over plain TCP", behind_unix(Client::builder(&nowhere))),
            (
                "over a stream of your connector",
                connector(Client::builder(&nowhere)),
            ),
        ] {
            let error = within(token(builder.clone()).connect()).await.unwrap_err();
            assert_eq!(
                (error.code(), error.executed()),
                (Code::FailedPrecondition, Executed::No)
            );
            assert!(
                error.message().contains(how) && error.message().contains("tls://"),
                "{error}"
            );
            assert!(!format!("{error:?}").contains("s3cret"));
            let error = echo(&token(builder).connect_lazy(), "").await.unwrap_err();
            assert_eq!(error.code(), Code::FailedPrecondition);
        }
    }
    let accepted = listener.accept().map(drop);
    let nobody = std::io::ErrorKind::WouldBlock;
    assert_eq!(
        accepted.map_err(|error| error.kind()),
        Err(nobody),
        "not even connected"
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_takes_no_token_that_came_over_plain_tcp() {
    let logged = Logged::here();
    let (lab, server) = served("tcp://127.0.0.1:0", fixed().optional()).await;
    let dangerous = |client: ClientBuilder| client.token(ADA).dangerous_token_over_plain_tcp();
    let client = connect(&server, dangerous).await.unwrap();
    for _ in 0..3 {
        let error = echo(&client, "").await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::Unauthenticated, Executed::No)
        );
        assert!(
            error
                .message()
                .starts_with("the token came over plain TCP, where others can read it: replace it"),
            "{error}"
        );
    }
    // Neither does a call of its own, right or wrong.
    let wrong = client.call().metadata("authorization", "Bearer wrong");
    let error = within(wrong.send_recv::<_, Bytes>(&ECHO, Bytes::new()))
        .await
        .unwrap_err();
    assert!(
        error.message().starts_with("the token came over plain TCP"),
        "{error}"
    );
    // Calls without one pass, as they may.
    echo(&server.client().await, "").await.unwrap();
    assert_eq!(lab.log(), ["nobody calls echo"]);
    server.stop().await;
    let message = "refused a token that came over plain TCP, where others can read it: replace the token";
    assert_eq!(
        logged.picked(message, &["transport", "unlogged"]),
        ["Tcp 0"],
        "once in a while"
    );
    assert!(!logged.all().contains("s3cret"));
}

#[tokio::test(crate = "test_support::gate")]
async fn tokens_go_over_plain_tcp_if_both_sides_say_so() {
    let tokens = fixed().dangerous_token_over_plain_tcp();
    let (lab, server) = served("tcp://127.0.0.1:0", tokens).await;
    let dangerous = |client: ClientBuilder| client.token(ADA).dangerous_token_over_plain_tcp();
    echo(&connect(&server, dangerous).await.unwrap(), "")
        .await
        .unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn tokens_go_over_unix_sockets() {
    let (lab, server) = served(&unix("tokens-unix"), fixed()).await;
    echo(&connect(&server, |client| client.token(ADA)).await.unwrap(), "")
        .await
        .unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    server.stop().await;
}

#[cfg(feature = "tls-dev")]
#[tokio::test(crate = "test_support::gate")]
async fn tokens_go_over_tls_to_the_right_server_alone() {
    use rpc_runtime::tls::{self, ClientTls, ServerTls};

    use super::serve;

    let (ca, other) = (tls::dev().unwrap(), tls::dev().unwrap());
    let tls = ServerTls::builder(ca.server().unwrap()).build().unwrap();
    let (lab, server) = serve("tls://127.0.0.1:0", fixed(), |server| server.tls(tls)).await;
    let trusting = |roots| ClientTls::builder().roots(roots).build().unwrap();
    let good = trusting(ca.roots());
    let client = connect(&server, |client| client.tls(good).token(ADA))
        .await
        .unwrap();
    echo(&client, "").await.unwrap();
    assert_eq!(lab.log(), ["ada calls echo"]);
    // A server whose certificate is not trusted reads nothing of the client: not even its HELLO.
    let stranger = trusting(other.roots());
    let error = connect(&server, |client| client.tls(stranger).token(ADA))
        .await
        .unwrap_err();
    assert_eq!(error.executed(), Executed::No);
    server.stop().await;
}
