//! skeleton
/// skeleton
pub fn compile_dir(_: &str) -> Result<(), Box<dyn std::error::Error>> { Ok(()) }
