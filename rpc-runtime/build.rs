//! Tells the crate which compiler builds it, for the metric `rpc_build_info`.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=RUSTC");
    println!(
        "cargo::rustc-env=RPC_RUNTIME_RUSTC={}",
        version().unwrap_or_default()
    );
}

/// Returns the version of the compiler, such as `1.95.0`; none if it does not say.
fn version() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?)
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
