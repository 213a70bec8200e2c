//! Which peer may terminate a server: every transport, user and policy, in one table.

use std::{
    collections::HashMap,
    env, fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use Expected::{Denied, Unknown, Yes};
use rpc_runtime::{Client, Code, Error, server::TerminatePolicy};
use test_support::{Running, lab::*, loopback, within};

/// The outcome of a terminate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Yes,
    Denied,
    Unknown,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// On loopback alone.
    Loopback,
    /// On every address of the machine; the peer comes over loopback.
    World,
    Unix,
    Memory,
}

/// The user whose process the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Same,
    Other,
}

/// What is expected of `POLICIES`, in their order. (An in-process client has a server of its own, which has the default
/// policy and no other: see the last test.)
const TABLE: [(Place, User, [Expected; 5]); 7] = [
    //                               default  loopback  yes  no      disabled
    (Place::Loopback, User::Same, [Yes, Yes, Yes, Denied, Unknown]),
    (Place::Loopback, User::Other, [Denied, Yes, Yes, Denied, Unknown]),
    (Place::World, User::Same, [Denied, Yes, Yes, Denied, Unknown]),
    (Place::World, User::Other, [Denied, Yes, Yes, Denied, Unknown]),
    (Place::Unix, User::Same, [Yes, Yes, Yes, Denied, Unknown]),
    (Place::Unix, User::Other, [Denied, Denied, Yes, Denied, Unknown]),
    (Place::Memory, User::Same, [Yes, Yes, Yes, Denied, Unknown]),
];

/// How a policy is called here, and how it is made.
type Policy = (&'static str, fn() -> TerminatePolicy);

const POLICIES: [Policy; 5] = [
    ("default", TerminatePolicy::default),
    ("loopback", TerminatePolicy::loopback),
    ("function that says yes", || TerminatePolicy::custom(|_| true)),
    ("function that says no", || TerminatePolicy::custom(|_| false)),
    ("disabled", TerminatePolicy::disabled),
];

#[tokio::test(crate = "test_support::gate")]
async fn a_policy_admits_and_refuses_as_the_table_says() {
    for user in [User::Same, User::Other] {
        let mut servers = Vec::new();
        for (place, _, expected) in TABLE.iter().filter(|(_, who, _)| *who == user) {
            for ((name, policy), expected) in POLICIES.iter().zip(expected) {
                let what = format!("{place:?} {user:?} {name}");
                servers.push((serve(*place, user, policy()).await, *expected, what));
            }
        }
        let addresses: Vec<_> = servers
            .iter()
            .map(|(server, ..)| loopback(&server.address))
            .collect();
        let outcomes = match user {
            User::Same => outcomes_here(&addresses).await,
            User::Other => match outcomes_of_another_user(addresses.clone()).await {
                Ok(outcomes) => outcomes,
                Err(why) => {
                    eprintln!("skipped: all rows of another user, for {why}");
                    HashMap::new()
                }
            },
        };
        for ((server, expected, what), address) in servers.into_iter().zip(addresses) {
            match outcomes.get(&address) {
                Some(outcome) => check(server, expected, outcome, &what).await,
                None => assert!(outcomes.is_empty(), "{what}: no client has tried"),
            }
        }
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn an_in_process_client_may_terminate_its_own_server() {
    let client = Client::in_process(Lab::default());
    assert_eq!(outcome(within(client.terminate()).await), "ok");
}

/// Not a test of its own: the other user's part of the table, in a process that the first test starts.
#[tokio::test(crate = "test_support::gate")]
async fn as_another_user() {
    let Ok(addresses) = env::var(ADDRESSES) else {
        return;
    };
    for (address, outcome) in outcomes_here(&addresses.lines().map(str::to_owned).collect::<Vec<_>>()).await {
        println!("\n{MARK} {address} {outcome}");
    }
}

async fn serve(place: Place, user: User, policy: TerminatePolicy) -> Running {
    let number = fastrand::u32(..);
    let address = match place {
        Place::Loopback => "tcp://127.0.0.1:0".to_owned(),
        Place::World => "tcp://0.0.0.0:0".to_owned(),
        Place::Unix => format!("unix:{}", scratch(&format!("{number}.sock")).display()),
        Place::Memory => format!("mem:policy-{number}"),
    };
    let server = Lab::default()
        .serve_with(&address, |server| server.terminate_policy(policy))
        .await;
    if let (Some(path), User::Other) = (address.strip_prefix("unix:"), user) {
        // So that the policy has to decide, and not the OS when the peer connects.
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
    }
    server
}

async fn check(server: Running, expected: Expected, outcome: &str, what: &str) {
    match expected {
        Yes => {
            assert_eq!(outcome, "ok", "{what}");
            assert!(server.report().await.is_clean());
            return;
        }
        Denied => assert!(
            outcome.starts_with("PERMISSION_DENIED No this peer may not terminate the server"),
            "{what}: {outcome}"
        ),
        Unknown => {
            let text = "UNIMPLEMENTED No this server has no procedure rpc.control.v1.Control/rpc_terminate: is it an older \
                        build, or was the service not added to it? It serves lab.v1.Lab";
            assert_eq!(outcome, text, "{what}");
        }
    }
    let client = within(Client::connect(loopback(&server.address))).await.unwrap();
    assert_eq!(text(&client, &ECHO, "alive").await.unwrap(), "alive", "{what}");
    let unknown = plain(&client, &NOWHERE).await.unwrap_err();
    assert_eq!(
        unknown.message(),
        "this server has no procedure lab.v1.Lab/nowhere: is it an older build, or was the service not added to it? It \
         serves lab.v1.Lab"
    );
    server.handle.drain();
    server.report().await;
}

/// Terminates each server from this process.
async fn outcomes_here(addresses: &[String]) -> HashMap<String, String> {
    let mut outcomes = HashMap::new();
    for address in addresses {
        let result = match within(Client::connect(address)).await {
            Ok(client) => within(client.terminate()).await,
            Err(error) => Err(error),
        };
        outcomes.insert(address.clone(), outcome(result));
    }
    outcomes
}

fn outcome<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            let code = match error.code() {
                Code::PermissionDenied => "PERMISSION_DENIED".to_owned(),
                Code::Unimplemented => "UNIMPLEMENTED".to_owned(),
                code => format!("{code:?}"),
            };
            format!("{code} {:?} {}", error.executed(), error.message())
        }
    }
}

