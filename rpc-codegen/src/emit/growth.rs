//! Growth: a table of the fields that may take more memory decoded than encoded.
//!
//! With it, the runtime limits the memory that decoding one message takes.

use proc_macro2::{Literal, TokenStream};
use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;

use super::shape::shape;
use crate::{
    model::{Procedure, Service, Types, is_newer},
    source::is_google,
    target::Target,
};

/// The rows of a module: one for each message type that may grow, and one for each map whose values may grow.
pub(super) struct Growth<'a> {
    target: &'a Target<'a>,
    rows: Vec<Row>,
}

struct Row {
    /// The full name of the message, or of the map's entry.
    name: String,
    fields: Vec<TokenStream>,
}

impl<'a> Growth<'a> {
    /// The table for the procedures of these services, all in one module.
    pub(super) fn new(services: &[&Service], target: &'a Target<'a>) -> Self {
        let mut growth = Self {
            target,
            rows: Vec::new(),
        };
        for service in services {
            let types = Types::new(&service.package, target);
            for procedure in &service.procedures {
                growth.add(&procedure.input, &types);
                growth.add(&procedure.output, &types);
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
            let fields = &row.fields;
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
        let row = self.rows.iter().position(|row| row.name == name)?;
        Some(Literal::usize_unsuffixed(row))
    }

    /// Adds a message that may grow, and the messages inside it; returns its row.
    fn add(&mut self, message: &MessageDescriptor, types: &Types<'_>) -> Option<Literal> {
        let name = message.full_name();
        if let Some(row) = self.row(name) {
            return Some(row);
        }
        if !multiplies(message, types) {
            return None;
        }
        let row = self.rows.len();
        // The row exists before its fields, because the message may contain itself.
        self.rows.push(Row {
            name: name.to_owned(),
            fields: Vec::new(),
        });
        let fields = message
            .fields()
            .filter_map(|field| self.field(&field, types))
            .collect();
        self.rows[row].fields = fields;
        Some(Literal::usize_unsuffixed(row))
    }

    fn field(&mut self, field: &FieldDescriptor, types: &Types<'_>) -> Option<TokenStream> {
        let runtime = self.target.runtime;
        // prost skips them as unknown fields.
        let is_newer_message =
            matches!(field.kind(), Kind::Message(message) if is_newer(message.full_name()));
        if is_newer_message
            && is_google(field.parent_file().name())
            && !is_newer(field.parent_message().full_name())
        {
            return None;
        }
        let number = Literal::u32_unsuffixed(field.number());
        let (make, size) = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                let key = types.value(&entry.map_entry_key_field());
                let value = value_type(&entry.map_entry_value_field(), field, types);
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
                (make, Some(value_type(field, field, types)))
            }
            Kind::Message(message)
                if is_within(field.parent_message(), &message) || types.is_boxed(field) =>
            {
                (quote!(boxed), Some(value_type(field, field, types)))
            }
            Kind::Message(_) => (quote!(part), None),
            _ => return None,
        };
        let row = match field.kind() {
            Kind::Message(message) => self.add(&message, types),
            _ => None,
        };
        if row.is_none() && size.is_none() {
            return None;
        }
        let size = size.map(|ty| quote!(, ::core::mem::size_of::<#ty>()));
        let row = row.map(|row| quote!(.of(#row)));
        Some(quote!(#runtime::codegen::Growing::#make(#number #size) #row))
    }
}

/// The type of one value of a field: of `field` itself, or of the map `field`.
fn value_type(value: &FieldDescriptor, field: &FieldDescriptor, types: &Types<'_>) -> TokenStream {
    match value.kind() {
        Kind::Message(message)
            if types.is_given(field.parent_message().full_name()) && types.is_given(message.full_name()) =>
        {
            shape(&message, types)
        }
        _ => types.value_of(value, field),
    }
}

/// True if a message may grow: it contains repeated fields, maps or boxes.
fn multiplies(message: &MessageDescriptor, types: &Types<'_>) -> bool {
    within(message).iter().any(|inner| {
        let is_boxed = |field: &FieldDescriptor| {
            types.is_boxed(field) || matches!(field.kind(), Kind::Message(other) if is_within(inner, &other))
        };
        inner
            .fields()
            .any(|field| field.cardinality() == Cardinality::Repeated || is_boxed(&field))
    })
}

/// True if `outer` is `message` or is inside it.
fn is_within(outer: &MessageDescriptor, message: &MessageDescriptor) -> bool {
    within(message)
        .iter()
        .any(|inner| inner.full_name() == outer.full_name())
}

/// A message and all messages inside it.
fn within(message: &MessageDescriptor) -> Vec<MessageDescriptor> {
    let mut found = vec![message.clone()];
    let mut next = 0;
    while let Some(message) = found.get(next).cloned() {
        next += 1;
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                if !found.iter().any(|other| other.full_name() == inner.full_name()) {
                    found.push(inner);
                }
            }
        }
    }
    found
}
