//! The data served: a pre-filled, read-only map, and the keys the client asks for.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::delays::Delays;

use bytes::Bytes;

/// Values of a size: name, key prefix, number of keys, value lengths.
struct Class {
    name: &'static str,
    prefix: char,
    keys: u32,
    len: fn(u32) -> usize,
}

const CLASSES: [Class; 7] = [
    Class::new("16B", 't', 10_000, |_| 16),
    Class::new("64B", 's', 10_000, |_| 64),
    Class::new("1KiB", 'k', 1_024, |_| 1 << 10),
    Class::new("64KiB", 'm', 64, |_| 64 << 10),
    Class::new("1MiB", 'l', 8, |_| 1 << 20),
    // With its message around it, within the 4 MiB that most frameworks allow by default.
    Class::new("4MiB", 'h', 2, |_| (4 << 20) - 1024),
    Class::new("mixed", 'x', MIXED, mixed_len),
];

impl Class {
    const fn new(name: &'static str, prefix: char, keys: u32, len: fn(u32) -> usize) -> Self {
        Self {
            name,
            prefix,
            keys,
            len,
        }
    }
}

const MIXED: u32 = 1_024;

/// A Pareto distribution's quantiles from 16 B, cut at 1 MiB: half of the values are below 51 B, one in a hundred is
/// above 34 KiB, and that one brings most of the bytes.
fn mixed_len(index: u32) -> usize {
    let rarity = f64::from(MIXED) / (f64::from(MIXED - index) - 0.5);
    (16.0 * rarity.powf(1.0 / 0.6)).min((1 << 20) as f64) as usize
}

/// A key and what the server must answer for it.
pub struct Key {
    pub text: String,
    pub index: u32,
    pub len: usize,
}

impl Key {
    /// Panics unless `value` is the value of this key. Cheap on purpose: the length and the key's index, which starts
    /// every value.
    #[inline]
    pub fn check(&self, value: &[u8]) {
        assert_eq!(value.len(), self.len, "wrong length for {}", self.text);
        assert_eq!(
            value[..4],
            self.index.to_le_bytes(),
            "wrong value for {}",
            self.text
        );
    }
}

/// All keys of a size class, leaked: they live as long as the client.
pub fn keys(name: &str) -> &'static [Key] {
    let class = CLASSES
        .iter()
        .find(|class| class.name == name)
        .unwrap_or_else(|| panic!("no class {name}"));
    let keys: Vec<_> = (0..class.keys)
        .map(|index| Key {
            text: key_text(class.prefix, index),
            index,
            len: (class.len)(index),
        })
        .collect();
    keys.leak()
}

fn key_text(prefix: char, index: u32) -> String {
    format!("{prefix}/key-{index:08}")
}

/// What a handler does beside the look-up (`PEER_WORK`).
#[derive(Clone, Copy, PartialEq)]
enum Work {
    Nothing,
    /// Awaits a timer, as one would a database.
    Await,
    /// Computes.
    Burn,
    /// Reads the time that a one-way message carries.
    Delays,
}

/// The server's map, and what became of the messages that ask for nothing.
pub struct Store {
    map: HashMap<String, Entry>,
    put: AtomicU64,
    work: Work,
    delays: Delays,
}

struct Entry {
    index: u32,
    value: Bytes,
}

/// The checksum of one message; sender and server compare their sums. The low bits count messages, the high bits add key numbers.
#[inline]
pub const fn tally(index: u32) -> u64 {
    (index as u64) << 32 | 1
}

impl Store {
    pub fn filled() -> Self {
        let mut map = HashMap::new();
        for class in CLASSES {
            for index in 0..class.keys {
                let mut value = vec![0x5a; (class.len)(index)];
                value[..4].copy_from_slice(&index.to_le_bytes());
                let value = Bytes::from(value);
                map.insert(key_text(class.prefix, index), Entry { index, value });
            }
        }
        let work = match std::env::var("PEER_WORK").as_deref() {
            Ok("await") => Work::Await,
            Ok("burn") => Work::Burn,
            Ok("delays") => Work::Delays,
            _ => Work::Nothing,
        };
        Self {
            map,
            put: AtomicU64::new(0),
            work,
            delays: Delays::new(),
        }
    }

    /// The request/response call. The value is shared, not copied.
    #[inline]
    pub fn fetch(&self, key: &str) -> Option<&Bytes> {
        self.map.get(key).map(|entry| &entry.value)
    }

    /// What every async handler does first: nothing, unless the scenario is about handlers.
    #[inline]
    pub async fn work(&self) {
        if self.work == Work::Await {
            tokio::time::sleep(AWAIT).await;
        }
        self.burn();
    }

    /// The part of [`Self::work`] that needs no await.
    #[inline]
    pub fn burn(&self) {
        if self.work != Work::Burn {
            return;
        }
        let start = Instant::now();
        while start.elapsed() < BURN {
            std::hint::spin_loop();
        }
    }

    /// The message that asks for nothing, one-way or of a client's stream: looks the key up, counts.
    #[inline]
    pub fn put(&self, key: &str, value: &[u8]) {
        let entry = self.map.get(key).filter(|entry| entry.value.len() == value.len());
        let entry = entry.expect("a message for a known key");
        self.put.fetch_add(tally(entry.index), Ordering::Relaxed);
        if self.work == Work::Delays {
            self.delays.record(value);
        }
    }

    /// How many messages [`Self::put`] has had.
    pub fn put_count(&self) -> u64 {
        self.put.load(Ordering::Relaxed) & u64::from(u32::MAX)
    }

    /// Reports as one JSON line what has arrived: the sum of [`tally`] over all messages, and their delays.
    pub fn report(&self) -> String {
        let tally = self.put.load(Ordering::Relaxed);
        format!("{{\"tally\":{tally}{}}}", self.delays.report())
    }
}

const AWAIT: Duration = Duration::from_millis(1);
const BURN: Duration = Duration::from_micros(50);
