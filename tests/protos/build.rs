//! A build script for one source of .proto files: FOLDER, and IMPORTS, a folder that is only imported from.
//!
//! `.ci/protos` runs it for each source, with the variables that Cargo sets. Cargo itself gives no arguments: nothing is generated.

use std::{env, error::Error, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let Some(folder) = arguments.next() else {
        return Ok(());
    };
    let out_dir = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let mut config = rpc_codegen::Config::new();
    config.file_descriptor_set_path(PathBuf::from(out_dir).join("descriptors.bin"));
    for imports in arguments {
        config.include_path(imports);
    }
    config.compile_dir(folder)
}
