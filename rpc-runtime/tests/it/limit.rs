//! Limits of each caller, and clients that come back when they are told.

mod hints;
