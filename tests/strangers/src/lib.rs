//! Servers that programs of others call, and clients that call servers of others. The others know the services, and nothing of this project.
//!
//! `.ci/strangers` fetches the .proto files of the services inside of packages, builds this package with them, and runs the programs of
//! others. Without these files there is nothing here.

#[cfg(conformance)]
pub mod conformance;
#[cfg(interop)]
pub mod interop;

use std::process::ExitCode;

/// Says that a program was built without the .proto files that it needs.
pub fn without_protos() -> ExitCode {
    eprintln!(
        "error: this program was built without the .proto files of strangers; `.ci/strangers` builds it with them"
    );
    ExitCode::FAILURE
}
