//! Limits: all numbers that bound one connection, each defined once.

use std::time::Duration;

use super::limit_value::LimitValue;

/// Defines each limit once: its field, its default, its bounds, its setter, its documentation and its row of
/// `docs/reference/limits.md`. A test compares each text with the number beside it.
macro_rules! limits {
    ($(
        $name:ident($argument:ident: $given:ty) -> $field:ty {
            sets: $sets:literal,
            default: $default:expr, $shown:literal;
            bounds: $min:expr => $max:expr;
            protects: $protects:literal;
            $($note:literal)*
        }
    )*) => {
        /// How much one connection may hold, and how long it may take, on this side of it.
        ///
        /// A limit that concerns the peer is announced to it when the connection begins, so that the peer waits instead of
        /// failing. A value outside of the bounds of a limit is set to the nearest bound.
        ///
        /// ```
        /// use std::time::Duration;
        ///
        /// use rpc_runtime::{Client, Limits};
        ///
        /// let limits = Limits::default().max_message(64 << 20).max_age(Duration::from_secs(3600));
        /// let client: Client = Client::builder("tcp://127.0.0.1:5005").limits(limits).connect_lazy();
        /// ```
        ///
        /// [`ServerBuilder`](crate::server::ServerBuilder) has further limits, for all connections of a server together.
        #[derive(Clone, Debug)]
        pub struct Limits {
            $(pub(crate) $name: $field,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self {
                    $($name: $default,)*
                }
            }
        }

        impl Limits {
            $(
                #[doc = concat!("Sets ", $sets, ". Default: ", $shown, ".")]
                #[doc = ""]
                #[doc = concat!("Protects ", $protects, ".", $(" ", $note,)*)]
                #[must_use]
                pub fn $name(mut self, $argument: $given) -> Self {
                    let given: $field = $argument.into();
                    self.$name = given.bounded($min, $max);
                    self
                }
            )*
        }

        impl Limits {
            /// Lists all limits. `keep_alive` is the default of the one that has another default for clients than for servers.
            pub(crate) fn list(&self, keep_alive: Duration) -> Vec<LimitInForce> {
                let defaults = Self {
                    keep_alive: Some(keep_alive),
                    ..Self::default()
                };
                vec![$(LimitInForce {
                    name: stringify!($name),
                    value: self.$name.value(stringify!($argument) == "bytes"),
                    is_default: self.$name == defaults.$name,
                },)*]
            }
        }

        /// All limits, each with its texts and its numbers.
        #[cfg(test)]
        fn table() -> Vec<tests::LimitRow> {
            let defaults = Limits::default();
            vec![$(tests::LimitRow {
                name: stringify!($name),
                sets: $sets,
                shown: $shown,
                protects: $protects,
                numbers: tests::Numbers::new(stringify!($argument), defaults.$name, $min, $max),
            },)*]
        }
    };
}

