//! The generated files, and what Cargo is told of them.

use std::{fs, io, path::Path};

use crate::error::{Error, Problem};

/// Writes `bytes` to `path`, unless they are there: what is not written again is not compiled again.
pub(crate) fn file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display())).into())
}

/// Tells rpc-runtime's `include_protos!()` where the file is that includes all others.
pub(crate) fn included(path: &Path) {
    // Without a build script there is no such variable.
    println!("cargo::rustc-env={INCLUDED}={}", path.display());
}

/// Has Cargo run the build script again when one of `paths` changes.
pub(crate) fn rerun<'a>(paths: impl Iterator<Item = &'a Path>) {
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// Has Cargo show `warnings`.
pub(crate) fn warnings(warnings: &[String]) {
    for warning in warnings {
        println!("cargo::warning={warning}");
    }
}

/// The variable that `include_protos!()` reads.
const INCLUDED: &str = "RPC_CODEGEN_PROTOS";
