//! Streams: handlers with streams, which follow their scripts.

use std::{future::pending, thread};

use rpc_runtime::{Code, Context, Requests, Result, Status, Stream, stream};

use super::{pause, refusal};
use crate::{
    api::v1::{Ending, Item},
    journal::{Event, Journal, Moved, Reading},
    script::{Script, is_of, item},
};

/// A started handler with streams. It records its end and the messages that it has read and sent.
pub(super) struct Streaming {
    journal: Journal,
    script: Script,
    moved: Moved,
    end: Event,
}

impl Streaming {
    pub(super) fn start(journal: &Journal, script: Script) -> Self {
        journal.write(script.token, Event::Started, false);
        Self {
            journal: journal.clone(),
            script,
            moved: Moved::default(),
            end: Event::Dropped,
        }
    }

    /// Sends the number of messages that the script says.
    pub(super) fn list(mut self) -> impl Stream<Item = Result<Item>> + Send {
        let Script {
            token, count, len, ..
        } = self.script;
        stream(async move |out| {
            for number in 0..count {
                self.wait().await;
                self.moved.gave += 1;
                out.send(item(token, number, len)).await;
            }
            self.end().await
        })
    }

    /// Reads all messages, or the number that the script says.
    pub(super) async fn gather(self, requests: Requests<Item>) -> Result<u32> {
        if !self.script.apart {
            return self.gather_here(requests).await;
        }
        match tokio::spawn(self.gather_here(requests)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    async fn gather_here(mut self, mut requests: Requests<Item>) -> Result<u32> {
        while self.read(&mut requests).await?.is_some() {}
        let count = self.moved.got;
        self.end().await?;
        Ok(count)
    }

    /// Sends back all messages, or the number that the script says.
    pub(super) fn relay(mut self, mut requests: Requests<Item>) -> impl Stream<Item = Result<Item>> + Send {
        stream(async move |out| {
            while let Some(item) = self.read(&mut requests).await? {
                self.moved.gave += 1;
                out.send(item).await;
            }
            self.end().await
        })
    }

    /// Reads the next message; `None` at the end of the stream or of the script.
    async fn read(&mut self, requests: &mut Requests<Item>) -> Result<Option<Item>> {
        if self.moved.got >= self.script.count {
            return Ok(None);
        }
        self.wait().await;
        match requests.message().await {
            Ok(Some(item)) => {
                let is_next = is_of(&item, self.script.token) && item.number == self.moved.got;
                self.moved.got += 1;
                if !is_next {
                    self.moved.reading = Reading::Disordered;
                    self.end = Event::Failed;
                    return Err(Status::new(Code::DataLoss, "not the next message"));
                }
                Ok(Some(item))
            }
            Ok(None) => {
                self.moved.reading = Reading::Whole;
                Ok(None)
            }
            // The handler may have ended.
            Err(status) if self.script.apart => Err(status),
            // A handler may return this error, or ignore it and be dropped.
            Err(status) if self.script.token % 2 == 0 => {
                self.end = Event::Failed;
                Err(status)
            }
            Err(_) => pending().await,
        }
    }

    async fn wait(&self) {
        if self.script.micros > 0 {
            tokio::time::sleep(pause(self.script.micros)).await;
        }
    }

    /// Ends as the script says.
    async fn end(mut self) -> Result<()> {
        match self.script.ending {
            Ending::Ok => {
                self.end = Event::Ended;
                Ok(())
            }
            Ending::Refuse => {
                self.end = Event::Failed;
                Err(refusal())
            }
            // This skips the panic hook, which would print the panic.
            Ending::Crash => std::panic::resume_unwind(Box::new("on purpose")),
            Ending::Hang => pending().await,
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let end = if thread::panicking() {
            Event::Panicked
        } else {
            self.end
        };
        self.journal.write_end(self.script.token, end, self.moved);
    }
}

/// Reads the script of a call.
pub(super) fn script(cx: &Context) -> Result<Script> {
    let text = cx.metadata().get_str(Script::KEY).unwrap_or_default();
    Script::parse(text).ok_or_else(|| Status::new(Code::InvalidArgument, "no script"))
}
