//! Generates the services of strangers from their own .proto files, which `.ci/strangers` lays out in `STRANGERS_PROTOS`.
//!
//! Elsewhere there are no such files, and the programs of this package are empty.

use std::{env, error::Error, path::PathBuf};

use rpc_codegen::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(conformance, interop)");
    println!("cargo::rerun-if-env-changed=STRANGERS_PROTOS");
    let Some(protos) = env::var_os("STRANGERS_PROTOS").map(PathBuf::from) else {
        return Ok(());
    };
    println!("cargo::rerun-if-changed={}", protos.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let conformance = protos.join("conformance");
    if conformance.exists() {
        println!("cargo::rustc-cfg=conformance");
        Config::new()
            .type_names(".", "type.googleapis.com")
            .out_dir(out.join("conformance"))
            .compile_dir(conformance)?;
    }
    let interop = protos.join("interop.binpb");
    if interop.exists() {
        println!("cargo::rustc-cfg=interop");
        Config::new()
            .default_handlers("TestService")
            .out_dir(out.join("interop"))
            .descriptor_set(interop)
            .compile()?;
    }
    Ok(())
}
