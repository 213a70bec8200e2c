//! Compiles the part of etcd's API under proto/ to Rust: clients for the library, and a server for its tests.

use std::{env, error::Error, path::PathBuf};

use rpc_codegen::Config;

fn main() -> Result<(), Box<dyn Error>> {
    Config::new().client_only().compile_dir("proto")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    Config::new()
        .server_only()
        .out_dir(out.join("fake"))
        .compile_dir("proto")
}
