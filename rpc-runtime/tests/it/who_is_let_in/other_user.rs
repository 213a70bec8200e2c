//! A caller that is another user of this machine.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout},
    sync::{Arc, Mutex},
};

use test_support::within;

use super::{
    caller::{Proof, Shown},
    certificates::{Certificates, of_variables},
    table::Asks,
};
use crate::another_user::AnotherUser;

/// The process of the other user. It ends with this.
pub(super) struct OtherUser {
    _process: AnotherUser,
    talk: Arc<Mutex<Talk>>,
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
        let mut variables = certificates.variables().to_vec();
        variables.push((CHILD, "1".to_owned()));
        let mut process = AnotherUser::run(TEST, name, &variables)?;
        let (to, from) = process.talk();
        Ok(Self {
            _process: process,
            talk: Arc::new(Mutex::new(Talk { to, from })),
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

/// Not a test of its own: the process of another user. It asks as each line of its input says.
#[tokio::test(crate = "test_support::gate")]
async fn asks_as_another_user() {
    if env::var(CHILD).is_err() {
        return;
    }
    // Not in this thread, which closes the connections of earlier clients meanwhile: a server waits for that.
    let next = || tokio::task::spawn_blocking(|| io::stdin().lines().next());
    while let Some(line) = next().await.unwrap() {
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
