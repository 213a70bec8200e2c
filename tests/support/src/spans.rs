//! The spans that the thread of a test makes.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex},
};

use rpc_runtime::trace::{Linker, TraceContext, set_linker};
use tracing::{
    Dispatch, Event, Span, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::{DefaultGuard, NoSubscriber},
};
use tracing_subscriber::{Layer, Registry, layer::Context, prelude::*, registry::LookupSpan};

/// Collects the spans of calls that this thread makes, until this is dropped.
#[derive(Debug)]
pub struct Spans {
    all: Arc<Mutex<AllSpans>>,
    _guard: DefaultGuard,
    /// A second dispatcher. With a single one, tracing asks only the first thread that meets a span whether it is wanted.
    _second: Dispatch,
}

#[derive(Debug, Default)]
struct AllSpans {
    spans: Vec<RecordedSpan>,
    /// Where the span with an id is now: ids are used again.
    places: HashMap<u64, usize>,
}

/// One span.
#[derive(Clone, Debug)]
pub struct RecordedSpan {
    /// Its fields when it was made.
    pub at_start: BTreeMap<&'static str, String>,
    /// Its fields now.
    pub fields: BTreeMap<&'static str, String>,
    /// The trace that it belongs to, and its own id; none without ids.
    pub trace: Option<TraceContext>,
    /// The id of its parent, here or elsewhere.
    pub parent: Option<u64>,
    /// The messages of the events within it.
    pub events: Vec<String>,
    /// True once it has ended.
    pub is_closed: bool,
}

impl RecordedSpan {
    /// Returns the value of a field; empty if it is not there.
    pub fn get(&self, field: &str) -> &str {
        self.fields.get(field).map_or("", String::as_str)
    }

    /// Returns its kind and the last part of its name: `server say`.
    pub fn name(&self) -> String {
        let name = self.get("otel.name");
        let name = name.rsplit_once("/rpc_").map_or(name, |(_, name)| name);
        format!("{} {name}", self.get("otel.kind"))
    }
}

impl Spans {
    /// Begins to collect. The spans have no ids, as without an exporter.
    pub fn here() -> Self {
        Self::collect(Ids::None)
    }

    /// Begins to collect. The spans have ids, and calls carry them.
    pub fn linked() -> Self {
        // Another test may have set it.
        let _ = set_linker(TestLinker);
        Self::collect(Ids::Random)
    }

    fn collect(ids: Ids) -> Self {
        let all = Arc::default();
        let layer = SpanLayer {
            all: Arc::clone(&all),
            ids,
        };
        Self {
            all,
            _second: Dispatch::new(NoSubscriber::default()),
            _guard: tracing::subscriber::set_default(Registry::default().with(layer)),
        }
    }

    /// Returns all spans so far, in the order in which they were made.
    pub fn all(&self) -> Vec<RecordedSpan> {
        self.all.lock().unwrap().spans.clone()
    }

    /// Returns the names of all spans so far, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.all().iter().map(RecordedSpan::name).collect();
        names.sort();
        names
    }

    /// Returns the only span of this name.
    pub fn only(&self, name: &str) -> RecordedSpan {
        let all = self.all();
        let mut found = all.iter().filter(|span| span.name() == name);
        match (found.next(), found.next()) {
            (Some(span), None) => span.clone(),
            _ => panic!("not one span {name:?}: {all:#?}"),
        }
    }

    /// Waits until all spans have ended.
    pub async fn closed(&self) {
        // It counts turns, not time: while this task waits, a paused clock does not move.
        for _ in 0..1_000_000 {
            if self.all().iter().all(|span| span.is_closed) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("spans that do not end: {:#?}", self.all());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    None,
    Random,
}

/// The layer of the subscriber.
#[derive(Debug)]
struct SpanLayer {
    all: Arc<Mutex<AllSpans>>,
    ids: Ids,
}

impl SpanLayer {
    /// Runs `f` on the span with this id, if it is a call's.
    fn with<R>(&self, id: &Id, f: impl FnOnce(&mut RecordedSpan) -> R) -> Option<R> {
        let mut all = self.all.lock().unwrap();
        let place = *all.places.get(&id.into_u64())?;
        all.spans.get_mut(place).map(f)
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != "rpc_runtime::call" {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let mut around = context.span_scope(id).into_iter().flatten().skip(1);
        let parent = around.find_map(|span| self.with(&span.id(), |span| span.trace.clone()).flatten());
        let trace = match &parent {
            Some(parent) => Some(parent.child()),
            None => (self.ids == Ids::Random).then(|| TraceContext::start(true)),
        };
        let mut all = self.all.lock().unwrap();
        let place = all.spans.len();
        all.places.insert(id.into_u64(), place);
        all.spans.push(RecordedSpan {
            at_start: fields.0.clone(),
            fields: fields.0,
            parent: parent.and_then(|parent| parent.span_id()),
            trace,
            events: Vec::new(),
            is_closed: false,
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.with(id, |span| span.fields.extend(fields.0));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(span) = context.event_span(event) else {
            return;
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.0.remove("message").unwrap_or_default();
        self.with(&span.id(), |span| span.events.push(message));
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        self.with(&id, |span| span.is_closed = true);
    }
}

/// Asks the layer of a span's subscriber.
struct TestLinker;

impl Linker for TestLinker {
    fn set_parent(&self, span: &Span, parent: &TraceContext) {
        span.with_subscriber(|(id, dispatch)| {
            let layer = dispatch.downcast_ref::<SpanLayer>()?;
            layer.with(id, |span| {
                if span.trace.is_some() {
                    span.trace = Some(parent.child());
                    span.parent = parent.span_id();
                }
            })
        });
    }

    fn context(&self, span: &Span) -> Option<TraceContext> {
        let trace = span.with_subscriber(|(id, dispatch)| {
            let layer = dispatch.downcast_ref::<SpanLayer>()?;
            layer.with(id, |span| span.trace.clone()).flatten()
        });
        trace.flatten()
    }
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}
