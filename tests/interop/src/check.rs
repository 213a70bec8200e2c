//! Failed: why a case failed; and the checks that fail it.

use std::{error::Error, fmt};

use rpc_runtime::{Code, Error as RpcError};

/// The result of a case.
pub type Outcome<T = ()> = Result<T, Failed>;

/// The failure of a case.
pub struct Failed {
    text: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failed {
    /// Makes a failure without a source.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            source: None,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failed {
    fn from(source: E) -> Self {
        Self {
            text: "a step that should have succeeded failed".to_owned(),
            source: Some(Box::new(source)),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

/// Same as `Display`, because a failed test prints `Debug`.
impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Fails unless `got` equals `wanted`; `what` names the value.
///
/// # Errors
///
/// Both values.
pub fn same<T: fmt::Debug + PartialEq>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted {
        Ok(())
    } else {
        Err(Failed::new(format!("{what} is {got:?} and not {wanted:?}")))
    }
}

/// Fails unless `bytes` are a body of `len` bytes.
pub(crate) fn is_body_of(what: &str, bytes: &[u8], len: usize) -> Outcome {
    same(&format!("length of {what}"), bytes.len(), len)?;
    if crate::is_body(bytes) {
        Ok(())
    } else {
        Err(Failed::new(format!("{what} has other bytes than were sent")))
    }
}

/// Returns the error of a step that must fail.
///
/// # Errors
///
/// The step succeeded.
pub fn must_fail<T>(what: &str, result: Result<T, RpcError>) -> Outcome<RpcError> {
    match result {
        Ok(_) => Err(Failed::new(format!("{what} succeeded"))),
        Err(error) => Ok(error),
    }
}

/// Fails unless `error` has `code`.
///
/// # Errors
///
/// The error that has another code.
pub fn has_code(error: &RpcError, code: Code) -> Outcome {
    if error.code() == code {
        Ok(())
    } else {
        Err(Failed::new(format!("the code is not {code:?}: {error}")))
    }
}
