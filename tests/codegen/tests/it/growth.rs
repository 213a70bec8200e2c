//! A message that is small on the wire and large in memory is refused before it is decoded. Generated code tells the runtime what
//! each field costs.

use std::collections::HashMap;

use codegen_tests::{
    acme::{
        common::v1::Money,
        shop::v1::{OrdersClient, OrdersServer, Tree},
    },
    handlers::Echo,
};
use rpc_runtime::{
    Bytes, Client, Code, Error, Executed, Limits, Server,
    codegen::prost_types::{NullValue, Struct, Value},
};

/// Makes two clients. The first one's server limits decoded messages to `bytes`; the second one limits its own.
async fn limited(name: &str, bytes: u64) -> [OrdersClient; 2] {
    let little = Limits::default().decode_bytes(bytes);
    let mut clients = Vec::new();
    for (side, server, client) in [
        ("server", little.clone(), Limits::default()),
        ("client", Limits::default(), little),
    ] {
        let address = format!("mem:{name}-{side}");
        let server = Server::builder()
            .service(OrdersServer::new(Echo))
            .limits(server)
            .signals(false)
            .listener(&address);
        tokio::spawn(server.bind().await.unwrap().serve());
        let client: Client = Client::builder(&address).limits(client).connect().await.unwrap();
        clients.push(OrdersClient::new(client));
    }
    clients.try_into().unwrap()
}

#[track_caller]
fn excess(result: Result<impl std::fmt::Debug, Error>, executed: Executed) {
    let error = result.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::ResourceExhausted, executed),
        "{error}"
    );
    let advice =
        "bytes of memory once it is decoded: send less at once, or raise the reader's Limits::decode_bytes";
    assert!(error.to_string().contains(advice), "{error}");
}

#[tokio::test]
async fn repeated_fields_maps_and_json_are_counted() {
    let [orders, _] = limited("growth-kinds", 100_000).await;
    let calls = || orders.send_recv();
    let texts = |many| vec![String::new(); many];
    excess(
        calls().lists(texts(2000), vec![], vec![], vec![]).await,
        Executed::No,
    );
    excess(
        calls()
            .lists(vec![], vec![Bytes::new(); 2000], vec![], vec![])
            .await,
        Executed::No,
    );
    excess(
        calls()
            .lists(vec![], vec![], vec![Money::default(); 2000], vec![])
            .await,
        Executed::No,
    );
    excess(
        calls().lists(vec![], vec![], vec![], vec![1; 20_000]).await,
        Executed::No,
    );
    let sizes: HashMap<_, _> = (0..2000).map(|number| (number.to_string(), 0)).collect();
    excess(
        calls().maps(HashMap::new(), HashMap::new(), sizes).await,
        Executed::No,
    );
    let fields = (0..1000).map(|number| (number.to_string(), Value::default()));
    let json = Struct {
        fields: fields.collect(),
    };
    let messages = calls().messages(None, None, None, None, None, Some(json), NullValue::NullValue);
    excess(messages.await, Executed::No);
    let mut tree = Tree::default();
    for _ in 0..90 {
        tree = Tree {
            left: Some(Box::new(tree.clone())),
            ..Tree::default()
        };
    }
    assert!(
        calls().tree(tree).await.is_ok(),
        "a tall tree takes little memory"
    );
    // A message below the limit still passes on the same connection.
    let reply = calls().lists(texts(1000), vec![], vec![], vec![]).await;
    assert_eq!(reply.unwrap().len(), 1000);
}

#[tokio::test]
async fn a_reply_is_counted_by_its_caller() {
    let [_, orders] = limited("growth-replies", 100_000).await;
    let texts = |many| vec![String::new(); many];
    excess(
        orders
            .send_recv()
            .lists(texts(2000), vec![], vec![], vec![])
            .await,
        Executed::Yes,
    );
    let reply = orders
        .send_recv()
        .lists(texts(1000), vec![], vec![], vec![])
        .await;
    assert_eq!(reply.unwrap().len(), 1000);
}
