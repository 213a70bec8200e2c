//! The name of a key's file: `<instance_id in hex>.key`.

/// Returns the name of the file of the server `instance`.
pub(super) fn key_name(instance: [u8; 16]) -> String {
    format!("{:032x}{SUFFIX}", u128::from_be_bytes(instance))
}

/// Returns true for a name that [`key_name`] makes.
pub(super) fn is_key_name(name: &str) -> bool {
    let id = name.strip_suffix(SUFFIX);
    id.is_some_and(|id| id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

const SUFFIX: &str = ".key";
