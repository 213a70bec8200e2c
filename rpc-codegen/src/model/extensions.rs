//! Extensions of messages, for which prost-build writes no code.

use prost_reflect::{DescriptorPool, ExtensionDescriptor};

use crate::{
    error::Place,
    source::{OPTIONS_NAME, Sources, is_google},
};

/// A warning for each extension of a message.
///
/// Extensions of Google's messages are options. They are for other programs, or for this one, so they are no loss.
pub(super) fn warnings(pool: &DescriptorPool, sources: &Sources) -> Vec<String> {
    let extensions = pool.all_extensions().filter(|extension| {
        let file = extension.parent_file();
        let extended = extension.containing_message().parent_file();
        file.name() != OPTIONS_NAME && !is_google(file.name()) && !is_google(extended.name())
    });
    let mut found: Vec<_> = extensions
        .map(|extension| {
            let file = extension.parent_file();
            let place = sources
                .place(file.name(), extension.path())
                .unwrap_or_else(|| Place::compiled(file.name(), None));
            ((place.file.clone(), place.line), warning(&extension, &place))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, warning)| warning).collect()
}

fn warning(extension: &ExtensionDescriptor, place: &Place) -> String {
    let place = place.short();
    format!(
        "{place}: the extension `{}` gets no code, and decoding skips its values: make it a field of `{}`, or a message beside it",
        extension.full_name(),
        extension.containing_message().full_name(),
    )
}
