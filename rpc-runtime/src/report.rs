//! DrainReport and Account: what became of calls, told at the end and in between.

/// Skeleton.
#[derive(Clone, Debug)]
pub struct DrainReport(());
/// Skeleton.
#[derive(Clone, Debug)]
pub struct Account(());
