//! Fuzz: the code of the fuzz targets, which tests also run on the corpora; absent from a normal build.
//!
//! Each function takes any bytes, and panics if this crate handles them wrongly.

mod connection;
mod dice;
mod frames;
mod peer;
mod written;

pub use self::{
    connection::{client, handshake, server},
    frames::{agree, envelope, frame, payload},
};

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    /// Runs all inputs that are stored for a target, and returns their number.
    fn run(target: &str, f: impl Fn(&[u8])) -> usize {
        let mut count = 0;
        for kept in ["corpus", "regressions"] {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../fuzz")
                .join(kept)
                .join(target);
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                println!("{}", path.display());
                f(&fs::read(&path).unwrap());
                count += 1;
            }
        }
        count
    }

    /// Makes a test for each target.
    macro_rules! corpora {
        ($($target:ident)*) => {$(
            #[test]
            fn $target() {
                let name = stringify!($target);
                assert!(run(name, super::$target) > 0, "the corpus of {name} is missing");
            }
        )*};
    }

    corpora!(agree client envelope frame handshake payload server);
}