limits! {
    max_message(bytes: u64) -> u64 {
        sets: "the longest message that this side accepts, in bytes",
        default: 4 << 20, "4 MiB";
        bounds: 0 => LONGEST_MESSAGE;
        protects: "memory";
        "A longer message fails on its sender's side, and only that call fails. On a system of 32 bits at most 1 GiB: a message \
         is one piece of memory."
    }
    max_frame(bytes: u32) -> u32 {
        sets: "the longest frame that this side accepts, in bytes, between 64 KiB and 16 MiB - 1",
        default: 144 << 10, "144 KiB";
        bounds: 64 << 10 => (16 << 20) - 1;
        protects: "latency";
        "Longer messages travel in fragments, and urgent frames go between them."
    }
    max_calls(calls: u32) -> u32 {
        sets: "how many calls of the peer may be open at once, at least 16",
        default: 1024, "1024";
        bounds: 16 => u32::MAX;
        protects: "memory and handlers";
        "Further calls wait on the caller's side. One-way calls are bounded by their credit instead. While twice this many \
         handlers of the peer are running, its next requests wait until one ends."
    }
    call_bytes(bytes: u64) -> u64 {
        sets: "how many bytes the requests of the peer's open calls may have together, at least 64 KiB",
        default: 16 << 20, "16 MiB";
        bounds: 64 << 10 => MOST_BYTES;
        protects: "memory";
        "Further calls wait on the caller's side."
    }
    send_bytes(bytes: u64) -> u64 {
        sets: "how many bytes the peer's unfinished one-way requests may have together, at least 64 KiB",
        default: 4 << 20, "4 MiB";
        bounds: 64 << 10 => MOST_BYTES;
        protects: "memory";
        "Further one-way requests wait on the sender's side."
    }
    inbox_bytes(bytes: u64) -> u64 {
        sets: "how many bytes of replies and stream messages may wait here until the application takes them",
        default: 64 << 20, "64 MiB";
        bounds: 0 => MOST_BYTES;
        protects: "memory";
        "The metadata and the details of replies count. A message that would exceed the limit fails its own call. Windows of \
         streams grow within half of it."
    }
    high_water(bytes: usize) -> usize {
        sets: "how many bytes may wait to be written before callers and handlers have to wait",
        default: 1 << 20, "1 MiB";
        bounds: 0 => MOST;
        protects: "memory";
    }
    max_waiting(callers: usize) -> usize {
        sets: "how many callers may wait for room, credit or a slot before a further one fails",
        default: 65_536, "65,536";
        bounds: 0 => MOST;
        protects: "memory";
    }
    one_way_timeout(timeout: Duration) -> Duration {
        sets: "the deadline of a one-way handler whose request has none",
        default: Duration::from_secs(30), "30 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "the server";
    }
    handshake_timeout(timeout: Duration) -> Duration {
        sets: "the time that the peer has for its part of the handshake",
        default: Duration::from_secs(10), "10 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "the server";
        "Then the connection is closed."
    }
    keep_alive(silence: Duration) -> Option<Duration> {
        sets: "the silence after which this side asks the peer for a sign of life, by a PING",
        default: None, "30 s for a client, 2 min for a server";
        bounds: Duration::ZERO => LONGEST;
        protects: "everyone who waits";
        "A client asks only while something is outstanding."
    }
    dead_after(silence: Duration) -> Duration {
        sets: "the silence after a PING until the connection counts as lost",
        default: Duration::from_secs(20), "20 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "everyone who waits";
    }
    ping_floor(interval: Duration) -> Duration {
        sets: "the shortest time between two PINGs of the peer",
        default: Duration::from_secs(10), "10 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "the processor";
        "The peer learns it in the handshake. A peer that asks too often loses the connection."
    }
    slow_frame(time: Duration) -> Duration {
        sets: "the time in which 64 KiB of a frame that has begun must arrive, or all of a shorter frame",
        default: Duration::from_secs(30), "30 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "memory and places";
        "A peer that begins frames and does not go on loses the connection. While messages in several frames are unfinished, \
         64 KiB of them must arrive in this time, too; the sender decides which of them goes first. The connection ends with \
         a GOAWAY that says TIMEOUT."
    }
    write_stall(timeout: Duration) -> Duration {
        sets: "the time in which the peer must take 64 KiB of the written bytes, or the rest",
        default: Duration::from_secs(30), "30 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "memory";
        "Then the connection counts as lost."
    }
    linger(time: Duration) -> Duration {
        sets: "how long a connection stays open for reading after its last byte is written",
        default: Duration::from_secs(1), "1 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "replies on their way";
    }
    max_age(age: impl Into<Option<Duration>>) -> Option<Duration> {
        sets: "the age of a connection, ± 10 %, after which it is drained; `None` is unlimited",
        default: None, "unlimited";
        bounds: Duration::ZERO => LONGEST;
        protects: "the balance between servers";
        "A client whose old connection is drained makes a new one, perhaps to another server. Open calls may finish, new calls \
         take the next connection, and none fails."
    }
    max_age_grace(grace: Duration) -> Duration {
        sets: "the time that open calls have when their connection is too old",
        default: Duration::from_secs(30), "30 s";
        bounds: Duration::ZERO => LONGEST;
        protects: "the balance between servers";
    }
    max_idle(time: impl Into<Option<Duration>>) -> Option<Duration> {
        sets: "how long a connection may be idle, ± 10 %, before it is drained; `None` is unlimited",
        default: None, "unlimited";
        bounds: Duration::ZERO => LONGEST;
        protects: "memory and files";
        "Idle means: no open call, and no message on its way, in either direction. The client's next call makes a new \
         connection."
    }
    stream_window(bytes: u64) -> u64 {
        sets: "how many bytes of a stream the peer may send ahead of its reader at first, at least 1",
        default: 64 << 10, "64 KiB";
        bounds: 1 => MOST_BYTES;
        protects: "memory";
        "A reader that stops costs its window and one message beyond."
    }
    max_stream_window(bytes: u64) -> u64 {
        sets: "how far the window of a stream may grow while its reader keeps up, in bytes",
        default: 8 << 20, "8 MiB";
        bounds: 0 => MOST_BYTES;
        protects: "memory";
        "One stream fills a link only if the window holds what the link carries in one round trip."
    }
    metadata_bytes(bytes: u64) -> u64 {
        sets: "how many bytes the metadata of the peer's open requests may take together",
        default: 4 << 20, "4 MiB";
        bounds: 0 => MOST_BYTES;
        protects: "memory";
        "Credit counts messages, and not the metadata beside them. Each entry counts 96 bytes more. The limit is not \
         announced: a call beyond it is refused with RESOURCE_EXHAUSTED and is not executed, and a one-way request is dropped \
         as overload."
    }
    max_faults(faults: u32) -> u32 {
        sets: "how many faults of the peer end the connection, at least 1",
        default: 1024, "1024";
        bounds: 1 => u32::MAX;
        protects: "the processor and the network";
        "Faults are: calls over the limits, unknown procedures, messages that cannot be parsed, frames that are empty or come \
         too late. Ten good requests make up for one fault. The connection ends with a GOAWAY that says EXCESS and names the \
         last fault."
    }
    max_denials(calls: u32) -> u32 {
        sets: "how many calls of a caller a policy may deny within a minute before the connection ends, at least 1",
        default: 100, "100";
        bounds: 1 => u32::MAX;
        protects: "the server, and its audit log";
        "The connection is drained: the peer gets a GOAWAY that says EXCESS, and its open calls may end within `max_age_grace`. \
         If the connection carries calls of other callers, too, it stays, and the calls of this caller are refused for the rest of \
         the minute."
    }
    decode_bytes(bytes: u64) -> u64 {
        sets: "how much memory a message may take once it is decoded, beyond its own length, in bytes",
        default: 32 << 20, "32 MiB";
        bounds: 0 => MOST_BYTES;
        protects: "memory";
        "Two bytes on the wire make a whole element of a repeated field or a map, so 4 MiB could become hundreds. Before a \
         message is decoded, its elements are counted at their size in memory, vectors at twice that. A request beyond the \
         limit is refused with RESOURCE_EXHAUSTED and is not executed. A reply beyond it fails its call with the same code, and \
         the call was executed. A message of a stream ends the stream. Services and stubs that are not generated do not know \
         their messages and have no such limit."
    }
}

