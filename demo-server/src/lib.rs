//! The store of the Kv demo. The server serves it, and the client's walk starts a server with it.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use demo_api::demo::kv::v1::{Answer, Command, KeyRefused, Kv, UpdateRequest, WatchEvent, WatcherClient};
use rpc_runtime::{Bytes, Context, Requests, Result, Status, Stream, client::ConnectionState, stream};
use tokio::sync::{
    Semaphore,
    broadcast::{self, error::RecvError},
};

/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 256;

/// Values by key, in memory.
#[derive(Debug)]
pub struct Store {
    values: RwLock<HashMap<String, Bytes>>,
    /// Changes for watchers and subscribers. It is bounded: a slow one loses changes, and the others lose nothing.
    changes: broadcast::Sender<WatchEvent>,
    /// Places for subscribers. Nothing else bounds tasks that outlive their handlers.
    subscribers: Arc<Semaphore>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            values: RwLock::default(),
            changes: broadcast::Sender::new(MAX_CHANGES),
            subscribers: Arc::new(Semaphore::new(MAX_SUBSCRIBERS)),
        }
    }
}

impl Store {
    // Only the procedures of kv.proto can be called remotely. The methods of the type itself cannot.
    fn put(&self, key: String, value: Bytes) -> Result<Option<Bytes>> {
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            let text = format!("a key has 1 to {MAX_KEY_LEN} bytes, this one has {}", key.len());
            let details = KeyRefused {
                key,
                max_len: MAX_KEY_LEN as u32,
            };
            return Err(Status::invalid_argument(text).with_details(&details));
        }
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        let before = values.insert(key.clone(), value.clone());
        // Sent under the lock, so that changes keep their order. It fails without watchers, which is fine.
        let _ = self.changes.send(WatchEvent { key, value });
        Ok(before)
    }

    /// Returns the present values of the keys that begin with `prefix`, and all changes from now on.
    fn follow(&self, prefix: &str) -> (Vec<WatchEvent>, broadcast::Receiver<WatchEvent>) {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        // Changes are sent under the lock, too. So none is missed between the two, and none arrives twice.
        let changes = self.changes.subscribe();
        let present = values.iter().filter(|(key, _)| key.starts_with(prefix));
        let mut present: Vec<_> = present
            .map(|(key, value)| WatchEvent {
                key: key.clone(),
                value: value.clone(),
            })
            .collect();
        drop(values);
        present.sort_by(|one, other| one.key.cmp(&other.key));
        (present, changes)
    }

    fn get(&self, key: &str) -> Option<Bytes> {
        self.values
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }
}

impl Kv for Store {
    async fn rpc_noop(&self, _: &Context) -> Result<()> {
        Ok(())
    }

    async fn rpc_update(&self, _: &Context, key: String, value: Bytes) -> Result<()> {
        self.put(key, value).map(drop)
    }

    async fn rpc_fetch(&self, _: &Context, key: String) -> Result<Option<Bytes>> {
        Ok(self.get(&key))
    }

    async fn rpc_ping(&self, _: &Context, text: String) -> Result<String> {
        Ok(text)
    }

    async fn rpc_sleep(&self, _: &Context, millis: u32) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(millis.into())).await;
        Ok(())
    }

    async fn rpc_block(&self, _: &Context, millis: u32) -> Result<()> {
        thread::sleep(Duration::from_millis(millis.into()));
        Ok(())
    }

    async fn rpc_watch(
        &self,
        cx: &Context,
        prefix: String,
    ) -> Result<impl Stream<Item = Result<WatchEvent>> + Send> {
        let (present, mut changes) = self.follow(&prefix);
        Ok(stream(async move |out| {
            for event in present {
                out.send(event).await;
            }
            loop {
                let event = tokio::select! {
                    event = changes.recv() => event,
                    () = cx.draining() => return Ok(()),
                };
                match event {
                    Ok(event) if event.key.starts_with(&prefix) => out.send(event).await,
                    Ok(_) => {}
                    Err(RecvError::Lagged(missed)) => {
                        let text = format!("this watcher is too slow: it missed {missed} changes");
                        return Err(Status::data_loss(text));
                    }
                    Err(RecvError::Closed) => return Ok(()),
                }
            }
        }))
    }

    async fn rpc_import(&self, _: &Context, mut requests: Requests<UpdateRequest>) -> Result<u64> {
        let mut entries = 0;
        // An error means that the stream is not complete. It ends the import.
        while let Some(UpdateRequest { key, value }) = requests.message().await? {
            self.put(key, value)?;
            entries += 1;
        }
        Ok(entries)
    }

    async fn rpc_session(
        &self,
        cx: &Context,
        mut requests: Requests<Command>,
    ) -> Result<impl Stream<Item = Result<Answer>> + Send> {
        Ok(stream(async move |out| {
            loop {
                let command = tokio::select! {
                    command = requests.message() => command?,
                    () = cx.draining() => return Err(Status::unavailable("the server drains")),
                };
                let before = match command {
                    Some(Command { key, value: None }) => self.get(&key),
                    Some(Command {
                        key,
                        value: Some(value),
                    }) => self.put(key, value)?,
                    None => return Ok(()),
                };
                out.send(Answer { before }).await;
            }
        }))
    }

    async fn rpc_subscribe(&self, cx: &Context, prefix: String) -> Result<()> {
        let place = Arc::clone(&self.subscribers).try_acquire_owned();
        let place = place.map_err(|_| {
            let text = format!("all {MAX_SUBSCRIBERS} places for subscribers are taken; try again later");
            Status::resource_exhausted(text)
        })?;
        let watcher: WatcherClient = cx.caller();
        let changes = self.changes.subscribe();
        tokio::spawn(async move {
            let mut states = watcher.client().watch_state();
            let gone = async { while states.changed().await != ConnectionState::Closed {} };
            tokio::select! {
                () = tell(&watcher, changes, &prefix) => {}
                () = gone => {}
            }
            drop(place);
        });
        Ok(())
    }
}

/// Calls a subscriber for each change, until such a call fails.
async fn tell(watcher: &WatcherClient, mut changes: broadcast::Receiver<WatchEvent>, prefix: &str) {
    loop {
        let told = match changes.recv().await {
            Ok(event) if !event.key.starts_with(prefix) => continue,
            Ok(WatchEvent { key, value }) => watcher.send_recv().changed(key, value).await,
            Err(RecvError::Lagged(changes)) => watcher.send_recv().missed(changes).await,
            Err(RecvError::Closed) => return,
        };
        if told.is_err() {
            return;
        }
    }
}

/// How many changes a watcher may be behind before it loses some.
const MAX_CHANGES: usize = 1024;
/// The most subscribers at once.
const MAX_SUBSCRIBERS: usize = 100;
