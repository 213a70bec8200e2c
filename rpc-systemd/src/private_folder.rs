//! PrivateFolder: a folder for one socket, which no other user can reach.

use std::{env, fs, io, os::unix::fs::DirBuilderExt, path::PathBuf};

/// A folder of this user alone. It is removed with what it holds when this is dropped.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Makes one in `$XDG_RUNTIME_DIR`, or else in the temporary folder.
    ///
    /// # Errors
    ///
    /// The OS's error.
    pub(crate) fn make() -> io::Result<Self> {
        let parent = env::var_os("XDG_RUNTIME_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let name = format!("rpc-hand-over-{:016x}", fastrand::u64(..));
        let path = parent.join(name);
        // It fails if anything is there.
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// The path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What is left of a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
