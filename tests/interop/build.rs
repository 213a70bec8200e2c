//! Generates the service of the server, and the newer service of a client.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    rpc_codegen::compile_dir("proto")?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    rpc_codegen::Config::new()
        .client_only()
        .out_dir(out.join("newer"))
        .compile_dir("newer")
}
