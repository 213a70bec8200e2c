//! What a client says once for its connection, in the HELLO: entries, and a token.

use rpc_runtime::{
    Client, Result, Server,
    auth::{BearerTokens, Caller},
    client::ClientBuilder,
    middleware::{Answer, Middleware, Next, ServerCall},
};
use test_support::{
    Logged, serve, unix,
    wire::{self, HandPeer},
    within,
};

use super::{CANARY, KEEP, Secrets, Shown, call, hello_with, with_secrets};

/// Shows what middleware and handlers are given of the connection. It arrives.
struct ShowingConnection(Shown);

impl Middleware<ServerCall> for ShowingConnection {
    async fn handle(&self, call: ServerCall, next: Next<ServerCall>) -> Result<Answer> {
        let all = call.connection_metadata();
        assert!(
            all.get_str("authorization")
                .is_some_and(|value| value.contains(CANARY))
        );
        self.0.debug("connection metadata", all);
        let of_handler = call.context().connection_metadata();
        assert_eq!(of_handler.get_str("x-build"), Some(CANARY));
        self.0.debug("connection metadata of a handler", of_handler);
        self.0.debug("call", &call);
        self.0.debug("context", call.context());
        self.0.debug("peer", call.peer());
        next.run(call).await
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn no_secret_of_a_connection_is_logged_or_shown() {
    let (logged, shown) = (Logged::here(), Shown::default());
    let tokens = BearerTokens::fixed([(CANARY, Caller::new("ada"))]);
    shown.debug("BearerTokens", &tokens);
    let builder = Server::builder()
        .service(Secrets(shown.clone()))
        .layer(ShowingConnection(shown.clone()))
        .layer(tokens)
        .listener(unix("secrets-hello"))
        .signals(false);
    shown.debug("ServerBuilder", &builder);
    let server = serve(builder).await;

    let with_token = |token: String| {
        let builder: ClientBuilder = Client::builder(&server.address);
        builder.connection_metadata("x-build", CANARY).token(token)
    };
    for (token, is_right) in [(CANARY.to_owned(), true), (format!("{CANARY}x"), false)] {
        let builder = with_token(token);
        shown.debug("ClientBuilder", &builder);
        let client = within(builder.connect()).await.unwrap();
        shown.debug("Client", &client);
        let called = call(&client, &KEEP).await;
        assert_eq!(called.is_ok(), is_right, "{called:?}");
        if let Err(error) = called {
            shown.error("a wrong token", &error);
        }
    }
    // Clients that say nothing, because they must not.
    for builder in [
        with_token(format!("{CANARY}\n")),
        with_token(CANARY.repeat(1000)),
        with_token(CANARY.to_owned()).connection_metadata("rpc-x", CANARY),
        with_token(CANARY.to_owned()).connection_metadata("x-long", CANARY.repeat(1000)),
        with_token(CANARY.to_owned()).fallback("tcp://127.0.0.1:1"),
    ] {
        shown.debug("ClientBuilder", &builder);
        shown.error(
            "a client that says nothing",
            &within(builder.connect()).await.unwrap_err(),
        );
    }
    shown.debug("DrainReport", &server.stop().await);

    // Peers whose HELLO is wrong.
    let server = with_secrets("tcp://127.0.0.1:0", &shown).await;
    let right = hello_with("authorization", CANARY);
    let broken = [&right[..], &[0xff; 12]].concat();
    let foreign = [&[9, 1, 2, 3, 4, 5, 6, 7, 8], &right[9..]].concat();
    for payload in [hello_with("authorization", &CANARY.repeat(1000)), broken, foreign] {
        let mut peer = HandPeer::connect(&server.address).await;
        let hello = wire::Frame {
            payload,
            ..wire::Frame::new(wire::HELLO, 0)
        };
        peer.send(&hello).await;
        shown.debug("what a peer is told", &peer.goaway().await);
    }
    // It says HELLO twice.
    let mut peer = HandPeer::greeted(&server.address).await;
    let hello = wire::Frame {
        payload: right,
        ..wire::Frame::new(wire::HELLO, 0)
    };
    peer.send(&hello).await;
    shown.debug("what a peer is told", &peer.goaway().await);
    drop(peer);
    server.stop().await;

    assert!(!logged.all().is_empty());
    shown.check(&logged);
}
