//! The names that a file defines, each with its kind and its place.

use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use super::tags::{self, NAME};

/// A name that a file defines.
#[derive(Clone, Copy)]
pub(super) struct Definition<'a> {
    pub(super) full_name: &'a str,
    pub(super) kind: Kind,
    /// True if the name belongs to the package, not to a message or service of the file.
    pub(super) is_top: bool,
    /// The path of the name in the file's descriptor.
    pub(super) path: &'a [i32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Package,
    Message,
    Enum,
    Service,
    Extension,
    /// A value of an enum, whose name belongs to the scope around the enum.
    Value,
    /// A field, oneof or procedure.
    Member,
}

impl Kind {
    /// True if other names may be inside.
    pub(super) fn is_scope(self) -> bool {
        matches!(self, Self::Package | Self::Message | Self::Enum | Self::Service)
    }
}

/// Calls `found` with each name that `file` defines, in the order of its descriptor.
pub(super) fn visit(file: &FileDescriptorProto, found: &mut dyn FnMut(Definition<'_>)) {
    let mut visitor = Visitor {
        found,
        name: String::new(),
        path: vec![tags::file::PACKAGE],
    };
    for part in file.package().split('.').filter(|part| !part.is_empty()) {
        visitor.enter(part);
        visitor.found(Kind::Package, true);
    }
    visitor.path.clear();
    for (index, message) in (0..).zip(&file.message_type) {
        visitor.at(&[tags::file::MESSAGE, index], |visitor| {
            visitor.message(message, true)
        });
    }
    for (index, proto) in (0..).zip(&file.enum_type) {
        visitor.at(&[tags::file::ENUM, index], |visitor| {
            visitor.enumeration(proto, true)
        });
    }
    for (index, service) in (0..).zip(&file.service) {
        visitor.at(&[tags::file::SERVICE, index], |visitor| {
            visitor.within(service.name(), |visitor| {
                visitor.at(&[NAME], |visitor| visitor.found(Kind::Service, true));
                for (index, method) in (0..).zip(&service.method) {
                    visitor.at(&[tags::service::PROCEDURE, index, NAME], |visitor| {
                        visitor.member(method.name())
                    });
                }
            });
        });
    }
    for (index, extension) in (0..).zip(&file.extension) {
        visitor.at(&[tags::file::EXTENSION, index, NAME], |visitor| {
            visitor.extension(extension, true)
        });
    }
}

struct Visitor<'a> {
    found: &'a mut dyn FnMut(Definition<'_>),
    /// The full name of what is visited.
    name: String,
    path: Vec<i32>,
}

impl Visitor<'_> {
    fn message(&mut self, message: &DescriptorProto, is_top: bool) {
        self.within(message.name(), |visitor| {
            visitor.at(&[NAME], |visitor| visitor.found(Kind::Message, is_top));
            for (index, field) in (0..).zip(&message.field) {
                visitor.at(&[tags::message::FIELD, index, NAME], |visitor| {
                    visitor.member(field.name())
                });
            }
            for (index, nested) in (0..).zip(&message.nested_type) {
                visitor.at(&[tags::message::MESSAGE, index], |visitor| {
                    visitor.message(nested, false)
                });
            }
            for (index, proto) in (0..).zip(&message.enum_type) {
                visitor.at(&[tags::message::ENUM, index], |visitor| {
                    visitor.enumeration(proto, false)
                });
            }
            for (index, extension) in (0..).zip(&message.extension) {
                visitor.at(&[tags::message::EXTENSION, index, NAME], |visitor| {
                    visitor.extension(extension, false)
                });
            }
            for (index, oneof) in (0..).zip(&message.oneof_decl) {
                visitor.at(&[tags::message::ONEOF, index, NAME], |visitor| {
                    visitor.member(oneof.name())
                });
            }
        });
    }

    fn enumeration(&mut self, proto: &EnumDescriptorProto, is_top: bool) {
        self.within(proto.name(), |visitor| {
            visitor.at(&[NAME], |visitor| visitor.found(Kind::Enum, is_top));
        });
        for (index, value) in (0..).zip(&proto.value) {
            self.at(&[tags::enumeration::VALUE, index, NAME], |visitor| {
                visitor.within(value.name(), |visitor| visitor.found(Kind::Value, is_top));
            });
        }
    }

    fn extension(&mut self, extension: &FieldDescriptorProto, is_top: bool) {
        self.within(extension.name(), |visitor| visitor.found(Kind::Extension, is_top));
    }

    fn member(&mut self, name: &str) {
        self.within(name, |visitor| visitor.found(Kind::Member, false));
    }

    fn found(&mut self, kind: Kind, is_top: bool) {
        (self.found)(Definition {
            full_name: &self.name,
            kind,
            is_top,
            path: &self.path,
        });
    }

    fn within(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let len = self.name.len();
        self.enter(name);
        visit(self);
        self.name.truncate(len);
    }

    fn enter(&mut self, name: &str) {
        if !self.name.is_empty() {
            self.name.push('.');
        }
        self.name.push_str(name);
    }

    fn at(&mut self, more: &[i32], visit: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        self.path.extend_from_slice(more);
        visit(self);
        self.path.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_the_scope_around_their_enum() {
        let text = "syntax = \"proto3\"; package a.b; message M { int32 f = 1; oneof o { int32 g = 2; } enum E { V = 0; } } \
                    service S { rpc P(M) returns (M); } extend M { int32 x = 100; }";
        let file = protox::file::File::from_source("a.proto", text).expect("it parses");
        let mut found = Vec::new();
        visit(file.file_descriptor_proto(), &mut |one| {
            found.push(format!("{} {:?} {}", one.full_name, one.kind, one.is_top));
        });
        assert_eq!(
            found,
            [
                "a Package true",
                "a.b Package true",
                "a.b.M Message true",
                "a.b.M.f Member false",
                "a.b.M.g Member false",
                "a.b.M.E Enum false",
                "a.b.M.V Value false",
                "a.b.M.o Member false",
                "a.b.S Service true",
                "a.b.S.P Member false",
                "a.b.x Extension true"
            ]
        );
    }
}
