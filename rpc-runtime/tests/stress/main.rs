//! Everything at once, on every transport: streams, cancels, deadlines, panics, handlers that block, clients that are
//! dropped, servers that are restarted. Every call ends, its outcome is the true one, and nothing is left behind.
//!
//! A binary of its own, because it keeps all processors busy: tests beside it would be late.
//!
//! `RPC_STRESS_ROUNDS=1000 RPC_STRESS_SEED=7 cargo test --release --test stress` runs longer, or another course.

mod flows;

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use self::flows::{CHAT, DRONE, FEED, PLAY};
use rpc_runtime::{
    Bytes, Client, Code, Context, DrainReport, Error, Executed, Result, Server, Status,
    server::{Handler, Incoming, Procedure, ServerHandle, Service},
};
use tokio::{runtime::Builder, task::JoinHandle, time::timeout};

/// What every procedure takes: the number of the call, then what to do.
type Request = Bytes;

static ECHO: Procedure = Procedure::new("stress.v1.Stress/echo", 201);
static SLEEP: Procedure = Procedure::new("stress.v1.Stress/sleep", 202);
static HANG: Procedure = Procedure::new("stress.v1.Stress/hang", 203);
static SPIN: Procedure = Procedure::new("stress.v1.Stress/spin", 204);
static PANIC: Procedure = Procedure::new("stress.v1.Stress/panic", 205);
static FAIL: Procedure = Procedure::new("stress.v1.Stress/fail", 206);
static SPAWNED: Procedure = Procedure::new("stress.v1.Stress/spawned", 207).spawn();
static BLOCKING: Procedure = Procedure::new("stress.v1.Stress/blocking", 208).blocking();

static PROCEDURES: [Procedure; 12] = [
    ECHO, SLEEP, HANG, SPIN, PANIC, FAIL, SPAWNED, BLOCKING, PLAY, FEED, CHAT, DRONE,
];

/// What the handlers saw.
#[derive(Clone, Default)]
struct Stress(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// How often the handler of each call has started.
    started: Mutex<HashMap<u64, u32>>,
    /// How many handlers there are.
    handlers: AtomicI64,
    numbers: AtomicU64,
}

/// A handler that has started and not ended.
struct Present(Stress);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.handlers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stress {
    fn enter(&self, request: &Request) -> Present {
        let number = number(request);
        *self.0.started.lock().unwrap().entry(number).or_default() += 1;
        self.0.handlers.fetch_add(1, Ordering::SeqCst);
        Present(self.clone())
    }

    /// A request with a new number, and `len` more bytes.
    fn request(&self, len: usize) -> Request {
        let number = self.0.numbers.fetch_add(1, Ordering::SeqCst);
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.resize(8 + len, number as u8);
        bytes.into()
    }

    fn starts(&self, number: u64) -> u32 {
        self.0
            .started
            .lock()
            .unwrap()
            .get(&number)
            .copied()
            .unwrap_or_default()
    }
}

fn number(request: &Request) -> u64 {
    u64::from_le_bytes(request[..8].try_into().unwrap())
}

impl Service for Stress {
    fn name(&self) -> &'static str {
        "stress.v1.Stress"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let stress = self.clone();
        if index >= 8 {
            return flows::handle(stress, index - 8, call);
        }
        call.handle(move |_: Context, request: Request| async move {
            let _present = stress.enter(&request);
            let pause = Duration::from_micros(u64::from(request[0]) * 40);
            match index {
                0 | 6 => {}
                1 => tokio::time::sleep(pause).await,
                2 => pending().await,
                3 | 7 => std::thread::sleep(pause / 4),
                4 => {
                    if request[0] % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
                _ => return Err(Status::new(Code::NotFound, "on purpose")),
            }
            Ok(request)
        })
    }
}

