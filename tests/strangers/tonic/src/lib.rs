//! A service by tonic and by this project, and what both write down about it.

pub mod journal;
pub mod ours;
pub mod relay;
pub mod theirs;

/// The most time that a test waits for anything.
pub const LONG: std::time::Duration = std::time::Duration::from_secs(60);

/// The text of a refusal.
pub const REFUSAL: &str = "größer als 100 %";
/// The field that the details of a refusal name.
pub const FIELD: &str = "amount";
/// What the details of a refusal say about it.
pub const WHY: &str = "it is too much";
