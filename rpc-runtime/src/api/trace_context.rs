//! TraceContext: which trace a call belongs to, and what travels along with it.

use std::{fmt, sync::Arc};

/// Which trace a call belongs to, and what travels along: the W3C's `traceparent`, `tracestate` and `baggage`.
///
/// It travels beside a call, outside of its [`Metadata`](crate::Metadata), and calls that a handler makes inherit it: see
/// [`trace`](crate::trace). A handler reads it by [`Context::trace`](crate::Context::trace). Cheap to clone.
///
/// ```
/// use rpc_runtime::trace::TraceContext;
///
/// // As the headers of an HTTP request have it.
/// let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let trace = TraceContext::parse(parent, "vendor=opaque", "tenant=acme").expect("the headers are valid");
/// assert_eq!(trace.trace_id().map(|id| format!("{id:032x}")).as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
/// assert_eq!(trace.traceparent().as_deref(), Some(parent));
/// assert!(trace.is_sampled());
///
/// // What something that this process does within it would send on.
/// let child = trace.child();
/// assert_eq!(child.trace_id(), trace.trace_id());
/// assert_ne!(child.span_id(), trace.span_id());
/// ```
///
/// # Rules
///
/// What is invalid by the rules of the W3C is dropped, and never fails a call: a `traceparent` with its `tracestate`, a `tracestate` alone,
/// one member of a `baggage`. A `traceparent` of a later version goes on as version 00. A `tracestate` goes on with at most
/// [`TraceContext::MAX_STATE`] bytes, and a `baggage` with at most [`TraceContext::MAX_BAGGAGE`] bytes and 64 members: the rest of it is dropped.
///
/// `Debug` shows the ids, and of the state and the baggage only how long they are, because baggage may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TraceContext(Arc<Parts>);

#[derive(Clone, PartialEq, Eq, Default)]
struct Parts {
    ids: Option<Ids>,
    /// Empty without ids.
    state: Box<str>,
    baggage: Box<str>,
}

