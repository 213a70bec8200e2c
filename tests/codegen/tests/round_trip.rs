//! What generated code sends arrives as it was, by every kind of argument and result.

use std::collections::HashMap;

use codegen_tests::{
    Corpus,
    acme::{
        common::v1::{Color, LedgerClient, LedgerServer, Money, outer::Inner},
        shop::v1::{Choice, Enums, Lists, Many, OrdersClient, OrdersServer, Size, Tree, choice},
    },
    handlers::{Echo, shared},
};
use rpc_runtime::{
    Bytes, Client, Code, Executed,
    codegen::{Procedure, Service},
};

fn orders() -> OrdersClient {
    OrdersClient::in_process(OrdersServer::new(Echo))
}

fn money(units: i64) -> Money {
    Money {
        currency: "EUR".into(),
        units,
    }
}

#[tokio::test]
async fn fields_arrive_as_arguments_and_come_back_as_values() {
    let orders = orders();
    orders.send_recv().noop().await.expect("nothing");
    orders.send_recv().nothing().await.expect("no fields");
    let number = orders.send_recv().numbers(-7, 1, 2.0, 3.0, true, 4).await;
    assert_eq!(number.expect("a number"), 7);
    let text = orders.send_recv().texts("text", vec![1, 2]).await;
    assert_eq!(text.expect("a text"), "text");
    for data in [None, Some(Bytes::new()), Some(Bytes::from_static(b"data"))] {
        let reply = orders.send_recv().options(None, data.clone(), Some(0)).await;
        assert_eq!(reply.expect("an option"), data);
    }
    let keyword = orders
        .send_recv()
        .keywords("type", true, "self", 1, "camel", "super")
        .await;
    assert_eq!(keyword.expect("a keyword"), "type");
    let context = orders.send_recv().context("cx", "", "", "", "", "", "").await;
    assert_eq!(context.expect("an argument called as ours"), "cx");
}

#[tokio::test]
async fn lists_maps_and_messages_arrive_as_prost_has_them() {
    let orders = orders();
    let texts = vec!["a".to_owned(), "b".to_owned()];
    let reply = orders
        .send_recv()
        .lists(texts.clone(), vec!["x".into()], vec![money(1)], vec![1])
        .await;
    assert_eq!(reply.expect("a list"), texts);
    let maps = orders
        .send_recv()
        .maps(HashMap::new(), HashMap::from([(1, money(1))]), HashMap::new())
        .await;
    assert!(maps.expect("a map").is_empty());
    let many = orders
        .send_recv()
        .many(Many {
            h: 8,
            ..Many::default()
        })
        .await;
    assert_eq!(many.expect("more fields than arguments").a, 8);
    let choice = Choice {
        choice: Some(choice::Choice::Text("a".into())),
        other: String::new(),
    };
    assert_eq!(
        orders.send_recv().choice(choice.clone()).await.expect("a oneof"),
        choice
    );
    let leaf = Tree {
        name: "leaf".into(),
        ..Tree::default()
    };
    let tree = Tree {
        left: Some(Box::new(leaf)),
        ..Tree::default()
    };
    assert_eq!(orders.send_recv().tree(tree.clone()).await.expect("a tree"), tree);
    let worth = orders.send_recv().stock(Some(money(5)), Color::Red).await;
    assert_eq!(worth.expect("a message of another package"), money(5));
}

#[tokio::test]
async fn enums_are_rust_s_own_at_both_ends() {
    let orders = orders();
    let size = orders
        .send_recv()
        .enums(Color::Red, Some(Color::Red), vec![Size::Big as i32], "name")
        .await;
    assert_eq!(size.expect("an enum"), Size::Big);
    let size = orders
        .send_recv()
        .enums(Color::Self_, None, Vec::new(), String::new())
        .await;
    assert_eq!(size.expect("an enum"), Size::Small);
    assert_eq!(
        orders.send_recv().maybe_enum(Size::Big).await.expect("an enum"),
        Some(Size::Big)
    );
}

#[tokio::test]
async fn a_number_that_is_no_enum_value_is_refused_before_the_handler() {
    let server = OrdersServer::new(Echo);
    let procedures: &'static [Procedure] = server.procedures();
    let client = Client::in_process(server);
    for request in [
        Enums {
            color: 9,
            ..Enums::default()
        },
        Enums {
            maybe: Some(9),
            ..Enums::default()
        },
    ] {
        let enums = procedures
            .iter()
            .find(|one| one.path() == "acme.shop.v1.Orders/rpc_enums")
            .expect("it is listed");
        let error = client
            .call()
            .send_recv::<_, Lists>(enums, request)
            .await
            .expect_err("9 is no color");
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No),
            "{error}"
        );
        assert!(error.message().contains("has no enum value 9"), "{error}");
    }
}

#[tokio::test]
async fn names_that_are_taken_and_grpc_names_can_be_called() {
    let orders = orders();
    orders
        .send_recv()
        .set_timeout(1)
        .await
        .expect("a name like an option");
    orders.send_recv().timeout_(1).await.expect("an option's name");
    orders
        .send_recv()
        .terminate_()
        .await
        .expect("the name of what is built in");
    let typed = orders.send_recv().r#type("t", true).await.expect("a keyword");
    assert_eq!((typed.text.as_str(), typed.other), ("t", true));
    let ledger = LedgerClient::in_process(LedgerServer::new(Echo));
    assert_eq!(
        ledger.send_recv().book(money(1)).await.expect("a message"),
        money(1)
    );
    let inner = Inner {
        on: true,
        ..Inner::default()
    };
    assert_eq!(
        ledger
            .send_recv()
            .nested(inner)
            .await
            .expect("a nested one")
            .inner,
        Some(inner)
    );
}

#[tokio::test]
async fn proto2_without_a_package_and_a_shared_implementation_work() {
    #[expect(deprecated, reason = "the .proto says so")]
    let legacy = codegen_tests::LegacyClient::in_process(shared().0);
    let cost = legacy
        .send_recv()
        .search("query", None, Some(Corpus::All), vec![], None, None)
        .await;
    assert_eq!(cost.expect("a required message"), Money::default());
    assert_eq!(
        legacy.send_recv().again(money(1)).await.expect("a group"),
        Some("EUR".to_owned())
    );
}

#[tokio::test]
async fn one_way_calls_take_the_same_arguments() {
    let orders = orders();
    orders.send().texts("text", "data").await.expect("sent");
    orders
        .send()
        .enums(Color::Red, None, vec![], "")
        .await
        .expect("sent");
    orders.send().noop().await.expect("sent");
    let account = orders.barrier().await.expect("all were read");
    assert_eq!(account.received(), 3);
}
