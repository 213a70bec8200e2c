//! Resources: errors that say that the OS lacks files or memory.

use std::io;

use super::system::LACKING;

/// True if an accept failed because the OS lacks files or memory. Further accepts fail too until it has some.
pub(crate) fn lacks_resources(error: &io::Error) -> bool {
    let mut error = error;
    loop {
        if error.kind() == io::ErrorKind::OutOfMemory
            || error
                .raw_os_error()
                .is_some_and(|number| LACKING.contains(&number))
        {
            return true;
        }
        // Code that accepts for us may have wrapped the error.
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(inner) => error = inner,
            None => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_os_resources_are_resource_errors() {
        let of = io::Error::from_raw_os_error;
        let within = |number| io::Error::new(io::ErrorKind::ConnectionReset, io::Error::other(of(number)));
        for number in LACKING {
            assert!(lacks_resources(&of(number)), "{number}");
            assert!(lacks_resources(&within(number)), "{number}");
        }
        assert!(lacks_resources(&io::ErrorKind::OutOfMemory.into()));
        for error in [
            // ECONNABORTED on Linux, and no error of an accept on Windows.
            of(103),
            io::Error::other("bad certificate"),
            io::ErrorKind::ConnectionAborted.into(),
        ] {
            assert!(!lacks_resources(&error), "{error:?}");
        }
    }
}
