//! Terminates over loopback TCP: a peer proves that it can read the server's key, whatever lies between.

#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rpc_runtime::{Bytes, Client, Code, Error, Executed, server::TerminatePolicy};
use test_support::{Logged, lab::*, within};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Forwards bytes between a port of its own and a server, and knows nothing of them.
struct Tunnel {
    address: String,
    forwarding: JoinHandle<()>,
}

impl Tunnel {
    async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        let server = server.strip_prefix("tcp://").unwrap().to_owned();
        let forwarding = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
            }
        });
        Self { address, forwarding }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn through_a_tunnel_only_a_client_that_can_read_the_key_may_terminate() {
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let tunnel = Tunnel::to(&server.address).await;
    let scratch = Scratch::new("tunnel");
    // The same user, and the same machine as far as the addresses tell. But it looks for the key where there is none.
    let outcomes = outcomes_elsewhere(&scratch.0, &[&server.address, &tunnel.address]).await;
    for outcome in outcomes {
        assert!(
            outcome
                .starts_with("PermissionDenied No this peer may not terminate the server: over loopback TCP"),
            "{outcome}"
        );
        assert!(
            outcome.contains("no proof; this client has no key of the server: no "),
            "{outcome}"
        );
        assert!(outcome.contains(scratch.0.to_str().unwrap()), "{outcome}");
    }
    let client = within(Client::connect(&tunnel.address)).await.unwrap();
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    let report = within(client.terminate()).await.unwrap();
    assert_eq!(server.report().await, report);
}

