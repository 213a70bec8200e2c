//! Answers of handlers that an implementation leaves out.

use std::future::{Ready, ready};

use crate::{Requests, Result, Status};

/// Answers UNIMPLEMENTED, with the name of the procedure.
pub fn unimplemented<T>(procedure: &str) -> Ready<Result<T>> {
    ready(Err(Status::unimplemented(format!(
        "this server does not implement {procedure}"
    ))))
}

/// Answers as [`unimplemented`], in place of a stream of replies.
pub fn unimplemented_stream<T>(procedure: &str) -> Ready<Result<Requests<T>>> {
    // Any stream of this item would do: there is none.
    unimplemented(procedure)
}
