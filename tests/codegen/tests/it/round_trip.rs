//! Arguments and results of each kind arrive unchanged.

use std::collections::HashMap;

use codegen_tests::{
    Corpus,
    acme::{
        common::v1::{Color, LedgerClient, LedgerServer, Money, outer::Inner},
        shop::v1::{Choice, Many, OrdersClient, OrdersServer, Size, Tree, choice},
        values::{self, MoreValuesClient, MoreValuesServer, ValuesClient, ValuesServer},
    },
    flat::paint::v1::{CleanReply, Color as Paint, Mix, Painter, PainterClient, PainterServer, Pick},
    handlers::{Echo, shared},
    values::Teller,
};
use rpc_runtime::{Bytes, Context, Open, Result, prost_types};

/// Checks the arguments of `move`, and returns defaults for the rest.
struct Painting;

impl Painter for Painting {
    async fn rpc_paint(
        &self,
        _: &Context,
        color: Open<Paint>,
        _: String,
        _: Bytes,
        _: u32,
        _: Option<Open<Paint>>,
        _: Option<prost_types::Timestamp>,
    ) -> Result<Open<Paint>> {
        Ok(color)
    }
    async fn rpc_color(
        &self,
        _: &Context,
        _: Vec<String>,
        _: HashMap<String, i32>,
    ) -> Result<Option<Open<Paint>>> {
        Ok(None)
    }
    async fn rpc_mix(&self, _: &Context, _: Mix) -> Result<HashMap<String, u64>> {
        Ok(HashMap::new())
    }
    async fn rpc_clean(&self, _: &Context) -> Result<CleanReply> {
        Ok(CleanReply {})
    }
    async fn rpc_when(&self, _: &Context, at: prost_types::Timestamp) -> Result<prost_types::Timestamp> {
        Ok(at)
    }
    async fn rpc_pick(&self, _: &Context, pick: Pick) -> Result<Pick> {
        Ok(pick)
    }
    async fn rpc_move(&self, _: &Context, from: String, to: String, note: String) -> Result<CleanReply> {
        assert_eq!((&*from, &*to, &*note), ("attic", "hall", "mind the frame"));
        Ok(CleanReply {})
    }
}

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
    orders.send_recv().noop().await.expect("an empty reply");
    orders
        .send_recv()
        .nothing()
        .await
        .expect("a reply without fields");
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
    assert_eq!(
        context.expect("an argument with the name of generated code's own"),
        "cx"
    );
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
async fn enums_are_compared_with_rust_s_own_at_both_ends() {
    let orders = orders();
    let size = orders
        .send_recv()
        .enums(
            Color::Red,
            Some(Color::Red.into()),
            vec![Size::Big as i32],
            "name",
        )
        .await;
    assert_eq!(size.expect("an enum"), Size::Big);
    let size = orders
        .send_recv()
        .enums(Color::Self_, None, Vec::new(), String::new())
        .await;
    assert_eq!(size.expect("an enum"), Size::Small);
    assert_eq!(
        orders.send_recv().maybe_enum(Size::Big).await.expect("an enum"),
        Some(Size::Big.into())
    );
}

#[tokio::test]
async fn a_value_that_an_enum_does_not_have_yet_goes_through_both_ways() {
    let orders = orders();
    // A peer of a later version may send a size that this one does not know.
    let newer = Open::<Size>::from_number(7);
    let size = orders
        .send_recv()
        .maybe_enum(newer)
        .await
        .expect("an unknown enum value");
    let size = size.expect("the value that was sent");
    assert_eq!((size.known(), size.number()), (None, 7));
    assert_eq!(format!("{size:?}"), "7");
    // The unknown value can be sent on unchanged.
    assert_eq!(
        orders
            .send_recv()
            .maybe_enum(size)
            .await
            .expect("an unknown enum value"),
        Some(newer)
    );
    let color = Open::from_number(9);
    let same = orders.send_recv().enums(color, Some(color), vec![], "").await;
    assert!(same.expect("a comparison of unknown values") == Size::Big);
    let other = orders
        .send_recv()
        .enums(color, Some(Color::Red.into()), vec![], "")
        .await;
    assert!(other.expect("a comparison of unknown values") == Size::Small);
    // proto2 enums are open too: prost keeps unknown numbers.
    #[expect(deprecated, reason = "the .proto file marks it deprecated")]
    let legacy = codegen_tests::LegacyClient::in_process(shared().0);
    let corpus = Some(Open::from_number(9));
    let cost = legacy
        .send_recv()
        .search("query", None, corpus, vec![], None, None)
        .await;
    assert_eq!(cost.expect("an unknown enum value"), Money::default());
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
    orders.send_recv().terminate_().await.expect("a built-in name");
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
            .expect("a nested message")
            .inner,
        Some(inner)
    );
}

