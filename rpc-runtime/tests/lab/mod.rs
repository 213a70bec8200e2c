//! A service written by hand, whose handlers do what servers must survive.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod audit;
pub(crate) mod wire;

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use bytes::{Buf, BufMut};
use rpc_runtime::{
    Bytes, Client, Code, Context, DrainReport, Error, Handler, Incoming, Procedure, Result, Server,
    ServerBuilder, Service, Status,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

/// Returns its text.
pub(crate) static ECHO: Procedure = Procedure::new("lab.v1.Lab/echo", 1);
/// Appends its text to the log.
pub(crate) static NOTE: Procedure = Procedure::new("lab.v1.Lab/note", 2);
/// Notes that it began, awaits the release, notes that it ended or was dropped.
pub(crate) static WAIT: Procedure = Procedure::new("lab.v1.Lab/wait", 3);
/// As `WAIT`, but blocks its thread until the release.
pub(crate) static BLOCK: Procedure = Procedure::new("lab.v1.Lab/block", 4);
/// As `BLOCK`, declared to run in a task of its own.
pub(crate) static BLOCK_SPAWNED: Procedure = Procedure::new("lab.v1.Lab/block_spawned", 5).spawn();
/// As `BLOCK`, declared to block.
pub(crate) static BLOCK_BLOCKING: Procedure = Procedure::new("lab.v1.Lab/block_blocking", 6).blocking();
/// Panics at its first poll.
pub(crate) static PANIC: Procedure = Procedure::new("lab.v1.Lab/panic", 7);
/// Panics after an await.
pub(crate) static PANIC_LATER: Procedure = Procedure::new("lab.v1.Lab/panic_later", 8);
/// Refuses with details.
pub(crate) static FAIL: Procedure = Procedure::new("lab.v1.Lab/fail", 9);
/// Tells what its context says.
pub(crate) static CONTEXT: Procedure = Procedure::new("lab.v1.Lab/context", 10);
/// Terminates its own server.
pub(crate) static SUICIDE: Procedure = Procedure::new("lab.v1.Lab/suicide", 11);
/// As `SUICIDE`, from a task that it spawns and waits for.
pub(crate) static SUICIDE_SPAWNED: Procedure = Procedure::new("lab.v1.Lab/suicide_spawned", 16);
/// As `BLOCK`, but after an await.
pub(crate) static BLOCK_LATER: Procedure = Procedure::new("lab.v1.Lab/block_later", 12);
/// Returns its text after a timer of the server's runtime.
pub(crate) static SLEEP: Procedure = Procedure::new("lab.v1.Lab/sleep", 13);
/// Has its text returned by the client that the test has set.
pub(crate) static FORWARD: Procedure = Procedure::new("lab.v1.Lab/forward", 14);
/// Returns a message that panics when it is written.
pub(crate) static UNWRITABLE: Procedure = Procedure::new("lab.v1.Lab/unwritable", 15);
/// Calls `SUICIDE` of another server, by the client that the test has set.
pub(crate) static SUICIDE_BEYOND: Procedure = Procedure::new("lab.v1.Lab/suicide_beyond", 17);
/// Returns when the server drains.
pub(crate) static DRAINING: Procedure = Procedure::new("lab.v1.Lab/draining", 18);
/// As `WAIT`, but panics when it is dropped.
pub(crate) static PANIC_DROPPED: Procedure = Procedure::new("lab.v1.Lab/panic_dropped", 19);
/// Has its text returned by its caller's `ECHO`.
pub(crate) static BACK: Procedure = Procedure::new("lab.v1.Lab/back", 20);
/// As `BACK`, when the server drains.
pub(crate) static BACK_DRAINING: Procedure = Procedure::new("lab.v1.Lab/back_draining", 21);
/// Has its caller's `WAIT` wait.
pub(crate) static BACK_WAIT: Procedure = Procedure::new("lab.v1.Lab/back_wait", 22);
/// Keeps a stub to its caller.
pub(crate) static KEEP: Procedure = Procedure::new("lab.v1.Lab/keep", 23);
/// Notes that it began, computes for longer than a task costs, notes that it ended.
pub(crate) static COMPUTE: Procedure = Procedure::new("lab.v1.Lab/compute", 24);
/// Returns the name of its thread.
pub(crate) static THREAD: Procedure = Procedure::new("lab.v1.Lab/thread", 25);
/// Returns its caller's address.
pub(crate) static PEER: Procedure = Procedure::new("lab.v1.Lab/peer", 26);
/// Never ends; each time the test wakes it, it waits again.
pub(crate) static WAIT_AGAIN: Procedure = Procedure::new("lab.v1.Lab/wait_again", 27);
/// The built-in terminate, for requests of the test's own making.
pub(crate) static TERMINATE: Procedure =
    Procedure::new("rpc.control.v1.Control/rpc_terminate", 0xa5ce_a24e_5662_ab3b);
/// Not served.
pub(crate) static NOWHERE: Procedure = Procedure::new("lab.v1.Lab/nowhere", 99);

static PROCEDURES: [Procedure; 27] = [
    ECHO,
    NOTE,
    WAIT,
    BLOCK,
    BLOCK_SPAWNED,
    BLOCK_BLOCKING,
    PANIC,
    PANIC_LATER,
    FAIL,
    CONTEXT,
    SUICIDE,
    BLOCK_LATER,
    SLEEP,
    FORWARD,
    UNWRITABLE,
    SUICIDE_SPAWNED,
    SUICIDE_BEYOND,
    DRAINING,
    PANIC_DROPPED,
    BACK,
    BACK_DRAINING,
    BACK_WAIT,
    KEEP,
    COMPUTE,
    THREAD,
    PEER,
    WAIT_AGAIN,
];

/// What the test and the handlers share.
#[derive(Clone, Default)]
pub(crate) struct Lab(Arc<Inner>);

#[derive(Default)]
struct Inner {
    log: Mutex<Vec<String>>,
    logged: Notify,
    released: Mutex<bool>,
    release: Condvar,
    release_async: watch::Sender<bool>,
    client: Mutex<Option<Client>>,
    wake: Notify,
}

impl Lab {
    /// Binds a server with this lab on `address`, and serves it.
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
        let handle = server.handle();
        Running {
            address: server.addresses()[0].clone(),
            handle,
            serving: crate::gate::serve(server),
        }
    }

    pub(crate) fn note(&self, text: impl Into<String>) {
        self.0.log.lock().unwrap().push(text.into());
        self.0.logged.notify_waiters();
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    /// The log, which is empty afterwards.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.log.lock().unwrap())
    }

    /// Waits until the log has `text`.
    pub(crate) async fn logged(&self, text: &str) {
        let logged = async {
            loop {
                let next = self.0.logged.notified();
                tokio::pin!(next);
                next.as_mut().enable();
                if self.log().iter().any(|line| line == text) {
                    return;
                }
                next.await;
            }
        };
        if tokio::time::timeout(LONG, logged).await.is_err() {
            panic!("no {text:?} in the log: {:?}", self.log());
        }
    }

    /// Lets everything that waits or blocks go on, now and later.
    pub(crate) fn release(&self) {
        *self.0.released.lock().unwrap() = true;
        self.0.release.notify_all();
        self.0.release_async.send_replace(true);
    }

    /// Wakes `WAIT_AGAIN`.
    pub(crate) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Makes everything that comes from now on wait or block again.
    pub(crate) fn hold(&self) {
        self.0.log.lock().unwrap().clear();
        *self.0.released.lock().unwrap() = false;
        self.0.release_async.send_replace(false);
    }

    pub(crate) fn set_client(&self, client: Client) {
        *self.0.client.lock().unwrap() = Some(client);
    }

    pub(crate) fn forget_client(&self) {
        *self.0.client.lock().unwrap() = None;
    }

    /// The stub to its caller that `KEEP` has kept.
    pub(crate) fn kept(&self) -> Client {
        self.0.client.lock().unwrap().clone().expect("it was kept")
    }

    async fn wait(&self, name: String) -> String {
        let mut guard = NoteDrop {
            lab: self.clone(),
            name: format!("{name} dropped"),
        };
        self.note(format!("{name} began"));
        self.0
            .release_async
            .subscribe()
            .wait_for(|released| *released)
            .await
            .unwrap();
        guard.name.clear();
        self.note(format!("{name} ended"));
        name
    }

    pub(crate) fn block(&self, name: String) -> String {
        self.note(format!("{name} began"));
        let released = self.0.released.lock().unwrap();
        let (released, timeout) = self
            .0
            .release
            .wait_timeout_while(released, LONG, |released| !*released)
            .unwrap();
        drop(released);
        self.note(format!("{name} ended"));
        assert!(!timeout.timed_out(), "{name} was never released");
        name
    }

    async fn suicide(&self) -> Result<String> {
        let client = self.0.client.lock().unwrap().clone().expect("set by the test");
        let report = client.terminate().await?;
        self.note("terminate returned");
        Ok(report.to_string())
    }
}

