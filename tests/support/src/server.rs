//! A server that serves, and addresses for it.

use rpc_runtime::{
    Client, DrainReport, Error, Server,
    server::{ServerBuilder, ServerHandle, Service},
};
use tokio::task::JoinHandle;

use crate::{Lab, gate, within};

/// A server that serves in a task of its own. The [`gate`] looks at it at the end of the test.
#[derive(Debug)]
pub struct Running {
    /// The first address that it listens on.
    pub address: String,
    /// Drains and aborts it.
    pub handle: ServerHandle,
    /// Ends when the server has ended.
    pub serving: JoinHandle<Result<DrainReport, Error>>,
}

/// Binds a server and serves it.
pub async fn serve(builder: ServerBuilder) -> Running {
    let server = builder.bind().await.unwrap();
    Running {
        address: server.addresses()[0].clone(),
        handle: server.handle(),
        serving: gate::serve(server),
    }
}

/// Serves one service on a TCP port of this machine.
pub async fn serve_one(service: impl Service) -> Running {
    serve_at("tcp://127.0.0.1:0", service).await
}

/// Serves one service at `address`.
pub async fn serve_at(address: &str, service: impl Service) -> Running {
    let server = Server::builder().service(service);
    serve(server.listener(address).signals(false)).await
}

/// Binds a server that never serves: its peers connect and get no HELLO.
pub async fn mute(address: &str) -> Server {
    let server = Server::builder()
        .service(Lab::default())
        .listener(address)
        .signals(false);
    server.bind().await.unwrap()
}

impl Running {
    /// Connects a client to the first address.
    pub async fn client(&self) -> Client {
        within(Client::connect(&self.address)).await.unwrap()
    }

    /// Waits for the end of a drain that has begun.
    pub async fn report(self) -> DrainReport {
        within(self.serving).await.unwrap().unwrap()
    }

    /// Drains the server and waits for its end.
    pub async fn stop(self) -> DrainReport {
        self.handle.drain();
        self.report().await
    }
}

/// Turns the address of a server that listens on all IPv4 addresses into one that a client of this machine can use.
pub fn loopback(address: &str) -> String {
    address.replace("0.0.0.0", "127.0.0.1")
}

/// Returns the address of a Unix socket of this process, and on Windows that of a named pipe. Each test needs a `name` of its own.
pub fn unix(name: &str) -> String {
    let name = format!("rpc-test-{}-{name}", std::process::id());
    match cfg!(windows) {
        true => format!("pipe:{name}"),
        false => format!("unix:{}", std::env::temp_dir().join(name).display()),
    }
}

/// Returns an IPv4 address for servers that come back at the same port. Each test needs a `number` of its own, 2 or more.
///
/// On Linux no other test and no other process of tests binds or connects from that address, so none can take the port meanwhile.
pub fn own_host(number: u8) -> String {
    if !cfg!(target_os = "linux") {
        return "127.0.0.1".to_owned();
    }
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{high}.{low}.{number}")
}
