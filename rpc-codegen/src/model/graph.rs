//! The graph of messages: which message contains which.

use std::collections::{HashMap, HashSet};

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};

use super::{components::components, oneof::path_of, types::can_be_boxed};
use crate::{choices::ByPath, target::Target};

/// All messages of a pool, and what their fields contain.
///
/// Everything that depends on the messages inside a message is found in one pass over the graph, for all messages at once.
#[derive(Debug)]
pub(crate) struct Graph {
    indices: HashMap<String, usize>,
    messages: Vec<MessageDescriptor>,
    all: Edges,
    /// The edges of the fields that are not repeated. A `Vec` keeps its messages elsewhere, and prost-build does not look into
    /// groups.
    held: Edges,
    /// The fields that the build script puts into a `Box`.
    boxed: ByPath<()>,
}

/// The edges from messages to the messages of their fields.
#[derive(Debug)]
struct Edges {
    inner: Vec<Vec<usize>>,
    /// The component of each message.
    circles: Vec<usize>,
    /// The messages of each component; what they contain is in the same or an earlier component.
    groups: Vec<Vec<usize>>,
}

/// What prost-build derives for a message, besides `Clone` and `PartialEq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Derives {
    pub(crate) copy: bool,
    pub(crate) eq: bool,
}

impl Graph {
    pub(crate) fn new(pool: &DescriptorPool, target: &Target<'_>) -> Self {
        let messages: Vec<MessageDescriptor> = pool.all_messages().collect();
        let indices = messages.iter().enumerate();
        let indices = indices.map(|(index, message)| (message.full_name().to_owned(), index));
        let indices: HashMap<String, usize> = indices.collect();
        let edges = |counts: fn(&FieldDescriptor) -> bool| {
            let inner = messages.iter().map(|message| {
                let fields = message.fields().filter(counts);
                let inner = fields.filter_map(|field| message_of(&field));
                inner
                    .filter_map(|inner| indices.get(inner.full_name()).copied())
                    .collect()
            });
            Edges::new(inner.collect())
        };
        let (all, held) = (
            edges(|_| true),
            edges(|field| is_single(field) && !field.is_group()),
        );
        Self {
            indices,
            messages,
            all,
            held,
            boxed: target.choices.boxed.clone(),
        }
    }

    /// True if the field is in a `Box`.
    pub(crate) fn is_boxed(&self, field: &FieldDescriptor) -> bool {
        self.contains_itself(field) || (can_be_boxed(field) && self.boxed.contains(&path_of(field)))
    }

    /// True if prost-build puts the field into a `Box`, because its type contains the field's message.
    pub(crate) fn contains_itself(&self, field: &FieldDescriptor) -> bool {
        if field.is_group() {
            // No edge leads to a group, so its circle does not tell.
            let inner = message_of(field).and_then(|inner| self.index(&inner));
            let outer = self.index(field.parent_message());
            return is_single(field)
                && inner
                    .zip(outer)
                    .is_some_and(|(inner, outer)| self.held.leads(inner, outer));
        }
        is_single(field) && self.is_in_circle(field, &self.held)
    }

    /// True if the field's type contains the field's message, by value or in a `Vec`.
    pub(crate) fn is_recursive(&self, field: &FieldDescriptor) -> bool {
        self.is_in_circle(field, &self.all)
    }

    /// The full names of the messages for which `is_so` is true, and of those that contain such a message.
    pub(crate) fn containing(&self, is_so: impl Fn(&MessageDescriptor) -> bool) -> HashSet<&str> {
        let found = self.all.fold(|group, known: &[bool]| {
            let inner = group.iter().flat_map(|index| &self.all.inner[*index]);
            inner.into_iter().any(|inner| known[*inner])
                || group.iter().any(|index| is_so(&self.messages[*index]))
        });
        let named = self.messages.iter().zip(found);
        named
            .filter(|(_, found)| *found)
            .map(|(message, _)| message.full_name())
            .collect()
    }

