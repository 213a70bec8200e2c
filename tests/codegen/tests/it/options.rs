//! The code of the golden case `options`, called: each option of a build script does what it says.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use codegen_tests::{
    common::{
        Moment,
        acme::common::v1::{Currency, Folder, Money, folder},
    },
    options::acme::store::{
        Counter, CounterClient, CounterDyn, CounterServer, Hooks, HooksServer, Item, Key, Order,
        ReportsClient, Store, StoreClient, StoreDyn, StoreServer, item,
    },
};
use rpc_runtime::{
    Bytes, Client, Code, Context, Error, Executed, Limits, Open, Requests, Result, Server, Stream,
    codegen::{Nesting, prost::Name, prost_types::Any},
};

struct Shop;

impl Store for Shop {
    async fn rpc_price(&self, _: &Context, item: Item) -> Result<Money> {
        Ok(item.price.unwrap_or_default())
    }
    async fn rpc_pay(&self, _: &Context, money: Money) -> Result<Item> {
        Ok(Item {
            price: Some(money),
            made: Some(Moment { seconds: 7 }),
            currency: Currency::Euro.into(),
            ..Item::default()
        })
    }
    async fn rpc_file(&self, _: &Context, folder: Folder) -> Result<Folder> {
        Ok(folder)
    }
    async fn rpc_pack(&self, _: &Context, any: Any) -> Result<Any> {
        Ok(any)
    }
    async fn rpc_watch(&self, _: &Context, key: Key) -> Result<impl Stream<Item = Result<Item>> + Send> {
        Ok(rpc_runtime::stream(async move |out| {
            let name = format!("{:?}", key.id);
            out.send(Item {
                name,
                ..Item::default()
            })
            .await;
            Ok(())
        }))
    }
    async fn rpc_import(&self, _: &Context, mut items: Requests<Item>) -> Result<Key> {
        let mut id = Vec::new();
        while let Some(item) = items.message().await? {
            id.extend(item.name.into_bytes());
        }
        Ok(Key { id })
    }
    async fn rpc_order(&self, _: &Context, order: Order) -> Result<Item> {
        Ok(*order.item.unwrap_or_default())
    }
    async fn rpc_old(&self, _: &Context, key: Key) -> Result<Key> {
        Ok(key)
    }
}

impl Counter for Shop {
    async fn rpc_count(
        &self,
        _: &Context,
        id: Vec<u8>,
        mut counts: BTreeMap<String, u32>,
        currency: Open<Currency>,
        more: Vec<Vec<u8>>,
    ) -> Result<BTreeMap<String, u32>> {
        counts.insert(format!("{id:?} {currency:?}"), more.len() as u32);
        Ok(counts)
    }
    async fn rpc_total(&self, _: &Context, money: Money) -> Result<Money> {
        Ok(money)
    }
    async fn rpc_swap(
        &self,
        _: &Context,
        mut keys: Requests<Key>,
    ) -> Result<impl Stream<Item = Result<Item>> + Send> {
        Ok(rpc_runtime::stream(async move |out| {
            while let Some(key) = keys.message().await? {
                let digest = key.id.clone();
                out.send(Item {
                    digest,
                    ..Item::default()
                })
                .await;
            }
            Ok(())
        }))
    }
}

fn money(units: i64) -> Money {
    Money {
        currency: "EUR".into(),
        units,
    }
}

#[tokio::test]
async fn types_of_another_module_go_in_and_out() {
    let store = StoreClient::in_process(StoreServer::new(Shop));
    let item = store.send_recv().pay(money(7)).await.unwrap();
    assert_eq!(item.price, Some(money(7)));
    assert_eq!(item.made, Some(Moment { seconds: 7 }));
    assert_eq!(item.currency(), Currency::Euro);
    assert_eq!(store.send_recv().price(item).await.unwrap(), money(7));
}

#[tokio::test]
async fn types_of_another_module_are_not_flattened() {
    let counter = CounterClient::in_process(CounterServer::new(Shop));
    assert_eq!(counter.send_recv().total(money(7)).await.unwrap(), money(7));
    let counts = counter
        .send_recv()
        .count("a", BTreeMap::new(), Currency::Euro, vec![])
        .await
        .unwrap();
    assert_eq!(counts.len(), 1);
}

