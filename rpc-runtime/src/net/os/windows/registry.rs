//! Registry: settings of the machine.

use std::{iter, ptr};

use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RRF_RT_REG_SZ, RegGetValueW};

/// The text of the value `name` of the machine's key `key`; none if there is no such text, or it has more than 255 characters.
pub(super) fn text_of_machine(key: &str, name: &str) -> Option<String> {
    let [key, name] = [key, name].map(|text| text.encode_utf16().chain(iter::once(0)).collect::<Vec<u16>>());
    let mut text = [0_u16; 256];
    let mut bytes = u32::try_from(size_of_val(&text)).ok()?;
    // SAFETY: both names end with a zero, and `bytes` is the size of the buffer.
    let result = unsafe {
        RegGetValueW(
            HKEY_LOCAL_MACHINE,
            key.as_ptr(),
            name.as_ptr(),
            RRF_RT_REG_SZ,
            ptr::null_mut(),
            text.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return None;
    }
    let end = text.iter().position(|unit| *unit == 0)?;
    String::from_utf16(&text[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_windows_is_a_text_and_other_values_are_none() {
        let key = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion";
        let version = text_of_machine(key, "CurrentVersion").unwrap();
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{version}");
        assert_eq!(text_of_machine(key, "there is none"), None);
        assert_eq!(text_of_machine("there is none", "CurrentVersion"), None);
    }
}
