//! Journal: the record of handlers that the servers of a run write.

mod moved;

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

pub use self::moved::{Moved, Reading};

/// The record of the servers: starts and ends of handlers, and marks between them.
///
/// Clones are cheap, and share the journal. It is in memory, or in a file to which several processes append. In a file,
/// each record is one `write` that returns before the handler goes on, so a killed process loses no record
/// of its handlers. The records in a file have the order of their writes, across processes.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Inner>, Option<Clock>);

/// The virtual time of a simulated node.
#[derive(Clone, Copy, Debug)]
struct Clock {
    node: u32,
    /// The node's time at which the node started.
    started: Instant,
    /// The simulation's time at which the node started.
    elapsed: Duration,
}

#[derive(Debug)]
struct Inner {
    instance: u32,
    place: Place,
    /// The number of running handlers that write to this journal.
    open: AtomicI64,
}

#[derive(Debug)]
enum Place {
    Memory(Mutex<Records>),
    File(File, PathBuf),
}

impl Journal {
    /// Makes a journal for servers of this process.
    pub fn in_memory() -> Self {
        Self::new(0, Place::Memory(Mutex::default()))
    }

    /// Opens the journal of several processes; `instance` marks the records of this process.
    ///
    /// # Errors
    ///
    /// If the file cannot be opened or created.
    pub fn append(path: impl AsRef<Path>, instance: u32) -> io::Result<Self> {
        let path = path.as_ref();
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::new(instance, Place::File(file, path.to_owned())))
    }

    fn new(instance: u32, place: Place) -> Self {
        let inner = Inner {
            instance,
            place,
            open: AtomicI64::new(0),
        };
        Self(Arc::new(inner), None)
    }

    /// Returns the same journal for a simulated node, which starts now, after `elapsed` of virtual time. Its entries tell `node` as their
    /// server, and virtual times.
    pub fn on_node(&self, node: u32, elapsed: Duration) -> Self {
        let clock = Clock {
            node,
            started: Instant::now(),
            elapsed,
        };
        Self(Arc::clone(&self.0), Some(clock))
    }

    /// Records an event of the handler of `token`.
    ///
    /// # Panics
    ///
    /// If the file cannot be written: a journal with gaps proves nothing.
    pub fn write(&self, token: u64, event: Event, one_way: bool) {
        self.write_moved(token, event, one_way, None);
    }

    /// Records the end of a handler with streams, and its messages.
    ///
    /// # Panics
    ///
    /// As [`Journal::write`].
    pub fn write_end(&self, token: u64, event: Event, moved: Moved) {
        self.write_moved(token, event, false, Some(moved));
    }

    fn write_moved(&self, token: u64, event: Event, one_way: bool, moved: Option<Moved>) {
        let change = if event == Event::Started { 1 } else { -1 };
        let entry = Entry {
            token,
            at: self.now(),
            instance: self.1.map_or(self.0.instance, |clock| clock.node),
            event,
            one_way,
            moved,
        };
        match &self.0.place {
            Place::Memory(records) => lock(records).entries.push(entry),
            Place::File(file, _) => append(file, &entry.to_string()),
        }
        self.0.open.fetch_add(change, Ordering::SeqCst);
    }

    /// The time in microseconds: of the wall clock, or virtual on a node.
    fn now(&self) -> u64 {
        let Some(Clock { started, elapsed, .. }) = self.1 else {
            return now();
        };
        let at = elapsed + Instant::now().saturating_duration_since(started);
        u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes a mark between the records: "stop sent".
    ///
    /// # Panics
    ///
    /// As [`Journal::write`].
    pub fn mark(&self, text: &str) {
        let text = text.replace(FIRST, " ");
        let instance = self.0.instance;
        match &self.0.place {
            Place::Memory(records) => {
                let mut records = lock(records);
                let after = records.entries.len();
                records.marks.push(Mark {
                    after,
                    instance,
                    text,
                });
            }
            Place::File(file, _) => append(file, &format!("M 0 {} {instance} {text}", now())),
        }
    }

    /// Returns the number of running handlers that write to this journal or its clones.
    pub fn open(&self) -> i64 {
        self.0.open.load(Ordering::SeqCst)
    }

    /// Reads all records so far, including those of other processes.
    ///
    /// # Errors
    ///
    /// As [`Records::read`].
    pub fn read(&self) -> io::Result<Records> {
        match &self.0.place {
            Place::Memory(records) => Ok(lock(records).clone()),
            Place::File(_, path) => Records::read(path),
        }
    }
}