/// A limit of one connection, and its value.
///
/// A [`Guest`](crate::server::Guest) lists its own by [`Guest::limits`](crate::server::Guest::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitInForce {
    pub(crate) name: &'static str,
    pub(crate) value: LimitValue,
    pub(crate) is_default: bool,
}

impl LimitInForce {
    /// Creates a limit. `name` is that of its setting, and `is_default` is true if nobody has set it.
    pub fn new(name: &'static str, value: LimitValue, is_default: bool) -> Self {
        Self {
            name,
            value,
            is_default,
        }
    }
}

/// A number that is the value of a limit.
trait Valued {
    fn value(&self, is_bytes: bool) -> LimitValue;
}

impl Valued for u64 {
    fn value(&self, is_bytes: bool) -> LimitValue {
        match is_bytes {
            true => LimitValue::Bytes(*self),
            false => LimitValue::Count(*self),
        }
    }
}

impl Valued for u32 {
    fn value(&self, is_bytes: bool) -> LimitValue {
        u64::from(*self).value(is_bytes)
    }
}

impl Valued for usize {
    fn value(&self, is_bytes: bool) -> LimitValue {
        (*self as u64).value(is_bytes)
    }
}

impl Valued for Duration {
    fn value(&self, _: bool) -> LimitValue {
        LimitValue::Time(*self)
    }
}

