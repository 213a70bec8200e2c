//! A client of several servers: which of them has a call, and what happens when they come, go, fail and hang.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use rpc_runtime::{
    Client, Code, Error, Executed, Result, Status,
    balance::{First, Outliers, RingHash, RoundRobin},
    client::{ClientBuilder, ConnectionState, EndpointState, EndpointStatus},
    discover::{Endpoint, Found, Resolver},
    server::{Handler, Incoming, Procedure, Service},
};
use test_support::{LONG, Running, lab::*, serve_at, within};
use tokio::{sync::watch, time::sleep};

/// A resolver that says what a test tells it.
#[derive(Clone)]
struct Told(Arc<watch::Sender<Result<Vec<Endpoint>, String>>>);

impl Told {
    fn new(addresses: &[&str]) -> Self {
        Self(Arc::new(watch::Sender::new(Ok(endpoints(addresses)))))
    }

    fn tell(&self, addresses: &[&str]) {
        let _ = self.0.send_replace(Ok(endpoints(addresses)));
    }

    fn fail(&self, why: &str) {
        let _ = self.0.send_replace(Err(why.to_owned()));
    }

    fn client(&self) -> ClientBuilder {
        Client::builder("told:///lab")
            .resolver(self.clone())
            .timeout(LONG)
    }
}

impl Resolver for Told {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        let mut told = self.0.subscribe();
        loop {
            let now = told.borrow_and_update().clone();
            match now {
                Ok(endpoints) => found.set(endpoints),
                Err(why) => return Err(Status::unavailable(why).into()),
            }
            if told.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}

fn endpoints(addresses: &[&str]) -> Vec<Endpoint> {
    addresses.iter().copied().map(Endpoint::new).collect()
}

/// Servers that count their calls, each with its own lab.
struct Servers {
    names: Vec<String>,
    labs: Vec<Lab>,
    running: Vec<Option<Running>>,
}

impl Servers {
    async fn start(name: &str, count: usize) -> Self {
        let names: Vec<String> = (0..count)
            .map(|index| format!("mem:cluster-{name}-{index}"))
            .collect();
        let labs: Vec<Lab> = names.iter().map(|_| Lab::default()).collect();
        let mut running = Vec::new();
        for (lab, name) in labs.iter().zip(&names) {
            running.push(Some(lab.serve(name).await));
        }
        Self { names, labs, running }
    }

    fn told(&self) -> Told {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        Told::new(&names)
    }

    fn sums(&self) -> Vec<u64> {
        self.labs.iter().map(Lab::sum).collect()
    }

