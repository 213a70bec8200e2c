//! Stale keys: the files of servers that were killed, which the next server removes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::key_name::is_key_name;

/// Removes files beside `own` that no living server can have: those that have not been refreshed for [`STALE`], and all but the
/// [`MOST`] youngest.
///
/// A server refreshes its file much more often. If one was stopped for so long, it writes its file again.
pub(super) fn remove(own: &Path) {
    if let Err(error) = try_remove(own, MOST) {
        tracing::warn!(%error, path = %own.display(), "cannot look for keys of servers that were killed");
    }
}

fn try_remove(own: &Path, most: usize) -> io::Result<()> {
    // By the clock of the file system, which is the one that dates the others.
    let now = fs::symlink_metadata(own)?.modified()?;
    let mut young = Vec::new();
    for entry in fs::read_dir(own.parent().unwrap_or(own))? {
        let entry = entry?;
        if entry.path() == own || !entry.file_name().to_str().is_some_and(is_key_name) {
            continue;
        }
        // Another server may have removed it.
        let Ok(written) = entry.metadata().and_then(|found| found.modified()) else {
            continue;
        };
        match now.duration_since(written) {
            Ok(age) if age >= STALE => unlink(&entry.path()),
            _ => young.push((written, entry.path())),
        }
    }
    young.sort();
    let (too_many, _) = young.split_at(young.len().saturating_sub(most));
    for (_, path) in too_many {
        unlink(path);
    }
    Ok(())
}

fn unlink(path: &PathBuf) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, path = %path.display(), "cannot remove the key of a server that was killed");
    }
}

/// How long a living server leaves its file untouched at most.
pub(super) const STALE: Duration = Duration::from_secs(60 * 60);
/// The number of files that are kept beside one's own.
const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::net::os::tests_of_files::Scratch;

    /// Writes a file that is as old as `age` when `own` is new.
    fn write(folder: &Path, name: &str, own: &Path, age: Duration) -> PathBuf {
        let path = folder.join(name);
        let file = File::create(&path).unwrap();
        let now = fs::metadata(own).unwrap().modified().unwrap();
        file.set_modified(now - age).unwrap();
        path
    }

    fn key(number: u32) -> String {
        format!("{number:032x}.key")
    }

    #[test]
    fn old_keys_are_removed_and_nothing_else() {
        let scratch = Scratch::new("stale");
        let own = scratch.0.join(key(0));
        fs::write(&own, "").unwrap();
        let old = write(&scratch.0, &key(1), &own, STALE);
        let young = write(&scratch.0, &key(2), &own, STALE - Duration::from_secs(1));
        let others = ["notes.key", "0123.key", "00000000000000000000000000000003.keys"];
        let others = others.map(|name| write(&scratch.0, name, &own, STALE * 10));
        remove(&own);
        assert!(!old.exists());
        assert!(own.exists() && young.exists() && others.iter().all(|other| other.exists()));
    }

    #[test]
    fn the_number_of_keys_has_a_limit_and_the_oldest_go_first() {
        let scratch = Scratch::new("many");
        let own = scratch.0.join(key(0));
        fs::write(&own, "").unwrap();
        let all: Vec<_> = (1..=5)
            .map(|number| write(&scratch.0, &key(number), &own, Duration::from_secs(number.into())))
            .collect();
        try_remove(&own, 3).unwrap();
        let left: Vec<_> = all.iter().map(|path| path.exists()).collect();
        assert_eq!(left, [true, true, true, false, false]);
        assert!(own.exists());
    }
}
