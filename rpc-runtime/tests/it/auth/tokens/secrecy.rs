//! Nothing shows a token: no `Debug`, no error, no log.

use rpc_runtime::{
    Client, Status,
    auth::{Secret, Token},
};
use test_support::{Lab, Logged, lab::*, unix, within};

use super::{ADA, connect, fixed, noting};

#[tokio::test(crate = "test_support::gate")]
async fn no_debug_and_no_log_shows_a_token() {
    let logged = Logged::here();
    let lab = Lab::default();
    let address = unix("tokens-secrecy");
    let server = lab
        .serve_with(&address, |server| server.layer(fixed()).layer(noting(&lab)))
        .await;
    let mut shown = format!("{:?} {:?} {:?}", Secret::from(ADA), Token::new(ADA), fixed());

    let builder = Client::builder(&address).token(ADA).metadata("x-key", ADA);
    shown += &format!("{builder:?}");
    let client = within(builder.connect()).await.unwrap();
    echo(&client, "").await.unwrap();
    shown += &format!("{client:?}");

    let wrong = format!("{ADA}-wrong");
    let sources = [
        Token::new(ADA),
        Token::new(wrong.clone()),
        Token::new(format!("{ADA}\n")),
    ];
    for token in sources {
        let source = move || std::future::ready(Ok(token.clone()));
        let client = connect(&server, |client| client.token_source(source))
            .await
            .unwrap();
        shown += &format!("{client:?} {:?}", client.call());
        if let Err(error) = echo(&client, "").await {
            shown += &format!("{error:?} {error:#}");
        }
    }
    let client = connect(&server, |client| client.token(wrong)).await.unwrap();
    let error = echo(&client, "").await.unwrap_err();
    shown += &format!("{error:?} {error:#} {:?}", error.status().map(Status::metadata));
    server.stop().await;

    assert!(
        shown.contains("UNAUTHENTICATED") && shown.contains("trim it"),
        "{shown}"
    );
    assert!(!shown.contains("s3cret"), "{shown}");
    let logged = logged.all();
    assert!(!logged.is_empty() && !logged.contains("s3cret"), "{logged}");
}
