//! Lookup: the file on disk that an import means, the same one on every operating system.

use std::{
    ffi::OsStr,
    fs, io,
    path::{self, Component, Path, PathBuf},
};

/// The first file `name` in `includes`; its case counts, even where the file system ignores case.
///
/// A tree that compiles on Windows or macOS also compiles on Linux.
pub(super) fn find(includes: &[PathBuf], name: &str) -> Option<PathBuf> {
    let relative = path_of(name)?;
    includes.iter().find_map(|include| {
        let path = include.join(&relative);
        (path.is_file() && has_case_of(include, &relative, &path)).then_some(path)
    })
}

/// True if the import `name` is a relative path on every system. The parser refuses back-slashes, and on Windows drive letters, too.
pub(super) fn is_relative(name: &str) -> bool {
    path_of(name).is_some()
}

/// The path of the file or folder `path` without symbolic links.
///
/// Some file systems of Windows, such as RAM disks, cannot say that. Then it is the whole path, as it is written.
pub(super) fn real(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).or_else(|error| match path.exists() {
        true => path::absolute(path),
        false => Err(error),
    })
}

/// The end of the path `real` in place of `relative`, if they differ by case only.
pub(super) fn spelled_as(real: &Path, relative: &Path) -> Option<PathBuf> {
    let parts = real.components().rev().zip(relative.components().rev());
    let mut same: Vec<Component<'_>> = parts
        .take_while(|(real, part)| are_one_name(real.as_os_str(), part.as_os_str()))
        .map(|(real, _)| real)
        .collect();
    same.reverse();
    (same.len() == relative.components().count()).then(|| same.iter().collect())
}

/// The path of the import `name`, part by part, so that messages show the separator of the system.
fn path_of(name: &str) -> Option<PathBuf> {
    let is_whole = name.starts_with('/') || has_drive(name);
    (!is_whole).then(|| name.split('/').collect())
}

/// True if `name` begins as a path of Windows does: `C:`.
fn has_drive(name: &str) -> bool {
    matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// True if the file `path`, which is `relative` below `include`, has these very names.
fn has_case_of(include: &Path, relative: &Path, path: &Path) -> bool {
    let Ok(real) = real(path) else {
        return false;
    };
    let parts = real.components().rev().zip(relative.components().rev());
    let (mut parts, mut folder) = (
        parts.map(|(real, part)| (real.as_os_str(), part.as_os_str())),
        include.to_owned(),
    );
    if !parts.any(|(real, part)| real != part && are_one_name(real, part)) {
        return true;
    }
    // Either the file system ignores case, or a symbolic link leads from one of two names to the other one.
    for part in relative.components() {
        if matches!(part, Component::Normal(name) if !has_entry(&folder, name)) {
            return false;
        }
        folder.push(part);
    }
    true
}

/// True if `folder` lists `name`, or cannot be listed.
fn has_entry(folder: &Path, name: &OsStr) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return true;
    };
    entries.flatten().any(|entry| entry.file_name() == name)
}

/// True if two names are one where case does not count.
fn are_one_name(a: &OsStr, b: &OsStr) -> bool {
    a == b || a.to_string_lossy().to_lowercase() == b.to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_is_a_relative_path_with_slashes() {
        for name in ["a.proto", "shop/v1/orders.proto", "../a.proto", "ab:c/d.proto"] {
            assert!(is_relative(name), "{name}");
        }
        for name in ["/a.proto", "C:/a.proto", "c:a.proto"] {
            assert!(!is_relative(name), "{name}");
        }
    }

    #[test]
    fn a_path_takes_the_case_of_the_real_one() {
        let spelled = |real: &str, relative: &str| spelled_as(Path::new(real), Path::new(relative));
        assert_eq!(
            spelled("/x/Shop/Orders.proto", "shop/orders.proto"),
            Some(PathBuf::from("Shop/Orders.proto"))
        );
        assert_eq!(spelled("/x/Shop/Orders.proto", "shop/bills.proto"), None);
        assert_eq!(spelled("Orders.proto", "shop/orders.proto"), None);
    }
}
