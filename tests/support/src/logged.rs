//! What the thread of a test logs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// Collects everything that this thread logs until this is dropped.
#[derive(Debug)]
pub struct Logged {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
    /// A second dispatcher. With a single one, tracing asks only the first thread that meets an event whether it is wanted.
    _second: Dispatch,
}

/// Returns what all threads without a collector of their own have logged at WARN or above, since the first call of this in the process.
pub fn warnings() -> Vec<Line> {
    static LINES: LazyLock<Arc<Mutex<Vec<Line>>>> = LazyLock::new(|| {
        let lines = Arc::default();
        let collector = Collector {
            lines: Arc::clone(&lines),
            spans: AtomicU64::new(1),
            most: LevelFilter::WARN,
        };
        tracing::subscriber::set_global_default(collector).expect("nothing else collects for all threads");
        lines
    });
    LINES.lock().unwrap().clone()
}

/// One event.
#[derive(Clone, Debug)]
pub struct Line {
    target: String,
    fields: BTreeMap<&'static str, String>,
}

impl Logged {
    /// Begins to collect.
    pub fn here() -> Self {
        let lines = Arc::default();
        let collector = Collector {
            lines: Arc::clone(&lines),
            spans: AtomicU64::new(1),
            most: LevelFilter::TRACE,
        };
        Self {
            lines,
            _second: Dispatch::new(NoSubscriber::default()),
            _guard: tracing::subscriber::set_default(collector),
        }
    }

    /// Returns the audit lines so far, in order.
    pub fn audit(&self) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.target == "rpc_runtime::audit")
            .cloned()
            .collect()
    }

    /// Waits until there are `count` audit lines.
    pub async fn decided(&self, count: usize) {
        // It counts turns, not time: while this task waits, a paused clock does not move.
        for _ in 0..1_000_000 {
            if self.audit().len() >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("fewer than {count} audit lines: {}", self.all());
    }

    /// Returns some fields of each line with this message.
    pub fn picked(&self, message: &str, fields: &[&str]) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let found = lines.iter().filter(|line| line.get("message") == message);
        found.map(|line| line.pick(fields)).collect()
    }

    /// Forgets what was logged so far.
    pub fn clear(&self) {
        self.lines.lock().unwrap().clear();
    }

    /// Returns everything that was logged, at any level and target, as one text.
    pub fn all(&self) -> String {
        format!("{:?}", self.lines.lock().unwrap())
    }
}

impl Line {
    /// Returns the value of a field; empty if it is not there.
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    /// Returns the values of some fields, with a blank between two.
    pub fn pick(&self, fields: &[&str]) -> String {
        let values: Vec<_> = fields.iter().map(|field| self.get(field)).collect();
        values.join(" ")
    }
}

/// The subscriber.
#[derive(Debug)]
struct Collector {
    lines: Arc<Mutex<Vec<Line>>>,
    spans: AtomicU64,
    most: LevelFilter,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.most)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(BTreeMap::new());
        event.record(&mut fields);
        self.lines.lock().unwrap().push(Line {
            target: event.metadata().target().to_owned(),
            fields: fields.0,
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