/// What a `traceparent` says. Neither id is 0.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ids {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceContext {
    /// The most bytes of `tracestate` that go on: 512, as the W3C asks for.
    pub const MAX_STATE: usize = 512;
    /// The most bytes of `baggage` that go on: 8 KiB, as the W3C asks for.
    pub const MAX_BAGGAGE: usize = 8 * 1024;

    /// Reads the three headers of the W3C; an empty text stands for a header that is not there.
    ///
    /// Returns none if nothing valid is left.
    pub fn parse(traceparent: &str, tracestate: &str, baggage: &str) -> Option<Self> {
        let ids = parse_ids(traceparent);
        let parts = Parts {
            ids,
            state: ids.map(|_| valid_state(tracestate)).unwrap_or_default(),
            baggage: valid_baggage(baggage),
        };
        (parts != Parts::default()).then(|| Self(Arc::new(parts)))
    }

    /// Makes the context of a span; none if one of its ids is 0.
    pub fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Option<Self> {
        (trace_id != 0 && span_id != 0).then(|| {
            Self::of_ids(Ids {
                trace: trace_id,
                span: span_id,
                flags: u8::from(is_sampled),
            })
        })
    }

    /// Begins a trace: makes the context of a span with random ids, which belongs to no other.
    pub fn start(is_sampled: bool) -> Self {
        Self::of_ids(Ids {
            trace: fastrand::u128(1..),
            span: fastrand::u64(1..),
            flags: u8::from(is_sampled),
        })
    }

    fn of_ids(ids: Ids) -> Self {
        Self(Arc::new(Parts {
            ids: Some(ids),
            ..Parts::default()
        }))
    }

    /// Makes the context of a new span within this one: it has a random id, and the rest is the same.
    ///
    /// A context without a `traceparent` stays as it is.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut child = self.clone();
        if let Some(ids) = &mut Arc::make_mut(&mut child.0).ids {
            ids.span = fastrand::u64(1..);
        }
        child
    }

    /// Replaces the `tracestate`; an invalid one, and one without a `traceparent`, becomes empty.
    #[must_use]
    pub fn with_tracestate(mut self, tracestate: &str) -> Self {
        if self.0.ids.is_some() {
            Arc::make_mut(&mut self.0).state = valid_state(tracestate);
        }
        self
    }

    /// Replaces the `baggage`; invalid members are left out.
    #[must_use]
    pub fn with_baggage(mut self, baggage: &str) -> Self {
        Arc::make_mut(&mut self.0).baggage = valid_baggage(baggage);
        self
    }

    /// The context of what happens within `outer`: `own`, with the baggage of `outer` unless it has some itself.
    pub(crate) fn within(own: Option<Self>, outer: Option<Self>) -> Option<Self> {
        match (own, outer) {
            (Some(own), Some(outer)) if own.baggage().is_empty() => Some(own.with_baggage_of(&outer)),
            (own, outer) => own.or(outer),
        }
    }

    /// Takes over the baggage of `other`, which is valid.
    fn with_baggage_of(mut self, other: &Self) -> Self {
        if self.0.baggage != other.0.baggage {
            Arc::make_mut(&mut self.0).baggage.clone_from(&other.0.baggage);
        }
        self
    }

    /// Returns the id of the trace; none without a `traceparent`. Logs write it as `{id:032x}`.
    pub fn trace_id(&self) -> Option<u128> {
        self.0.ids.map(|ids| ids.trace)
    }

    /// Returns the id of the span that made the call; none without a `traceparent`. Logs write it as `{id:016x}`.
    pub fn span_id(&self) -> Option<u64> {
        self.0.ids.map(|ids| ids.span)
    }

    /// Returns true if the caller records the trace.
    pub fn is_sampled(&self) -> bool {
        self.0.ids.is_some_and(|ids| ids.flags & SAMPLED != 0)
    }

    /// Returns the `traceparent`; none if there is only baggage.
    pub fn traceparent(&self) -> Option<String> {
        let bytes = self.traceparent_bytes()?;
        Some(bytes.iter().copied().map(char::from).collect())
    }

    /// The `traceparent` as it travels.
    pub(crate) fn traceparent_bytes(&self) -> Option<[u8; PARENT_LEN]> {
        let Ids { trace, span, flags } = self.0.ids?;
        let mut text = [b'-'; PARENT_LEN];
        put_hex(0, &mut text[..2]);
        put_hex(trace, &mut text[3..35]);
        put_hex(span.into(), &mut text[36..52]);
        put_hex(flags.into(), &mut text[53..]);
        Some(text)
    }

    /// Returns the `tracestate`; empty if there is none.
    pub fn tracestate(&self) -> &str {
        &self.0.state
    }

    /// Returns the `baggage`; empty if there is none.
    pub fn baggage(&self) -> &str {
        &self.0.baggage
    }

    /// The memory that it takes, about, in bytes.
    pub(crate) fn held_len(&self) -> u64 {
        (self.0.state.len() + self.0.baggage.len() + size_of::<Parts>() + 2 * size_of::<usize>()) as u64
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("traceparent", &self.traceparent().as_deref().unwrap_or_default())
            .field("tracestate", &format_args!("[{} bytes]", self.0.state.len()))
            .field("baggage", &format_args!("[{} bytes]", self.0.baggage.len()))
            .finish()
    }
}

/// Reads a `traceparent`; none if it is invalid.
fn parse_ids(text: &str) -> Option<Ids> {
    let (head, more) = text.as_bytes().split_at_checked(PARENT_LEN)?;
    let version = hex(&head[..2])?;
    let is_long_enough = match version {
        0 => more.is_empty(),
        0xff => false,
        // A later version may have more fields.
        _ => more.first().is_none_or(|&byte| byte == b'-'),
    };
    let has_dashes = [2, 35, 52].iter().all(|&at| head[at] == b'-');
    if !is_long_enough || !has_dashes {
        return None;
    }
    let trace = u128::from(hex(&head[3..19])?) << 64 | u128::from(hex(&head[19..35])?);
    let (span, flags) = (hex(&head[36..52])?, hex(&head[53..])? as u8);
    let known = if version == 0 { u8::MAX } else { SAMPLED };
    (trace != 0 && span != 0).then_some(Ids {
        trace,
        span,
        flags: flags & known,
    })
}

/// Reads at most 16 lowercase digits; none if one of them is something else.
#[inline]
fn hex(digits: &[u8]) -> Option<u64> {
    // Each call that belongs to a trace reads 54 digits, so they are looked up, and checked together.
    let (mut number, mut seen) = (0, 0);
    for &digit in digits {
        let value = DIGITS[usize::from(digit)];
        seen |= value;
        number = number << 4 | u64::from(value & 0xf);
    }
    (seen <= 0xf).then_some(number)
}

/// The value of each lowercase digit of a hexadecimal number; above 15 for what is none.
static DIGITS: [u8; 256] = {
    let mut digits = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        digits[b"0123456789abcdef"[value as usize] as usize] = value;
        value += 1;
    }
    digits
};

