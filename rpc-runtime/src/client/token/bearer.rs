//! Bearer: a token as it travels.

use std::fmt;

use bytes::Bytes;

use crate::{Metadata, api::secret::Secret};

/// A token as the value of the entry `authorization`: `Bearer ` and the token.
#[derive(Clone, PartialEq)]
pub(in crate::client) struct Bearer(Bytes);

impl Bearer {
    /// Makes the value.
    ///
    /// # Errors
    ///
    /// What is wrong with the token, and what to do. The text does not show the token.
    pub(in crate::client) fn new(secret: &Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        if text.is_empty() {
            return Err("the token is empty");
        }
        if text.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(
                "the token has a character that a token cannot have, such as a newline at the end of a file: trim it",
            );
        }
        if text.len() > MAX_LEN {
            return Err("the token is longer than 7168 bytes, which leaves no room for other metadata");
        }
        Ok(Self(format!("{}{text}", Metadata::BEARER).into()))
    }

    /// Puts it into `metadata`, in place of another one.
    pub(in crate::client) fn put_into(&self, metadata: &mut Metadata) {
        metadata.insert(Metadata::AUTHORIZATION, self.0.clone());
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// The longest token, in bytes: metadata has 8 KiB.
const MAX_LEN: usize = 7 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_travel_is_refused_without_its_text() {
        let long = "x".repeat(MAX_LEN + 1);
        for (token, why) in [
            ("", "is empty"),
            ("s3cret\n", "trim it"),
            ("s3 cret", "trim it"),
            ("s3crét", "trim it"),
            (&long, "is longer"),
        ] {
            let text = Bearer::new(&token.into()).unwrap_err();
            assert!(text.contains(why) && !text.contains("s3"), "{token:?}: {text}");
        }
        let mut metadata = Metadata::from([("authorization", "old")]);
        let bearer = Bearer::new(&"mF_9.B5f-4.1JqM~+/==".into()).unwrap();
        bearer.put_into(&mut metadata);
        assert_eq!(
            metadata.get_str("authorization"),
            Some("Bearer mF_9.B5f-4.1JqM~+/==")
        );
        assert_eq!(metadata.len(), 1);
        assert_eq!(format!("{bearer:?}"), "Bearer(..)");
        assert!(Bearer::new(&long[1..].into()).is_ok());
    }
}
