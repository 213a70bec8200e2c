//! CallValues: what a guest has put beside the calls of its client, until their handlers look for it.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

use super::beside::BesideValue;
use crate::Metadata;

/// The values beside the calls of one guest's client.
///
/// A call of that client is encoded as any other, so a value cannot travel with it. A number travels in its place, as an entry of its
/// metadata. Only the connection of this guest knows the number, and handlers do not see it.
#[derive(Default)]
pub(crate) struct CallValues(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last: u64,
    values: HashMap<u64, BesideValue>,
}

impl CallValues {
    /// Keeps `value` for a call, until the result is dropped.
    pub(crate) fn put<T: Any + Send + Sync>(self: &Arc<Self>, value: Arc<T>) -> CallValue {
        let mut numbered = self.lock();
        numbered.last += 1;
        let number = numbered.last;
        numbered.values.insert(number, BesideValue::of(value));
        CallValue {
            values: Arc::clone(self),
            number,
        }
    }

    /// Takes the number of a call from its metadata, and returns the value.
    pub(super) fn find(&self, metadata: &mut Metadata) -> Option<BesideValue> {
        let number = metadata.remove(KEY)?;
        let number = u64::from_be_bytes(number[..].try_into().ok()?);
        self.lock().values.get(&number).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CallValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallValues")
    }
}

/// A value beside a call of a guest's client: [`GuestServer::put_beside`](crate::server::GuestServer::put_beside) returns it.
///
/// The handler of the call finds the value until this is dropped.
#[derive(Debug)]
#[must_use = "the value is beside a call only as long as this lives"]
pub struct CallValue {
    values: Arc<CallValues>,
    number: u64,
}

impl CallValue {
    /// Returns the metadata entry that the call has to have. Middleware and handlers do not see it.
    pub fn entry(&self) -> (&'static str, Bytes) {
        (KEY, Bytes::copy_from_slice(&self.number.to_be_bytes()))
    }
}

impl Drop for CallValue {
    fn drop(&mut self) {
        self.values.lock().values.remove(&self.number);
    }
}

/// The key of the entry with the number.
const KEY: &str = "guest-call-value";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_entry_until_it_is_dropped() {
        let values = Arc::<CallValues>::default();
        let (one, two) = (values.put(Arc::new(1_u8)), values.put(Arc::new(2_u8)));
        let find = |entry: (&'static str, Bytes)| {
            let mut metadata = Metadata::from([entry, ("k", Bytes::from_static(b"v"))]);
            let found = values.find(&mut metadata);
            assert_eq!(metadata, Metadata::from([("k", "v")]), "the entry is gone");
            found.and_then(|value| value.get::<u8>().copied())
        };
        assert_eq!((find(two.entry()), find(one.entry())), (Some(2), Some(1)));
        let entry = one.entry();
        drop(one);
        assert_eq!(find(entry), None);
        assert_eq!(find((KEY, Bytes::from_static(b"no number"))), None);
        drop(two);
        assert!(values.lock().values.is_empty());
    }
}
