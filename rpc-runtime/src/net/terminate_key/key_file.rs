//! KeyFile: the file of a server's key, from the start of the server to its end.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::{TerminateKey, key_name::key_name, stale_keys};
use crate::net::os::{
    at,
    private::{PrivateFolder, check_private, create_private},
};

/// A server's key and its file, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct KeyFile {
    key: TerminateKey,
    instance: [u8; 16],
    path: PathBuf,
}

impl KeyFile {
    /// Draws a key for the server `instance`, and writes its file: into `$XDG_RUNTIME_DIR/rpc-runtime`, or else into
    /// `rpc-runtime-<uid>` below the temporary folder; on Windows into `AppData\Local\rpc-runtime` of the user's profile.
    ///
    /// Files that killed servers left behind are removed.
    ///
    /// # Errors
    ///
    /// Why no folder can be used, or why the OS gives no random bytes.
    pub(crate) fn create(instance: [u8; 16]) -> io::Result<Self> {
        Self::create_in(&PrivateFolder::paths()?, instance)
    }

    fn create_in(folders: &[PathBuf], instance: [u8; 16]) -> io::Result<Self> {
        let key = TerminateKey::random()?;
        let path = write_first(folders, instance, &key)?;
        stale_keys::remove(&path);
        Ok(Self { key, instance, path })
    }

    /// The key in it.
    pub(crate) fn key(&self) -> &TerminateKey {
        &self.key
    }

    /// Shows that the server lives: makes the file young again, or writes it anew if something has removed it.
    ///
    /// The folder may be gone, too: the OS removes `$XDG_RUNTIME_DIR` when its user logs out. Another user may have made it again. Then
    /// another folder is used.
    ///
    /// # Errors
    ///
    /// Why the file cannot be written.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        if self.rewrite().is_ok() {
            return Ok(());
        }
        self.move_to(&PrivateFolder::paths()?)
    }

    fn move_to(&mut self, folders: &[PathBuf]) -> io::Result<()> {
        self.path = write_first(folders, self.instance, &self.key)?;
        Ok(())
    }

    /// Puts a new file with the same bytes in the place of the old one. What lies there is never opened: it may be a link or a pipe.
    fn rewrite(&self) -> io::Result<()> {
        let next = self.path.with_extension("next");
        // One that a killed server left behind.
        let _ = fs::remove_file(&next);
        write_in(&next, &self.key)?;
        fs::rename(&next, &self.path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // The next server removes what cannot be removed now.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes `key` into the first of `folders` that can be used, and returns the path.
fn write_first(folders: &[PathBuf], instance: [u8; 16], key: &TerminateKey) -> io::Result<PathBuf> {
    let mut failures = Vec::new();
    for folder in folders {
        let path = folder.join(key_name(instance));
        match write_new(&path, key) {
            Ok(()) => return Ok(path),
            Err(error) => failures.push(error.to_string()),
        }
    }
    Err(io::Error::other(failures.join(", and ")))
}

/// Writes `key` into a file that is not there yet, and makes its folder.
fn write_new(path: &Path, key: &TerminateKey) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        PrivateFolder::make(folder)?;
    }
    write_in(path, key)
}

/// Writes `key` into a file that is not there yet, in a folder of this user alone.
fn write_in(path: &Path, key: &TerminateKey) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        PrivateFolder::find(folder)?;
    }
    let mut file = create_private(path).map_err(|error| at(path, &error))?;
    let written = check_private(&file, path).and_then(|()| file.write_all(&key.0));
    written.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Reads the key of the server `instance`, if it runs on this machine as our own user.
///
/// # Errors
///
/// `NotFound` if there is no such file; else why it cannot be read or trusted.
pub(crate) fn read_key(instance: [u8; 16]) -> io::Result<TerminateKey> {
    read_in(&PrivateFolder::paths()?, instance)
}

