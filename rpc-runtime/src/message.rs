//! Message: procedures and their messages: how much memory they take once decoded, how deep they nest.
//! `unread_rows` takes the packed frames of a stream apart.

pub(crate) mod control;
pub(crate) mod decode;
pub(crate) mod depth;
pub(crate) mod growth;
pub(crate) mod nesting;
pub(crate) mod procedure;
pub(crate) mod unread_rows;
