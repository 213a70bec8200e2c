//! PrivateFolder: a folder that only our own user can use, and its files.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::windows::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_OPEN_REPARSE_POINT,
};

use super::{
    super::{User, at},
    security::{OwnUserOnly, ok, own_user, owner},
};

/// A folder that only our own user can use. Administrators can take it over.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Returns the path where the keys of this user may be: `AppData\Local\rpc-runtime` in the user's own profile.
    ///
    /// The environment names the profile. A program that runs as another user than the one who logged in may have inherited it: the check of
    /// the owner finds that.
    ///
    /// # Errors
    ///
    /// The environment names no profile.
    pub(crate) fn paths() -> io::Result<Vec<PathBuf>> {
        let local = std::env::var_os("LOCALAPPDATA").map(PathBuf::from);
        let local = local.filter(|path| path.is_absolute());
        local
            .map(|path| vec![path.join("rpc-runtime")])
            .ok_or_else(|| io::Error::other("LOCALAPPDATA names no folder of this user"))
    }

    /// Makes the folder if there is nothing at `path`, and checks it.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateFolder::find`], and the OS's.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        let only = OwnUserOnly::new()?;
        let attributes = only.attributes();
        // SAFETY: the path ends with a zero, and the attributes point to memory of `only`, which lives until the call returns.
        let made = unsafe { ok(CreateDirectoryW(wide(path).as_ptr(), &raw const attributes)) };
        match made {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path, &error)),
            _ => Self::find(path),
        }
    }

    /// Checks the folder at `path`: if our own user owns it, it was made for this user alone.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` for a folder of another user; `NotADirectory` for a link or a file; the OS's error if there is nothing.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        let own =
            own_user().ok_or_else(|| io::Error::other("the OS does not tell the user of this process"))?;
        check(path, &own)?;
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Checks that `path` is a folder of `user`, without following a link there.
fn check(path: &Path, user: &User) -> io::Result<()> {
    let found = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
    if !found.is_dir() || is_link(found.file_attributes()) {
        let text = format!("{} is not a folder", path.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
    }
    let owner = owner(&wide(path)).map_err(|error| at(path, &error))?;
    if *user == owner {
        return Ok(());
    }
    let text = format!("{} belongs to the user with {owner}", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Makes a file that is not there yet. Who may read it is inherited from its folder; it follows no link.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)
}

/// Checks that an open file is one, in a folder that was checked.
///
/// # Errors
///
/// `PermissionDenied` if not.
pub(crate) fn check_private(file: &File, path: &Path) -> io::Result<()> {
    let found = file.metadata()?;
    if found.is_file() && !is_link(found.file_attributes()) {
        return Ok(());
    }
    let text = format!("{} is not a file of this user alone", path.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// What changes when a file is written or replaced.
#[cfg(feature = "_tls")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    len: u64,
    created: u64,
    modified: u64,
}

/// Returns what changes when the file is written or replaced; `None` if it cannot be looked at.
#[cfg(feature = "_tls")]
pub(crate) fn file_stamp(path: &Path) -> Option<FileStamp> {
    let file = fs::metadata(path).ok()?;
    Some(FileStamp {
        len: file.file_size(),
        created: file.creation_time(),
        modified: file.last_write_time(),
    })
}

fn is_link(attributes: u32) -> bool {
    attributes & FILE_ATTRIBUTE_REPARSE_POINT != 0
}

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) use super::super::super::scratch::Scratch;

    /// True if our own user owns the file or the folder. Who else may use it is what its folder was made with.
    pub(crate) fn is_private(path: &Path) -> bool {
        owner(&wide(path)).ok() == own_user()
    }

    #[test]
    fn a_folder_is_made_for_this_user_alone_and_found_again() {
        let scratch = Scratch::new("make");
        let path = scratch.0.join("keys");
        assert_eq!(
            PrivateFolder::find(&path).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        PrivateFolder::make(&path).unwrap();
        PrivateFolder::make(&path).unwrap();
        assert_eq!(PrivateFolder::find(&path).unwrap().path(), path);
    }

    #[test]
    fn a_file_is_no_folder() {
        let scratch = Scratch::new("file-as-folder");
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        let error = PrivateFolder::make(&file).unwrap_err();
        assert!(error.to_string().ends_with("is not a folder"), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let scratch = Scratch::new("owner");
        let path = scratch.0.join("keys");
        PrivateFolder::make(&path).unwrap();
        check(&path, &own_user().unwrap()).unwrap();
        let error = check(&path, &User::Sid("S-1-5-21-1-2-3-1001".into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
    }
}
