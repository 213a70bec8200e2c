//! Every procedure of three services in two packages, in both families and as streams, over every transport.
#![deny(missing_docs, warnings)]

use std::{collections::HashMap, error::Error as StdError, time::SystemTime};

use rpc_runtime::{
    Bytes, Code, Context, Open, Requests, Result, Server, Status, Stream,
    prost_types::{Duration, Timestamp},
    stream,
};

rpc_runtime::include_protos!();

use acct::v1::{Accounts, AccountsClient, AccountsServer, Role, User};
use shop::v1::{
    AddRequest, ForecastReply, GetOrderRequest, Money, MoveReply, MoveRequest, Order, Orders, OrdersClient, OrdersServer, Stock, StockClient,
    StockServer, move_request, order,
};

struct Shop;

impl Accounts for Shop {
    async fn rpc_lookup(&self, _: &Context, name: String) -> Result<Option<User>> {
        if name == "nobody" {
            return Err(Status::new(Code::NotFound, "no such user"));
        }
        Ok(Some(User { name, r#match: true, ..User::default() }))
    }

    async fn rpc_open(
        &self,
        cx: &Context,
        user: Option<User>,
        aliases: Vec<String>,
        quotas: HashMap<String, u32>,
        r#type: Option<String>,
        photo: Bytes,
    ) -> Result<()> {
        let whole = user.is_some() && aliases == ["a"] && quotas["q"] == 1 && r#type.is_some() && photo.len() == 70_000;
        if whole && cx.procedure() == "acct.v1.Accounts/rpc_open" {
            return Ok(());
        }
        Err(Status::new(Code::InvalidArgument, "something was lost on the way"))
    }

    async fn rpc_age(&self, _: &Context, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Option<Duration>> {
        let seconds = until.unwrap_or_default().seconds - since.unwrap_or_default().seconds;
        Ok(Some(Duration { seconds, nanos: 0 }))
    }

    async fn rpc_role(&self, _: &Context, role: Open<Role>, other: Option<Open<Role>>) -> Result<Open<Role>> {
        Ok(other.unwrap_or(role))
    }

    async fn rpc_touch(&self, _: &Context) -> Result<()> {
        Ok(())
    }
}

impl Orders for Shop {
    async fn rpc_place_order(&self, _: &Context, order: Order) -> Result<Order> {
        Ok(Order { id: 7, ..order })
    }

    async fn rpc_get_order(&self, _: &Context, request: GetOrderRequest) -> Result<Order> {
        let payment = Some(order::Payment::Card("1234".to_owned()));
        Ok(Order { id: request.id, payment, ..Order::default() })
    }

    async fn rpc_match(&self, _: &Context, order: Order) -> Result<Order> {
        Ok(order)
    }

    async fn rpc_cancel(&self, _: &Context, _: GetOrderRequest) -> Result<()> {
        Ok(())
    }

    async fn rpc_follow(&self, _: &Context, request: GetOrderRequest) -> Result<impl Stream<Item = Result<Order>> + Send> {
        Ok(stream(async move |out| {
            for lines in 0..3 {
                let items = vec![order::Item::default(); lines];
                out.send(Order { id: request.id, items, ..Order::default() }).await;
            }
            Err(Status::new(Code::Aborted, "the order was cancelled"))
        }))
    }
}

impl Stock for Shop {
    async fn rpc_count(&self, _: &Context, sku: String) -> Result<HashMap<String, u64>> {
        Ok([(sku, 3)].into())
    }

    async fn rpc_move(&self, _: &Context, request: MoveRequest) -> Result<MoveReply> {
        moved(request)
    }

    async fn rpc_add(&self, _: &Context, _sku: String, count: i32, weight: f64, fragile: bool) -> Result<i64> {
        Ok(if fragile { weight as i64 } else { count.into() })
    }

    async fn rpc_forecast(
        &self,
        _: &Context,
        sku: String,
        days: u32,
    ) -> Result<impl Stream<Item = Result<ForecastReply>> + Send> {
        if sku.is_empty() {
            return Err(Status::new(Code::InvalidArgument, "of what?"));
        }
        Ok(stream(async move |out| {
            for day in 0..days {
                out.send(ForecastReply { day, count: 3 }).await;
            }
            Ok(())
        }))
    }

    async fn rpc_load(&self, _: &Context, mut requests: Requests<AddRequest>) -> Result<i64> {
        let mut total = 0;
        while let Some(AddRequest { count, .. }) = requests.message().await? {
            total += i64::from(count);
        }
        Ok(total)
    }

    async fn rpc_sort(
        &self,
        _: &Context,
        mut requests: Requests<MoveRequest>,
    ) -> Result<impl Stream<Item = Result<MoveReply>> + Send> {
        Ok(stream(async move |out| {
            while let Some(request) = requests.message().await? {
                out.send(moved(request)?).await;
            }
            Ok(())
        }))
    }
}

fn moved(request: MoveRequest) -> Result<MoveReply> {
    let to = match request.to {
        Some(move_request::To::Shelf(shelf)) => shelf,
        Some(move_request::To::Room(room)) => format!("room {room}"),
        None => return Err(Status::new(Code::InvalidArgument, "where to?")),
    };
    Ok(MoveReply { moved: true, to })
}

struct Clients {
    accounts: AccountsClient,
    orders: OrdersClient,
    stock: StockClient,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn StdError>> {
    let socket = std::env::temp_dir().join(format!("outside-{}.sock", std::process::id()));
    let server = Server::builder()
        .service(AccountsServer::new(Shop))
        .service(OrdersServer::new(Shop))
        .service(StockServer::new(Shop))
        .listener("tcp://127.0.0.1:0")
        .listener(format!("unix:{}", socket.display()))
        .listener("mem:outside")
        .bind()
        .await?;
    let addresses = server.addresses().to_vec();
    let serving = tokio::spawn(server.serve());

    for address in &addresses {
        let clients = Clients {
            accounts: AccountsClient::connect(address).await?,
            orders: OrdersClient::connect_lazy(address),
            stock: StockClient::connect(address).await?,
        };
        check(address, &clients).await?;
    }
    let clients = Clients {
        accounts: AccountsClient::in_process(AccountsServer::new(Shop)),
        orders: OrdersClient::in_process(OrdersServer::new(Shop)),
        stock: StockClient::in_process(StockServer::new(Shop)),
    };
    check("in-process", &clients).await?;

    let report = StockClient::connect("mem:outside").await?.send_recv().terminate().await?;
    assert!(report.is_clean(), "{report}");
    assert!(serving.await??.is_clean());
    println!("every procedure, both families and all streams, {} transports: ok", addresses.len() + 1);
    Ok(())
}

/// Calls every procedure in both families.
async fn check(address: &str, clients: &Clients) -> std::result::Result<(), Box<dyn StdError>> {
    let photo = Bytes::from(vec![1; 70_000]);
    let now = Timestamp::from(SystemTime::now());
    let ann = User { name: "ann".to_owned(), since: Some(now), role: Role::Buyer.into(), ..User::default() };
    let order = Order {
        buyer: Some(ann.clone()),
        items: vec![order::Item { sku: "nail".to_owned(), count: 3, price: None }],
        payment: Some(order::Payment::Cash(Money { units: 5, currency: "EUR".to_owned() })),
        ..Order::default()
    };
    let quotas: HashMap<_, _> = [("q".to_owned(), 1)].into();
    let aliases = vec!["a".to_owned()];
    let room = MoveRequest { sku: "nail".to_owned(), to: Some(move_request::To::Room(4)) };

    let accounts = &clients.accounts;
    let found = accounts.send_recv().lookup("ann").await?.ok_or("no user")?;
    assert!(found.name == "ann" && found.r#match);
    let nobody = accounts.send_recv().lookup("nobody").await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound, "{nobody}");
    let open = accounts.send_recv();
    open.open(Some(ann.clone()), aliases.clone(), quotas.clone(), Some("x".to_owned()), photo.clone()).await?;
    let age = accounts.send_recv().age(Some(Timestamp { seconds: 1, nanos: 0 }), Some(Timestamp { seconds: 3, nanos: 0 }));
    assert_eq!(age.await?.map(|age| age.seconds), Some(2));
    assert_eq!(accounts.send_recv().role(Role::Buyer, None).await?, Role::Buyer);
    assert_eq!(accounts.send_recv().role(Role::Buyer, Some(Role::Clerk.into())).await?, Role::Clerk);
    accounts.send_recv().touch().await?;
    accounts.send().lookup("ann").await?;
    accounts.send().open(Some(ann), aliases, quotas, Some("x".to_owned()), photo).await?;
    accounts.send().age(Some(now), Some(now)).await?;
    accounts.send().role(Role::Clerk, None).await?;
    accounts.send().touch().await?;
    assert_eq!(accounts.barrier().await?.received(), 5, "{address}");

    let orders = &clients.orders;
    let placed = orders.send_recv().place_order(order.clone()).await?;
    assert_eq!(placed, Order { id: 7, ..order.clone() });
    let got = orders.send_recv().get_order(GetOrderRequest { id: 9 }).await?;
    assert_eq!((got.id, got.payment), (9, Some(order::Payment::Card("1234".to_owned()))));
    assert_eq!(orders.send_recv().r#match(order.clone()).await?, order);
    orders.send_recv().cancel(GetOrderRequest { id: 9 }).await?;
    orders.send().place_order(order.clone()).await?;
    orders.send().get_order(GetOrderRequest { id: 9 }).await?;
    orders.send().r#match(order).await?;
    orders.send().cancel(GetOrderRequest { id: 9 }).await?;
    orders.flush().await?;
    assert_eq!(orders.barrier().await?.received(), 4, "{address}");

    let stock = &clients.stock;
    assert_eq!(stock.send_recv().count("nail").await?["nail"], 3);
    assert_eq!(stock.send_recv().r#move(room.clone()).await?.to, "room 4");
    assert_eq!(stock.send_recv().add("nail", -2, 0.5, false).await?, -2);
    stock.send().count("nail").await?;
    stock.send().r#move(room).await?;
    stock.send().add("nail", 1, 2.0, true).await?;
    let account = stock.barrier().await?;
    assert_eq!(account.received(), 3, "{address}");
    streams(clients).await?;
    println!("{address}: ok; ping {:?}; account: {account}", stock.ping().await?);
    Ok(())
}

/// Calls every procedure with a stream.
async fn streams(clients: &Clients) -> std::result::Result<(), Box<dyn StdError>> {
    let stock = &clients.stock;
    let mut days = stock.send_recv().forecast("nail", 1000).await?;
    let mut expected = 0;
    while let Some(ForecastReply { day, .. }) = days.message().await? {
        assert_eq!(day, expected);
        expected += 1;
    }
    assert_eq!(expected, 1000);
    let refused = stock.send_recv().forecast("", 1).await?.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    let (mut adds, total) = stock.send_recv().load().await?;
    for count in 1..=100 {
        adds.send(AddRequest { sku: "nail".to_owned(), count, ..AddRequest::default() }).await?;
    }
    adds.finish();
    assert_eq!(total.await?, 5050);

    let (mut moves, mut replies) = stock.send_recv().sort().await?;
    for room in 0..10 {
        moves.send(MoveRequest { sku: "nail".to_owned(), to: Some(move_request::To::Room(room)) }).await?;
        assert_eq!(replies.message().await?.ok_or("no reply")?.to, format!("room {room}"));
    }
    moves.finish();
    assert_eq!(replies.message().await?, None);

    let mut order = clients.orders.send_recv().follow(GetOrderRequest { id: 9 }).await?;
    for lines in 0..3 {
        assert_eq!(order.message().await?.ok_or("no order")?.items.len(), lines);
    }
    let cancelled = order.message().await.unwrap_err();
    assert_eq!((cancelled.code(), cancelled.message()), (Code::Aborted, "the order was cancelled"));
    Ok(())
}