#[tokio::test]
async fn types_of_another_module_are_counted_before_they_are_decoded() {
    let server = Server::builder()
        .service(StoreServer::new(Shop))
        .limits(Limits::default().decode_bytes(100_000))
        .signals(false)
        .listener("mem:options-growth");
    tokio::spawn(server.bind().await.unwrap().serve());
    let store = StoreClient::new(Client::connect("mem:options-growth").await.unwrap());
    let entries = |many| Folder {
        entries: vec![folder::Entry::default(); many],
        ..Folder::default()
    };
    store.send_recv().file(entries(200)).await.unwrap();
    let costs = Folder {
        costs: (0..2000)
            .map(|name| (name.to_string(), Money::default()))
            .collect(),
        ..Folder::default()
    };
    let outer = Folder {
        folders: vec![entries(2000)],
        ..Folder::default()
    };
    for folder in [entries(2000), costs, outer] {
        let error = store.send_recv().file(folder).await.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::ResourceExhausted, Executed::No),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_message_with_a_name_travels_in_an_any() {
    let store = StoreClient::in_process(StoreServer::new(Shop));
    let label = item::Label { text: "blue".into() };
    let any = Any::from_msg(&label).unwrap();
    assert_eq!(any.type_url, "type.googleapis.com/acme.store.Item.Label");
    let any = store.send_recv().pack(any).await.unwrap();
    assert_eq!(any.to_msg::<item::Label>().unwrap(), label);
    any.to_msg::<Item>().unwrap_err();
    assert_eq!(<Key as Name>::type_url(), "acme.com/acme.store.Key");
    assert_eq!((Item::NAME, Item::PACKAGE), ("Item", "acme.store"));
}

/// Implements one procedure of each service.
struct Half;

impl Store for Half {
    async fn rpc_old(&self, _: &Context, key: Key) -> Result<Key> {
        Ok(key)
    }
}

impl Counter for Half {}

/// Checks that a call was answered with UNIMPLEMENTED, by a text that names the procedure.
#[track_caller]
fn is_unimplemented<T>(result: Result<T, Error>, procedure: &str) {
    let error = result.err().expect("the handler is left out");
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    let text = format!("this server does not implement acme.store.{procedure}");
    assert_eq!(error.message(), text);
}

#[tokio::test]
#[expect(deprecated, reason = "the only procedure that `Half` has")]
async fn a_handler_that_is_left_out_answers_unimplemented() {
    let store = StoreClient::in_process(StoreServer::new(Half));
    store.send_recv().old("a").await.unwrap();
    is_unimplemented(store.send_recv().price(Item::default()).await, "Store/rpc_price");
    let mut items = store.send_recv().watch("a").await.unwrap();
    is_unimplemented(items.message().await, "Store/rpc_watch");
    let (_sender, reply) = store.send_recv().import().await.unwrap();
    is_unimplemented(reply.await, "Store/rpc_import");
    let counter = CounterClient::in_process(CounterServer::new(Arc::new(Half)));
    let count = counter
        .send_recv()
        .count("a", BTreeMap::new(), Currency::Euro, vec![])
        .await;
    is_unimplemented(count, "Counter/rpc_count");
    let (_sender, mut items) = counter.send_recv().swap().await.unwrap();
    is_unimplemented(items.message().await, "Counter/rpc_swap");
}

#[tokio::test]
async fn maps_and_bytes_have_the_types_of_their_paths() {
    let store = StoreClient::in_process(StoreServer::new(Shop));
    let item = Item {
        counts: BTreeMap::from([("b".into(), 2), ("a".into(), 1)]),
        pictures: BTreeMap::from([("front".into(), Bytes::from_static(b"png"))]),
        notes: HashMap::from([(1, "new".into())]),
        digest: vec![1, 2],
        blob: Bytes::from_static(b"blob"),
        parts: vec![vec![3], vec![]],
        origin: Some(item::Origin::Code(vec![4])),
        price: Some(money(7)),
        ..Item::default()
    };
    let text = format!("{item:?}");
    assert!(
        text.starts_with("Item { name: \"\", price: Some(Money {"),
        "{text}"
    );
    assert!(
        text.contains("counts: {\"a\": 1, \"b\": 2}") && text.contains("kind: KindNone, "),
        "{text}"
    );
    assert!(text.ends_with("origin: Some(Code([4])) }"), "{text}");
    assert_eq!(store.send_recv().price(item).await.unwrap(), money(7));
    // Every value that converts into the bytes of a key.
    for key in [
        Key::from("a"),
        b"a"[..].into(),
        vec![b'a'].into(),
        Bytes::from("a").into(),
        String::from("a").into(),
    ] {
        let mut items = store.send_recv().watch(key).await.unwrap();
        assert_eq!(items.message().await.unwrap().unwrap().name, "[97]");
    }
    let counter = CounterClient::in_process(CounterServer::new(Shop));
    let counts = BTreeMap::from([("c".into(), 3)]);
    let counts = counter
        .send_recv()
        .count([1, 2], counts, Currency::Euro, vec![vec![]])
        .await
        .unwrap();
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [1, 3]);
}

