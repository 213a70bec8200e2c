//! Extensions of messages, for which prost-build writes no code.

use prost_reflect::{DescriptorPool, ExtensionDescriptor};

use crate::{
    error::Place,
    source::{OPTIONS_NAME, Sources, is_google},
};

/// A warning for each file with extensions of messages, at most [`MOST`], and the number of the other files.
///
/// Extensions of Google's messages are options. They are for other programs, or for this one, so they are no loss.
pub(super) fn warnings(pool: &DescriptorPool, sources: &Sources) -> Vec<String> {
    let extensions = pool.all_extensions().filter(|extension| {
        let file = extension.parent_file();
        let extended = extension.containing_message().parent_file();
        file.name() != OPTIONS_NAME && !is_google(file.name()) && !is_google(extended.name())
    });
    let mut found: Vec<(Place, ExtensionDescriptor)> = extensions
        .map(|extension| {
            let file = extension.parent_file();
            let place = sources
                .place(file.name(), extension.path())
                .unwrap_or_else(|| Place::compiled(file.name(), None));
            (place, extension)
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let files = || found.chunk_by(|(a, _), (b, _)| a.file == b.file);
    let more = files().count().saturating_sub(MOST);
    let rest = match more {
        0 => None,
        1 => Some("1 more file has extensions, which get no code, either".to_owned()),
        n => Some(format!(
            "{n} more files have extensions, which get no code, either"
        )),
    };
    files().take(MOST).filter_map(warning).chain(rest).collect()
}

/// The warning for the extensions of one file.
fn warning(extensions: &[(Place, ExtensionDescriptor)]) -> Option<String> {
    let [(place, first), others @ ..] = extensions else {
        return None;
    };
    let (place, name) = (place.short(), first.full_name());
    let others = match others.len() {
        0 => {
            return Some(format!(
                "{place}: the extension `{name}` gets no code, and decoding skips its values: make it a field of `{}`, or a \
                 message beside it",
                first.containing_message().full_name(),
            ));
        }
        1 => "1 other".to_owned(),
        n => format!("{n} others"),
    };
    Some(format!(
        "{place}: the extension `{name}` and {others} in this file get no code, and decoding skips their values: make each a \
         field of the message that it extends, or a message beside it",
    ))
}

/// The number of files that are named.
const MOST: usize = 20;
