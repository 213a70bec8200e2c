//! The Kv demo's store: what the server binary serves, and what the client binary embeds.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    thread,
    time::Duration,
};

use demo_api::demo::kv::v1::{KeyRefused, Kv};
use rpc_runtime::{Bytes, Code, Context, Message, Result, Status};

/// The longest key, in bytes.
pub const MAX_KEY_LEN: usize = 256;

/// Values by key, in memory.
#[derive(Debug, Default)]
pub struct Store {
    values: RwLock<HashMap<String, Bytes>>,
}

impl Store {
    // Methods of the type itself are never remote: only what kv.proto lists is.
    fn put(&self, key: String, value: Bytes) {
        self.values
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, value);
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
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            let text = format!("a key has 1 to {MAX_KEY_LEN} bytes, this one has {}", key.len());
            let details = KeyRefused {
                key,
                max_len: MAX_KEY_LEN as u32,
            };
            return Err(Status::new(Code::InvalidArgument, text).with_details(details.encode_to_vec()));
        }
        self.put(key, value);
        Ok(())
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
}
