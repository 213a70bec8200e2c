//! Growth: a table of the fields that may take more memory decoded than encoded.
//!
//! With it, the runtime limits the memory that decoding one message takes.

use std::collections::{HashMap, HashSet};

use proc_macro2::{Literal, TokenStream};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;

use super::shape::shape;
use crate::{
    model::{Graph, Procedure, Service, Types, is_newer, message_of},
    source::is_google,
    target::Target,
};

/// The rows of a module: one for each message type that may grow, and one for each map whose values may grow.
pub(super) struct Growth<'a> {
    target: &'a Target<'a>,
    growing: &'a Growing<'a>,
    rows: Vec<Row>,
    /// The numbers of the rows, by full name of the message or of the map's entry.
    numbers: HashMap<String, usize>,
}

struct Row {
    message: MessageDescriptor,
    /// The package from whose module the row names types.
    package: String,
}

/// The messages that may grow: they contain repeated fields, maps or boxes.
pub(super) struct Growing<'a> {
    graph: &'a Graph,
    names: HashSet<&'a str>,
}

impl<'a> Growing<'a> {
    pub(super) fn new(graph: &'a Graph) -> Self {
        let names = graph.containing(|message| {
            let mut fields = message.fields();
            fields.any(|field| field.cardinality() == Cardinality::Repeated || is_boxed(graph, &field))
        });
        Self { graph, names }
    }

    fn is_boxed(&self, field: &FieldDescriptor) -> bool {
        is_boxed(self.graph, field)
    }
}

impl<'a> Growth<'a> {
    /// The table for the procedures of these services, all in one module.
    pub(super) fn new(services: &[&Service], growing: &'a Growing<'a>, target: &'a Target<'a>) -> Self {
        let mut growth = Self {
            target,
            growing,
            rows: Vec::new(),
            numbers: HashMap::new(),
        };
        for service in services {
            for procedure in &service.procedures {
                growth.add(&procedure.input, &service.package);
                growth.add(&procedure.output, &service.package);
            }
        }
        growth
    }

    /// The table as a static, if it has rows.
    pub(super) fn table(&self) -> TokenStream {
        if self.rows.is_empty() {
            return quote!();
        }
        let runtime = self.target.runtime;
        let rows = self.rows.iter().map(|row| {
            let types = Types::new(&row.package, self.target);
            let fields = row
                .message
                .fields()
                .filter_map(|field| self.field(&field, &types));
            quote!(&[#(#fields),*])
        });
        quote!(static GROWTH: #runtime::codegen::Growth = #runtime::codegen::Growth::new(&[#(#rows),*]);)
    }

    /// The part of a procedure's entry that names the rows of its messages.
    pub(super) fn of(&self, procedure: &Procedure) -> TokenStream {
        let requests = self.row(procedure.input.full_name());
        let requests = requests.map(|row| quote!(.with_request_growth(&GROWTH, #row)));
        let replies = self.row(procedure.output.full_name());
        let replies = replies.map(|row| quote!(.with_reply_growth(&GROWTH, #row)));
        quote!(#requests #replies)
    }

    fn row(&self, name: &str) -> Option<Literal> {
        self.numbers.get(name).map(|row| Literal::usize_unsuffixed(*row))
    }

    /// Adds a row for a message that may grow, and for each message inside it.
    fn add(&mut self, message: &MessageDescriptor, package: &str) {
        // A list and no recursion: a chain of messages may be longer than a thread's stack.
        let mut open = vec![message.clone()];
        while let Some(message) = open.pop() {
            let name = message.full_name();
            if self.numbers.contains_key(name) || !self.growing.names.contains(name) {
                continue;
            }
            self.numbers.insert(name.to_owned(), self.rows.len());
            let fields: Vec<_> = message.fields().filter(is_known_to_prost).collect();
            open.extend(fields.iter().rev().filter_map(message_of));
            self.rows.push(Row {
                message,
                package: package.to_owned(),
            });
        }
    }

    fn field(&self, field: &FieldDescriptor, types: &Types<'_>) -> Option<TokenStream> {
        let runtime = self.target.runtime;
        if !is_known_to_prost(field) {
            return None;
        }
        let number = Literal::u32_unsuffixed(field.number());
        let (make, size) = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = types.value(&entry.map_entry_key_field());
                let value = value_type(&entry.map_entry_value_field(), field, types, self.growing.graph);
                // Of a type that exists elsewhere we do not know which map it has: a tree takes more.
                let is_ordered = types.is_ordered(field)
                    || is_google(field.parent_file().name())
                    || types.is_given(field.parent_message().full_name());
                let make = if is_ordered {
                    quote!(ordered_map)
                } else {
                    quote!(map)
                };
                (make, Some(quote!((#key, #value))))
            }
            kind if field.cardinality() == Cardinality::Repeated => {
                let make = match kind {
                    Kind::Message(_) | Kind::String | Kind::Bytes => quote!(elements),
                    Kind::Double
                    | Kind::Float
                    | Kind::Fixed32
                    | Kind::Fixed64
                    | Kind::Sfixed32
                    | Kind::Sfixed64 => quote!(values),
                    _ => quote!(varints),
                };
                (make, Some(value_type(field, field, types, self.growing.graph)))
            }
            Kind::Message(_) if self.growing.is_boxed(field) => (
                quote!(boxed),
                Some(value_type(field, field, types, self.growing.graph)),
            ),
            Kind::Message(_) => (quote!(part), None),
            _ => return None,
        };
        let row = message_of(field).and_then(|message| self.row(message.full_name()));
        if row.is_none() && size.is_none() {
            return None;
        }
        let size = size.map(|ty| quote!(, ::core::mem::size_of::<#ty>()));
        let row = row.map(|row| quote!(.of(#row)));
        Some(quote!(#runtime::codegen::Growing::#make(#number #size) #row))
    }
}

/// True if a field is in a `Box`, or may be.
fn is_boxed(graph: &Graph, field: &FieldDescriptor) -> bool {
    graph.is_recursive(field) || graph.is_boxed(field)
}

/// The type of one value of a field: of `field` itself, or of the map `field`.
fn value_type(
    value: &FieldDescriptor,
    field: &FieldDescriptor,
    types: &Types<'_>,
    graph: &Graph,
) -> TokenStream {
    match value.kind() {
        Kind::Message(message)
            if types.is_given(field.parent_message().full_name()) && types.is_given(message.full_name()) =>
        {
            shape(&message, types, graph)
        }
        _ => types.value_of(value, field),
    }
}

/// False if prost skips the field as an unknown one.
fn is_known_to_prost(field: &FieldDescriptor) -> bool {
    let is_newer_message = message_of(field).is_some_and(|message| is_newer(message.full_name()));
    !is_newer_message
        || !is_google(field.parent_file().name())
        || is_newer(field.parent_message().full_name())
}