struct NoteDrop {
    lab: Lab,
    name: String,
}

impl Drop for NoteDrop {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.lab.note(self.name.clone());
        }
    }
}

impl Service for Lab {
    fn name(&self) -> &'static str {
        "lab.v1.Lab"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        let lab = self.clone();
        match index {
            0 => call.handle(|_, text: String| async move { Ok(text) }),
            1 => call.handle(|_, text: String| async move {
                lab.note(text);
                Ok(())
            }),
            2 => call.handle(|_, name: String| async move { Ok(lab.wait(name).await) }),
            3..=5 => call.handle(|_, name: String| async move { Ok(lab.block(name)) }),
            6 => call.handle(|_, (): ()| async move { panics().map(|()| String::new()) }),
            7 => call.handle(|_, (): ()| async move {
                tokio::task::yield_now().await;
                panics().map(|()| String::new())
            }),
            8 => call.handle(|_, (): ()| async move {
                let status = Status::new(Code::NotFound, "no such thing")
                    .with_details_bytes(Bytes::from_static(b"more"));
                Err::<String, _>(status)
            }),
            9 => call.handle(|cx: Context, (): ()| async move { Ok(describe(&cx)) }),
            10 => call.handle(|_, (): ()| async move { lab.suicide().await }),
            11 => call.handle(|_, name: String| async move {
                lab.note(format!("{name} first"));
                tokio::task::yield_now().await;
                Ok(lab.block(name))
            }),
            12 => call.handle(|_, text: String| async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Ok(text)
            }),
            13 => call.handle(|_, text: String| async move {
                let client = lab.0.client.lock().unwrap().clone().expect("set by the test");
                let text: String = client.call().send_recv(&ECHO, text).await?;
                lab.note(format!("{text} forwarded"));
                Ok(text)
            }),
            14 => call.handle(|_, (): ()| async move { Ok(Unwritable) }),
            15 => call.handle(|cx: Context, (): ()| async move {
                let client = lab.0.client.lock().unwrap().clone().expect("set by the test");
                let task = tokio::spawn(async move { client.call().within(&cx).terminate().await });
                Ok(task.await.unwrap()?.to_string())
            }),
            16 => call.handle(|_, (): ()| async move {
                let client = lab.0.client.lock().unwrap().clone().expect("set by the test");
                let told: String = client.call().timeout(None).send_recv(&SUICIDE, ()).await?;
                Ok(told)
            }),
            17 => call.handle(|cx: Context, name: String| async move {
                lab.note(format!("{name} began, draining={}", cx.is_draining()));
                cx.draining().await;
                Ok(format!("{name} ended, draining={}", cx.is_draining()))
            }),
            18 => call.handle(|_, name: String| async move {
                let _panic = PanicDrop;
                Ok(lab.wait(name).await)
            }),
            19 => call.handle(|cx: Context, text: String| async move { back(&cx, &ECHO, text).await }),
            20 => call.handle(|cx: Context, text: String| async move {
                lab.note(format!("{text} began"));
                cx.draining().await;
                back(&cx, &ECHO, text).await
            }),
            21 => call.handle(|cx: Context, text: String| async move { back(&cx, &WAIT, text).await }),
            22 => call.handle(|cx: Context, (): ()| async move {
                lab.set_client(cx.caller());
                Ok(())
            }),
            23 => call.handle(|_, name: String| async move {
                lab.note(format!("{name} began"));
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_micros(100) {
                    std::hint::spin_loop();
                }
                lab.note(format!("{name} ended"));
                Ok(name)
            }),
            24 => call.handle(|_, (): ()| async move {
                Ok(std::thread::current().name().unwrap_or_default().to_owned())
            }),
            25 => call.handle(|cx: Context, (): ()| async move { Ok(cx.peer().address().to_owned()) }),
            26 => call.handle(|_, name: String| async move {
                let _guard = NoteDrop {
                    lab: lab.clone(),
                    name: format!("{name} dropped"),
                };
                lab.note(format!("{name} began"));
                loop {
                    lab.0.wake.notified().await;
                }
                #[expect(unreachable_code, reason = "the type")]
                Ok(name)
            }),
            _ => call.unknown(),
        }
    }
}