/// Answers with what it was given.
struct Hook;

impl Hooks for Hook {
    async fn rpc_hook(&self, _: &Context, key: Key) -> Result<Key> {
        Ok(key)
    }
}

#[tokio::test]
async fn one_service_is_only_called_and_another_only_served() {
    let server = Server::builder()
        .service(HooksServer::new(Hook))
        .signals(false)
        .listener("mem:options-halves");
    tokio::spawn(server.bind().await.unwrap().serve());
    // Its server is elsewhere: the one that listens does not know the service.
    let reports = ReportsClient::connect("mem:options-halves").await.unwrap();
    let error = reports.send_recv().report("a").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
    assert!(
        Key::from("a") < Key::from("b"),
        "an attribute made keys comparable"
    );
}

#[tokio::test]
async fn messages_in_a_box_go_in_and_out() {
    let store = StoreClient::in_process(StoreServer::new(Shop));
    let label = item::Label { text: "blue".into() };
    let item = Item {
        label: Some(Box::new(label.clone())),
        origin: Some(item::Origin::Maker(Box::new(label))),
        kind: item::Kind::KindTool.into(),
        ..Item::default()
    };
    // The value of the only field becomes the request, and its box.
    assert_eq!(store.send_recv().order(item.clone()).await.unwrap(), item);
    assert_eq!(item.kind(), item::Kind::KindTool);
}

#[test]
fn a_debug_of_ones_own_hides_secrets() {
    assert_eq!(format!("{:?}", Key::from("secret")), "Key(..)");
}

#[tokio::test]
async fn a_trait_object_serves() {
    let stores: [Arc<dyn StoreDyn>; 2] = [Arc::new(Shop), Arc::new(Half)];
    let [store, half] = stores.map(|store| StoreClient::in_process(StoreServer::new(store)));
    let item = store.send_recv().pay(money(7)).await.unwrap();
    assert_eq!(store.send_recv().price(item.clone()).await.unwrap(), money(7));
    is_unimplemented(half.send_recv().price(item.clone()).await, "Store/rpc_price");

    let mut items = store.send_recv().watch("a").await.unwrap();
    assert_eq!(items.message().await.unwrap().unwrap().name, "[97]");
    assert!(items.message().await.unwrap().is_none());
    let mut items = half.send_recv().watch("a").await.unwrap();
    is_unimplemented(items.message().await, "Store/rpc_watch");

    let (mut sender, reply) = store.send_recv().import().await.unwrap();
    sender
        .send(Item {
            name: "a".into(),
            ..item
        })
        .await
        .unwrap();
    sender.finish();
    assert_eq!(reply.await.unwrap(), Key::from("a"));

    let counter: Arc<dyn CounterDyn> = Arc::new(Shop);
    let counter = CounterClient::in_process(CounterServer::new(counter));
    assert_eq!(counter.send_recv().total(money(7)).await.unwrap(), money(7));
    let (mut sender, mut items) = counter.send_recv().swap().await.unwrap();
    sender.send("a".into()).await.unwrap();
    sender.finish();
    assert_eq!(items.message().await.unwrap().unwrap().digest, b"a");
    assert!(items.message().await.unwrap().is_none());
}

#[tokio::test]
async fn types_of_another_module_are_not_sent_if_they_are_nested_too_deep() {
    let store = StoreClient::in_process(StoreServer::new(Shop));
    let folder = |levels| {
        (0..levels).fold(Folder::default(), |inner, _| Folder {
            folders: vec![inner],
            ..Folder::default()
        })
    };
    let item = |levels| Item {
        folders: vec![folder(levels)],
        ..Item::default()
    };
    store.send_recv().file(folder(100)).await.unwrap();
    store.send_recv().price(item(99)).await.unwrap();
    let errors = [
        store.send_recv().file(folder(101)).await.unwrap_err(),
        store.send_recv().price(item(100)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(
            (error.code(), error.executed()),
            (Code::InvalidArgument, Executed::No),
            "{error}"
        );
        assert!(
            error.message().contains("nested more than 100 messages deep"),
            "{error}"
        );
    }
}

#[test]
fn a_type_without_a_walk_counts_as_one_level() {
    let walk = rpc_runtime::codegen::walk_of!(Moment, OF);
    let nesting = Nesting::by("Moment", rpc_runtime::codegen::walk_of!(Moment, WHOLE));
    // It has no `Nested`, so this compiles only because another walk takes its place.
    let _: fn(&Moment, _) -> _ = walk;
    assert_eq!(format!("{nesting:?}"), "Nesting(\"Moment\")");
}
