//! Probe: a service whose handlers record their starts and ends.

mod streams;

use std::{future::pending, thread, time::Duration};

use rpc_runtime::{Bytes, Code, Context, Limits, Open, Requests, Result, Status, Stream};

use self::streams::{Streaming, script};
use crate::{
    api::v1::{EchoReply, Ending, Item, Probe as ProbeService, ProbeServer},
    journal::{Event, Journal},
    script::Script,
};

/// The service of a run's servers: its handlers end in each possible way, and record it in the journal.
#[derive(Clone, Debug)]
pub struct Probe {
    journal: Journal,
}

impl Probe {
    /// Makes a probe that records in `journal`.
    pub fn new(journal: Journal) -> Self {
        Self { journal }
    }

    fn start(&self, cx: &Context, token: u64) -> Running {
        let one_way = cx.is_one_way();
        self.journal.write(token, Event::Started, one_way);
        Running {
            journal: self.journal.clone(),
            token,
            one_way,
            end: Event::Dropped,
        }
    }
}

/// The generated server of a [`Probe`].
pub fn service(journal: Journal) -> ProbeServer<Probe> {
    ProbeServer::new(Probe::new(journal))
}

/// Returns the limits for its server: an accepted one-way call runs, even on a busy machine.
pub fn limits() -> Limits {
    Limits::default().one_way_timeout(Duration::from_secs(600))
}

/// Makes the status that a [`Probe`] refuses with.
pub fn refusal() -> Status {
    Status::new(Code::NotFound, "on purpose")
}

/// A started handler. It records its end in the poll in which it ends.
struct Running {
    journal: Journal,
    token: u64,
    one_way: bool,
    end: Event,
}

impl Running {
    fn end<T>(mut self, reply: T) -> Result<T> {
        self.end = Event::Ended;
        Ok(reply)
    }

    fn fail<T>(mut self) -> Result<T> {
        self.end = Event::Failed;
        Err(refusal())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let end = if thread::panicking() {
            Event::Panicked
        } else {
            self.end
        };
        self.journal.write(self.token, end, self.one_way);
    }
}

impl ProbeService for Probe {
    async fn rpc_echo(&self, cx: &Context, token: u64, payload: Bytes) -> Result<EchoReply> {
        self.start(cx, token).end(EchoReply { token, payload })
    }

    async fn rpc_refuse(&self, cx: &Context, token: u64) -> Result<()> {
        self.start(cx, token).fail()
    }

    async fn rpc_sleep(&self, cx: &Context, token: u64, micros: u32) -> Result<()> {
        let running = self.start(cx, token);
        tokio::time::sleep(pause(micros)).await;
        running.end(())
    }

    async fn rpc_refuse_late(&self, cx: &Context, token: u64, micros: u32) -> Result<()> {
        let running = self.start(cx, token);
        tokio::time::sleep(pause(micros)).await;
        running.fail()
    }

    async fn rpc_hang(&self, cx: &Context, token: u64) -> Result<()> {
        let running = self.start(cx, token);
        pending::<()>().await;
        running.end(())
    }

    async fn rpc_crash(&self, cx: &Context, token: u64) -> Result<()> {
        let _running = self.start(cx, token);
        if token % 2 == 1 {
            tokio::task::yield_now().await;
        }
        // This skips the panic hook, which would print the panic.
        std::panic::resume_unwind(Box::new("on purpose"))
    }

    async fn rpc_compute(&self, cx: &Context, token: u64, micros: u32) -> Result<()> {
        let running = self.start(cx, token);
        thread::sleep(pause(micros));
        running.end(())
    }

    async fn rpc_block(&self, cx: &Context, token: u64, micros: u32) -> Result<()> {
        let running = self.start(cx, token);
        thread::sleep(pause(micros));
        running.end(())
    }

    async fn rpc_spin(&self, cx: &Context, token: u64, micros: u32) -> Result<()> {
        let running = self.start(cx, token);
        thread::sleep(pause(micros));
        running.end(())
    }

    async fn rpc_list(
        &self,
        _: &Context,
        token: u64,
        count: u32,
        len: u32,
        micros: u32,
        ending: Open<Ending>,
    ) -> Result<impl Stream<Item = Result<Item>> + Send> {
        let ending = ending.known();
        let ending = ending.ok_or_else(|| Status::new(Code::InvalidArgument, "an unknown ending"))?;
        let script = Script {
            token,
            count,
            len,
            micros,
            ending,
            apart: false,
        };
        Ok(Streaming::start(&self.journal, script).list())
    }

    async fn rpc_gather(&self, cx: &Context, requests: Requests<Item>) -> Result<u32> {
        Streaming::start(&self.journal, script(cx)?)
            .gather(requests)
            .await
    }

    async fn rpc_relay(
        &self,
        cx: &Context,
        requests: Requests<Item>,
    ) -> Result<impl Stream<Item = Result<Item>> + Send> {
        Ok(Streaming::start(&self.journal, script(cx)?).relay(requests))
    }
}

fn pause(micros: u32) -> Duration {
    Duration::from_micros(micros.into())
}
