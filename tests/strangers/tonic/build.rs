//! Generates the service twice: by rpc-codegen, and by tonic's own generator.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    rpc_codegen::compile_dir("proto")?;
    // The names of the files are the same.
    let out = PathBuf::from(env::var("OUT_DIR")?).join("theirs");
    fs::create_dir_all(&out)?;
    // protox in place of protoc, which is not everywhere.
    let descriptors = protox::compile(["ledger.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .out_dir(out)
        .compile_fds(descriptors)?;
    Ok(())
}
