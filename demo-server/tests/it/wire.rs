//! The wire protocol from outside: a client in another language, written from docs/reference/wire.md, against the server.

use std::{io::ErrorKind, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

/// Longer than the client itself ever waits, so that what it has to say is heard.
const LIMIT: Duration = Duration::from_secs(150);

#[tokio::test(crate = "test_support::gate")]
async fn a_peer_in_another_language_confirms_the_wire_page() {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/wire/peer.py");
    let spawned = Command::new("python3")
        // No compiled files beside the sources.
        .args(["-B", client, env!("CARGO_BIN_EXE_demo-server")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let child = match spawned {
        Ok(child) => child,
        // The README asks for Rust and a C compiler, and for nothing else.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: python3 is not installed here");
            return;
        }
        Err(error) => panic!("python3 cannot be started: {error}"),
    };
    let output = timeout(LIMIT, child.wait_with_output())
        .await
        .expect("the client still runs after 150 s")
        .expect("the client's output cannot be read");
    assert!(
        output.status.success(),
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
