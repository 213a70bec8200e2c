//! Workers: threads of the server's own that drive connections, each in a runtime of one thread.

use std::{io, sync::Arc, thread};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::oneshot,
};

use crate::server::state::ServerState;
use crate::{Code, Error, session::WORKER};

/// Threads that each drive connections of their own, in a runtime of one thread. They end when this is dropped, or with their
/// server.
#[derive(Debug)]
pub(crate) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    server: oneshot::Sender<Arc<ServerState>>,
}

impl Workers {
    /// Starts `count` workers.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE if the OS refuses a thread, or what a runtime needs.
    pub(crate) fn start(count: usize) -> Result<Self, Error> {
        let start = |number| {
            Worker::start(number).map_err(|error| {
                let text = format!("cannot start worker {number} of {count} of the server");
                Error::local(Code::Unavailable, text).with_source(error)
            })
        };
        (0..count).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Returns the runtime of each worker.
    pub(crate) fn runtimes(&self) -> Vec<Handle> {
        self.0.iter().map(|worker| worker.runtime.clone()).collect()
    }

    /// Binds the workers to `server`: they end when it is closed.
    pub(crate) fn belong_to(self, server: &Arc<ServerState>) {
        for worker in self.0 {
            // The send fails if the thread has ended already.
            let _ = worker.server.send(Arc::clone(server));
        }
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (server, receiver) = oneshot::channel();
        thread::Builder::new()
            .name(format!("{WORKER}{number}"))
            .spawn(|| run(runtime, receiver))?;
        Ok(Self {
            runtime: handle,
            server,
        })
    }
}

fn run(runtime: Runtime, server: oneshot::Receiver<Arc<ServerState>>) {
    runtime.block_on(async {
        if let Ok(server) = server.await {
            server.lifecycle().closed().await;
        }
    });
    // Without waiting for blocking handlers, which may never end.
    runtime.shutdown_background();
}