/// Writes the lowest digits of `number`, as many as there is room for.
fn put_hex(mut number: u128, room: &mut [u8]) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// The `tracestate` as it goes on: shortened if it is long, and empty if it is invalid.
fn valid_state(text: &str) -> Box<str> {
    if text.is_empty() {
        return Box::default();
    }
    let members = text.split(',').map(trim).filter(|member| !member.is_empty());
    // One more than are allowed, so that a list of any length costs little.
    let mut members: Vec<&str> = members.take(MAX_STATE_MEMBERS + 1).collect();
    let keys: Vec<&str> = members.iter().filter_map(|member| state_key(member)).collect();
    let is_twice = |(at, key): (usize, &&str)| keys[..at].contains(key);
    let is_valid = keys.len() == members.len() && members.len() <= MAX_STATE_MEMBERS;
    if !is_valid || keys.iter().enumerate().any(is_twice) {
        return Box::default();
    }
    let len = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    while len(&members) > TraceContext::MAX_STATE + 1 {
        // Long members go first, as the W3C asks for, and then the last ones: the first are the newest.
        let long = members.iter().rposition(|member| member.len() > LONG_MEMBER);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    members.join(",").into()
}

/// The key of a member of a `tracestate`; none if the member is invalid.
fn state_key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let is_first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = key.len() <= MAX_STATE_PART
        && key.as_bytes().first().is_some_and(is_first)
        && key
            .bytes()
            .all(|byte| is_first(&byte) || b"_-*/@".contains(&byte));
    let is_value = (1..=MAX_STATE_PART).contains(&value.len())
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    (is_key && is_value).then_some(key)
}

/// The `baggage` as it goes on: without invalid members, and without those for which there is no room.
fn valid_baggage(text: &str) -> Box<str> {
    if text.is_empty() {
        return Box::default();
    }
    let mut kept = String::new();
    let members = text.split(',').map(trim).filter(|member| is_baggage(member));
    for member in members.take(MAX_BAGGAGE_MEMBERS) {
        let comma = usize::from(!kept.is_empty());
        if kept.len() + comma + member.len() > TraceContext::MAX_BAGGAGE {
            break;
        }
        if comma > 0 {
            kept.push(',');
        }
        kept.push_str(member);
    }
    kept.into()
}

/// True for a valid member of a `baggage`: a key and a value, and perhaps properties.
fn is_baggage(member: &str) -> bool {
    let is_pair =
        |(key, value): (&str, &str)| is_token(trim(key)) && trim(value).bytes().all(is_baggage_byte);
    let mut parts = member.split(';');
    let first = parts.next().and_then(|first| first.split_once('='));
    first.is_some_and(is_pair)
        && parts.all(|property| match property.split_once('=') {
            Some(pair) => is_pair(pair),
            None => is_token(trim(property)),
        })
}

