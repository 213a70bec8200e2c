//! Panic: what code of users panicked with, caught.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// What code of users panicked with. Dropping it never panics.
///
/// The payload of a panic may be any value, so its drop may panic, too. Where nothing catches that, it would end the task of a
/// whole connection.
pub(crate) struct Panic(Option<Box<dyn Any + Send>>);

impl Panic {
    /// Runs `f`. The error is what it panicked with.
    #[inline]
    pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Self> {
        catch_unwind(AssertUnwindSafe(f)).map_err(|payload| Self(Some(payload)))
    }

    /// Returns the text of the panic, if it has one.
    pub(crate) fn text(&self) -> Option<&str> {
        let payload = self.0.as_ref()?;
        match payload.downcast_ref::<&'static str>() {
            Some(text) => Some(text),
            None => payload.downcast_ref::<String>().map(String::as_str),
        }
    }
}

impl Drop for Panic {
    fn drop(&mut self) {
        let payload = self.0.take();
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            // The drop of this one may panic again, without an end. To leak it is harmless.
            mem::forget(second);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// Panics when it is dropped, with another one that does so one time less.
    struct Bomb(u8);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_may_panic_in_its_drop() {
        let panic = Panic::catch(|| panic_any(Bomb(2))).unwrap_err();
        assert_eq!(panic.text(), None);
        drop(panic);
    }

    #[test]
    fn a_panic_has_the_text_that_it_was_given() {
        let text = |f: fn()| Panic::catch(f).unwrap_err().text().map(str::to_owned);
        assert_eq!(text(|| panic!("as it is")).as_deref(), Some("as it is"));
        assert_eq!(text(|| panic!("with {}", 7)).as_deref(), Some("with 7"));
        assert_eq!(text(|| panic_any(7)), None);
    }
}