#[tokio::test(crate = "test_support::gate")]
async fn a_client_that_connects_with_its_terminate_may_terminate_too() {
    for one_way in [false, true] {
        let server = Lab::default().serve("tcp://127.0.0.1:0").await;
        let client = Client::connect_lazy(&server.address);
        match one_way {
            true => within(client.call().send_terminate()).await.unwrap(),
            false => drop(within(client.terminate()).await.unwrap()),
        }
        server.report().await;
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_missing_or_wrong_proof_is_refused_and_the_server_goes_on() {
    let logged = Logged::here();
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let key = fs::read(key_of(&audited_instance(&client, &logged).await)).unwrap();
    let near = [&key[..31], &[key[31] ^ 1]].concat();
    for proof in [&[][..], &[0; 32], &key, &near, &[7; 1000]] {
        let request = TerminateRequest {
            instance_id: Bytes::new(),
            proof: Bytes::copy_from_slice(proof),
        };
        let result = within(client.call().send_recv::<_, ()>(&TERMINATE, request.clone())).await;
        let error = result.unwrap_err();
        assert_eq!(
            (error.code(), error.executed()),
            (Code::PermissionDenied, Executed::No)
        );
        let why = match proof {
            [] => "this request has no proof",
            _ => "was not made with the key of this server for this connection",
        };
        assert!(error.message().ends_with(why), "{error}");
        within(client.call().send(&TERMINATE, request)).await.unwrap();
    }
    let account = within(client.barrier()).await.unwrap();
    assert_eq!((account.received(), account.handled()), (5, 0), "{account}");
    let lines = logged.audit();
    let refused = lines[1..].iter();
    let refused: Vec<_> = refused
        .map(|line| line.pick(&["decision", "reason", "transport", "uid"]))
        .collect();
    assert_eq!(refused, ["denied policy tcp "; 10]);
    within(client.terminate()).await.unwrap();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn the_key_is_private_never_logged_and_removed_at_the_end() {
    let logged = Logged::here();
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let client = server.client().await;
    let path = key_of(&audited_instance(&client, &logged).await);
    let found = fs::symlink_metadata(&path).unwrap();
    assert_eq!(found.len(), 32);
    #[cfg(unix)]
    {
        let folder = fs::symlink_metadata(path.parent().unwrap()).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert_eq!((folder.mode() & 0o777, folder.uid()), (0o700, found.uid()));
    }
    let key = fs::read(&path).unwrap();

    let shown = format!("{server:?} {client:?}");
    within(client.terminate()).await.unwrap();
    server.report().await;
    assert!(!path.exists(), "it is removed with the server");
    let all = format!("{}{shown}", logged.all());
    for secret in [
        hex(&key),
        format!("{key:?}"),
        format!("{key:02x?}"),
        format!("{:?}", Bytes::from(key)),
    ] {
        let middle = &secret[secret.len() / 4..secret.len() / 2];
        assert!(!all.contains(middle), "{all}");
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_without_a_use_for_a_key_writes_none() {
    let lab = Lab::default();
    let logged = Logged::here();
    for (address, policy) in [
        ("tcp://127.0.0.1:0", TerminatePolicy::loopback()),
        ("tcp://127.0.0.1:0", TerminatePolicy::custom(|_| false)),
        ("tcp://0.0.0.0:0", TerminatePolicy::default()),
        ("mem:loopback-no-key", TerminatePolicy::default()),
    ] {
        let server = lab
            .serve_with(address, |server| server.terminate_policy(policy))
            .await;
        server.handle.drain();
        server.report().await;
    }
    let lines = logged.audit();
    assert_eq!(lines.len(), 4);
    // A file that had been there would be removed by now. So a server looks for one while it lives.
    let server = lab
        .serve_with("tcp://127.0.0.1:0", |server| {
            server.terminate_policy(TerminatePolicy::loopback())
        })
        .await;
    let client = server.client().await;
    assert!(!key_of(&audited_instance(&client, &logged).await).exists());
    server.handle.drain();
    server.report().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_server_that_cannot_write_its_key_serves_and_says_why_it_refuses() {
    let scratch = Scratch::new("unwritable");
    let nowhere = scratch.0.join("not/there");
    let outcomes = run("server::loopback::serves_without_its_key", &nowhere, &[]).await;
    let [outcome] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(
        outcome.starts_with("PermissionDenied No this peer may not terminate the server: over loopback TCP"),
        "{outcome}"
    );
    // The caller may be anybody behind a tunnel, so it learns no path.
    assert!(
        outcome.ends_with("and the server could not write its key: the server's log says why"),
        "{outcome}"
    );
}

/// Not a test of its own: a server in a process whose temporary folder does not exist.
#[tokio::test(crate = "test_support::gate")]
async fn serves_without_its_key() {
    if env::var(CHILD).is_err() {
        return;
    }
    let logged = Logged::here();
    let server = Lab::default().serve("tcp://127.0.0.1:0").await;
    let says = logged.picked(
        "the key of this server cannot be written, so no peer over loopback TCP can terminate it",
        &["error"],
    );
    assert!(says.len() == 1 && says[0].contains("not/there"), "{says:?}");
    let client = server.client().await;
    let refused = outcome(within(client.terminate()).await);
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive");
    println!("\n{MARK} {refused}");
    server.handle.drain();
    server.report().await;
}

/// Not a test of its own: a client in a process of its own.
#[tokio::test(crate = "test_support::gate")]
async fn terminates_from_elsewhere() {
    let Ok(addresses) = env::var(CHILD) else {
        return;
    };
    for address in addresses.lines() {
        let client = within(Client::connect(address)).await.unwrap();
        println!("\n{MARK} {}", outcome(within(client.terminate()).await));
    }
}

/// Terminates the servers at `addresses` from a process whose runtime folder is `folder`.
async fn outcomes_elsewhere(folder: &Path, addresses: &[&str]) -> Vec<String> {
    let outcomes = run("server::loopback::terminates_from_elsewhere", folder, addresses).await;
    assert_eq!(outcomes.len(), addresses.len(), "{outcomes:?}");
    outcomes
}

/// Runs a test of this file in a process whose only place for keys is `folder`, and returns what it has marked.
async fn run(test: &'static str, folder: &Path, addresses: &[&str]) -> Vec<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, addresses.join("\n"))
        // Where the key is on Unix, and on Windows.
        .env("TMPDIR", folder)
        .env("LOCALAPPDATA", folder)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null());
    // The servers are in this runtime, and must not wait for the process.
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let marked = text.lines().filter_map(|line| line.strip_prefix(MARK));
    marked.map(|line| line.trim_start().to_owned()).collect()
}

fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?} {:?} {}", error.code(), error.executed(), error.message()),
    }
}

/// Returns the instance of the server of `client`: the audit of a terminate names it, also of one that is refused.
async fn audited_instance(client: &Client, logged: &Logged) -> String {
    let request = TerminateRequest {
        instance_id: Bytes::from_static(&[7; 16]),
        proof: Bytes::new(),
    };
    let refused = within(client.call().send_recv::<_, ()>(&TERMINATE, request)).await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    logged.audit().last().unwrap().get("instance").to_owned()
}

/// Returns where the key of a server of this process is, by docs/reference/guarantees.md.
#[cfg(windows)]
fn key_of(instance: &str) -> PathBuf {
    let local = PathBuf::from(env::var_os("LOCALAPPDATA").unwrap());
    local.join("rpc-runtime").join(format!("{instance}.key"))
}

/// Returns where the key of a server of this process is, by docs/reference/guarantees.md.
#[cfg(unix)]
fn key_of(instance: &str) -> PathBuf {
    let own = own_uid();
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| {
        fs::symlink_metadata(path).is_ok_and(|found| found.uid() == own && found.mode() & 0o077 == 0)
    });
    let folder = match runtime {
        Some(runtime) => runtime.join("rpc-runtime"),
        None => env::temp_dir().join(format!("rpc-runtime-{own}")),
    };
    folder.join(format!("{instance}.key"))
}

#[cfg(unix)]
fn own_uid() -> u32 {
    let scratch = Scratch::new("uid");
    fs::metadata(&scratch.0).unwrap().uid()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder for one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("rpc-{}-loopback-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const CHILD: &str = "RPC_TEST_LOOPBACK";
const MARK: &str = "outcome:";