/// Terminates each server from a process of another user; why that cannot be, if it cannot.
async fn outcomes_of_another_user(addresses: Vec<String>) -> Result<HashMap<String, String>, String> {
    // The servers are in this runtime, and must not wait for the process.
    tokio::task::spawn_blocking(move || {
        let own = env::current_exe().map_err(|error| error.to_string())?;
        let copy = scratch("test");
        let output = match run_as_another(&own, &addresses) {
            // The other user may not reach the folder that cargo builds in.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::copy(&own, &copy).map_err(|error| error.to_string())?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))
                    .map_err(|error| error.to_string())?;
                let output = run_as_another(&copy, &addresses);
                let _ = fs::remove_file(&copy);
                output
            }
            output => output,
        };
        let output = output.map_err(|error| format!("no process of another user can be started: {error}"))?;
        let mut outcomes = HashMap::new();
        for line in output.lines().filter_map(|line| line.strip_prefix(MARK)) {
            let (address, outcome) = line.trim_start().split_once(' ').unwrap();
            outcomes.insert(address.to_owned(), outcome.to_owned());
        }
        assert_eq!(outcomes.len(), addresses.len(), "{output}");
        Ok(outcomes)
    })
    .await
    .unwrap()
}

fn run_as_another(program: &Path, addresses: &[String]) -> io::Result<String> {
    let output = Command::new(program)
        .args([
            "--exact",
            "server::policy::as_another_user",
            "--nocapture",
            "--test-threads=1",
        ])
        .env_clear()
        .env(ADDRESSES, addresses.join("\n"))
        .current_dir("/")
        .stdin(Stdio::null())
        .gid(OTHER)
        .uid(OTHER)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

fn scratch(name: &str) -> PathBuf {
    env::temp_dir().join(format!("rpc-{}-policy-{name}", std::process::id()))
}

const ADDRESSES: &str = "RPC_TEST_POLICY_ADDRESSES";
const MARK: &str = "outcome:";
/// A user that no machine has.
const OTHER: u32 = 54_321;