fn read_in(folders: &[PathBuf], instance: [u8; 16]) -> io::Result<TerminateKey> {
    let mut failure = None;
    for folder in folders {
        match read(folder, instance) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => failure = failure.or(Some(error)),
            read => return read,
        }
    }
    Err(failure.unwrap_or_else(|| {
        let folders: Vec<_> = folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        let text = format!("no {} is in {}", key_name(instance), folders.join(" or "));
        io::Error::new(io::ErrorKind::NotFound, text)
    }))
}

fn read(folder: &Path, instance: [u8; 16]) -> io::Result<TerminateKey> {
    let path = PrivateFolder::find(folder)?.path().join(key_name(instance));
    let mut file = File::open(&path).map_err(|error| at(&path, &error))?;
    check_private(&file, &path)?;
    let mut key = Vec::with_capacity(KEY_LEN);
    (&mut file).take(KEY_LEN as u64 + 1).read_to_end(&mut key)?;
    let key = key.try_into().map_err(|_| {
        let text = format!("{} has not the {KEY_LEN} bytes of a key", path.display());
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(TerminateKey(key))
}

const KEY_LEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::os::{
        on_unix,
        tests_of_files::{Scratch, is_private},
    };

    const ID: [u8; 16] = *b"0123456789abcdef";
    const NAME: &str = "30313233343536373839616263646566.key";

    fn error(result: io::Result<impl Sized>) -> io::Error {
        match result {
            Ok(_) => panic!("it must fail"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_key_is_written_read_and_removed() {
        let scratch = Scratch::new("file");
        let folder = scratch.0.join("keys");
        let folders = [folder.clone()];
        assert_eq!(error(read_in(&folders, ID)).kind(), io::ErrorKind::NotFound);
        let file = KeyFile::create_in(&folders, ID).unwrap();
        assert_eq!(file.path, folder.join(NAME));
        assert!(is_private(&folder) && is_private(&file.path));
        assert_eq!(read_in(&folders, ID).unwrap().0, file.key().0);
        assert_eq!(error(read_in(&folders, [0; 16])).kind(), io::ErrorKind::NotFound);
        drop(file);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn the_first_folder_that_can_be_used_has_the_file_and_a_reader_looks_into_all() {
        let scratch = Scratch::new("folders");
        let [bad, good] = ["bad", "good"].map(|name| scratch.0.join(name));
        fs::write(&bad, "a file").unwrap();
        let file = KeyFile::create_in(&[bad.clone(), good.clone()], ID).unwrap();
        assert_eq!(file.path.parent(), Some(&*good));
        assert_eq!(read_in(&[bad.clone(), good], ID).unwrap().0, file.key().0);
        assert_eq!(fs::read_to_string(&bad).unwrap(), "a file");
        let text = error(KeyFile::create_in(&[bad.clone(), bad.join("x")], ID)).to_string();
        assert!(text.contains("is not a folder, and "), "{text}");
        assert_eq!(error(read_in(&[bad], ID)).kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn only_32_bytes_are_a_key() {
        let scratch = Scratch::new("length");
        let folders = [scratch.0.join("keys")];
        let file = KeyFile::create_in(&folders, ID).unwrap();
        for len in [0, 31, 33, 10_000] {
            fs::write(&file.path, vec![1; len]).unwrap();
            assert_eq!(
                error(read_in(&folders, ID)).kind(),
                io::ErrorKind::InvalidData,
                "{len}"
            );
        }
    }

    #[test]
    fn a_file_is_kept_young() {
        let scratch = Scratch::new("refresh");
        let folders = [scratch.0.join("keys")];
        let mut file = KeyFile::create_in(&folders, ID).unwrap();
        let key = file.key().0;
        let long_ago = fs::metadata(&file.path).unwrap().modified().unwrap() - stale_keys::STALE;
        let open = fs::OpenOptions::new().write(true).open(&file.path).unwrap();
        open.set_modified(long_ago).unwrap();
        file.refresh().unwrap();
        assert!(fs::metadata(&file.path).unwrap().modified().unwrap() > long_ago);
        assert_eq!(read_in(&folders, ID).unwrap().0, key);
    }

    #[test]
    fn a_file_that_something_removed_is_written_again() {
        // In the folders of this user, as a server does. The id is this test's own.
        let id = fastrand::u128(..).to_be_bytes();
        let mut file = KeyFile::create(id).unwrap();
        let key = file.key().0;
        fs::remove_file(&file.path).unwrap();
        assert_eq!(error(read_key(id)).kind(), io::ErrorKind::NotFound);
        file.refresh().unwrap();
        assert_eq!(read_key(id).unwrap().0, key);
    }

    #[test]
    fn a_file_moves_when_its_folder_is_gone() {
        let scratch = Scratch::new("moves");
        let folders = ["runtime/keys", "keys"].map(|name| scratch.0.join(name));
        fs::create_dir(scratch.0.join("runtime")).unwrap();
        let mut file = KeyFile::create_in(&folders, ID).unwrap();
        let (key, first) = (file.key().0, file.path.clone());
        fs::remove_dir_all(scratch.0.join("runtime")).unwrap();
        assert_eq!(error(file.rewrite()).kind(), io::ErrorKind::NotFound);
        file.move_to(&folders).unwrap();
        assert_ne!(file.path, first);
        assert_eq!(read_in(&folders, ID).unwrap().0, key);
        drop(file);
        assert_eq!(fs::read_dir(&folders[1]).unwrap().count(), 0);
    }

    #[test]
    fn a_key_is_not_shown() {
        let scratch = Scratch::new("debug");
        let file = KeyFile::create_in(&[scratch.0.join("keys")], ID).unwrap();
        let shown = format!("{file:?} {file:#?}");
        for key in [format!("{:?}", file.key().0), format!("{:02x?}", file.key().0)] {
            assert!(!shown.contains(&key[1..20]), "{shown}");
        }
    }

    on_unix! {
    use crate::net::os::tests_of_files::{PermissionsExt, symlink};

    #[test]
    fn a_file_that_others_may_read_or_write_is_no_key() {
        let scratch = Scratch::new("mode");
        let folders = [scratch.0.join("keys")];
        let mut file = KeyFile::create_in(&folders, ID).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&file.path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                error(read_in(&folders, ID)).kind(),
                io::ErrorKind::PermissionDenied,
                "{mode:o}"
            );
            file.refresh().unwrap();
            assert_eq!(read_in(&folders, ID).unwrap().0, file.key().0);
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let scratch = Scratch::new("links");
        let folder = scratch.0.join("keys");
        PrivateFolder::make(&folder).unwrap();
        let precious = scratch.0.join("precious");
        for target in ["precious", "absent"] {
            let target = scratch.0.join(target);
            fs::write(&precious, "precious").unwrap();
            symlink(&target, folder.join(NAME)).unwrap();
            let refused = error(KeyFile::create_in(std::slice::from_ref(&folder), ID));
            assert!(refused.to_string().contains(NAME), "{refused}");
            assert!(folder.join(NAME).is_symlink(), "it is not ours to remove");
            fs::remove_file(folder.join(NAME)).unwrap();
        }
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(!scratch.0.join("absent").exists());
    }

    #[test]
    fn a_refresh_opens_nothing_that_others_put_there() {
        let scratch = Scratch::new("replaced");
        let folder = scratch.0.join("keys");
        let folders = [folder.clone()];
        let mut file = KeyFile::create_in(&folders, ID).unwrap();
        let precious = scratch.0.join("precious");
        fs::write(&precious, "precious").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(&file.path).unwrap();
        symlink(&precious, &file.path).unwrap();
        file.refresh().unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert_eq!(read_in(&folders, ID).unwrap().0, file.key().0);

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(file.rewrite().is_err(), "others may write there");
        let next = scratch.0.join("next");
        file.move_to(&[folder, next.clone()]).unwrap();
        assert_eq!(read_in(&[next], ID).unwrap().0, file.key().0);
    }
    }
}
