//! Scratch: a folder for the files of one run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// A temporary folder. It is removed with its contents when this value is dropped, unless it is kept.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    kept: bool,
}

impl Scratch {
    /// Makes a folder for temporary files.
    ///
    /// # Errors
    ///
    /// If the folder cannot be created.
    pub fn new(name: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("history-{}-{number}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self { folder, kept: false })
    }

    /// Returns the path of a file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// Keeps the folder, and returns its path.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.kept {
            // The OS cleans up files that cannot be removed.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
