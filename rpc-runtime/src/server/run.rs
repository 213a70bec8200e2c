//! run: a program from its start to its exit code.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{ExitCode, Termination},
    time::Duration,
};

use tokio::runtime::Builder;

use crate::server::terminate::ignore_signals;

/// Runs a program in a multi-thread runtime of its own, and ends whatever its handlers do: for `fn main`.
///
/// The program's output is the exit code, as if `main` had returned it: that of a [`DrainReport`](crate::DrainReport) is 0 if
/// the drain was clean and 6 if not, and an error is printed and becomes 1.
///
/// `#[tokio::main]` waits for everything that runs on the blocking pool when the program is over: a `blocking` handler that
/// never returns keeps the process alive. This waits for a second, and then returns. In a runtime that you build yourself,
/// `Runtime::shutdown_timeout` does the same.
///
/// ```no_run
/// # struct Hello;
/// # impl rpc_runtime::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::Incoming) -> rpc_runtime::Handler { call.unknown() }
/// # }
/// use std::process::ExitCode;
/// use rpc_runtime::Server;
///
/// fn main() -> ExitCode {
///     rpc_runtime::run(async {
///         Server::builder().service(Hello).listen("tcp://127.0.0.1:5005").serve().await
///     })
/// }
/// ```
///
/// # Panics
///
/// If `program` does, or if called inside of a runtime.
pub fn run<T: Termination>(program: impl Future<Output = T>) -> ExitCode {
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(program).report()));
    ignore_signals();
    runtime.shutdown_timeout(REST);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

/// How long what still runs on the blocking pool is waited for.
const REST: Duration = Duration::from_secs(1);
