//! ConnectionMetadata: what a client has said once for all calls of its connection.

use std::sync::OnceLock;

use crate::Metadata;

/// What a client has said once for all calls of its connection, kept when somebody asks first.
#[derive(Default)]
pub(super) struct ConnectionMetadata(OnceLock<Option<Box<HelloEntries>>>);

/// The entries of a HELLO.
struct HelloEntries {
    all: Metadata,
    /// Without the token, which is not for handlers.
    without_token: Metadata,
}

impl ConnectionMetadata {
    /// All entries, for middleware; `take` takes them from the connection.
    pub(super) fn all(&self, take: impl FnOnce() -> Metadata) -> &Metadata {
        self.get(take).map_or(&NONE, |entries| &entries.all)
    }

    /// The entries that handlers may see; `take` takes all of them from the connection.
    pub(super) fn without_token(&self, take: impl FnOnce() -> Metadata) -> &Metadata {
        self.get(take).map_or(&NONE, |entries| &entries.without_token)
    }

    fn get(&self, take: impl FnOnce() -> Metadata) -> Option<&HelloEntries> {
        let kept = self.0.get_or_init(|| {
            let all = take();
            (!all.is_empty()).then(|| {
                let mut without_token = all.clone();
                without_token.remove(Metadata::AUTHORIZATION);
                Box::new(HelloEntries { all, without_token })
            })
        });
        kept.as_deref()
    }
}

static NONE: Metadata = Metadata::new();
