//! The admin pages name each fault of the example `faults`, as docs/how-to/find-a-fault.md says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A net against hanging. A page shows its fault within some seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The program with one fault. It ends with this value, and its callers end with it.
struct Faults {
    child: Child,
    admin: String,
    /// The lines on stdout: the server's addresses, and the faulty client.
    told: Lines,
    /// The lines on stderr: the log, and errors of calls.
    logged: Lines,
}

impl Faults {
    fn start(fault: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_faults"))
            .args(["--fault", fault, "--tell"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let told = Lines::of(child.stdout.take().expect("it is piped"));
        let logged = Lines::of(child.stderr.take().expect("it is piped"));
        let admin = told.find(|line| line.starts_with("admin tcp://"));
        Self {
            child,
            admin: admin["admin tcp://".len()..].to_owned(),
            told,
            logged,
        }
    }

    /// Asks for a page until it is as it should be, and returns what was found there.
    fn find<T>(&self, page: &str, found: impl Fn(&str) -> Option<T>) -> T {
        let mut text = String::new();
        let found = wait_for(|| {
            text = self.page(page);
            found(&text)
        });
        found.unwrap_or_else(|| panic!("{page} does not show it:\n{text}"))
    }

    fn page(&self, page: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).expect("the listener accepts");
        let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers by text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
        assert!(head.starts_with("HTTP/1.1 200 "), "{page}: {answer}");
        body.to_owned()
    }

    /// True if the program has said that this peer or procedure is faulty.
    fn is_faulty(&self, name: &str) -> bool {
        self.told.has(|line| line.strip_prefix("faulty ") == Some(name))
    }

    /// Finds a limit that is in use to this part, in percent. Its line names the connection of the faulty caller.
    fn find_full(&self, limit: &str, percent: u32) {
        self.find("/debug/limits", |text| {
            let mut lines = text.lines();
            let line = lines.find(|line| words(line)[2] == limit && line.contains("from=program"))?;
            let used: u32 = words(line)
                .iter()
                .find_map(|word| word.strip_suffix('%'))?
                .parse()
                .ok()?;
            let by = field(line, "by")?;
            let connections = self.page("/debug/connections");
            let connection = connections.lines().find(|line| words(line)[0] == by)?;
            (used >= percent && self.is_faulty(words(connection)[3])).then_some(())
        });
    }
}

/// The lines of a pipe, which a thread reads.
#[derive(Clone)]
struct Lines {
    seen: Arc<Mutex<Vec<String>>>,
    has_ended: Arc<AtomicBool>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self {
            seen: Arc::default(),
            has_ended: Arc::default(),
        };
        let reads = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                reads.seen.lock().expect("nothing panics with it").push(line);
            }
            reads.has_ended.store(true, Ordering::Release);
        });
        lines
    }

    fn has(&self, is_it: impl Fn(&str) -> bool) -> bool {
        let seen = self.seen.lock().expect("nothing panics with it");
        seen.iter().any(|line| is_it(line))
    }

    /// Waits for a line.
    fn find(&self, is_it: impl Fn(&str) -> bool) -> String {
        let found = wait_for(|| {
            let seen = self.seen.lock().expect("nothing panics with it");
            seen.iter().find(|line| is_it(line)).cloned()
        });
        found.unwrap_or_else(|| panic!("there is no such line: {:#?}", self.seen))
    }
}

/// Asks until there is an answer, for some time.
fn wait_for<T>(mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let found = answer();
        if found.is_some() || began.elapsed() > LIMIT {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }
}

/// The words of a line, and empty ones if it has fewer than four.
fn words(line: &str) -> Vec<&str> {
    let mut words: Vec<_> = line.split_whitespace().collect();
    words.resize(words.len().max(4), "");
    words
}

/// The value of `name=value` in a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The number of `name=number` in a line; 0 if it is not there.
fn number(line: &str, name: &str) -> u64 {
    field(line, name).map_or(0, |value| value.parse().expect(line))
}

/// The peer of a line of `/debug/calls`.
fn peer_of_call(line: &str) -> &str {
    let mut words = line.split_whitespace();
    words.find(|word| word.starts_with("tcp://")).expect(line)
}