/// The records of a journal, in the order of their writes.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Starts and ends of handlers.
    pub entries: Vec<Entry>,
    /// The marks between them.
    pub marks: Vec<Mark>,
    /// The number of records that the end of their process cut short.
    pub torn: usize,
}

impl Records {
    /// Reads the journal of several processes.
    ///
    /// An incomplete record is counted, wherever it is. Its process was killed during the write, and other processes
    /// went on.
    ///
    /// # Errors
    ///
    /// If the file cannot be read; `InvalidData` if a whole record is malformed.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let mut records = Self::default();
        for (number, line) in text.split(FIRST).enumerate().skip(1) {
            let Some(line) = line.strip_suffix(LAST) else {
                records.torn += 1;
                continue;
            };
            match Line::parse(line) {
                Some(Line::Entry(entry)) => records.entries.push(entry),
                Some(Line::Mark(instance, text)) => records.marks.push(Mark {
                    after: records.entries.len(),
                    instance,
                    text,
                }),
                None => {
                    let text = format!("record {number} of the journal makes no sense: {line:?}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(records)
    }
}

/// One record: an event of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The call.
    pub token: u64,
    /// The time in microseconds: of the wall clock, for people who read the journal; virtual in a simulation by [`Journal::on_node`].
    pub at: u64,
    /// The server that wrote it.
    pub instance: u32,
    /// The event.
    pub event: Event,
    /// True for a one-way call.
    pub one_way: bool,
    /// At the end of a handler with streams: its messages.
    pub moved: Option<Moved>,
}

/// `s 4294967297 1790000000000000 3`, followed at the end of a stream by ` 3 0 whole`.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = self.event.letter();
        let letter = if self.one_way {
            letter.to_ascii_lowercase()
        } else {
            letter
        };
        write!(f, "{letter} {} {} {}", self.token, self.at, self.instance)?;
        match self.moved {
            Some(moved) => write!(f, " {moved}"),
            None => Ok(()),
        }
    }
}

/// An event of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It was polled for the first time.
    Started,
    /// It succeeded.
    Ended,
    /// It ended with an error.
    Failed,
    /// It panicked.
    Panicked,
    /// It was dropped before its end.
    Dropped,
}

impl Event {
    const ALL: [Self; 5] = [
        Self::Started,
        Self::Ended,
        Self::Failed,
        Self::Panicked,
        Self::Dropped,
    ];

    fn letter(self) -> char {
        match self {
            Self::Started => 'S',
            Self::Ended => 'E',
            Self::Failed => 'F',
            Self::Panicked => 'P',
            Self::Dropped => 'D',
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Dropped => "dropped",
        })
    }
}

/// A mark between two records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of entries before it.
    pub after: usize,
    /// The instance that wrote it.
    pub instance: u32,
    /// The text.
    pub text: String,
}

enum Line {
    Entry(Entry),
    Mark(u32, String),
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(5, ' ');
        let mut letters = words.next()?.chars();
        let (letter, None) = (letters.next()?, letters.next()) else {
            return None;
        };
        let token = words.next()?.parse().ok()?;
        let at = words.next()?.parse().ok()?;
        let instance = words.next()?.parse().ok()?;
        match (letter, words.next()) {
            ('M', Some(text)) => Some(Self::Mark(instance, text.to_owned())),
            (letter, rest) => {
                let moved = match rest {
                    Some(rest) => Some(Moved::parse(rest)?),
                    None => None,
                };
                let event = Event::ALL
                    .into_iter()
                    .find(|event| event.letter() == letter.to_ascii_uppercase())?;
                Some(Self::Entry(Entry {
                    token,
                    at,
                    instance,
                    event,
                    one_way: letter.is_ascii_lowercase(),
                    moved,
                }))
            }
        }
    }
}