fn is_token(key: &str) -> bool {
    !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_baggage_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The length of a `traceparent` of version 00.
pub(crate) const PARENT_LEN: usize = 55;
/// The flag of a trace that its caller records.
const SAMPLED: u8 = 1;
/// The most members of a `tracestate`.
const MAX_STATE_MEMBERS: usize = 32;
/// The most bytes of a key, and of a value, in a `tracestate`.
const MAX_STATE_PART: usize = 256;
/// A longer member of a `tracestate` goes before others if all are too long.
const LONG_MEMBER: usize = 128;
/// The most members of a `baggage` that go on.
const MAX_BAGGAGE_MEMBERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parent(text: &str) -> Option<String> {
        TraceContext::parse(text, "", "")?.traceparent()
    }

    #[test]
    fn a_valid_parent_goes_on_as_it_came() {
        assert_eq!(parent(PARENT).as_deref(), Some(PARENT));
        let other = "00-00000000000000000000000000000001-000000000000000a-a2";
        assert_eq!(parent(other).as_deref(), Some(other));
        let trace = TraceContext::parse(other, "", "").unwrap();
        assert_eq!((trace.trace_id(), trace.span_id()), (Some(1), Some(10)));
        assert!(!trace.is_sampled());
        assert!(TraceContext::parse(PARENT, "", "").unwrap().is_sampled());
    }

    #[test]
    fn an_invalid_parent_is_none() {
        for text in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}x"),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("0af7", "0ag7", 1),
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}01",
        ] {
            assert_eq!(parent(text), None, "{text}");
            // What belongs to it is dropped with it.
            assert_eq!(TraceContext::parse(text, "a=1", ""), None, "{text}");
        }
    }

    #[test]
    fn a_parent_of_a_later_version_goes_on_as_the_first() {
        for text in [
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what-comes",
        ] {
            assert_eq!(parent(text).as_deref(), Some(PARENT), "{text}");
        }
    }

    fn state(text: &str) -> String {
        let trace = TraceContext::parse(PARENT, text, "").unwrap();
        trace.tracestate().to_owned()
    }

    #[test]
    fn a_valid_state_goes_on_and_an_invalid_one_does_not() {
        for text in [
            "a=1",
            "a=1,b=2",
            "1a@v/x-y*z_=!~ x",
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
        ] {
            assert_eq!(state(text), text);
        }
        assert_eq!(state(" a=1\t, ,b=2,"), "a=1,b=2");
        for text in [
            "a",
            "=1",
            "a=",
            "A=1",
            "a=1=2",
            "a=1,a=2",
            "-a=1",
            "a=\u{e9}",
            "a b=1",
            "a=1\u{7f}",
        ] {
            assert_eq!(state(text), "", "{text}");
        }
        let many = |count| {
            (0..count)
                .map(|n| format!("k{n}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(state(&many(32)), many(32));
        assert_eq!(state(&many(33)), "");
        assert_eq!(state(&format!("{}=1", "k".repeat(257))), "");
        assert_eq!(state(&format!("k={}", "v".repeat(257))), "");
    }

    #[test]
    fn a_long_state_loses_long_members_first_and_then_the_last() {
        let (long, short) = ("v".repeat(200), "w".repeat(90));
        let text = format!("a={short},b={long},c={short},d={short},e={short},f={short},g={short}");
        assert_eq!(
            state(&text),
            format!("a={short},c={short},d={short},e={short},f={short}")
        );
        let whole = format!("a={},b={}", "v".repeat(254), "v".repeat(253));
        assert_eq!(whole.len(), TraceContext::MAX_STATE);
        assert_eq!(state(&whole), whole);
    }

    fn baggage(text: &str) -> String {
        TraceContext::parse("", "", text).map_or_else(String::new, |trace| trace.baggage().to_owned())
    }

    #[test]
    fn invalid_members_of_a_baggage_are_left_out() {
        for text in ["a=1", "a=1,b=2;p;q=3", "user=%C3%A9,a=", "a = 1 ; p"] {
            assert_eq!(baggage(text), text);
        }
        assert_eq!(baggage("a=1,b,c=\"2\",d=3;;,e f=4,=5,g=6 7,h=8"), "a=1,h=8");
        assert_eq!(baggage("\u{e9}=1,a=\\"), "");
    }

    #[test]
    fn a_baggage_goes_on_within_its_limits() {
        let many = |count| {
            (0..count)
                .map(|n| format!("k{n}=v"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(baggage(&many(65)), many(64));
        let long = format!("a={}", "x".repeat(5000));
        assert_eq!(baggage(&format!("{long},b={}", "x".repeat(5000))), long);
        let most = format!("a={}", "x".repeat(TraceContext::MAX_BAGGAGE - 2));
        assert!(baggage(&most) == most);
        assert!(baggage(&format!("{most}x")).is_empty());
    }

    #[test]
    fn baggage_needs_no_parent() {
        let trace = TraceContext::parse("", "a=1", "b=2").unwrap();
        assert_eq!(
            (trace.traceparent(), trace.tracestate(), trace.baggage()),
            (None, "", "b=2")
        );
        assert_eq!(trace.child(), trace);
        assert_eq!(trace.with_tracestate("a=1").tracestate(), "");
    }

    #[test]
    fn a_child_has_a_new_span_and_the_rest() {
        let trace = TraceContext::parse(PARENT, "a=1", "b=2").unwrap();
        let child = trace.child();
        assert_ne!(child.span_id(), trace.span_id());
        let same = |trace: &TraceContext| {
            (
                trace.trace_id(),
                trace.is_sampled(),
                trace.tracestate().to_owned(),
                trace.baggage().to_owned(),
            )
        };
        assert_eq!(same(&child), same(&trace));
        assert_eq!(TraceContext::new(0, 1, true), None);
        assert_eq!(TraceContext::new(1, 0, true), None);
        let begun = TraceContext::start(false);
        assert!(begun.trace_id().is_some() && !begun.is_sampled());
    }

    #[test]
    fn debug_hides_state_and_baggage() {
        let trace = TraceContext::parse(PARENT, "a=secret", "b=secret").unwrap();
        let text = format!("{trace:?}");
        assert!(text.contains(PARENT) && !text.contains("secret"), "{text}");
    }
}