/// Panics when it is dropped, unless a panic is on its way.
struct PanicDrop;

impl Drop for PanicDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "on purpose");
    }
}

/// The request of a terminate.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TerminateRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) instance_id: Bytes,
}

/// A message that panics when it is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unwritable;

impl prost::Message for Unwritable {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&[0; 10]);
        panic!("on purpose")
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl Buf,
        _: prost::encoding::DecodeContext,
    ) -> std::result::Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        20
    }

    fn clear(&mut self) {}
}

/// Calls the caller.
async fn back(cx: &Context, procedure: &'static Procedure, text: String) -> Result<String> {
    let caller: Client = cx.caller();
    Ok(caller.call().send_recv(procedure, text).await?)
}

fn panics() -> Result<()> {
    panic!("on purpose")
}

fn describe(cx: &Context) -> String {
    format!(
        "{} {:?} deadline={} one_way={} k={}",
        cx.procedure(),
        cx.peer().transport(),
        cx.remaining().is_some(),
        cx.is_one_way(),
        cx.metadata().get_str("k").unwrap_or("-")
    )
}

/// A server that serves.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) handle: rpc_runtime::ServerHandle,
    pub(crate) serving: JoinHandle<Result<DrainReport, Error>>,
}

impl Running {
    pub(crate) async fn client(&self) -> Client {
        within(Client::connect(&self.address)).await.unwrap()
    }