/// A server that is replaced again and again, and keeps its address.
struct Running {
    address: String,
    handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Running {
    async fn start(stress: &Stress, address: &str) -> Self {
        let server = loop {
            let server = Server::builder()
                .service(stress.clone())
                .listener(address)
                .drain_timeout(Duration::from_millis(20))
                .signals(false)
                .bind()
                .await;
            match server {
                Ok(server) => break server,
                // A connection of ours may have been given the port meanwhile.
                Err(error) => assert!(
                    error.to_string().contains("another server listens there"),
                    "{error}"
                ),
            }
            tokio::task::yield_now().await;
        };
        Self {
            address: server.addresses()[0].clone(),
            handle: server.handle(),
            serving: tokio::spawn(server.serve()),
        }
    }

    async fn restart(self, stress: &Stress, abort: bool) -> Self {
        let Self {
            address,
            handle,
            serving,
        } = self;
        if abort {
            handle.abort();
        } else {
            handle.drain();
        }
        within("a drain", serving).await.unwrap().unwrap();
        Self::start(stress, &address).await
    }
}

/// The number of a call, and what its caller knows of it.
enum Outcome {
    Replied(u64),
    Failed(u64, Executed),
}

/// One user of a server: makes calls of all kinds, one after the other or many at once.
struct User {
    stress: Stress,
    client: Client,
    random: fastrand::Rng,
    outcomes: Vec<Outcome>,
}

impl User {
    async fn round(&mut self) {
        match self.random.u32(..100) {
            0..50 => self.burst().await,
            50..70 => self.sends().await,
            70..80 => self.cancelled().await,
            80..90 => {
                let (procedure, len) = self.any();
                self.one(procedure, len).await;
            }
            90..95 => allow(within("a ping", self.client.ping()).await.map(drop)),
            95..98 => allow(within("a flush", self.client.flush()).await),
            _ => {
                let fresh = Client::connect_lazy(self.address());
                let old = std::mem::replace(&mut self.client, fresh);
                if self.random.bool() {
                    allow(within("a close", old.close()).await);
                }
            }
        }
    }

    fn address(&self) -> String {
        let text = format!("{:?}", self.client);
        let rest = text.split_once("address: \"").unwrap().1;
        rest.split_once('"').unwrap().0.to_owned()
    }

    /// Any procedure, with the length of a request for it.
    fn any(&mut self) -> (&'static Procedure, usize) {
        let procedure = self
            .random
            .choice([
                &ECHO, &ECHO, &ECHO, &SLEEP, &HANG, &SPIN, &PANIC, &FAIL, &SPAWNED, &BLOCKING, &PLAY, &FEED,
                &CHAT, &DRONE,
            ])
            .unwrap();
        let len = match self.random.u32(..20) {
            0 => self.random.usize(..600_000),
            1..4 => self.random.usize(..40_000),
            _ => self.random.usize(..100),
        };
        (procedure, len)
    }

    fn timeout(&mut self, procedure: &Procedure) -> Duration {
        let most = if *procedure == HANG { 20_000 } else { 400_000 };
        Duration::from_micros(self.random.u64(1..most))
    }

    async fn one(&mut self, procedure: &'static Procedure, len: usize) {
        let call = self.call(procedure, len);
        self.outcomes.push(within("a call", call).await);
    }

    fn call(
        &mut self,
        procedure: &'static Procedure,
        len: usize,
    ) -> impl Future<Output = Outcome> + Send + use<> {
        let request = self.stress.request(len);
        let limit = self.timeout(procedure);
        let client = self.client.clone();
        async move {
            if procedure.has_request_stream() || procedure.has_reply_stream() {
                return flows::call(&client, procedure, request, limit).await;
            }
            let number = number(&request);
            let call = client.call().timeout(limit);
            match call.send_recv::<_, Bytes>(procedure, request.clone()).await {
                Ok(reply) => {
                    assert_eq!(reply, request, "the reply of another call");
                    Outcome::Replied(number)
                }
                Err(error) => {
                    let expected = match error.code() {
                        Code::Unknown => *procedure == PANIC && error.message() == "handler panicked",
                        Code::NotFound => *procedure == FAIL,
                        Code::Unavailable | Code::DeadlineExceeded => true,
                        _ => false,
                    };
                    assert!(expected, "{}: {error:?}", procedure.path());
                    Outcome::Failed(number, error.executed())
                }
            }
        }
    }

    async fn burst(&mut self) {
        let count = self.random.usize(1..60);
        let calls: Vec<_> = (0..count)
            .map(|_| {
                let (procedure, len) = self.any();
                tokio::spawn(self.call(procedure, len))
            })
            .collect();
        for call in calls {
            self.outcomes.push(within("a call", call).await.unwrap());
        }
    }