#[tokio::test]
async fn proto2_without_a_package_and_a_shared_implementation_work() {
    #[expect(deprecated, reason = "the .proto file marks it deprecated")]
    let legacy = codegen_tests::LegacyClient::in_process(shared().0);
    let cost = legacy
        .send_recv()
        .search("query", None, Some(Corpus::All.into()), vec![], None, None)
        .await;
    assert_eq!(cost.expect("a required message"), Money::default());
    assert_eq!(
        legacy.send_recv().again(money(1)).await.expect("a group"),
        Some("EUR".to_owned())
    );
}

#[tokio::test]
async fn arguments_come_by_number_wherever_their_lines_stand() {
    let painter = PainterClient::in_process(PainterServer::new(Painting));
    painter
        .send_recv()
        .r#move("attic", "hall", "mind the frame")
        .await
        .expect("arguments in the order of their numbers");
}

#[tokio::test]
async fn the_value_of_its_only_field_stands_for_a_request() {
    let values = ValuesClient::in_process(ValuesServer::new(Teller));
    macro_rules! told {
        ($($name:ident($value:expr) $told:expr;)*) => {$(
            let told = values.send_recv().$name($value).await.expect("a reply").told;
            assert_eq!(told, $told, "{}", stringify!($name));
        )*};
    }
    let borrowed = String::from("dog");
    told! {
        text("dog") "\"dog\"";
        text(&*borrowed) "\"dog\"";
        text(borrowed.clone()) "\"dog\"";
        text(values::Text { text: "dog".into() }) "\"dog\"";
        text(values::Text::default()) "\"\"";
        text_again("dog") "\"dog\"";
        maybe_text("dog") "Some(\"dog\")";
        maybe_text(values::MaybeText { r#type: None }) "None";
        wrapped("dog") "Some(\"dog\")";
        data("dog") "b\"dog\"";
        data(vec![1, 2]) "b\"\\x01\\x02\"";
        data(&b"dog"[..]) "b\"dog\"";
        data(Bytes::from("dog")) "b\"dog\"";
        data(String::from("dog")) "b\"dog\"";
        maybe_data(Bytes::new()) "Some(b\"\")";
        count(7) "7";
        ratio(0.5) "0.5";
        flag(true) "true";
        color(Color::Red) "1";
        color(Open::from_number(9)) "9";
        maybe_color(Color::Red) "Some(1)";
        money(money(5)) "Some(5)";
        wait(prost_types::Duration { seconds: 3, nanos: 0 }) "Some(3)";
        all(vec!["a".to_owned()]) "[\"a\"]";
        map(HashMap::from([("a".to_owned(), 1)])) "{\"a\": 1}";
        r#loop(values::Back { r#loop: None }) "true";
        size("big") "\"big\"";
        itself(values::Itself::default()) "false";
        choice(values::Choice::default()) "false";
        empty(values::Empty::default()) "None";
        google(String::from("a")) "\"a\"";
        two(values::Two::default()) "(\"\", \"\")";
    }
    let mut stream = values.send_recv().stream("dog").await.expect("open the stream");
    assert_eq!(
        stream.message().await.expect("a message").expect("one").told,
        "\"dog\""
    );
    values.send().text("one-way").await.expect("send a one-way call");
    let more = MoreValuesClient::in_process(MoreValuesServer::new(Teller));
    assert_eq!(
        more.send_recv().text("dog").await.expect("a reply").told,
        "\"dog\""
    );
}

#[tokio::test]
async fn one_way_calls_take_the_same_arguments() {
    let orders = orders();
    orders
        .send()
        .texts("text", "data")
        .await
        .expect("send a one-way call");
    orders
        .send()
        .enums(Color::Red, None, vec![], "")
        .await
        .expect("send a one-way call");
    orders.send().noop().await.expect("send a one-way call");
    let account = orders.barrier().await.expect("the account of all one-way calls");
    assert_eq!(account.received(), 3);
}
