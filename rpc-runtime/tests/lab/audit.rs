//! What is logged while a test runs.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};

/// Everything that this thread logs, from now on until the end of the test.
pub(crate) struct Logged {
    lines: Arc<Mutex<Vec<Line>>>,
    _guard: DefaultGuard,
    /// With a single one, tracing asks only the thread that comes first whether an event is wanted by anybody.
    _second: Dispatch,
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    target: String,
    fields: BTreeMap<&'static str, String>,
}

impl Logged {
    pub(crate) fn here() -> Self {
        let lines = Arc::default();
        let collector = Collector {
            lines: Arc::clone(&lines),
            spans: AtomicU64::new(1),
        };
        Self {
            lines,
            _second: Dispatch::new(NoSubscriber::default()),
            _guard: tracing::subscriber::set_default(collector),
        }
    }

    /// The audit lines so far, in order.
    pub(crate) fn audit(&self) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        lines
            .iter()
            .filter(|line| line.target == "rpc_runtime::audit")
            .cloned()
            .collect()
    }

    /// Waits until so many terminates were decided on.
    pub(crate) async fn decided(&self, count: usize) {
        // Turns and not time: while this waits, a paused clock would not move.
        for _ in 0..1_000_000 {
            if self.audit().len() >= count {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("{count} terminates were not decided on: {}", self.all());
    }

    /// Some fields of each line with this message.
    pub(crate) fn picked(&self, message: &str, fields: &[&str]) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let found = lines.iter().filter(|line| line.get("message") == message);
        found.map(|line| line.pick(fields)).collect()
    }

    /// All that was logged, at any level and target.
    pub(crate) fn all(&self) -> String {
        format!("{:?}", self.lines.lock().unwrap())
    }
}

impl Line {
    /// The value of a field, empty if it is not there.
    pub(crate) fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    /// The values of some fields, with a blank between two.
    pub(crate) fn pick(&self, fields: &[&str]) -> String {
        let values: Vec<_> = fields.iter().map(|field| self.get(field)).collect();
        values.join(" ")
    }
}

struct Collector {
    lines: Arc<Mutex<Vec<Line>>>,
    spans: AtomicU64,
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
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
