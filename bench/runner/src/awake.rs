//! Programs that keep the processors from sleeping while others are measured.

use std::{
    io,
    process::{Child, Command, Stdio},
};

/// A program for each processor, which counts at idle priority until this is dropped: it runs only when nothing else wants to.
///
/// A processor without work sleeps, and on a virtual machine it takes tens of microseconds to wake. With few calls in flight that is most of
/// what a call takes, and a framework that keeps more threads busy looks quicker.
pub struct Awake(Vec<Child>);

impl Awake {
    /// Starts the programs.
    pub fn start() -> Result<Self, String> {
        let mut awake = Self(Vec::new());
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..processors {
            let program = counter().map_err(|error| {
                format!("--awake: chrt does not start: {error}; install util-linux, or leave --awake out")
            })?;
            awake.0.push(program);
        }
        Ok(awake)
    }
}

fn counter() -> io::Result<Child> {
    // The shell would outlive a killed runner for ever, so it counts only while its stdin, a pipe from here, is open.
    const COUNT: &str = "(while :; do :; done) & read -r _; kill $!";
    Command::new("chrt")
        .args(["--idle", "0", "sh", "-c", COUNT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
}

impl Drop for Awake {
    fn drop(&mut self) {
        for mut program in self.0.drain(..) {
            drop(program.stdin.take());
            // It ends by itself. If not, the run is over all the same.
            let _ = program.wait();
        }
    }
}
