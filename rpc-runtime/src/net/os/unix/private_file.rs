//! Private files: files that only our own user can read, what changes when a file is replaced, and random bytes.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use super::{own_uid::own_uid, private_folder::OTHERS};

/// Makes a file that is not there yet, and that only this user can read. It follows no link: open(2), O_EXCL.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Checks that an open file belongs to our own user alone.
///
/// # Errors
///
/// `PermissionDenied` if not.
pub(crate) fn check_private(file: &File, path: &Path) -> io::Result<()> {
    let found = file.metadata()?;
    if found.is_file() && Some(found.uid()) == own_uid() && found.mode() & OTHERS == 0 {
        return Ok(());
    }
    let text = format!("{} is not a file of this user alone", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Fills `bytes` with random bytes that nobody can guess: random(4) of each system.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// What changes when a file is written or replaced.
#[cfg(feature = "_tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Returns what changes when the file is written or replaced; `None` if it cannot be looked at.
#[cfg(feature = "_tls")]
pub(crate) fn file_stamp(path: &Path) -> Option<FileStamp> {
    let file = std::fs::metadata(path).ok()?;
    Some(FileStamp {
        device: file.dev(),
        inode: file.ino(),
        len: file.len(),
        modified: (file.mtime(), file.mtime_nsec()),
        changed: (file.ctime(), file.ctime_nsec()),
    })
}