impl Valued for Option<Duration> {
    fn value(&self, _: bool) -> LimitValue {
        self.map_or(LimitValue::Unlimited, LimitValue::Time)
    }
}

/// A value that is kept within bounds.
trait Bounded {
    type Bound;

    /// The value, or the nearest bound.
    fn bounded(self, min: Self::Bound, max: Self::Bound) -> Self;
}

macro_rules! bounded {
    ($($type:ty)*) => {
        $(impl Bounded for $type {
            type Bound = Self;

            fn bounded(self, min: Self, max: Self) -> Self {
                self.clamp(min, max)
            }
        })*
    };
}

bounded!(u32 u64 usize Duration);

impl Bounded for Option<Duration> {
    type Bound = Duration;

    fn bounded(self, min: Duration, max: Duration) -> Self {
        self.map(|time| time.clamp(min, max))
    }
}

/// The highest limit of bytes: 256 TiB, as good as unlimited, and sums of several do not overflow.
const MOST_BYTES: u64 = 1 << 48;
/// The highest limit of a message.
const LONGEST_MESSAGE: u64 = longest_message(usize::MAX as u64);
/// The same as [`MOST_BYTES`] for numbers of type `usize`.
const MOST: usize = usize::MAX / 16;
/// The longest time: a hundred years, as good as unlimited.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The default of [`Limits::keep_alive`] for a client.
pub(crate) const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(30);
/// The default of [`Limits::keep_alive`] for a server.
pub(crate) const SERVER_KEEP_ALIVE: Duration = Duration::from_secs(2 * 60);
/// The time of a call that sets no timeout.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The time of one attempt to connect.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that accepted calls have to finish after a terminate.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the highest limit of a message where addresses go up to `last_address`: a quarter of them, because a longer buffer could not be
/// doubled. No length of a message then wraps around.
const fn longest_message(last_address: u64) -> u64 {
    let quarter = last_address / 4 + 1;
    if quarter < MOST_BYTES { quarter } else { MOST_BYTES }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    /// A limit: the texts of its row, and its numbers.
    pub(super) struct LimitRow {
        pub(super) name: &'static str,
        pub(super) sets: &'static str,
        pub(super) shown: &'static str,
        pub(super) protects: &'static str,
        pub(super) numbers: Numbers,
    }

    /// The numbers of a limit, as the documentation writes them; none where there is no default or no bound.
    pub(super) struct Numbers {
        default: Option<String>,
        min: Option<String>,
        max: Option<String>,
    }

    impl Numbers {
        pub(super) fn new<T>(argument: &str, default: T, min: T::Bound, max: T::Bound) -> Self
        where
            T: Bounded + Shown,
            T::Bound: Shown + Default + PartialEq,
        {
            let is_bytes = argument == "bytes";
            let has_min = min != T::Bound::default();
            let unbounded = [
                MOST_BYTES.shown(true),
                LONGEST_MESSAGE.shown(true),
                MOST.shown(is_bytes),
                u32::MAX.shown(false),
                LONGEST.shown(false),
            ];
            Self {
                default: default.shown(is_bytes),
                min: min.shown(is_bytes).filter(|_| has_min),
                max: max
                    .shown(is_bytes)
                    .filter(|max| !unbounded.contains(&Some(max.clone()))),
            }
        }
    }

    /// A value as the documentation writes it; none for an optional value that is absent.
    pub(super) trait Shown {
        fn shown(&self, is_bytes: bool) -> Option<String>;
    }

    impl Shown for u64 {
        fn shown(&self, is_bytes: bool) -> Option<String> {
            Some(match *self {
                0xff_ffff if is_bytes => "16 MiB - 1".to_owned(),
                bytes if is_bytes && bytes >= 1 << 20 => format!("{} MiB", bytes >> 20),
                bytes if is_bytes && bytes >= 1 << 10 => format!("{} KiB", bytes >> 10),
                number if number >= 10_000 => format!("{},{:03}", number / 1000, number % 1000),
                number => number.to_string(),
            })
        }
    }

    impl Shown for u32 {
        fn shown(&self, is_bytes: bool) -> Option<String> {
            u64::from(*self).shown(is_bytes)
        }
    }

    impl Shown for usize {
        fn shown(&self, is_bytes: bool) -> Option<String> {
            (*self as u64).shown(is_bytes)
        }
    }

    impl Shown for Duration {
        fn shown(&self, _: bool) -> Option<String> {
            let seconds = self.as_secs();
            Some(match seconds % 60 {
                0 if seconds > 0 => format!("{} min", seconds / 60),
                _ => format!("{seconds} s"),
            })
        }
    }

    impl Shown for Option<Duration> {
        fn shown(&self, is_bytes: bool) -> Option<String> {
            self.and_then(|time| time.shown(is_bytes))
        }
    }

    fn text(time: Duration) -> String {
        time.shown(false).unwrap()
    }

    #[test]
    fn each_text_of_a_limit_says_its_numbers() {
        for row in table() {
            let name = row.name;
            match (name, &row.numbers.default) {
                ("keep_alive", None) => assert_eq!(
                    row.shown,
                    format!(
                        "{} for a client, {} for a server",
                        text(CLIENT_KEEP_ALIVE),
                        text(SERVER_KEEP_ALIVE)
                    )
                ),
                (_, None) => assert_eq!(row.shown, "unlimited", "{name}"),
                (_, Some(default)) => assert_eq!(row.shown, default, "{name}"),
            }
            let bounds = match (&row.numbers.min, &row.numbers.max) {
                (Some(min), Some(max)) => format!("between {min} and {max}"),
                (Some(min), None) => format!("at least {min}"),
                (None, Some(max)) => format!("at most {max}"),
                (None, None) => String::new(),
            };
            assert!(
                row.sets.ends_with(&bounds),
                "{name}: {} says nothing of {bounds}",
                row.sets
            );
            let says = [", at least", ", at most", ", between"]
                .iter()
                .any(|word| row.sets.contains(word));
            assert_eq!(says, !bounds.is_empty(), "{name}: {}", row.sets);
        }
    }

    #[test]
    fn limits_are_listed_with_their_values_and_whether_they_are_set() {
        let limits = Limits::default()
            .max_message(1 << 20)
            .max_age(Duration::from_secs(60))
            .keep_alive(SERVER_KEEP_ALIVE);
        let all = limits.list(SERVER_KEEP_ALIVE);
        assert_eq!(all.len(), table().len());
        let find = |name| all.iter().find(|limit| limit.name == name).unwrap();
        for (name, value, is_default) in [
            ("max_message", LimitValue::Bytes(1 << 20), false),
            ("max_calls", LimitValue::Count(1024), true),
            ("high_water", LimitValue::Bytes(1 << 20), true),
            ("max_age", LimitValue::Time(Duration::from_secs(60)), false),
            ("max_idle", LimitValue::Unlimited, true),
            ("keep_alive", LimitValue::Time(SERVER_KEEP_ALIVE), true),
        ] {
            let limit = find(name);
            assert_eq!((limit.value, limit.is_default), (value, is_default), "{name}");
        }
        let client = limits.list(CLIENT_KEEP_ALIVE);
        let keep_alive = client.iter().find(|limit| limit.name == "keep_alive").unwrap();
        assert!(!keep_alive.is_default, "a client has another default");
    }

    #[test]
    fn a_value_out_of_bounds_becomes_the_nearest_bound() {
        let limits = Limits::default()
            .max_frame(1)
            .max_calls(0)
            .call_bytes(0)
            .max_message(u64::MAX)
            .max_faults(0)
            .dead_after(Duration::MAX)
            .keep_alive(Duration::MAX)
            .max_age(Duration::MAX);
        assert_eq!(
            (limits.max_frame, limits.max_calls, limits.max_faults),
            (64 << 10, 16, 1)
        );
        assert_eq!(
            (limits.call_bytes, limits.max_message),
            (64 << 10, LONGEST_MESSAGE)
        );
        assert_eq!((limits.dead_after, limits.keep_alive), (LONGEST, Some(LONGEST)));
        assert_eq!((limits.max_age, limits.max_idle), (Some(LONGEST), None));
        let limits = limits.max_frame(u32::MAX).max_age(None);
        assert_eq!((limits.max_frame, limits.max_age), ((16 << 20) - 1, None));
    }

    #[test]
    fn a_message_has_at_most_a_quarter_of_all_addresses() {
        assert_eq!(longest_message(u32::MAX.into()), 1 << 30);
        assert_eq!(longest_message(u64::MAX), MOST_BYTES);
        let most = Limits::default().max_message(u64::MAX).max_message;
        assert!(
            isize::try_from(2 * most - 1).is_ok(),
            "a buffer of {most} bytes can be doubled"
        );
    }

    #[test]
    fn limits_of_bytes_beyond_4_gib_are_kept_on_each_system() {
        let wide = 5 << 30;
        let limits = Limits::default()
            .call_bytes(wide)
            .send_bytes(wide)
            .inbox_bytes(wide)
            .stream_window(wide)
            .max_stream_window(wide)
            .metadata_bytes(wide)
            .decode_bytes(wide);
        let kept = [
            limits.call_bytes,
            limits.send_bytes,
            limits.inbox_bytes,
            limits.stream_window,
            limits.max_stream_window,
            limits.metadata_bytes,
            limits.decode_bytes,
        ];
        assert_eq!(kept, [wide; 7]);
    }

    /// The page that lists the limits; `UPDATE_LIMITS=1` writes the names and defaults of the code into it.
    #[test]
    fn the_reference_lists_each_limit_with_its_default() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/limits.md");
        // The page is not part of a package that was unpacked alone.
        let Ok(text) = fs::read_to_string(&page) else {
            return;
        };
        let updated = update(&text);
        if env::var_os("UPDATE_LIMITS").is_some() {
            fs::write(&page, updated).unwrap();
        } else {
            for (ours, theirs) in updated.lines().zip(text.lines()) {
                assert_eq!(
                    ours, theirs,
                    "run the test with UPDATE_LIMITS=1 to write the page"
                );
            }
            assert_eq!(
                updated, text,
                "run the test with UPDATE_LIMITS=1 to write the page"
            );
        }
    }

    #[test]
    fn a_wrong_default_or_a_missing_limit_in_the_reference_is_corrected() {
        let rows: String = table()
            .iter()
            .map(|row| format!("| `{}` | {} | so and so |\n", row.name, row.shown))
            .collect();
        let page =
            |rows: &str| format!("# Limits\n\n{HEADING}\n\n| name |\n|---|\n{rows}\n| `other` | 1 |\n");
        let right = page(&rows);
        assert_eq!(update(&right), right);
        let stale = page(&rows.replace("| 4 MiB | so", "| 5 MiB | so"));
        assert_eq!(update(&stale), right);
        let first = rows.split_inclusive('\n').next().unwrap();
        let short = page(&rows.replace(first, ""));
        assert!(update(&short).contains("| `max_message` | 4 MiB | memory |\n"));
        let long = page(&format!("{rows}| `gone` | 1 | so |\n"));
        assert_eq!(update(&long), right);
    }

    /// The heading of the section whose table lists the limits of one connection.
    const HEADING: &str = "## One connection: `Limits`";

    /// The page with the rows that it should have: its own words where it has the limit, in the order of the code.
    fn update(page: &str) -> String {
        let (before, section) = page
            .split_once(HEADING)
            .expect("the page has the heading of the table");
        let is_row = |line: &&str| line.starts_with("| `");
        let start = section.find("\n| `").expect("the table has rows") + 1;
        let old = &section[start..];
        let rows: Vec<_> = old.lines().take_while(is_row).collect();
        let len: usize = rows.iter().map(|row| row.len() + 1).sum();
        let listed = table().into_iter().map(|limit| {
            let named = format!("| `{}` | ", limit.name);
            let own = rows.iter().find_map(|row| row.strip_prefix(named.as_str()));
            let words = own.and_then(|rest| rest.split_once(" | "));
            let words = words.map_or_else(|| format!("{} |", limit.protects), |(_, words)| words.to_owned());
            format!("{named}{} | {words}\n", limit.shown)
        });
        let listed: String = listed.collect();
        format!("{before}{HEADING}{}{listed}{}", &section[..start], &old[len..])
    }
}
