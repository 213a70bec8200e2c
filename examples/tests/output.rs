//! Runs each example as a process, and compares what it prints.

use std::{
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// No example takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a program to its end, and compares its lines. `..` in an expected line stands for any text.
fn check(program: &str, expected: &[&str]) {
    let began = Instant::now();
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // What an example prints fits into the pipe, so nobody has to read it meanwhile.
    let status = loop {
        match child.try_wait().expect("it can be waited for") {
            Some(status) => break status,
            None if began.elapsed() > LIMIT => {
                child.kill().expect("it can be killed");
                break child.wait().expect("it can be waited for");
            }
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    let mut stdout = String::new();
    let mut pipe = child.stdout.take().expect("stdout is piped");
    pipe.read_to_string(&mut stdout).expect("it prints text");
    let lines: Vec<_> = stdout.lines().collect();
    let is_same = lines.len() == expected.len()
        && lines
            .iter()
            .zip(expected)
            .all(|(line, expected)| matches(line, expected));
    let expected = expected.join("\n");
    assert!(status.success(), "{status}, having printed:\n{stdout}");
    assert!(is_same, "expected:\n{expected}\n\nprinted:\n{stdout}");
}

/// True if the line is the expected one; `..` in the expected line stands for any text.
fn matches(line: &str, expected: &str) -> bool {
    match expected.split_once("..") {
        Some((start, end)) => {
            line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end)
        }
        None => line == expected,
    }
}

#[test]
fn hello_prints_the_reply() {
    check(
        env!("CARGO_BIN_EXE_hello"),
        &[
            "server: listening on tcp://127.0.0.1:..",
            "client: the reply is \"good day, Ada\"",
            "server: drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved",
        ],
    );
}

#[test]
fn streaming_prints_each_message() {
    check(
        env!("CARGO_BIN_EXE_streaming"),
        &[
            "watch: 20 degrees",
            "watch: 21 degrees",
            "watch: 22 degrees",
            "upload: 3 readings, the lowest is 12 degrees",
            "maximum: sent 18, the highest is 18",
            "maximum: sent 12, the highest is 18",
            "maximum: sent 25, the highest is 25",
            "maximum: the stream has ended well: true",
        ],
    );
}

#[test]
fn deadlines_prints_that_handlers_are_stopped() {
    check(
        env!("CARGO_BIN_EXE_deadlines"),
        &[
            "client: the soup is here",
            "server: soup begins, with a deadline",
            "server: soup is done",
            "client: DEADLINE_EXCEEDED, executed: Maybe",
            "server: stew begins, with a deadline",
            "server: stew is stopped",
            "server: roast begins, with a deadline",
            "client: has dropped the future of its call",
            "server: roast is stopped",
        ],
    );
}

#[test]
fn one_way_prints_the_account() {
    check(
        env!("CARGO_BIN_EXE_one_way"),
        &[
            "sent: 4 events are queued",
            "flush: the operating system has them",
            "barrier: the server has received 4",
            "settled: received 4: 3 handled, 1 failed, 0 expired, 0 dropped, 0 pending",
            "server: drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved",
        ],
    );
}

#[test]
fn tls_prints_who_has_called() {
    check(
        env!("CARGO_BIN_EXE_tls"),
        &[
            "server: listening on tls://127.0.0.1:..",
            "client: good day, Ada, says the server to billing",
            "client: Some(NoCertificate)",
            "server: drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved",
        ],
    );
}

#[test]
fn auth_prints_who_has_called() {
    check(
        env!("CARGO_BIN_EXE_auth"),
        &[
            "server: listening on tls://127.0.0.1:..",
            "ada: good day, Ada, says the server to ada",
            "billing: good day, Ada, says the server to billing",
            "stranger: UNAUTHENTICATED, executed: No",
            "over plain TCP: FAILED_PRECONDITION",
            "server: drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved",
        ],
    );
}

#[test]
fn callbacks_prints_the_servers_calls() {
    check(
        env!("CARGO_BIN_EXE_callbacks"),
        &[
            "client: subscribed to \"tides\"",
            "client: the server calls with \"tides, part 1\"",
            "client: the server calls with \"tides, part 2\"",
            "client: the server calls with \"tides, part 3\"",
            "server: drained: 0 completed, 0 aborted, 0 one-ways dropped, 0 stuck, 0 starved",
        ],
    );
}

#[test]
fn middleware_prints_what_passes() {
    check(
        env!("CARGO_BIN_EXE_middleware"),
        &[
            "client: hello.v1.Hello/rpc_greet took .. ms",
            "client: the reply is \"good day, Ada\", and ada asked",
            "client: hello.v1.Hello/rpc_greet took .. ms",
            "client: UNAUTHENTICATED: send x-user, executed: No",
        ],
    );
}

#[test]
fn traces_prints_one_trace_over_two_hops() {
    check(
        env!("CARGO_BIN_EXE_traces"),
        &[
            "client: soap: 4 left",
            "collector: 4 spans, of one trace: true",
            "  client web.v1.Web/rpc_page",
            "    server web.v1.Web/rpc_page",
            "      client web.v1.Stock/rpc_count",
            "        server web.v1.Stock/rpc_count",
        ],
    );
}

#[test]
fn simulation_prints_the_same_twice() {
    let run = [
        "after   0 s: the total is 5",
        "after  60 s: the total is 10",
        "after 110 s: UNAVAILABLE, executed: Maybe",
        "after 110 s: the total is 5",
    ];
    let mut expected = run.to_vec();
    expected.push("again, with the same seed:");
    expected.extend(run);
    expected.push("the same bytes at the same times: true");
    check(env!("CARGO_BIN_EXE_simulation"), &expected);
}

/// `.ci/strangers etcd` runs it with a real etcd.
#[test]
fn etcd_says_how_to_start_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_etcd"))
        .arg("grpc+unix:/nowhere/etcd.sock")
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let begin = "cannot reach etcd: UNAVAILABLE: cannot connect: no such socket";
    assert!(stderr.starts_with(begin), "{stderr}");
    let end = "; start one by `etcd`, of Debian's package etcd-server, or pass its address\n";
    assert!(stderr.ends_with(end), "{stderr}");
}
