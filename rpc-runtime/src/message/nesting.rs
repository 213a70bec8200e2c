//! Nesting: how deep messages are nested in each other.
//!
//! Prost's code recurses: encoding a message that is nested some thousands deep overflows the stack and kills the process, and
//! prost decodes no message that is nested deeper than a hundred. So generated code walks through messages whose type can nest
//! without end before it encodes them, no deeper than that limit. Other messages are not walked.

use std::{any::Any, fmt};

use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, ListValue, Struct, Value,
    compiler::CodeGeneratorRequest, value::Kind,
};

/// The deepest message that prost decodes, in levels below the outermost one.
pub(crate) const DEEPEST: u32 = 100;

/// The check of a message before it is encoded, for a type that can nest without end.
#[derive(Clone, Copy)]
pub struct Nesting {
    /// The full name of the type.
    message: &'static str,
    walk: fn(&dyn Any) -> Result<(), TooDeep>,
}

/// A message whose type can contain itself; generated code implements the walk.
pub trait Nested {
    /// Walks through all messages in this one, which is at depth `at`.
    ///
    /// # Errors
    ///
    /// The first message that is too deep.
    fn walk(&self, at: Depth) -> Result<(), TooDeep>;
}

/// The depth of a message.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    /// The number of levels that may still be below it.
    left: u32,
}

/// A message is nested deeper than any peer decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep {
    /// The full name of the field that holds it.
    field: &'static str,
}

impl Nesting {
    /// Creates the check for the type `M`, whose full name is `message`.
    pub const fn of<M: Nested + 'static>(message: &'static str) -> Self {
        Self {
            message,
            walk: walk::<M>,
        }
    }

    /// Checks that `message` can be encoded, and decoded by its receiver.
    ///
    /// A message of another type passes.
    ///
    /// # Errors
    ///
    /// The text names the type and the field that is too deep.
    #[inline(never)]
    pub(crate) fn check<M: 'static>(self, message: &M) -> Result<(), String> {
        (self.walk)(message).map_err(|too_deep| format!("{} {too_deep}", self.message))
    }
}

fn walk<M: Nested + 'static>(message: &dyn Any) -> Result<(), TooDeep> {
    match message.downcast_ref::<M>() {
        Some(message) => message.walk(Depth { left: DEEPEST }),
        None => Ok(()),
    }
}

/// Checks `message` if its type needs it.
#[inline]
pub(crate) fn check<M: 'static>(nesting: Option<Nesting>, message: &M) -> Result<(), String> {
    match nesting {
        None => Ok(()),
        Some(nesting) => nesting.check(message),
    }
}

impl Depth {
    /// Walks through the messages of `field`.
    pub fn within<'a, M: Nested + 'a>(
        self,
        field: &'static str,
        messages: impl IntoIterator<Item = &'a M>,
    ) -> Result<(), TooDeep> {
        messages
            .into_iter()
            .try_for_each(|message| message.walk(self.below(field)?))
    }

    /// As [`Depth::within`], for messages that have at most `levels` levels.
    pub fn at_most<'a, M: Nested + 'a>(
        self,
        levels: u32,
        field: &'static str,
        messages: impl IntoIterator<Item = &'a M>,
    ) -> Result<(), TooDeep> {
        if levels <= self.left {
            return Ok(());
        }
        self.within(field, messages)
    }

    /// Counts the one level of the messages of `field`, or of the entries of a map, if there are any.
    pub fn one(self, field: &'static str, is_there: bool) -> Result<(), TooDeep> {
        if is_there {
            self.below(field)?;
        }
        Ok(())
    }

    /// Walks through the messages of the map `field`: an entry is a level, and so is its value, unless it is left out.
    pub fn entries<'a, M: Nested + Default + PartialEq + 'a>(
        self,
        field: &'static str,
        messages: impl IntoIterator<Item = &'a M>,
    ) -> Result<(), TooDeep> {
        self.each_entry(field, messages, Nested::walk)
    }

    /// As [`Depth::entries`], for messages that hold no others.
    pub fn leaf_entries<'a, M: Default + PartialEq + 'a>(
        self,
        field: &'static str,
        messages: impl IntoIterator<Item = &'a M>,
    ) -> Result<(), TooDeep> {
        self.each_entry(field, messages, |_, _| Ok(()))
    }

    fn each_entry<'a, M: Default + PartialEq + 'a>(
        self,
        field: &'static str,
        messages: impl IntoIterator<Item = &'a M>,
        walk: fn(&M, Self) -> Result<(), TooDeep>,
    ) -> Result<(), TooDeep> {
        messages.into_iter().try_for_each(|message| {
            let entry = self.below(field)?;
            match entry.below(field) {
                Ok(at) => walk(message, at),
                // Prost leaves out what is no more than its default.
                Err(_) if *message == M::default() => Ok(()),
                Err(too_deep) => Err(too_deep),
            }
        })
    }