    async fn stop(&mut self, index: usize) {
        self.running[index].take().unwrap().stop().await;
    }
}

async fn add(client: &Client) -> Result<(), Error> {
    within(client.call().send_recv(&ADD, 1_u64)).await
}

/// Waits until that many servers take part.
async fn connected(client: &Client, count: usize) {
    // The first call begins to follow the resolver.
    within(client.ping()).await.unwrap();
    within(async {
        let is_in = |one: &EndpointState| one.status == EndpointStatus::In;
        while client.endpoints().iter().filter(|one| is_in(one)).count() < count {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // What calls pick from follows in the same moment.
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn calls_spread_over_all_servers() {
    let servers = Servers::start("spread", 3).await;
    let client: Client = servers.told().client().balancer(RoundRobin).connect_lazy();
    connected(&client, 3).await;
    for _ in 0..30 {
        add(&client).await.unwrap();
    }
    assert_eq!(servers.sums(), [10, 10, 10]);
    let all = client.endpoints();
    assert_eq!(all.iter().map(|one| one.calls).sum::<u64>(), 30);
    assert!(
        all.iter().all(|one| one.failures == 0 && one.success == 1.0),
        "{all:?}"
    );
    assert_eq!(client.state(), ConnectionState::Ready);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn by_default_calls_spread_too() {
    let servers = Servers::start("default", 4).await;
    let client: Client = servers.told().client().connect_lazy();
    connected(&client, 4).await;
    for _ in 0..400 {
        add(&client).await.unwrap();
    }
    assert!(
        servers.sums().iter().all(|sum| (50..150).contains(sum)),
        "{:?}",
        servers.sums()
    );
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn connect_waits_for_a_server_and_fails_if_there_is_none() {
    let servers = Servers::start("connect", 1).await;
    let client: Client = within(servers.told().client().connect()).await.unwrap();
    assert_eq!(client.state(), ConnectionState::Ready);
    let empty = within(Told::new(&[]).client().connect()).await.unwrap_err();
    assert_eq!(empty.code(), Code::Unavailable);
    assert!(empty.message().contains("its resolver found none"), "{empty}");
    let lost = within(Told::new(&["mem:cluster-connect-x"]).client().connect())
        .await
        .unwrap_err();
    assert!(lost.message().contains("mem:cluster-connect-x"), "{lost}");
    assert!(
        lost.message().contains("none of 1 servers can be reached"),
        "{lost}"
    );
    let told = Told::new(&[]);
    told.fail("the registry is away");
    let failed = within(told.client().connect()).await.unwrap_err();
    assert!(failed.message().contains("the registry is away"), "{failed}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn new_endpoints_get_calls_and_those_that_leave_finish_theirs() {
    let servers = Servers::start("change", 2).await;
    let told = Told::new(&[&servers.names[0]]);
    let client: Client = told.client().balancer(RoundRobin).connect_lazy();
    connected(&client, 1).await;
    let open = start(&client, &WAIT, "open");
    servers.labs[0].logged("open began").await;
    told.tell(&[&servers.names[1]]);
    connected(&client, 1).await;
    while client.endpoints()[0].endpoint.address() != servers.names[1] {
        sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..5 {
        add(&client).await.unwrap();
    }
    assert_eq!(servers.sums(), [0, 5]);
    servers.labs[0].release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_resolver_that_fails_leaves_the_last_endpoints() {
    let servers = Servers::start("fails", 1).await;
    let told = servers.told();
    let client: Client = told.client().connect_lazy();
    add(&client).await.unwrap();
    told.fail("the registry is away");
    sleep(Duration::from_secs(120)).await;
    add(&client).await.unwrap();
    told.tell(&[]);
    sleep(Duration::from_secs(60)).await;
    let error = within(client.call().fail_fast().send_recv::<_, ()>(&ADD, 1_u64))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert!(error.message().contains("its resolver found none"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_waits_for_the_first_server_until_its_deadline() {
    let servers = Servers::start("wait", 1).await;
    let told = Told::new(&[]);
    let client: Client = told.client().connect_lazy();
    let late = client
        .call()
        .timeout(Duration::from_secs(1))
        .send_recv::<_, ()>(&ADD, 1_u64);
    let error = within(late).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No)
    );
    assert_eq!(error.procedure(), Some("lab.v1.Lab/add"));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { add(&client).await }
    });
    sleep(Duration::from_secs(5)).await;
    told.tell(&[&servers.names[0]]);
    within(waiting).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_rolling_restart_fails_no_call() {
    let mut servers = Servers::start("rolling", 3).await;
    let client: Client = servers.told().client().connect_lazy();
    connected(&client, 3).await;
    let calls = tokio::spawn({
        let client = client.clone();
        async move {
            for _ in 0..3000 {
                let call = client.call().send_recv::<_, String>(&SLEEP, "a".to_owned());
                within(call).await?;
            }
            Ok::<_, Error>(())
        }
    });
    for index in 0..3 {
        sleep(Duration::from_secs(5)).await;
        servers.stop(index).await;
        sleep(Duration::from_secs(1)).await;
        servers.running[index] = Some(servers.labs[index].serve(&servers.names[index].clone()).await);
    }
    within(calls).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn lost_servers_come_back() {
    let mut servers = Servers::start("back", 2).await;
    let client: Client = servers.told().client().connect_lazy();
    connected(&client, 2).await;
    servers.stop(0).await;
    for _ in 0..10 {
        add(&client).await.unwrap();
    }
    assert_eq!(servers.sums(), [0, 10]);
    assert!(matches!(
        client.endpoints()[0].status,
        EndpointStatus::NotConnected(_)
    ));
    servers.running[0] = Some(servers.labs[0].serve(&servers.names[0].clone()).await);
    connected(&client, 2).await;
    sleep(Duration::from_secs(15)).await;
    for _ in 0..100 {
        add(&client).await.unwrap();
    }
    assert!(servers.sums()[0] > 10, "{:?}", servers.sums());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_server_that_hangs_gets_no_calls_after_two_seconds() {
    let servers = Servers::start("hang", 2).await;
    let client: Client = servers.told().client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    let hanging = hang(&client);
    servers.labs[0].until_hanging(1).await;
    add(&client).await.unwrap();
    assert_eq!(servers.sums(), [1, 0]);
    sleep(Duration::from_secs(3)).await;
    for _ in 0..10 {
        add(&client).await.unwrap();
    }
    assert_eq!(servers.sums(), [1, 10]);
    assert!(
        matches!(client.endpoints()[0].status, EndpointStatus::Hangs(_)),
        "{:?}",
        client.endpoints()
    );
    hanging.abort();
    sleep(Duration::from_secs(2)).await;
    add(&client).await.unwrap();
    assert_eq!(servers.sums(), [2, 10]);
}

/// Fails each call.
struct Failing;

const RPC_FAIL: Procedure = Procedure::new("lab.v1.Lab/add", 105);

impl Service for Failing {
    fn name(&self) -> &'static str {
        "lab.v1.Lab"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &[RPC_FAIL]
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_, _: u64| async { Err::<(), _>(Status::internal("broken")) })
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_server_that_fails_quickly_is_out_and_comes_back() {
    let servers = Servers::start("quick", 2).await;
    let _failing = serve_at("mem:cluster-quick-failing", Failing).await;
    let told = Told::new(&[&servers.names[0], &servers.names[1], "mem:cluster-quick-failing"]);
    let outliers = Outliers::default().time(Duration::from_secs(20));
    let client: Client = told
        .client()
        .balancer(RoundRobin)
        .outliers(outliers)
        .connect_lazy();
    connected(&client, 3).await;
    let mut failures = 0;
    for _ in 0..300 {
        if add(&client).await.is_err() {
            failures += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(failures, 5);
    let status = client.endpoints()[2].status.clone();
    assert_eq!(
        status,
        EndpointStatus::Out("5 calls in a row have failed".to_owned())
    );
    sleep(Duration::from_secs(20)).await;
    // It is tried again, and once is enough.
    let mut failures = 0;
    for _ in 0..300 {
        if add(&client).await.is_err() {
            failures += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(failures, 1);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_same_key_goes_to_the_same_server() {
    let servers = Servers::start("key", 4).await;
    let client: Client = servers.told().client().balancer(RingHash).connect_lazy();
    connected(&client, 4).await;
    for _ in 0..20 {
        within(client.call().hash_key("dog").send_recv::<_, ()>(&ADD, 1_u64))
            .await
            .unwrap();
    }
    let mut sums = servers.sums();
    sums.sort_unstable();
    assert_eq!(sums, [0, 0, 0, 20]);
}

/// As [`ADD`]: the number is the key.
static ADD_BY_KEY: Procedure = Procedure::new("lab.v1.Lab/add", 105).with_hash_field(1);

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_field_that_the_procedure_names_is_the_key() {
    let servers = Servers::start("field", 3).await;
    let client: Client = servers.told().client().balancer(RingHash).connect_lazy();
    connected(&client, 3).await;
    for _ in 0..10 {
        within(client.call().send_recv::<_, ()>(&ADD_BY_KEY, 1_u64))
            .await
            .unwrap();
    }
    let mut sums = servers.sums();
    sums.sort_unstable();
    assert_eq!(sums, [0, 0, 10]);
    for key in 1..100_u64 {
        within(client.call().send_recv::<_, ()>(&ADD_BY_KEY, key))
            .await
            .unwrap();
    }
    assert!(servers.sums().iter().all(|sum| *sum > 0), "{:?}", servers.sums());
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn one_way_calls_of_all_servers_are_in_one_account() {
    let servers = Servers::start("sends", 3).await;
    let told = servers.told();
    let client: Client = told.client().balancer(RoundRobin).connect_lazy();
    connected(&client, 3).await;
    for _ in 0..30 {
        within(client.call().send(&ADD, 1_u64)).await.unwrap();
    }
    let account = within(client.settled()).await.unwrap();
    assert_eq!(
        (account.received(), account.handled(), account.pending()),
        (30, 30, 0)
    );
    assert_eq!(servers.sums(), [10, 10, 10]);
    // Those of a server that has left are still there.
    told.tell(&[&servers.names[0]]);
    sleep(Duration::from_secs(1)).await;
    within(client.call().send(&ADD, 1_u64)).await.unwrap();
    assert_eq!(within(client.barrier()).await.unwrap().received(), 31);
    within(client.flush()).await.unwrap();
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_account_counts_a_server_once_while_it_leaves() {
    let servers = Servers::start("leaving", 2).await;
    let told = servers.told();
    let client: Client = told.client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    within(client.call().send(&WAIT, "a".to_owned())).await.unwrap();
    servers.labs[0].logged("a began").await;
    told.tell(&[&servers.names[1]]);
    sleep(Duration::from_secs(1)).await;
    let settled = tokio::spawn({
        let client = client.clone();
        async move { client.settled().await }
    });
    sleep(Duration::from_secs(1)).await;
    servers.labs[0].release();
    let account = within(settled).await.unwrap().unwrap();
    assert_eq!((account.received(), account.handled()), (1, 1));
    let account = within(client.settled()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (1, 1));
}

/// A resolver that returns each time, and finds its server only after some times.
struct Returns {
    server: String,
    times: AtomicUsize,
}

impl Resolver for Returns {
    async fn follow(&self, found: &Found) -> Result<(), Error> {
        let is_there = self.times.fetch_add(1, SeqCst) >= 5;
        found.set(is_there.then(|| Endpoint::new(&self.server)));
        Ok(())
    }
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_resolver_that_returned_is_asked_again_while_calls_wait() {
    let servers = Servers::start("returns", 1).await;
    let resolver = Returns {
        server: servers.names[0].clone(),
        times: AtomicUsize::new(0),
    };
    let builder: ClientBuilder = Client::builder("returns:///lab");
    let client: Client = builder.resolver(resolver).timeout(LONG).connect_lazy();
    add(&client).await.unwrap();
    assert_eq!(servers.sums(), [1]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_chosen_server_is_called_and_terminated_alone() {
    let servers = Servers::start("at", 3).await;
    let client: Client = servers.told().client().connect_lazy();
    connected(&client, 3).await;
    let one = client.at(&servers.names[1]).unwrap();
    add(&one).await.unwrap();
    assert_eq!(servers.sums(), [0, 1, 0]);
    assert!(client.at("mem:elsewhere").is_none());
    let error = within(client.terminate()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("Client::at"), "{error}");
    within(one.terminate()).await.unwrap();
    add(&client).await.unwrap();
    let reports = within(client.terminate_all()).await;
    assert_eq!(reports.len(), 3);
    assert_eq!(reports.iter().filter(|(_, report)| report.is_ok()).count(), 2);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_that_may_run_twice_is_tried_elsewhere_after_its_server_is_lost() {
    let mut servers = Servers::start("twice", 2).await;
    let client: Client = servers.told().client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    let call = |may_repeat: bool| {
        let client = client.clone();
        tokio::spawn(async move {
            let call = client.call().timeout(LONG);
            let call = if may_repeat { call.idempotent() } else { call };
            call.send_recv::<_, String>(&WAIT, format!("{may_repeat}")).await
        })
    };
    let (once, twice) = (call(false), call(true));
    servers.labs[0].logged("false began").await;
    servers.labs[0].logged("true began").await;
    servers.labs[1].release();
    servers.running[0].take().unwrap().handle.abort();
    let error = within(once).await.unwrap().unwrap_err();
    assert_ne!(error.executed(), Executed::No, "{error}");
    assert_eq!(within(twice).await.unwrap().unwrap(), "true");
    assert_eq!(servers.labs[1].log(), ["true began", "true ended"]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn the_first_server_is_the_one_that_the_resolver_puts_first() {
    let servers = Servers::start("first", 2).await;
    let told = servers.told();
    let client: Client = told.client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    add(&client).await.unwrap();
    assert_eq!(servers.sums(), [1, 0]);
    told.tell(&[&servers.names[1], &servers.names[0]]);
    sleep(Duration::from_millis(1)).await;
    add(&client).await.unwrap();
    assert_eq!(servers.sums(), [1, 1]);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_call_whose_servers_are_all_lost_ends_at_its_deadline() {
    let mut servers = Servers::start("all-lost", 2).await;
    let client: Client = servers.told().client().connect_lazy();
    connected(&client, 2).await;
    for running in &mut servers.running {
        running.take().unwrap().handle.abort();
    }
    let timeout = Duration::from_secs(5);
    let begun = tokio::time::Instant::now();
    let call = client.call().timeout(timeout).send_recv::<_, ()>(&ADD, 1_u64);
    let error = within(call).await.unwrap_err();
    assert_eq!(
        (error.code(), error.executed()),
        (Code::Unavailable, Executed::No),
        "{error}"
    );
    // The clock is paused.
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_try_that_takes_too_long_is_followed_by_one_elsewhere() {
    let servers = Servers::start("attempt", 2).await;
    let client: Client = servers.told().client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    servers.labs[1].release();
    let call = client.call().idempotent().attempt_timeout(Duration::from_secs(1));
    let reply: String = within(call.send_recv(&WAIT, "a".to_owned())).await.unwrap();
    assert_eq!(reply, "a");
    assert!(servers.labs[0].log().contains(&"a began".to_owned()));
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_stream_stays_where_it_began() {
    let servers = Servers::start("stream", 2).await;
    let told = servers.told();
    let client: Client = told.client().balancer(First).connect_lazy();
    connected(&client, 2).await;
    let mut counting = within(client.call().reply_stream::<u64, u64>(&COUNT, 3))
        .await
        .unwrap();
    assert!(within(counting.message()).await.unwrap().is_some());
    told.tell(&[&servers.names[1]]);
    sleep(Duration::from_secs(1)).await;
    let (rest, end) = all(&mut counting).await;
    assert_eq!((rest.len(), end.is_ok()), (2, true));
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_closed_client_makes_no_calls() {
    let servers = Servers::start("close", 2).await;
    let client: Client = servers.told().client().connect_lazy();
    add(&client).await.unwrap();
    within(client.close()).await.unwrap();
    let error = add(&client).await.unwrap_err();
    assert!(error.message().contains("the client is closed"), "{error}");
    assert_eq!(client.state(), ConnectionState::Closed);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_target_is_an_address_like_any_other() {
    let (one, other) = (Lab::default(), Lab::default());
    let (first, second) = (
        one.serve("tcp://127.0.0.1:0").await,
        other.serve("tcp://127.0.0.1:0").await,
    );
    let (_, port) = first.address.rsplit_once(':').unwrap();
    let dns: Client = within(Client::connect(format!("dns:///localhost:{port}")))
        .await
        .unwrap();
    add(&dns).await.unwrap();
    assert_eq!(one.sum(), 1);
    let path = std::env::temp_dir().join(format!("rpc-cluster-target-{}", std::process::id()));
    let list = |server: &Running| server.address.strip_prefix("tcp://").unwrap().to_owned();
    std::fs::write(&path, format!("{}\n{}\n", list(&first), list(&second))).unwrap();
    let builder = Client::builder(format!(
        "file://{}{}",
        if cfg!(windows) { "/" } else { "" },
        path.display()
    ));
    let file: Client = builder.balancer(RoundRobin).connect_lazy();
    connected(&file, 2).await;
    for _ in 0..10 {
        add(&file).await.unwrap();
    }
    assert!(
        other.sum() >= 3 && one.sum() + other.sum() == 11,
        "{} and {}",
        one.sum(),
        other.sum()
    );
    std::fs::remove_file(path).unwrap();
    let error = add(&Client::connect_lazy("dns://localhost:1")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("write dns:///localhost:1"), "{error}");
}

#[tokio::test(start_paused = true, crate = "test_support::gate")]
async fn a_fallback_beside_a_resolver_is_refused() {
    let client: Client = Told::new(&[])
        .client()
        .fallback("mem:cluster-fallback")
        .connect_lazy();
    let error = add(&client).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("ClientBuilder::fallback"), "{error}");
}