    /// One-way calls, and what a barrier says of them.
    async fn sends(&mut self) {
        for _ in 0..self.random.usize(1..60) {
            let (procedure, len) = self.any();
            if *procedure == HANG || procedure.has_request_stream() || procedure.has_reply_stream() {
                continue;
            }
            let request = self.stress.request(len);
            let limit = self.timeout(procedure);
            let number = number(&request);
            let send = self.client.call().timeout(limit).send(procedure, request);
            if let Err(error) = within("a send", send).await {
                allow(Err(error.clone()));
                assert_eq!(error.executed(), Executed::No, "{error:?}");
                self.outcomes.push(Outcome::Failed(number, Executed::No));
            }
        }
        allow(within("a barrier", self.client.barrier()).await.map(drop));
    }

    /// Calls whose futures are dropped at any point.
    async fn cancelled(&mut self) {
        for _ in 0..self.random.usize(1..30) {
            let (procedure, len) = self.any();
            let call = self.call(procedure, len);
            let patience = Duration::from_micros(self.random.u64(..3000));
            if self.random.bool() {
                if let Ok(outcome) = timeout(patience, call).await {
                    self.outcomes.push(outcome);
                }
            } else {
                let task = tokio::spawn(call);
                tokio::task::yield_now().await;
                task.abort();
                if let Ok(outcome) = task.await {
                    self.outcomes.push(outcome);
                }
            }
        }
    }
}

/// Servers come and go, so `UNAVAILABLE` is a good answer.
fn allow(result: Result<(), Error>) {
    if let Err(error) = result {
        let allowed = matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded);
        assert!(allowed, "{error:?}");
    }
}

fn run(workers: usize, name: &str) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let addresses = [
            "tcp://127.0.0.1:0".to_owned(),
            test_support::unix(&format!("stress-{name}")),
            format!("mem:stress-{name}"),
        ];
        let courses = addresses.map(|address| tokio::spawn(course(address)));
        for course in courses {
            course.await.unwrap();
        }
        // Nothing of ours runs any more: no driver, no handler, no keeper.
        let metrics = runtime.metrics();
        within("the end of all tasks", async {
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

/// One server with its users.
async fn course(address: String) {
    let stress = Stress::default();
    let mut server = Running::start(&stress, &address).await;
    let over = Arc::new(AtomicBool::new(false));
    let users: Vec<_> = (0..USERS)
        .map(|user| {
            let mut user = User {
                stress: stress.clone(),
                client: Client::connect_lazy(&server.address),
                random: fastrand::Rng::with_seed(setting("RPC_STRESS_SEED", 0) * USERS + user),
                outcomes: Vec::new(),
            };
            tokio::spawn(async move {
                for _ in 0..setting("RPC_STRESS_ROUNDS", 30) {
                    user.round().await;
                }
                user.outcomes
            })
        })
        .collect();
    let restarting = tokio::spawn({
        let (stress, over) = (stress.clone(), Arc::clone(&over));
        async move {
            let mut restarts = 0;
            while !over.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(150)).await;
                restarts += 1;
                server = server.restart(&stress, restarts % 2 == 0).await;
            }
            server
        }
    });
    let mut outcomes = Vec::new();
    for user in users {
        outcomes.extend(user.await.unwrap());
    }
    over.store(true, Ordering::SeqCst);
    let server = within("a restart", restarting).await.unwrap();
    server.handle.drain();
    // A handler may count as stuck while the OS gives its thread no time. Each must end in the end.
    within("a drain", server.serving).await.unwrap().unwrap();
    within("the end of all handlers", async {
        while stress.0.handlers.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for outcome in outcomes {
        match outcome {
            Outcome::Replied(number) | Outcome::Failed(number, Executed::Yes) => {
                assert_eq!(stress.starts(number), 1, "call {number} was answered");
            }
            Outcome::Failed(number, Executed::No) => {
                assert_eq!(stress.starts(number), 0, "call {number} was not executed");
            }
            Outcome::Failed(..) => {}
        }
    }
    let started = stress.0.started.lock().unwrap();
    assert!(
        started.values().all(|starts| *starts == 1),
        "a handler started twice"
    );
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LONG, future).await {
        Ok(result) => result,
        Err(_) => panic!("{what} is still pending after 60 s"),
    }
}

const USERS: u64 = 4;
/// Longer than anything takes, whatever else the machine does; shorter than the idle limits that would hide a loss.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn two_workers_end_every_call_and_leave_nothing_behind() {
    run(2, "two");
}

#[test]
fn four_workers_end_every_call_and_leave_nothing_behind() {
    run(4, "four");
}
