//! Streams of each kind of message, under odd names, carry messages both ways.

use codegen_tests::{
    acme::{
        common::v1::{
            Money,
            outer::{Inner, inner::Mode},
        },
        streams::{
            Choice, Kind, NoFields, Sender as SenderMessage, Stream as StreamMessage, StreamingClient,
            StreamingServer, T, choice::Choice as Chosen, stream::Stream as Of,
        },
    },
    clients,
    streams::Streams,
};
use rpc_runtime::{
    Bytes, Code, Error, Executed, Message, Sender, Streaming,
    codegen::prost_types::{Any, Timestamp},
};

fn client() -> StreamingClient {
    let texts = vec!["first".to_owned(), "second".to_owned()];
    StreamingClient::in_process(StreamingServer::new(Streams { texts }))
}

async fn all<T: Message + Default>(mut replies: Streaming<T>) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    while let Some(reply) = replies.message().await? {
        all.push(reply);
    }
    Ok(all)
}

/// Sends all `messages` and finishes the stream.
async fn send<T: Message + 'static>(mut requests: Sender<T>, messages: impl IntoIterator<Item = T>) {
    for message in messages {
        requests.send(message).await.expect("send a message");
    }
    requests.finish();
}

fn message(text: &str) -> SenderMessage {
    SenderMessage {
        texts: vec![text.to_owned()],
    }
}

#[tokio::test]
async fn arguments_named_as_the_code_around_them_arrive() {
    let replies = client()
        .send_recv()
        .stream("a", "b", 3, "d", "e", "f", Kind::Odd)
        .await
        .expect("open the stream");
    let of = |of| StreamMessage { stream: Some(of) };
    assert_eq!(
        all(replies).await.expect("read the whole stream"),
        [
            of(Of::Text("a 3 d e f Odd".to_owned())),
            of(Of::Data(Bytes::from_static(b"b")))
        ]
    );
}

#[tokio::test]
async fn streams_of_google_s_types_are_streams_of_prost_s() {
    let client = client();
    let (requests, replies) = client.send_recv().values().await.expect("open the stream");
    send(requests, ["1".to_owned(), "2".to_owned()]).await;
    let at = |seconds| Timestamp { seconds, nanos: 0 };
    assert_eq!(all(replies).await.expect("read the whole stream"), [at(1), at(2)]);

    let (requests, is_any) = client.send_recv().any().await.expect("open the stream");
    send(requests, [Any::default()]).await;
    assert!(is_any.await.expect("a reply"));

    let (requests, reply) = client.send_recv().ticks().await.expect("open the stream");
    send(requests, [(); 5]).await;
    let () = reply.await.expect("a reply");

    let pulses = client.send_recv().pulses().await.expect("open the stream");
    assert_eq!(all(pulses).await.expect("read the whole stream"), [(); 3]);
}

#[tokio::test]
async fn messages_of_any_name_and_package_go_both_ways() {
    let client = client();
    let (requests, replies) = client.send_recv().replies().await.expect("open the stream");
    let inner = T { of: None };
    send(
        requests,
        [T {
            of: Some(Box::new(inner.clone())),
        }],
    )
    .await;
    assert_eq!(all(replies).await.expect("read the whole stream"), [inner]);

    let (requests, replies) = client.send_recv().money().await.expect("open the stream");
    let money = Money {
        currency: "EUR".to_owned(),
        units: 7,
    };
    send(requests, [money.clone()]).await;
    assert_eq!(all(replies).await.expect("read the whole stream"), [money]);

    let inners = client
        .send_recv()
        .inner(true, Mode::Full)
        .await
        .expect("open the stream");
    let mode = Mode::Full.into();
    assert_eq!(
        all(inners).await.expect("read the whole stream"),
        [Inner { on: true, mode }, Inner { on: false, mode }]
    );

    let nothing = client.send_recv().nothing().await.expect("open the stream");
    assert_eq!(
        all(nothing).await.expect("read the whole stream"),
        [] as [NoFields; 0]
    );

    #[expect(deprecated, reason = "the .proto file marks it deprecated")]
    let choice = client.send_recv().choice(Choice {
        choice: Some(Chosen::Number(1)),
    });
    let choice = all(choice.await.expect("open the stream"))
        .await
        .expect("read the whole stream");
    assert_eq!(choice[0].choice, Some(Chosen::Number(1)));
}

