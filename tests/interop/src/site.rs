//! Site: a server of the cases, and its transport.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use rpc_http::{Grpc, Http};
use rpc_runtime::{Client, Compression, DrainReport, Error, Executed, Server, server::ServerHandle};
use tokio::task::JoinHandle;

use crate::{
    Failed, Outcome, Tester,
    check::same,
    interop::v1::{TestServiceClient, TestServiceServer},
};

/// The way between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Loopback TCP.
    Tcp,
    /// A Unix socket.
    Unix,
    /// Memory.
    Mem,
    /// gRPC over loopback TCP, on both sides.
    Grpc,
}

impl Over {
    /// All values.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Unix, Self::Mem, Self::Grpc];
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Mem => "mem",
            Self::Grpc => "grpc",
        })
    }
}

/// A server of the cases, and its transport.
#[derive(Debug)]
pub struct Site {
    tester: Tester,
    over: Over,
    address: String,
    compression: Option<Compression>,
    handle: ServerHandle,
    serving: JoinHandle<Result<DrainReport, Error>>,
    /// Removed after the server has ended.
    _folder: Option<Folder>,
}

impl Site {
    /// Starts a server; both sides use `compression`. Over gRPC there is none.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn open(over: Over, compression: Option<Compression>) -> Outcome<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut folder = None;
        let address = match over {
            Over::Tcp | Over::Grpc => "tcp://127.0.0.1:0".to_owned(),
            Over::Mem => format!("mem:interop-{number}"),
            Over::Unix => {
                let folder = folder.insert(Folder::new(number)?);
                format!("unix:{}", folder.0.join("socket").display())
            }
        };
        let tester = Tester::new();
        let mut builder = Server::builder()
            .service(TestServiceServer::new(tester.clone()))
            .guest(Http::new().grpc())
            .listener(address)
            .signals(false);
        if let Some(compression) = compression {
            builder = builder.compression(compression);
        }
        let server = builder.bind().await?;
        let address = server.addresses().first();
        let address = address.ok_or_else(|| Failed::new("the server has no address"))?;
        Ok(Self {
            tester,
            over,
            address: match over {
                Over::Grpc => address.replacen("tcp:", "grpc:", 1),
                Over::Tcp | Over::Unix | Over::Mem => address.clone(),
            },
            compression,
            handle: server.handle(),
            serving: tokio::spawn(server.serve()),
            _folder: folder,
        })
    }

    /// Makes a client with a connection of its own.
    ///
    /// # Errors
    ///
    /// If it cannot connect.
    pub async fn client(&self) -> Outcome<TestServiceClient> {
        self.connect().await
    }

    /// Returns the server's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the service of the server.
    pub fn tester(&self) -> &Tester {
        &self.tester
    }

    /// Drains the server, and waits for its end.
    ///
    /// # Errors
    ///
    /// If it did not end cleanly.
    pub async fn close(self) -> Outcome {
        self.handle.drain();
        let report = self.serving.await??;
        same("aborted calls", report.aborted(), 0)?;
        same("the drain's being clean", report.is_clean(), true)
    }

    /// What the caller of a call that failed on the server is told of its execution. Over gRPC a handler's status tells nothing, because a library may have sent it; a
    /// server of ours says that no handler ran.
    pub(crate) fn told(&self, executed: Executed) -> Executed {
        match (self.over, executed) {
            (Over::Grpc, Executed::Yes) => Executed::Maybe,
            _ => executed,
        }
    }

    /// Makes a stub of any kind, with a connection of its own.
    pub(crate) async fn connect<C: From<Client>>(&self) -> Outcome<C> {
        let mut builder = Client::builder(&self.address).protocol(Grpc::new());
        if let Some(compression) = self.compression {
            builder = builder.compression(compression);
        }
        Ok(C::from(builder.connect().await?))
    }
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder for a socket; it is removed with the socket.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new(number: u32) -> io::Result<Self> {
        let folder = std::env::temp_dir().join(format!("interop-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The OS cleans up files that cannot be removed.
        let _ = fs::remove_dir_all(&self.0);
    }
}
