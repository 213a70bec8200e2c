//! Another user of this machine: a process of this program that runs as a user whom nobody is.

use std::{
    env, fs,
    io::{self, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A process of another user, which runs one test of this program. It ends with this.
pub(crate) struct AnotherUser {
    child: Child,
    /// A copy of this program, where the other user can reach it.
    copy: Option<PathBuf>,
}

impl AnotherUser {
    /// The user: one that no machine has.
    pub(crate) const UID: u32 = 54_321;

    /// Starts the process, which runs `test` with these variables. `name` is different for each.
    ///
    /// # Errors
    ///
    /// This user is not root, so it cannot start a process of another user.
    pub(crate) fn run(test: &str, name: &str, variables: &[(&str, String)]) -> io::Result<Self> {
        let own = env::current_exe()?;
        let copy = env::temp_dir().join(format!("rpc-{}-another-user-{name}", std::process::id()));
        let (child, copy) = match spawn(&own, test, variables) {
            // The other user may not reach the folder that cargo builds in. It may reach the temporary folder.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && can_be_another() => {
                fs::copy(&own, &copy)?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
                (spawn(&copy, test, variables)?, Some(copy))
            }
            child => (child?, None),
        };
        Ok(Self { child, copy })
    }

    /// Takes the input and the output of the process.
    pub(crate) fn talk(&mut self) -> (ChildStdin, BufReader<ChildStdout>) {
        let to = self.child.stdin.take().unwrap();
        (to, BufReader::new(self.child.stdout.take().unwrap()))
    }
}

impl Drop for AnotherUser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(copy) = &self.copy {
            let _ = fs::remove_file(copy);
        }
    }
}

/// Returns true if this user may start processes of others: only then is a refusal one of the folder.
fn can_be_another() -> bool {
    let other = AnotherUser::UID;
    Command::new("/bin/true").uid(other).gid(other).status().is_ok()
}

fn spawn(program: &Path, test: &str, variables: &[(&str, String)]) -> io::Result<Child> {
    Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .gid(AnotherUser::UID)
        .uid(AnotherUser::UID)
        .spawn()
}
