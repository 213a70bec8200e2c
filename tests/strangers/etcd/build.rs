//! Generates etcd's clients from two versions of etcd's own .proto files, which `.ci/strangers` lays out in `STRANGERS_ETCD`.
//!
//! Elsewhere there are no such files, and the program of this package is empty.

use std::{env, error::Error, path::PathBuf};

use rpc_codegen::Config;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(etcd)");
    println!("cargo::rerun-if-env-changed=STRANGERS_ETCD");
    let Some(protos) = env::var_os("STRANGERS_ETCD").map(PathBuf::from) else {
        return Ok(());
    };
    println!("cargo::rerun-if-changed={}", protos.display());
    println!("cargo::rustc-cfg=etcd");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for version in ["v3_5", "v3_7"] {
        let folder = protos.join(version);
        Config::new()
            .client_only()
            // Not the whole folder: `raft_internal.proto` imports this file by another name.
            .file(folder.join("etcd/api/etcdserverpb/rpc.proto"))
            .include_path(folder)
            .include_path(protos.join("imports"))
            .out_dir(out.join(version))
            .compile()?;
    }
    Ok(())
}