    /// The number of message levels inside each message, by full name; none without a limit.
    pub(crate) fn heights(&self) -> HashMap<&str, Option<u32>> {
        let heights = self.all.fold(|group, known: &[Option<u32>]| match group {
            [index] if !self.all.is_circle(group) => {
                self.all.inner[*index].iter().try_fold(0, |height: u32, inner| {
                    known[*inner].map(|inner| height.max(inner.saturating_add(1)))
                })
            }
            _ => None,
        });
        self.messages
            .iter()
            .map(MessageDescriptor::full_name)
            .zip(heights)
            .collect()
    }

    /// What prost-build derives for each message, by full name.
    pub(crate) fn derives(&self) -> HashMap<&str, Derives> {
        let derives = self.held.fold(|group, known: &[Derives]| match group {
            [index] if !self.held.is_circle(group) => {
                let fields = self.messages[*index].fields();
                let fields = fields.map(|field| self.derives_of(&field, known));
                fields.fold(Derives { copy: true, eq: true }, Derives::and)
            }
            // A `Box` is not `Copy`, and prost-build derives no `Eq` for its message.
            _ => Derives::default(),
        });
        self.messages
            .iter()
            .map(MessageDescriptor::full_name)
            .zip(derives)
            .collect()
    }

    fn derives_of(&self, field: &FieldDescriptor, known: &[Derives]) -> Derives {
        let is_single = is_single(field);
        match field.kind() {
            Kind::Message(_) if !is_single || field.is_group() => Derives::default(),
            Kind::Message(message) => {
                let inner = self.index(&message).map(|index| known[index]).unwrap_or_default();
                Derives {
                    copy: inner.copy && !self.is_boxed(field),
                    ..inner
                }
            }
            Kind::Float | Kind::Double => Derives {
                copy: is_single,
                eq: false,
            },
            Kind::String | Kind::Bytes => Derives {
                copy: false,
                eq: true,
            },
            _ => Derives {
                copy: is_single,
                eq: true,
            },
        }
    }

    fn index(&self, message: &MessageDescriptor) -> Option<usize> {
        self.indices.get(message.full_name()).copied()
    }

    fn is_in_circle(&self, field: &FieldDescriptor, edges: &Edges) -> bool {
        let circle = |message: &MessageDescriptor| edges.circles.get(self.index(message)?);
        message_of(field).is_some_and(|inner| circle(&inner) == circle(field.parent_message()))
    }
}

impl Derives {
    fn and(self, other: Self) -> Self {
        Self {
            copy: self.copy && other.copy,
            eq: self.eq && other.eq,
        }
    }
}

impl Edges {
    fn new(inner: Vec<Vec<usize>>) -> Self {
        let circles = components(&inner);
        let mut groups = vec![Vec::new(); circles.iter().max().map_or(0, |last| last + 1)];
        for (index, circle) in circles.iter().enumerate() {
            groups[*circle].push(index);
        }
        Self {
            inner,
            circles,
            groups,
        }
    }

    /// A value for each message: `value` computes it for a component, and knows the values of what the component contains.
    fn fold<T: Clone + Default>(&self, value: impl Fn(&[usize], &[T]) -> T) -> Vec<T> {
        let mut known = vec![T::default(); self.inner.len()];
        for group in &self.groups {
            let value = value(group, &known);
            for index in group {
                known[*index] = value.clone();
            }
        }
        known
    }

    /// True if the message `from` contains the message `to`.
    fn leads(&self, from: usize, to: usize) -> bool {
        let mut seen = HashSet::new();
        let mut open = vec![from];
        while let Some(index) = open.pop() {
            if index == to {
                return true;
            }
            if seen.insert(index) {
                open.extend(&self.inner[index]);
            }
        }
        false
    }

    /// True if the messages of a component contain themselves.
    fn is_circle(&self, group: &[usize]) -> bool {
        match group {
            [index] => self.inner[*index].contains(index),
            _ => true,
        }
    }
}

/// The message type of a field, if it has one.
pub(crate) fn message_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) => Some(message),
        _ => None,
    }
}

fn is_single(field: &FieldDescriptor) -> bool {
    field.cardinality() != Cardinality::Repeated
}
