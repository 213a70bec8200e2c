//! What tests of generated text share.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// An empty folder that is removed when the value is dropped.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "rpc-codegen-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Compares `text` with the file at `path`, or writes it there if `RPC_GOLDEN=write` is set.
#[track_caller]
pub(crate) fn compare(path: &Path, text: &str) {
    if env::var_os("RPC_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(path, text).expect("the expected text is written");
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs (- expected, + generated; RPC_GOLDEN=write accepts it):\n{}",
        path.display(),
        diff(&expected, text)
    );
}

/// The lines that differ, between the first and the last of them.
fn diff(expected: &str, text: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), text.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old[same..].iter().rev().zip(new[same..].iter().rev());
    let after = rest.take_while(|(a, b)| a == b).count();
    let mut out = format!("@ line {}\n", same + 1);
    for line in &old[same..old.len() - after] {
        out += &format!("-{line}\n");
    }
    for line in &new[same..new.len() - after] {
        out += &format!("+{line}\n");
    }
    out
}
