//! Output: the generated files on disk, and the instructions for Cargo.

mod calls;

use std::{fs, io, path::Path};

pub(crate) use self::calls::Call;
use crate::error::{Error, Problem};

/// Writes `bytes` to `path` if the file differs.
///
/// Cargo compiles a file again when it is newer, even if its text is the same.
pub(crate) fn file(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
    folder
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display())).into())
}

/// Tells `include_protos!()` the path of the file that includes all others.
pub(crate) fn included(path: &Path) {
    // Without a build script this variable is missing, and `include_protos!()` reports that.
    println!("cargo::rustc-env={INCLUDED}={}", path.display());
}

/// Makes Cargo run the build script again when one of `paths` changes.
pub(crate) fn rerun<'a>(paths: impl Iterator<Item = &'a Path>) {
    for path in paths {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// Makes Cargo print `warnings`.
pub(crate) fn warnings(warnings: &[String]) {
    for warning in warnings {
        println!("cargo::warning={warning}");
    }
}

/// The environment variable that `include_protos!()` reads.
const INCLUDED: &str = "RPC_CODEGEN_PROTOS";
