//! Another user of this machine: a process of this program that runs as a user whom nobody is.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex},
};

use test_support::within;

use super::{
    caller::{Proof, Shown},
    certificates::{Certificates, of_variables},
    table::Asks,
};

/// The process. It ends with this.
pub(super) struct OtherUser {
    child: Child,
    talk: Arc<Mutex<Talk>>,
    /// A copy of this program, where the other user can reach it.
    copy: Option<PathBuf>,
}

struct Talk {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl OtherUser {
    /// Starts the process.
    ///
    /// # Errors
    ///
    /// This user is not root, so it cannot start a process of another user.
    pub(super) fn start(certificates: &Certificates, name: &str) -> io::Result<Self> {
        let own = env::current_exe()?;
        let copy = env::temp_dir().join(format!("rpc-{}-let-in-{name}", std::process::id()));
        let (mut child, copy) = match spawn(&own, certificates) {
            // The other user may not reach the folder that cargo builds in. It may reach the temporary folder.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && can_be_another() => {
                fs::copy(&own, &copy)?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
                (spawn(&copy, certificates)?, Some(copy))
            }
            child => (child?, None),
        };
        let talk = Talk {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
        };
        Ok(Self {
            child,
            talk: Arc::new(Mutex::new(talk)),
            copy,
        })
    }

    /// Asks as [`Shown::ask`] does, in the other process.
    pub(super) async fn ask(&self, asks: Asks, shown: &Shown, address: &str) -> String {
        let tokens = [&shown.token, &shown.connection_token, &shown.call_token];
        let [token, connection, call] = tokens.map(|token| token.as_deref().unwrap_or(NOTHING));
        let line = format!("{asks:?} {token} {connection} {call} {address}");
        let talk = Arc::clone(&self.talk);
        // The server is in this thread, and must not wait for the process.
        let asked = tokio::task::spawn_blocking(move || talk.lock().unwrap().ask(&line));
        within(asked).await.unwrap()
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(copy) = &self.copy {
            let _ = fs::remove_file(copy);
        }
    }
}

impl Talk {
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        let mut heard = String::new();
        loop {
            let start = heard.len();
            let len = self.from.read_line(&mut heard).unwrap();
            assert!(len > 0, "the process of another user has ended: {heard}");
            if let Some(outcome) = heard[start..].strip_prefix(MARK) {
                return outcome.trim().to_owned();
            }
        }
    }
}

/// Returns true if this user may start processes of others: only then is a refusal one of the folder.
fn can_be_another() -> bool {
    Command::new("/bin/true").uid(OTHER).gid(OTHER).status().is_ok()
}

fn spawn(program: &Path, certificates: &Certificates) -> io::Result<Child> {
    Command::new(program)
        .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(CHILD, "1")
        .envs(certificates.variables())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .gid(OTHER)
        .uid(OTHER)
        .spawn()
}

/// Not a test of its own: the process of another user. It asks as each line of its input says.
#[tokio::test(crate = "test_support::gate")]
async fn asks_as_another_user() {
    if env::var(CHILD).is_err() {
        return;
    }
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let [asks, token, connection, call, address] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let asks = match asks {
            "Terminate" => Asks::Terminate,
            _ => Asks::Call,
        };
        let [token, connection_token, call_token] =
            [token, connection, call].map(|token| (token != NOTHING).then(|| token.to_owned()));
        let shown = Shown {
            token,
            connection_token,
            call_token,
            tls: of_variables(),
            proof: Proof::Own,
        };
        println!("\n{MARK} {}", shown.ask(asks, address).await);
    }
}

const TEST: &str = "who_is_let_in::other_user::asks_as_another_user";
const CHILD: &str = "RPC_TEST_LET_IN_CHILD";
const MARK: &str = "outcome:";
/// In place of a token.
const NOTHING: &str = "-";
/// A user that no machine has.
const OTHER: u32 = 54_321;
