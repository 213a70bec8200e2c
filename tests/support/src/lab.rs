//! A service whose handlers do what servers and clients must survive.

mod calls;
mod streams;

use std::{
    sync::{
        Arc, Condvar, LazyLock, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rpc_runtime::{
    Bytes, Client, Error, Message, Result, Server, Streaming,
    server::{Handler, Incoming, Procedure, ServerBuilder, Service},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

pub use self::{calls::*, streams::*};
use crate::{LONG, Running, serve, within};

/// The service, and what its handlers share with the test.
#[derive(Clone, Debug, Default)]
pub struct Lab(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    log: Mutex<Vec<String>>,
    logged: Notify,
    released: Mutex<bool>,
    release: Condvar,
    release_async: watch::Sender<bool>,
    client: Mutex<Option<Client>>,
    wake: Notify,
    sum: AtomicU64,
    hanging: AtomicUsize,
}

impl Lab {
    /// Makes a lab, and a client of it that needs no server.
    pub fn in_process() -> (Self, Client) {
        let lab = Self::default();
        (lab.clone(), Client::in_process(lab))
    }

    /// Serves this lab on `address`.
    pub async fn serve(&self, address: &str) -> Running {
        self.serve_with(address, |server| server).await
    }

    /// Serves this lab on `address`, by a server with more settings.
    pub async fn serve_with(
        &self,
        address: &str,
        configure: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Running {
        let server = Server::builder()
            .service(self.clone())
            .listener(address)
            .signals(false);
        serve(configure(server)).await
    }

    /// Appends `text` to the log.
    pub fn note(&self, text: impl Into<String>) {
        self.0.log.lock().unwrap().push(text.into());
        self.0.logged.notify_waiters();
    }

    /// Returns the log.
    pub fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    /// Returns the log and clears it.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.log.lock().unwrap())
    }

    /// Waits until the log has the line `text`.
    pub async fn logged(&self, text: &str) {
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
            panic!("no line {text:?} in the log after 60 s: {:?}", self.log());
        }
    }

    /// Ends every wait and every block, now and later.
    pub fn release(&self) {
        *self.0.released.lock().unwrap() = true;
        self.0.release.notify_all();
        self.0.release_async.send_replace(true);
    }

    /// Clears the log, and makes the handlers of later calls wait and block again.
    pub fn hold(&self) {
        self.0.log.lock().unwrap().clear();
        *self.0.released.lock().unwrap() = false;
        self.0.release_async.send_replace(false);
    }

    /// Wakes a handler of [`WAIT_AGAIN`].
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Sets the client that handlers call other servers by.
    pub fn set_client(&self, client: Client) {
        *self.0.client.lock().unwrap() = Some(client);
    }

    /// Drops the client that [`Lab::set_client`] or [`KEEP`] has set.
    pub fn forget_client(&self) {
        *self.0.client.lock().unwrap() = None;
    }

    /// Returns the client that [`Lab::set_client`] or [`KEEP`] has set.
    pub fn client(&self) -> Client {
        let client = self.0.client.lock().unwrap().clone();
        client.expect("a test sets the client first")
    }

    /// Returns what [`ADD`] has added up.
    pub fn sum(&self) -> u64 {
        self.0.sum.load(Ordering::SeqCst)
    }

    /// Returns how many handlers of [`HANG`], [`WATCH`], [`IGNORE`] and [`LEAVE`] there are.
    pub fn hanging(&self) -> usize {
        self.0.hanging.load(Ordering::SeqCst)
    }

    /// Waits until [`Lab::hanging`] is `count`. A paused clock moves meanwhile.
    pub async fn until_hanging(&self, count: usize) {
        within(async {
            while self.hanging() != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// Blocks this thread until the release, and notes when that began and ended.
    pub fn block(&self, name: String) -> String {
        self.note(format!("{name} began"));
        let released = self.0.released.lock().unwrap();
        let (released, timeout) = self
            .0
            .release
            .wait_timeout_while(released, LONG, |released| !*released)
            .unwrap();
        drop(released);
        self.note(format!("{name} ended"));
        assert!(!timeout.timed_out(), "{name} blocks still, after 60 s");
        name
    }

    /// Waits for the release, and notes when that began and ended, or that this future was dropped.
    async fn wait(&self, name: String) -> String {
        let mut guard = NoteDrop::new(self, &name);
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

    /// Counts as hanging until the guard is dropped.
    fn hang(&self) -> Hanging {
        self.0.hanging.fetch_add(1, Ordering::SeqCst);
        Hanging(self.clone())
    }
}

/// Notes when it is dropped.
struct NoteDrop {
    lab: Lab,
    /// Empty: notes nothing.
    name: String,
}

impl NoteDrop {
    fn new(lab: &Lab, name: &str) -> Self {
        Self {
            lab: lab.clone(),
            name: format!("{name} dropped"),
        }
    }
}

impl Drop for NoteDrop {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.lab.note(self.name.clone());
        }
    }
}

/// A handler that [`Lab::hanging`] counts.
struct Hanging(Lab);

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How a procedure is handled.
type Handle = fn(Lab, Incoming) -> Handler;

/// Declares procedures of the lab in place: documentation, constant, name, number, options, and then the handler.
macro_rules! procedures {
    ($(
        $(#[$doc:meta])*
        $constant:ident = $name:literal, $id:literal $(, $option:ident)*;
        $handle:expr
    )*) => {
        $(
            $(#[$doc])*
            pub static $constant: Procedure = Procedure::new(concat!("lab.v1.Lab/", $name), $id)$(.$option())*;
        )*

        pub(super) static PROCEDURES: &[(Procedure, Handle)] = &[$(($constant, $handle)),*];
    };
}
use procedures;

static PROCEDURES: LazyLock<Vec<Procedure>> =
    LazyLock::new(|| all_procedures().map(|(procedure, _)| *procedure).collect());

fn all_procedures() -> impl Iterator<Item = &'static (Procedure, Handle)> {
    calls::PROCEDURES.iter().chain(streams::PROCEDURES)
}

impl Service for Lab {
    fn name(&self) -> &'static str {
        "lab.v1.Lab"
    }

    fn procedures(&self) -> &'static [Procedure] {
        &PROCEDURES
    }

    fn takes_rows(&self) -> bool {
        true
    }

    fn call(&self, index: usize, call: Incoming) -> Handler {
        match all_procedures().nth(index) {
            Some((_, handle)) => handle(self.clone(), call),
            None => call.unknown(),
        }
    }
}

/// Calls a procedure that takes and returns text.
pub async fn text(client: &Client, procedure: &'static Procedure, text: &str) -> Result<String, Error> {
    within(client.call().send_recv(procedure, text.to_owned())).await
}

/// Calls a procedure that takes nothing and returns text.
pub async fn plain(client: &Client, procedure: &'static Procedure) -> Result<String, Error> {
    within(client.call().send_recv(procedure, ())).await
}

/// Calls [`ECHO`].
pub async fn echo(client: &Client, bytes: impl Into<Bytes>) -> Result<Bytes, Error> {
    let bytes: Bytes = bytes.into();
    within(client.call().send_recv(&ECHO, bytes)).await
}

/// Calls a procedure that takes and returns text, without a deadline and in a task of its own.
pub fn start(
    client: &Client,
    procedure: &'static Procedure,
    name: &str,
) -> JoinHandle<Result<String, Error>> {
    let (client, name) = (client.clone(), name.to_owned());
    tokio::spawn(async move { client.call().timeout(None).send_recv(procedure, name).await })
}

/// Calls [`HANG`], without a deadline and in a task of its own.
pub fn hang(client: &Client) -> JoinHandle<Result<(), Error>> {
    let client = client.clone();
    tokio::spawn(async move { client.call().timeout(None).send_recv(&HANG, ()).await })
}

/// Calls a procedure that takes text one-way.
pub async fn send(client: &Client, procedure: &'static Procedure, text: &str) {
    within(client.call().send(procedure, text.to_owned()))
        .await
        .unwrap();
}

/// Reads a stream to its end: its messages, and how it ended.
pub async fn all<T: Message + Default>(streaming: &mut Streaming<T>) -> (Vec<T>, Result<(), Error>) {
    let mut messages = Vec::new();
    loop {
        match within(streaming.message()).await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(error) => return (messages, Err(error)),
        }
    }
}
