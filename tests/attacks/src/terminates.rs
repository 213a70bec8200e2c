//! Terminates that a server must refuse, from peers that almost may: without a proof, with a wrong one, as another user, with
//! another certificate. At the end the one peer that may terminates the server.

mod proof;
mod unauthorised;

use std::{fmt, path::Path, process::Stdio};

use rpc_runtime::{Client, DrainReport};
use test_support::wire::RawPeer;
use tokio::process::Command;

pub use self::unauthorised::send_all;
use self::{proof::Key, unauthorised::flood};
use crate::{
    attack::Failure,
    certificates::{Certificates, Shown},
    door::Transport,
    probe::once,
    process::{Plan, Process},
};

/// Terminates of one kind, and what became of them.
#[derive(Clone, Debug)]
pub struct Row {
    /// The transport, and what the peer lacks.
    pub kind: &'static str,
    /// The number that the server has refused; none if it was not tried.
    pub refused: Option<u64>,
    /// How it ended, or why it was not tried.
    pub note: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused = self
            .refused
            .map_or_else(|| "-".to_owned(), |count| count.to_string());
        write!(f, "| {} | {refused} | {} |", self.kind, self.note)
    }
}

/// The kinds: the certificate of a TLS peer, or what a TCP peer puts into the place of the proof.
const TCP: [(&str, proof::Kind); 4] = [
    ("tcp, no proof", proof::Kind::Absent),
    ("tcp, a random proof", proof::Kind::Random),
    ("tcp, a good proof with one wrong bit", proof::Kind::NearMiss),
    ("tcp, the good proof of another connection", proof::Kind::Replayed),
];
const TLS: [(&str, Shown); 2] = [
    ("tls, no certificate", Shown::Nothing),
    ("tls, a good certificate of another name", Shown::Client),
];
const UNIX: &str = "unix, another user";
/// All of them.
const KINDS: u64 = 7;

/// Sends about `count` terminates to servers of `program`, and returns a row for each kind.
///
/// # Errors
///
/// If a server obeys, answers anything but PERMISSION_DENIED and "not executed", or does not obey the peer that may.
///
/// # Cancel safety
///
/// Dropping the future kills the servers.
pub async fn run(program: &Path, count: u64) -> Result<Vec<Row>, Failure> {
    let each = count.div_ceil(KINDS);
    let scratch = Certificates::new()?;
    let mut rows = over_tcp(program, scratch.folder(), each).await?;
    rows.push(over_unix(program, scratch.folder(), each).await?);
    rows.extend(over_tls(program, each).await?);
    Ok(rows)
}

async fn over_tcp(program: &Path, folder: &Path, each: u64) -> Result<Vec<Row>, Failure> {
    let plan = Plan {
        runtime_folder: Some(folder.to_owned()),
        ..Plan::default()
    };
    let target = Process::start(program, &plan, Transport::Tcp).await?;
    let door = target.door().clone();
    let connect = async || door.raw().await;
    let first = unauthorised::greet(connect().await?).await?;
    let key = Key::read(folder, &first.hello)?;
    let good = key.proof(&first.hello);
    let mut rows = Vec::new();
    for (kind, proof) in TCP {
        let refused = flood(&connect, each, &|number, hello| {
            proof.make(number, hello, &key, &good)
        })
        .await?;
        once(&door).await?;
        rows.push(row(kind, refused));
    }
    // The proof is good for the connection that it was made for. So what was refused was the proof.
    obeyed(target, async || {
        let mut first = first;
        first.terminate(good).await
    })
    .await?;
    Ok(rows)
}

async fn over_unix(program: &Path, folder: &Path, each: u64) -> Result<Row, Failure> {
    let path = folder.join("open.socket");
    let plan = Plan {
        unix: Some(path.clone()),
        ..Plan::default()
    };
    let target = Process::start(program, &plan, Transport::Tcp).await?;
    let shell = format!(
        "chmod 711 '{}' && chmod 666 '{}'",
        folder.display(),
        path.display()
    );
    let opened = Command::new("sh").args(["-c", &shell]).status().await?;
    if !opened.success() {
        return Err(Failure("the socket cannot be opened to other users".to_owned()));
    }
    let output = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(program)
        .arg("terminate-unix")
        .arg(&path)
        .arg(each.to_string())
        .stdin(Stdio::null())
        .output()
        .await;
    let row = match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            let refused = text.parse().map_err(|_| Failure(format!("no number: {text}")))?;
            row(UNIX, refused)
        }
        // It takes root to become another user, and the other user must be able to read this program.
        Ok(output) if output.status.code() != Some(1) => not_tried(&String::from_utf8_lossy(&output.stderr)),
        Ok(output) => return Err(Failure(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => not_tried(&error.to_string()),
    };
    let address = format!("unix:{}", path.display());
    obeyed(target, async || {
        let client: Client = Client::connect(address).await?;
        client.terminate().await?;
        Ok(())
    })
    .await?;
    Ok(row)
}

async fn over_tls(program: &Path, each: u64) -> Result<Vec<Row>, Failure> {
    let plan = Plan {
        operator: Some("operator"),
        ..Plan::default()
    };
    let target = Process::start(program, &plan, Transport::Tls).await?;
    let door = target.door().clone();
    let certificates = door
        .certificates()
        .ok_or_else(|| Failure("no certificates".to_owned()))?;
    let mut rows = Vec::new();
    for (kind, shown) in TLS {
        let connector = certificates.attacker(shown)?;
        let connect = async || Ok(RawPeer::over(door.secured(&connector).await?));
        let refused = flood(&connect, each, &|_, _| Vec::new()).await?;
        once(&door).await?;
        rows.push(row(kind, refused));
    }
    let tls = certificates.client_named("operator")?;
    obeyed(target, async || {
        let client: Client = Client::builder(door.address()).tls(tls).connect().await?;
        let _: DrainReport = client.terminate().await?;
        Ok(())
    })
    .await?;
    Ok(rows)
}

/// Lets the peer that may terminate the target do so. Without this, a target that refuses everybody would pass.
async fn obeyed(
    mut target: Process,
    terminate: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    terminate().await?;
    target.ended().await?;
    Ok(())
}

fn row(kind: &'static str, refused: u64) -> Row {
    Row {
        kind,
        refused: Some(refused),
        note: "PERMISSION_DENIED, not executed; the server serves".to_owned(),
    }
}

fn not_tried(why: &str) -> Row {
    Row {
        kind: UNIX,
        refused: None,
        note: format!("not tried: {}", why.trim()),
    }
}

/// The user and the group `nobody`.
const NOBODY: &str = "65534";
