//! Helpers for the tests of generated text.

mod temp_dir;

use std::{env, fs, path::Path};

pub(crate) use temp_dir::TempDir;

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

/// All lines from the first that differs to the last.
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
