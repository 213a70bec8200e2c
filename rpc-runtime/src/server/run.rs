//! run: a program from its start to its exit code.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{ExitCode, Termination},
    time::Duration,
};

use tokio::runtime::Builder;

use crate::server::terminate::ignore_signals;

/// Runs a program in a multi-thread runtime of its own, and ends even if handlers do not: for `fn main`.
///
/// The exit code is that of the program's output, as if `main` had returned it: a [`DrainReport`](crate::DrainReport) gives 0 if
/// the drain was clean and 6 if not; an error is printed and gives 1.
///
/// `#[tokio::main]` waits at the end for all code on the blocking pool: a `blocking` handler that never returns keeps the process
/// alive. This waits for 1 s, and then returns. In a runtime that you build yourself, `Runtime::shutdown_timeout` does the same.
///
/// ```no_run
/// # struct Hello;
/// # impl rpc_runtime::server::Service for Hello {
/// #     fn name(&self) -> &'static str { "doc.v1.Hello" }
/// #     fn procedures(&self) -> &'static [rpc_runtime::server::Procedure] { &[] }
/// #     fn call(&self, _: usize, call: rpc_runtime::server::Incoming) -> rpc_runtime::server::Handler { call.unknown() }
/// # }
/// use std::process::ExitCode;
/// use rpc_runtime::Server;
///
/// fn main() -> ExitCode {
///     rpc_runtime::run(async {
///         Server::builder().service(Hello).listener("tcp://127.0.0.1:5005").serve().await
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

/// The time that code on the blocking pool has to end.
const REST: Duration = Duration::from_secs(1);
