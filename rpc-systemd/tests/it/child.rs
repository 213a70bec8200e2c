//! Processes of this binary that serve: each is an ignored test, which the tests start by its name.

use std::{
    io::{BufRead, stdin},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use rpc_runtime::{
    Context, DrainReport, Error, Server,
    server::{Handler, Incoming, Procedure, Service},
};
use rpc_systemd::Sockets;
use sd_notify::NotifyState;
use test_support::{LONG, Lab, within};
use tokio::{
    io::{BufReader, Lines},
    process::{Child, ChildStdout},
    runtime::{Builder, Runtime},
};

/// The procedure that blocks its thread until a line comes on standard input.
pub(crate) static BLOCK: Procedure = Procedure::new("child.v1.Child/rpc_block", 9_001);

/// The service with that procedure.
struct Blocks;

impl Service for Blocks {
    fn name(&self) -> &'static str {
        "child.v1.Child"
    }

    fn procedures(&self) -> &'static [Procedure] {
        std::slice::from_ref(&BLOCK)
    }

    fn call(&self, _: usize, call: Incoming) -> Handler {
        call.handle(|_: Context, (): ()| async {
            println!("blocked");
            let _ = stdin().lock().read_line(&mut String::new());
            Ok(())
        })
    }
}

/// Serves at the addresses in the arguments of this process until it is told to stop.
#[test]
#[ignore = "a process of other tests"]
fn serves() {
    let mut sockets = Sockets::take().unwrap();
    run(async move {
        let mut server = Server::builder()
            .service(Lab::default())
            .service(Blocks)
            .drain_timeout(LONG)
            // So that one thread is all that accepts.
            .workers(1);
        for address in std::env::args().filter(|arg| arg.contains(':') && !arg.contains("::")) {
            for endpoint in sockets.endpoints(&address)? {
                server = server.listener(endpoint);
            }
        }
        let server = server.bind().await?;
        println!("listening {}", server.addresses().join(" "));
        rpc_systemd::serve(server).await
    });
}

/// Says that it is ready as `systemd-notify` does, and is slow between its two messages. Then it makes the file in its last argument.
#[test]
#[ignore = "a process of other tests"]
fn notifies_slowly() {
    sd_notify::notify(&[NotifyState::Ready]).unwrap();
    // Enough for a process that does not wait to have gone on.
    sleep(Duration::from_millis(100));
    // It fails if nobody reads there any more.
    sd_notify::notify(&[NotifyState::Custom("BARRIER=1")]).unwrap();
    std::fs::write(std::env::args().next_back().unwrap(), "").unwrap();
}

/// Runs a program, and ends the process with its exit code.
fn run(program: impl Future<Output = Result<DrainReport, Error>>) {
    let runtime: Runtime = Builder::new_multi_thread().enable_all().build().unwrap();
    let code = match runtime.block_on(program) {
        Ok(report) if report.is_clean() => 0,
        Ok(_) => 6,
        Err(error) => {
            println!("error {error:#}");
            5
        }
    };
    std::process::exit(code);
}

/// The arguments of a process that runs the test `name` of this module, with these addresses.
pub(crate) fn arguments(name: &str, addresses: &[&str]) -> Vec<String> {
    let name = format!("child::{name}");
    let fixed = [
        "--ignored",
        "--exact",
        "--nocapture",
        "--test-threads",
        "1",
        &name,
    ];
    fixed.iter().chain(addresses).map(|&arg| arg.to_owned()).collect()
}

/// A process of this binary; it does not outlive the test.
pub(crate) fn start(name: &str, addresses: &[&str], fds: Vec<FdMapping>, env: &[(&str, &str)]) -> Child {
    // Its own id is needed for LISTEN_PID and WATCHDOG_PID, and only it knows that.
    let script = r#"export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(arguments(name, addresses))
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.fd_mappings(fds).unwrap();
    tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Reads lines of a process until one begins so; returns the rest of it.
pub(crate) async fn line(lines: &mut Lines<BufReader<ChildStdout>>, prefix: &str) -> String {
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

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
