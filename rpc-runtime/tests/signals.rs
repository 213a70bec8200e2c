//! SIGTERM and Ctrl-C.
//!
//! A binary of its own, because a signal reaches every server of the process.
#![cfg(unix)]

use std::{
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rpc_runtime::{
    Client, Context, DrainReport, Error, Server,
    server::{Handler, Incoming, Procedure, Service, TerminatePolicy},
};
use test_support::{LONG, Logged, lab::*, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    runtime::Runtime,
    sync::{Barrier, Mutex},
};

/// Held by each test: a signal is for all servers of the process.
static PROCESS: Mutex<()> = Mutex::const_new(());

#[tokio::test(crate = "test_support::gate")]
async fn the_first_signal_drains_and_the_second_aborts() {
    let _alone = PROCESS.lock().await;
    let logged = Logged::here();
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:signals", |server| {
            server.signals(true).drain_timeout(10 * LONG)
        })
        .await;
    let client = server.client().await;
    let open = start(&client, &WAIT, "open");
    lab.logged("open began").await;
    signal("-TERM");
    let refused = loop {
        match Client::connect("mem:signals").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(refused.is_closed());
    assert!(!open.is_finished());
    signal("-INT");
    let report = server.report().await;
    assert_eq!((report.completed(), report.aborted()), (0, 1));
    within(open).await.unwrap().unwrap_err();
    let audit: Vec<_> = logged
        .audit()
        .iter()
        .map(|line| line.pick(&["decision", "first", "wish", "by", "signal", "peer"]))
        .collect();
    assert_eq!(
        audit,
        [
            "allowed true drain signal SIGTERM ",
            "allowed false abort signal SIGINT "
        ]
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn sigterm_makes_a_lame_duck_that_serves_until_the_second_signal() {
    let _alone = PROCESS.lock().await;
    let logged = Logged::here();
    let lab = Lab::default();
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.signals(true).lame_duck(60 * LONG).drain_timeout(LONG)
        })
        .await;
    assert_eq!(server.handle.stop_limit(), 61 * LONG + Duration::from_secs(3));
    let old = server.client().await;
    signal("-TERM");
    within(server.handle.stopping()).await;
    for _ in 0..3 {
        assert_eq!(text(&old, &ECHO, "old").await.unwrap(), "old");
        assert_eq!(text(&server.client().await, &ECHO, "new").await.unwrap(), "new");
    }
    let open = start(&old, &WAIT, "open");
    lab.logged("open began").await;
    signal("-TERM");
    let report = server.report().await;
    assert_eq!((report.completed() > 0, report.aborted()), (false, 1), "{report}");
    within(open).await.unwrap().unwrap_err();
    assert_eq!(logged.audit().len(), 2);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_lame_duck_drains_when_its_time_is_over() {
    let _alone = PROCESS.lock().await;
    let lab = Lab::default();
    let time = Duration::from_millis(300);
    let server = lab
        .serve_with("mem:signals-lame-duck", |server| {
            server.signals(true).lame_duck(time).drain_timeout(10 * LONG)
        })
        .await;
    let open = start(&server.client().await, &WAIT, "open");
    lab.logged("open began").await;
    let begun = Instant::now();
    signal("-TERM");
    while Client::connect("mem:signals-lame-duck").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() >= time, "it accepted until then");
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");
    assert!(server.report().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn ctrl_c_makes_no_lame_duck() {
    let _alone = PROCESS.lock().await;
    let lab = Lab::default();
    let server = lab
        .serve_with("mem:signals-no-lame-duck", |server| {
            server.signals(true).lame_duck(60 * LONG)
        })
        .await;
    // It listens for signals when it serves.
    drop(server.client().await);
    signal("-INT");
    assert!(server.report().await.is_clean());
}

#[tokio::test(crate = "test_support::gate")]
async fn a_hundred_terminates_a_signal_and_handles_are_one_drain() {
    let _alone = PROCESS.lock().await;
    let logged = Logged::here();
    let lab = Lab::default();
    let unix = format!(
        "unix:{}",
        std::env::temp_dir()
            .join(format!("rpc-{}-hundred", std::process::id()))
            .display()
    );
    let server = lab
        .serve_with("mem:signals-hundred", |server| {
            server
                .signals(true)
                .terminate_policy(TerminatePolicy::loopback())
                .listener("tcp://127.0.0.1:0")
                .listener(unix)
                .drain_timeout(10 * LONG)
        })
        .await;
    let open = start(&server.client().await, &WAIT, "open");
    lab.logged("open began").await;

    let together = Arc::new(Barrier::new(HUNDRED + 1));
    let mut terminates = Vec::new();
    for i in 0..HUNDRED {
        let addresses = server.handle.addresses();
        let client = within(Client::connect(&addresses[i % addresses.len()]))
            .await
            .unwrap();
        let (together, handle) = (Arc::clone(&together), server.handle.clone());
        terminates.push(tokio::spawn(async move {
            together.wait().await;
            if i % 10 == 0 {
                handle.drain();
            }
            client.terminate().await
        }));
    }
    together.wait().await;
    signal("-TERM");
    logged.decided(HUNDRED + HUNDRED / 10 + 1).await;
    lab.release();
    assert_eq!(within(open).await.unwrap().unwrap(), "open");

    let handle = server.handle.clone();
    let report = server.report().await;
    assert_eq!((report.completed(), report.is_clean()), (1, true), "{report}");
    for terminate in terminates {
        assert_eq!(within(terminate).await.unwrap().unwrap(), report);
    }
    assert_eq!(within(handle.drained()).await, report);
    let audit = logged.audit();
    assert_eq!(audit.len(), HUNDRED + HUNDRED / 10 + 1);
    assert!(audit.iter().all(|line| line.get("decision") == "allowed"));
    let first = audit.iter().filter(|line| line.get("first") == "true").count();
    assert_eq!(first, 1, "there was one drain");
    for (by, count) in [("peer", HUNDRED), ("handle", HUNDRED / 10), ("signal", 1)] {
        assert_eq!(
            audit.iter().filter(|line| line.get("by") == by).count(),
            count,
            "{by}"
        );
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_process_whose_main_waits_for_a_blocking_handler_ends_by_the_next_signal() {
    for (name, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut server = Process::start("main").await;
        server.kill(name);
        let report = server.line("drained: ").await;
        assert_eq!(
            report,
            "0 completed, 1 aborted, 0 one-ways dropped, 1 stuck, 0 starved"
        );
        let ended = async {
            loop {
                if let Some(status) = server.child.try_wait().unwrap() {
                    return status;
                }
                // One that comes right behind the drain is meant for the server.
                server.kill(name);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert_eq!(within(ended).await.code(), Some(code));
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_program_under_run_ends_with_its_reports_exit_code_though_a_handler_blocks() {
    let mut server = Process::start("run").await;
    server.kill("-TERM");
    assert_eq!(within(server.child.wait()).await.unwrap().code(), Some(6));
}

#[tokio::test(crate = "test_support::gate")]
async fn a_signal_while_a_program_under_run_ends_does_not_change_its_exit_code() {
    let mut server = Process::start("run").await;
    server.kill("-TERM");
    let ended = async {
        loop {
            if let Some(status) = server.child.try_wait().unwrap() {
                return status;
            }
            server.kill("-TERM");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(within(ended).await.code(), Some(6));
}

/// What the processes of the tests above run; nothing in this one.
#[test]
fn child() {
    let Ok(kind) = std::env::var(CHILD) else {
        return;
    };
    let code = if kind == "main" {
        // As `#[tokio::main]` does.
        let runtime = Runtime::new().unwrap();
        let report = runtime.block_on(serve()).unwrap();
        println!("{report}");
        drop(runtime);
        report.exit_code()
    } else {
        rpc_runtime::run(serve())
    };
    let code = [0, 6].into_iter().find(|known| code == ExitCode::from(*known));
    std::process::exit(code.map_or(1, i32::from));
}

async fn serve() -> Result<DrainReport, Error> {
    let builder = Server::builder().service(Sleeper).listener("tcp://127.0.0.1:0");
    let server = builder.drain_timeout(Duration::ZERO).bind().await?;
    println!("listening {}", server.addresses()[0]);
    server.serve().await
}

static SLEEP_FOR_EVER: Procedure = Procedure::new("sleeper.v1.Sleeper/rpc_sleep", 1).blocking();

/// Says that it began, and sleeps on its thread.
struct Sleeper;

impl Service for Sleeper {
    fn name(&self) -> &'static str {
        "sleeper.v1.Sleeper"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&SLEEP_FOR_EVER)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_: Context, (): ()| async {
            println!("began");
            loop {
                std::thread::sleep(LONG);
            }
            #[expect(unreachable_code, reason = "the last line gives the block its type")]
            Ok(())
        })
    }
}

/// A process of this binary that serves, with a handler that sleeps; it does not outlive the test.
struct Process {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    /// Its call is open.
    _client: Client,
}

impl Process {
    async fn start(kind: &str) -> Self {
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD, kind)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let client = Client::connect(line(&mut stdout, "listening ").await)
            .await
            .unwrap();
        let call = client.clone();
        tokio::spawn(async move {
            call.call()
                .timeout(None)
                .send_recv::<_, ()>(&SLEEP_FOR_EVER, ())
                .await
        });
        line(&mut stdout, "began").await;
        Self {
            child,
            stdout,
            _client: client,
        }
    }

    fn kill(&self, name: &str) {
        if let Some(pid) = self.child.id() {
            kill(name, pid);
        }
    }

    async fn line(&mut self, prefix: &str) -> String {
        line(&mut self.stdout, prefix).await
    }
}

/// The rest of the next line that begins so; the test harness of the process writes lines, too.
async fn line(lines: &mut Lines<BufReader<ChildStdout>>, prefix: &str) -> String {
    let found = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("the process has ended");
            // The harness does not end its line before a test.
            if let Some((_, rest)) = line.split_once(prefix) {
                return rest.to_owned();
            }
        }
    };
    within(found).await
}

fn signal(name: &str) {
    kill(name, std::process::id());
}

fn kill(name: &str, pid: u32) {
    let status = Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

const CHILD: &str = "RPC_SIGNALS_CHILD";

const HUNDRED: usize = 100;