    fn below(self, field: &'static str) -> Result<Self, TooDeep> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left }),
            None => Err(TooDeep { field }),
        }
    }
}

impl<M: Nested + ?Sized> Nested for Box<M> {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        (**self).walk(at)
    }
}

/// By its name: that is what the type is known by.
impl PartialEq for Nesting {
    fn eq(&self, other: &Self) -> bool {
        self.message == other.message
    }
}

impl Eq for Nesting {}

impl fmt::Debug for Nesting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nesting").field(&self.message).finish()
    }
}

impl fmt::Display for TooDeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "is nested more than {DEEPEST} messages deep, at {}, and no peer reads deeper",
            self.field
        )
    }
}

// Google's messages that can be nested without end. Prost made them, so nobody else can say it of them.

impl Nested for Struct {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.entries("google.protobuf.Struct.fields", self.fields.values())
    }
}

impl Nested for ListValue {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.within("google.protobuf.ListValue.values", &self.values)
    }
}

impl Nested for Value {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        match &self.kind {
            Some(Kind::StructValue(value)) => at.within("google.protobuf.Value.struct_value", [value]),
            Some(Kind::ListValue(value)) => at.within("google.protobuf.Value.list_value", [value]),
            _ => Ok(()),
        }
    }
}

impl Nested for DescriptorProto {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.within("google.protobuf.DescriptorProto.nested_type", &self.nested_type)
    }
}

impl Nested for FileDescriptorProto {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.within(
            "google.protobuf.FileDescriptorProto.message_type",
            &self.message_type,
        )
    }
}

impl Nested for FileDescriptorSet {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.within("google.protobuf.FileDescriptorSet.file", &self.file)
    }
}

impl Nested for CodeGeneratorRequest {
    fn walk(&self, at: Depth) -> Result<(), TooDeep> {
        at.within(
            "google.protobuf.compiler.CodeGeneratorRequest.proto_file",
            &self.proto_file,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;

    /// Whether a message of Google's is let through, which has to be what prost says of its bytes.
    fn passes<M: Nested + Message + Default + 'static>(message: &M) -> bool {
        let passes = Nesting::of::<M>("M").check(message).is_ok();
        assert_eq!(passes, M::decode(&message.encode_to_vec()[..]).is_ok());
        passes
    }

    #[test]
    fn google_s_messages_may_be_as_deep_as_prost_reads_them() {
        let list = |value| Value {
            kind: Some(Kind::ListValue(ListValue { values: vec![value] })),
        };
        let object = |value| Value {
            kind: Some(Kind::StructValue(Struct {
                fields: BTreeMap::from([(String::from("a"), value)]),
            })),
        };
        // A level for the list and one for the value; for an object one more, for its entry.
        for (wrap, levels) in [(&list as &dyn Fn(Value) -> Value, 2), (&object, 3)] {
            let mut value = Value {
                kind: Some(Kind::BoolValue(true)),
            };
            for depth in 1..120 {
                value = wrap(value);
                assert_eq!(passes(&value), depth * levels <= 100, "{depth}");
            }
        }
        // An entry whose value is left out is one level less.
        let mut value = object(Value::default());
        for depth in 2..50 {
            value = object(value);
            assert_eq!(passes(&value), depth * 3 - 1 <= 100, "{depth}");
        }
        let mut message = DescriptorProto::default();
        for depth in 1..120 {
            message = DescriptorProto {
                nested_type: vec![message],
                ..DescriptorProto::default()
            };
            let file = FileDescriptorProto {
                message_type: vec![message.clone()],
                ..FileDescriptorProto::default()
            };
            let set = FileDescriptorSet {
                file: vec![file.clone()],
            };
            let request = CodeGeneratorRequest {
                proto_file: vec![file.clone()],
                ..CodeGeneratorRequest::default()
            };
            assert_eq!(passes(&message), depth <= 100);
            assert_eq!(passes(&file), depth < 100);
            assert_eq!(passes(&set), depth < 99);
            assert_eq!(passes(&request), depth < 99);
        }
    }

    #[test]
    fn a_too_deep_message_is_named() {
        let mut value = Value::default();
        for _ in 0..60 {
            value = Value {
                kind: Some(Kind::ListValue(ListValue { values: vec![value] })),
            };
        }
        let nesting = Nesting::of::<Value>("google.protobuf.Value");
        assert_eq!(
            nesting.check(&value).unwrap_err(),
            "google.protobuf.Value is nested more than 100 messages deep, at google.protobuf.Value.list_value, and no \
             peer reads deeper"
        );
        assert_eq!(nesting.check(&String::from("of another type")), Ok(()));
    }
}
