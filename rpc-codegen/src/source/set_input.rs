//! Where a descriptor set comes from: a file, or the memory of the build script.

use std::{
    borrow::Cow,
    fmt, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::{Error, Problem};

/// A descriptor set that is not read yet.
#[derive(Clone)]
pub(crate) enum SetInput {
    File(PathBuf),
    Bytes(Vec<u8>),
}

impl SetInput {
    /// The path of the file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Bytes(_) => None,
        }
    }

    /// The name of the set in messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Bytes(_) => "the value of `Config::descriptor_set_bytes`".to_owned(),
        }
    }

    /// The encoded set.
    ///
    /// # Errors
    ///
    /// A file that cannot be read.
    pub(super) fn read(&self) -> Result<Cow<'_, [u8]>, Error> {
        match self {
            Self::File(path) => fs::read(path)
                .map(Cow::Owned)
                .map_err(|error| Problem::unreadable(path, &error).into()),
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        }
    }
}

impl fmt::Debug for SetInput {
    /// Writes the digest of bytes, which may be many. Two sets still differ, and so do two calls of one build script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Bytes(bytes) => write!(f, "Bytes({:02x?})", &Sha256::digest(bytes)[..]),
        }
    }
}