#[tokio::test]
async fn stubs_named_as_options_have_their_underscore() {
    let client = client();
    let (requests, texts) = client.send_recv().idle_timeout_().await.expect("open the stream");
    send(requests, [message("a"), message("b")]).await;
    assert_eq!(texts.await.expect("a reply"), ["a", "b"]);

    let replies = client
        .send_recv()
        .receipt(vec!["third".to_owned()])
        .await
        .expect("open the stream");
    let replies = all(replies).await.expect("read the whole stream");
    let texts: Vec<&str> = replies.iter().map(|reply| reply.texts[1].as_str()).collect();
    assert_eq!(texts, ["first", "second", "third"]);

    let (requests, replies) = client.send_recv().priority_().await.expect("open the stream");
    send(requests, [message("a")]).await;
    assert_eq!(all(replies).await.expect("read the whole stream"), [message("a")]);

    let (requests, replies) = client.send_recv().r#type().await.expect("open the stream");
    send(requests, [message("a")]).await;
    assert_eq!(all(replies).await.expect("read the whole stream"), [message("a")]);
}

#[tokio::test]
async fn an_error_within_a_stream_comes_behind_what_was_before() {
    let (requests, mut replies) = client().send_recv().values().await.expect("open the stream");
    send(requests, ["1".to_owned(), "one".to_owned()]).await;
    let first = replies.message().await.expect("a message");
    assert_eq!(first.map(|first| first.seconds), Some(1));
    let error = replies.message().await.expect_err("\"one\" is no number");
    assert_eq!(
        (error.code(), error.executed()),
        (Code::InvalidArgument, Executed::Yes)
    );
    assert_eq!(error.procedure(), Some("acme.streams.Streaming/rpc_values"));
    assert_eq!(replies.message().await.expect("the end of the stream"), None);
}

#[tokio::test]
async fn a_client_of_one_half_calls_a_server_of_the_other() {
    // The client was generated alone, with a renamed runtime. The server was generated together with another client.
    let server = StreamingServer::new(Streams::default());
    let client = rpc_runtime::Client::in_process(server);
    let client = clients::acme::streams::StreamingClient::from(client);
    let (requests, texts) = client.send_recv().requests().await.expect("open the stream");
    let texts_of = |text: &str| clients::acme::streams::Sender {
        texts: vec![text.to_owned()],
    };
    send(requests, [texts_of("a"), texts_of("b")]).await;
    assert_eq!(texts.await.expect("a reply"), ["a", "b"]);
}

#[tokio::test]
async fn a_service_called_t_is_served_and_called() {
    use codegen_tests::acme::names::v1::{Note, T, TClient, TServer, U, u::V};
    use rpc_runtime::{Context, Requests, Result, Stream};

    struct Echo;
    impl T for Echo {
        async fn rpc_echo(&self, _: &Context, note: Note) -> Result<Note> {
            Ok(note)
        }
        async fn rpc_u(&self, _: &Context, u: U) -> Result<impl Stream<Item = Result<U>> + Send> {
            Ok(rpc_runtime::stream(async move |out| {
                out.send(u).await;
                Ok(())
            }))
        }
        async fn rpc_t(&self, _: &Context, mut requests: Requests<V>) -> Result<V> {
            Ok(requests.message().await?.unwrap_or_default())
        }
    }
    let client = TClient::in_process(TServer::new(std::sync::Arc::new(Echo)));
    let note = Note { text: "t".into() };
    assert_eq!(client.send_recv().echo(note.clone()).await.unwrap(), note);
}
