//! A service written by hand, for what a client must be able to count on.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Bytes, Client, Code, Context, DrainReport, Error, Handler, Incoming, Procedure, Result, Server,
    ServerBuilder, ServerHandle, Service, Status,
};
use tokio::task::JoinHandle;

/// Returns its bytes.
pub(crate) static ECHO: Procedure = Procedure::new("desk.v1.Desk/rpc_echo", 101);
/// Returns as many bytes as it is told.
pub(crate) static FILL: Procedure = Procedure::new("desk.v1.Desk/rpc_fill", 102);
/// Never ends.
pub(crate) static HANG: Procedure = Procedure::new("desk.v1.Desk/rpc_hang", 103);
/// Refuses, with details and with the caller's own metadata.
pub(crate) static REFUSE: Procedure = Procedure::new("desk.v1.Desk/rpc_refuse", 104);
/// Adds to the sum.
pub(crate) static ADD: Procedure = Procedure::new("desk.v1.Desk/rpc_add", 105);
/// Calls `HANG` of another server from its own future, without a timeout, and tells how that ended.
pub(crate) static NEST: Procedure = Procedure::new("desk.v1.Desk/rpc_nest", 106);
/// As `NEST`, from a task that it spawns, within its context.
pub(crate) static NEST_SPAWNED: Procedure = Procedure::new("desk.v1.Desk/rpc_nest_spawned", 107);
/// The value of the caller's entry `k`.
pub(crate) static ENTRY: Procedure = Procedure::new("desk.v1.Desk/rpc_entry", 108);
/// Returns the sum.
pub(crate) static SUM: Procedure = Procedure::new("desk.v1.Desk/rpc_sum", 109);
/// Not served.
pub(crate) static NOWHERE: Procedure = Procedure::new("desk.v1.Desk/rpc_nowhere", 199);

static PROCEDURES: [Procedure; 9] = [ECHO, FILL, HANG, REFUSE, ADD, NEST, NEST_SPAWNED, ENTRY, SUM];

/// What the test and the handlers share.
#[derive(Clone, Default)]
pub(crate) struct Desk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sum: AtomicU64,
    hanging: AtomicU64,
    next: Mutex<Option<Client>>,
}

impl Desk {
    /// The server that `NEST` calls.
    pub(crate) fn nesting(next: Client) -> Self {
        let desk = Self::default();
        *desk.0.next.lock().unwrap() = Some(next);
        desk
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::SeqCst)
    }

    /// How many handlers of `HANG` there are.
    pub(crate) fn hanging(&self) -> u64 {
        self.0.hanging.load(Ordering::SeqCst)
    }

    pub(crate) async fn serve(&self, address: &str) -> Running {
        self.serve_with(address, |server| server).await
    }

    pub(crate) async fn serve_with(
        &self,
        address: &str,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Running {
        let server = Server::builder()
            .service(self.clone())
            .listen(address)
            .signals(false);
        let server = configure(server).bind().await.unwrap();
        Running {
            address: server.addresses()[0].clone(),
            handle: server.handle(),
            serving: crate::gate::serve(server),
        }
    }

    async fn hang(&self) -> Result<()> {
        struct Leave(Desk);
        impl Drop for Leave {
            fn drop(&mut self) {
                self.0.0.hanging.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.hanging.fetch_add(1, Ordering::SeqCst);
        let _leave = Leave(self.clone());
        pending().await
    }

    fn next(&self) -> Client {
        self.0.next.lock().unwrap().clone().expect("set by the test")
    }
}

impl Service for Desk {
    fn name(&self) -> &'static str {
        "desk.v1.Desk"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let desk = self.clone();
        match index {
            0 => call.handle(|_, bytes: Bytes| async move { Ok(bytes) }),
            1 => call.handle(|_, len: u64| async move { Ok(Bytes::from(vec![7; len as usize])) }),
            2 => call.handle(|_, (): ()| async move { desk.hang().await }),
            3 => call.handle(|cx: Context, text: String| async move {
                let status = Status::new(Code::AlreadyExists, text)
                    .with_details_bytes(Bytes::from_static(b"the typed reason"))
                    .with_metadata(cx.metadata().clone());
                Err::<(), _>(status)
            }),
            4 => call.handle(|_, n: u64| async move {
                desk.0.sum.fetch_add(n, Ordering::SeqCst);
                Ok(())
            }),
            5 => call.handle(|_, (): ()| async move {
                let next = desk.next();
                Ok(outcome(next.call().timeout(None).send_recv(&HANG, ()).await))
            }),
            6 => call.handle(|cx: Context, (): ()| async move {
                let next = desk.next();
                let nested = async move { next.call().timeout(None).within(&cx).send_recv(&HANG, ()).await };
                Ok(outcome(tokio::spawn(nested).await.unwrap()))
            }),
            7 => call.handle(|cx: Context, (): ()| async move {
                Ok(cx.metadata().get("k").cloned().unwrap_or_default())
            }),
            8 => call.handle(|_, (): ()| async move { Ok(desk.sum()) }),
            _ => call.unknown(),
        }
    }
}

fn outcome(result: Result<(), Error>) -> String {
    result.map_or_else(|error| error.code().name().to_owned(), |()| "OK".to_owned())
}

/// A server that serves.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Running {
    pub(crate) async fn client(&self) -> Client {
        within(Client::connect(&self.address)).await.unwrap()
    }

    /// Drains the server, and waits until it has returned.
    pub(crate) async fn stop(self) {
        self.handle.drain();
        within(self.serving).await.unwrap().unwrap();
    }
}

pub(crate) async fn echo(client: &Client, bytes: impl Into<Bytes>) -> Result<Bytes, Error> {
    let bytes: Bytes = bytes.into();
    within(client.call().send_recv(&ECHO, bytes)).await
}

/// The result of a future that must not take forever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("it takes forever")
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(done: impl Fn() -> bool) {
    within(async {
        while !done() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// The first frame of a server, for peers that tests make by hand.
pub(crate) fn server_hello() -> Vec<u8> {
    let lines = include_str!("../../src/wire/frame/testdata/hello_server.hex").lines();
    let bytes = lines.flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// A path for a Unix socket of this test.
pub(crate) fn unix(name: &str) -> String {
    let path = std::env::temp_dir().join(format!("rpc-client-{}-{name}", std::process::id()));
    format!("unix:{}", path.display())
}

/// Longer than anything in a test takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);
