//! The names that a file refers to: types of fields and procedures, extended messages, options.

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
    UninterpretedOption,
};

use super::tags::{self, UNINTERPRETED};

/// A name that a file refers to, as it is written there.
pub(super) struct Reference<'a> {
    pub(super) name: &'a mut String,
    /// The full name of the innermost scope around it.
    pub(super) scope: &'a str,
    pub(super) wanted: Wanted,
    /// The path of the name in the file's descriptor.
    pub(super) path: &'a [i32],
}

/// The kind of item that a name must lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The type of a field.
    Type,
    /// A message: of a procedure, or one that is extended.
    Message,
    /// An option in parentheses.
    Extension,
}

/// Calls `found` with each name that `file` refers to.
pub(super) fn visit(file: &mut FileDescriptorProto, found: &mut dyn FnMut(Reference<'_>)) {
    let mut visitor = Visitor {
        found,
        scope: file.package().to_owned(),
        path: Vec::new(),
    };
    visitor.options(
        file.options
            .as_mut()
            .map(|options| &mut options.uninterpreted_option),
        tags::file::OPTIONS,
    );
    for (index, message) in (0..).zip(&mut file.message_type) {
        visitor.at(&[tags::file::MESSAGE, index], |visitor| visitor.message(message));
    }
    for (index, proto) in (0..).zip(&mut file.enum_type) {
        visitor.at(&[tags::file::ENUM, index], |visitor| visitor.enumeration(proto));
    }
    for (index, service) in (0..).zip(&mut file.service) {
        visitor.at(&[tags::file::SERVICE, index], |visitor| visitor.service(service));
    }
    for (index, extension) in (0..).zip(&mut file.extension) {
        visitor.at(&[tags::file::EXTENSION, index], |visitor| {
            visitor.field(extension)
        });
    }
}

struct Visitor<'a> {
    found: &'a mut dyn FnMut(Reference<'_>),
    scope: String,
    path: Vec<i32>,
}

impl Visitor<'_> {
    fn message(&mut self, message: &mut DescriptorProto) {
        let len = self.enter(message.name());
        let options = message.options.as_mut();
        self.options(
            options.map(|options| &mut options.uninterpreted_option),
            tags::message::OPTIONS,
        );
        for (index, field) in (0..).zip(&mut message.field) {
            self.at(&[tags::message::FIELD, index], |visitor| visitor.field(field));
        }
        for (index, range) in (0..).zip(&mut message.extension_range) {
            let options = range
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option);
            self.at(&[tags::message::EXTENSION_RANGE, index], |visitor| {
                visitor.options(options, tags::extension_range::OPTIONS)
            });
        }
        for (index, extension) in (0..).zip(&mut message.extension) {
            self.at(&[tags::message::EXTENSION, index], |visitor| {
                visitor.field(extension)
            });
        }
        for (index, oneof) in (0..).zip(&mut message.oneof_decl) {
            let options = oneof
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option);
            self.at(&[tags::message::ONEOF, index], |visitor| {
                visitor.options(options, tags::oneof::OPTIONS)
            });
        }
        for (index, nested) in (0..).zip(&mut message.nested_type) {
            // The entry of a map has no place in the file; the map's field has.
            let is_map =
                |field: &FieldDescriptorProto| field.type_name().rsplit('.').next() == Some(nested.name());
            let map = nested.options.as_ref().is_some_and(|options| options.map_entry());
            let map = map.then(|| message.field.iter().position(is_map)).flatten();
            match map.and_then(|map| i32::try_from(map).ok()) {
                Some(map) => {
                    let scope = self.enter(nested.name());
                    for field in &mut nested.field {
                        self.at(&[tags::message::FIELD, map], |visitor| visitor.field(field));
                    }
                    self.scope.truncate(scope);
                }
                None => self.at(&[tags::message::MESSAGE, index], |visitor| {
                    visitor.message(nested)
                }),
            }
        }
        for (index, proto) in (0..).zip(&mut message.enum_type) {
            self.at(&[tags::message::ENUM, index], |visitor| {
                visitor.enumeration(proto)
            });
        }
        self.scope.truncate(len);
    }

    fn field(&mut self, field: &mut FieldDescriptorProto) {
        if let Some(name) = &mut field.type_name {
            self.found(name, Wanted::Type, &[tags::field::TYPE_NAME]);
        }
        if let Some(name) = &mut field.extendee {
            self.found(name, Wanted::Message, &[tags::field::EXTENDEE]);
        }
        self.options(
            field
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option),
            tags::field::OPTIONS,
        );
    }

    fn enumeration(&mut self, proto: &mut EnumDescriptorProto) {
        self.options(
            proto
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option),
            tags::enumeration::OPTIONS,
        );
        for (index, value) in (0..).zip(&mut proto.value) {
            let options = value
                .options
                .as_mut()
                .map(|options| &mut options.uninterpreted_option);
            self.at(&[tags::enumeration::VALUE, index], |visitor| {
                visitor.options(options, tags::value::OPTIONS)
            });
        }
    }

    fn service(&mut self, service: &mut ServiceDescriptorProto) {
        let len = self.enter(service.name());
        let options = service.options.as_mut();
        self.options(
            options.map(|options| &mut options.uninterpreted_option),
            tags::service::OPTIONS,
        );
        for (index, method) in (0..).zip(&mut service.method) {
            self.at(&[tags::service::PROCEDURE, index], |visitor| {
                for (name, tag) in [
                    (&mut method.input_type, tags::procedure::REQUEST),
                    (&mut method.output_type, tags::procedure::REPLY),
                ] {
                    if let Some(name) = name {
                        visitor.found(name, Wanted::Message, &[tag]);
                    }
                }
                let options = method.options.as_mut();
                visitor.options(
                    options.map(|options| &mut options.uninterpreted_option),
                    tags::procedure::OPTIONS,
                );
            });
        }
        self.scope.truncate(len);
    }

    /// The names of options; `tag` is the number of the field that holds the options.
    fn options(&mut self, options: Option<&mut Vec<UninterpretedOption>>, tag: i32) {
        for (index, option) in (0..).zip(options.into_iter().flatten()) {
            for part in option.name.iter_mut().filter(|part| part.is_extension) {
                self.found(
                    &mut part.name_part,
                    Wanted::Extension,
                    &[tag, UNINTERPRETED, index],
                );
            }
        }
    }

    fn found(&mut self, name: &mut String, wanted: Wanted, more: &[i32]) {
        let len = self.path.len();
        self.path.extend_from_slice(more);
        (self.found)(Reference {
            name,
            scope: &self.scope,
            wanted,
            path: &self.path,
        });
        self.path.truncate(len);
    }

    /// Enters the scope `name`, and returns the length of the scope around it.
    fn enter(&mut self, name: &str) -> usize {
        let len = self.scope.len();
        if len > 0 {
            self.scope.push('.');
        }
        self.scope.push_str(name);
        len
    }

    fn at(&mut self, more: &[i32], visit: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        self.path.extend_from_slice(more);
        visit(self);
        self.path.truncate(len);
    }
}