    /// Waits for the end of the drain that somebody has begun.
    pub(crate) async fn report(self) -> DrainReport {
        within(self.serving).await.unwrap().unwrap()
    }
}

/// A call of a procedure that takes and returns text.
pub(crate) async fn text(
    client: &Client,
    procedure: &'static Procedure,
    text: &str,
) -> Result<String, Error> {
    within(client.call().send_recv(procedure, text.to_owned())).await
}

/// A call of a procedure that takes nothing.
pub(crate) async fn plain(client: &Client, procedure: &'static Procedure) -> Result<String, Error> {
    within(client.call().send_recv(procedure, ())).await
}

/// A call in a task of its own.
pub(crate) fn start(
    client: &Client,
    procedure: &'static Procedure,
    name: &str,
) -> JoinHandle<Result<String, Error>> {
    let (client, name) = (client.clone(), name.to_owned());
    tokio::spawn(async move { client.call().timeout(None).send_recv(procedure, name).await })
}

/// The address by which a client of this machine reaches a server that listens on all of its addresses.
pub(crate) fn loopback(address: &str) -> String {
    address.replace("0.0.0.0", "127.0.0.1")
}

pub(crate) async fn send(client: &Client, procedure: &'static Procedure, text: &str) {
    within(client.call().send(procedure, text.to_owned()))
        .await
        .unwrap();
}

/// The result of a future that must not take forever.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("it takes forever")
}

/// Longer than anything in a test takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);
