//! PrivateFolder: a folder that only our own user can enter.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{super::at, own_uid::own_uid};

/// A folder that only our own user can enter. Root can too.
#[derive(Debug)]
pub(crate) struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Returns the paths where the keys of this user may be, the best one first.
    ///
    /// `$XDG_RUNTIME_DIR` counts if it belongs to this user and to nobody else. A program that runs as another user than the
    /// one who logged in may have inherited it.
    ///
    /// # Errors
    ///
    /// The OS does not tell the user of this process.
    pub(crate) fn paths() -> io::Result<Vec<PathBuf>> {
        let uid = known_uid()?;
        let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let runtime = runtime.filter(|path| path.is_absolute() && check(path, uid).is_ok());
        let runtime = runtime.map(|path| path.join("rpc-runtime"));
        let temporary = env::temp_dir().join(format!("rpc-runtime-{uid}"));
        Ok(runtime.into_iter().chain([temporary]).collect())
    }

    /// Makes the folder if there is nothing at `path`, and checks it.
    ///
    /// # Errors
    ///
    /// Those of [`PrivateFolder::find`], and the OS's.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(path, &error)),
            _ => Self::find(path),
        }
    }

    /// Checks the folder at `path`.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` for a folder of another user, or one that other users may enter; `NotADirectory` for a symbolic
    /// link or a file; the OS's error if there is nothing.
    pub(crate) fn find(path: &Path) -> io::Result<Self> {
        check(path, known_uid()?)?;
        Ok(Self(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

fn known_uid() -> io::Result<u32> {
    own_uid().ok_or_else(|| io::Error::other("the OS does not tell the user of this process"))
}

/// Checks that `path` is a folder of `uid` alone, without following a link there.
fn check(path: &Path, uid: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path).map_err(|error| at(path, &error))?;
    if !found.is_dir() {
        let text = format!("{} is not a folder", path.display());
        return Err(io::Error::new(io::ErrorKind::NotADirectory, text));
    }
    let why = if found.uid() != uid {
        format!("{} belongs to user {}", path.display(), found.uid())
    } else if found.mode() & OTHERS != 0 {
        let mode = found.mode() & 0o777;
        format!("{} has mode {mode:o}, and must have 700", path.display())
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// The bits of a mode that let other users in.
pub(super) const OTHERS: u32 = 0o077;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    pub(crate) use super::super::super::scratch::Scratch;

    /// True if no other user may use the file or the folder.
    pub(crate) fn is_private(path: &Path) -> bool {
        let found = fs::symlink_metadata(path).unwrap();
        found.mode() & 0o777 == if found.is_dir() { 0o700 } else { 0o600 }
    }

    fn refusal(path: &Path) -> String {
        PrivateFolder::find(path).unwrap_err();
        PrivateFolder::make(path).unwrap_err().to_string()
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
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        PrivateFolder::make(&path).unwrap();
        assert_eq!(PrivateFolder::find(&path).unwrap().path(), path);
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let scratch = Scratch::new("open");
        let path = scratch.0.join("keys");
        PrivateFolder::make(&path).unwrap();
        for mode in [0o701, 0o710, 0o740, 0o777, 0o1777] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = refusal(&path);
            assert!(text.ends_with("and must have 700"), "{text}");
        }
    }

    #[test]
    fn a_link_and_a_file_are_no_folder() {
        let scratch = Scratch::new("link");
        let (real, link, file) = (
            scratch.0.join("real"),
            scratch.0.join("link"),
            scratch.0.join("file"),
        );
        PrivateFolder::make(&real).unwrap();
        symlink(&real, &link).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&link, &file] {
            let text = refusal(path);
            assert!(text.ends_with("is not a folder"), "{text}");
        }
        let missing = refusal(&scratch.0.join("not/there"));
        assert!(missing.contains("not/there: "), "{missing}");
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let scratch = Scratch::new("owner");
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o700)).unwrap();
        let own = fs::metadata(&scratch.0).unwrap().uid();
        check(&scratch.0, own).unwrap();
        let error = check(&scratch.0, own + 1).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("belongs to user {own}")),
            "{error}"
        );
    }
}