fn append(mut file: &File, line: &str) {
    let record = format!("{FIRST}{line}{LAST}");
    // One write, because another process may append between two.
    match file.write(record.as_bytes()) {
        Ok(len) if len == record.len() => {}
        other => panic!("the journal cannot be written: {other:?}"),
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or_default()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first byte of each record. It ends an incomplete record of a killed process.
const FIRST: char = '\n';
/// The last byte of each record, which shows that the record is complete.
const LAST: char = '.';

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn events(records: &Records) -> Vec<(u64, Event, bool, u32)> {
        let each = records.entries.iter();
        each.map(|entry| (entry.token, entry.event, entry.one_way, entry.instance))
            .collect()
    }

    #[test]
    fn records_of_several_processes_are_read_in_order() {
        let scratch = Scratch::new("journal-order").unwrap();
        let path = scratch.path("journal");
        let one = Journal::append(&path, 1).unwrap();
        let two = Journal::append(&path, 2).unwrap();
        one.write(7, Event::Started, false);
        two.write(8, Event::Started, true);
        two.mark("stop sent, by TERM");
        one.write(7, Event::Failed, false);
        two.write(8, Event::Dropped, true);
        assert_eq!((one.open(), two.open()), (0, 0));
        let records = one.read().unwrap();
        assert_eq!(
            events(&records),
            [
                (7, Event::Started, false, 1),
                (8, Event::Started, true, 2),
                (7, Event::Failed, false, 1),
                (8, Event::Dropped, true, 2),
            ]
        );
        let [mark] = &records.marks[..] else {
            panic!("{:?}", records.marks);
        };
        assert_eq!(
            (mark.after, mark.instance, &*mark.text),
            (2, 2, "stop sent, by TERM")
        );
        assert_eq!(records.torn, 0);
    }

    #[test]
    fn a_journal_in_memory_equals_one_in_a_file() {
        let journal = Journal::in_memory();
        for event in Event::ALL {
            journal.write(3, event, true);
        }
        journal.mark("over");
        let records = journal.read().unwrap();
        let kept: Vec<_> = records.entries.iter().map(|entry| entry.event).collect();
        assert_eq!(kept, Event::ALL);
        assert_eq!(records.marks[0].after, 5);
    }

    #[test]
    fn a_torn_record_spoils_no_other() {
        let scratch = Scratch::new("journal-torn").unwrap();
        let path = scratch.path("journal");
        let (killed, other) = (
            Journal::append(&path, 1).unwrap(),
            Journal::append(&path, 2).unwrap(),
        );
        killed.write(7, Event::Started, false);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        // The record is cut after each byte, also within a number.
        let whole = "\nE 7 1790000 1.";
        for len in 1..whole.len() {
            file.write_all(&whole.as_bytes()[..len]).unwrap();
            assert_eq!(Records::read(&path).unwrap().torn, len);
            other.write(8, Event::Started, false);
        }
        let records = Records::read(&path).unwrap();
        assert_eq!(records.entries.len(), whole.len());
        assert!(
            events(&records)[1..]
                .iter()
                .all(|entry| *entry == (8, Event::Started, false, 2))
        );
    }

    #[test]
    fn counts_of_a_stream_are_read_as_written() {
        let scratch = Scratch::new("journal-moved").unwrap();
        let path = scratch.path("journal");
        let journal = Journal::append(&path, 1).unwrap();
        for (got, reading) in (0..).zip(Reading::ALL) {
            let moved = Moved {
                got,
                gave: 7,
                reading,
            };
            journal.write_end(9, Event::Ended, moved);
            let records = journal.read().unwrap();
            assert_eq!(records.entries.last().unwrap().moved, Some(moved));
        }
    }

    #[test]
    fn a_malformed_record_is_an_error() {
        let scratch = Scratch::new("journal-senseless").unwrap();
        let path = scratch.path("journal");
        for text in [
            "rubbish",
            "X 7 1 1",
            "E 7 1 1 more",
            "E 7 1 1 2 3 half",
            "E 7 1 1 2 3 whole more",
            "EE 7 1 1",
            "E 7 1",
            "",
        ] {
            std::fs::write(&path, format!("\n{text}.\nE 7 1 1.")).unwrap();
            let error = Records::read(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{text:?}");
        }
    }
}