#[test]
fn a_procedure_that_blocks_its_thread_is_named() {
    let faults = Faults::start("blocks");
    faults.find("/debug/calls", |text| {
        let blocks = |line: &&str| line.contains(" blocks its thread ") && line.contains(" blocks_for=");
        let line = text.lines().find(blocks)?;
        faults.is_faulty(words(line)[3]).then_some(())
    });
    // The OS may stop a thread for some milliseconds, so others may be counted, too: some of their many calls.
    faults.find("/debug/procedures", |text| {
        let blocked = |line: &&str| number(line, "blocked_their_thread");
        let line = text.lines().max_by_key(blocked)?;
        (blocked(&line) >= 10 && faults.is_faulty(words(line)[2])).then_some(())
    });
    faults.logged.find(|line| {
        let names = line.contains(r#"procedure="shop.v1.Shop/rpc_stock""#);
        line.contains("WARN") && line.contains("a handler blocks its thread") && names
    });
    assert!(!faults.told.has(|line| line.starts_with("faulty tcp://")));
}

#[test]
fn a_peer_that_does_not_read_its_socket_is_named() {
    let faults = Faults::start("reads-nothing");
    let peer = faults.find("/debug/connections", |text| {
        let is_silent =
            |line: &&str| line.contains(" peer_silent_for=") || line.contains(" peer_takes_nothing_for=");
        let line = text.lines().find(is_silent)?;
        let has_backlog = field(line, "backlog")?.ends_with("MiB");
        let peer = words(line)[3];
        (has_backlog && faults.is_faulty(peer)).then(|| peer.to_owned())
    });
    faults.find("/debug/calls", |text| {
        let line = text.lines().find(|line| line.contains(" waits for room "))?;
        (peer_of_call(line) == peer).then_some(())
    });
}

#[test]
fn a_peer_that_leaves_a_stream_unread_is_named() {
    let faults = Faults::start("leaves-a-stream");
    faults.find("/debug/calls", |text| {
        let lines = text.lines().filter(|line| line.contains(" waits for credit "));
        let peers: Vec<_> = lines.map(peer_of_call).collect();
        let is_named = peers.len() == 2 && peers.iter().all(|peer| faults.is_faulty(peer));
        is_named.then_some(())
    });
}

#[test]
fn a_caller_that_fills_the_memory_is_named() {
    let faults = Faults::start("memory");
    // A connection that holds more than half of what is left is refused, so one alone does not get beyond a third.
    faults.find_full("max_buffered_bytes", 30);
    faults.find("/debug/procedures", |text| {
        text.contains(" RESOURCE_EXHAUSTED=").then_some(())
    });
    faults.find("/metrics", |text| {
        let name = r#"rpc_server_rejected_total{reason="limit",limit="max_buffered_bytes"} "#;
        let count = text.lines().find_map(|line| line.strip_prefix(name))?;
        (count != "0").then_some(())
    });
}

#[test]
fn a_caller_that_takes_all_handlers_is_named() {
    let faults = Faults::start("handlers");
    faults.find_full("max_waiting_handlers", 100);
    faults.logged.find(|line| {
        let names = line.contains(r#"limit="ServerBuilder::max_waiting_handlers""#);
        line.contains("WARN") && line.contains("a limit refuses requests") && names
    });
    let error = "a caller: RESOURCE_EXHAUSTED: the server runs 40 calls already: its ServerBuilder::max_waiting_handlers";
    faults.logged.find(|line| line.starts_with(error));
}

#[test]
fn a_caller_with_all_calls_of_its_connection_open_is_named() {
    Faults::start("calls").find_full("max_calls", 100);
}

#[test]
fn a_caller_with_a_short_deadline_is_named() {
    let faults = Faults::start("deadline");
    faults.find("/debug/procedures", |text| {
        let line = text.lines().find(|line| line.contains(" DEADLINE_EXCEEDED="))?;
        (words(line)[2] == "shop.v1.Shop/rpc_stock").then_some(())
    });
    faults.find("/debug/connections", |text| {
        let missed = |line: &&str| number(line, "missed_deadlines");
        let line = text.lines().max_by_key(missed)?;
        (missed(&line) > 0 && faults.is_faulty(words(line)[3])).then_some(())
    });
    // Its calls are short, so look often.
    faults.find("/debug/calls?procedure=shop.v1.Shop/rpc_stock", |text| {
        let is_short = |line: &&str| {
            let left = field(line, "left").unwrap_or_default();
            left.ends_with("us") || left.ends_with("ms")
        };
        let line = text.lines().find(is_short)?;
        faults.is_faulty(peer_of_call(line)).then_some(())
    });
}

#[test]
fn callers_end_with_a_program_that_is_killed() {
    let mut faults = Faults::start("calls");
    // All four are there.
    faults.find("/debug/connections", |text| text.starts_with("4 ").then_some(()));
    faults.child.kill().expect("it can be killed");
    // The callers have the same stderr, so its end is theirs.
    let has_ended = || faults.logged.has_ended.load(Ordering::Acquire).then_some(());
    wait_for(has_ended).expect("the callers end");
}
