//! Nesting: the depth check that the runtime makes before it encodes a message.
//!
//! prost encodes recursively without a limit, which can overflow the stack, and decodes at most 100 levels.

use std::collections::{BTreeMap, HashMap, HashSet};

use proc_macro2::{Literal, TokenStream};
use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, MessageDescriptor};
use quote::quote;

use crate::{
    model::{
        Graph, Procedure, Service, Types, ident, is_generated, is_given, is_option, message_of,
        naming::{camel, module_path, snake},
        oneof_of, oneof_type,
    },
    source::is_google,
    target::Target,
};

/// The depth of all messages, and the messages that need the check.
pub(super) struct Nesting<'a> {
    target: &'a Target<'a>,
    graph: &'a Graph,
    /// The number of message levels inside each message, by full name; none without a limit.
    heights: HashMap<&'a str, Option<u32>>,
    /// The messages that need the check, by full name: a level inside them may be too deep.
    walked: BTreeMap<String, MessageDescriptor>,
    /// Their names, by module.
    by_module: HashMap<Vec<String>, Vec<String>>,
}

impl<'a> Nesting<'a> {
    /// The nesting of all messages: those that the procedures of these services send, and those that other crates may send.
    pub(super) fn new(
        pool: &DescriptorPool,
        services: &[Service],
        graph: &'a Graph,
        target: &'a Target<'a>,
    ) -> Self {
        let mut nesting = Self {
            target,
            graph,
            heights: graph.heights(),
            walked: BTreeMap::new(),
            by_module: HashMap::new(),
        };
        let procedures = services.iter().flat_map(|service| &service.procedures);
        let sent = procedures.flat_map(|procedure| [procedure.input.clone(), procedure.output.clone()]);
        let generated = pool
            .all_messages()
            .filter(|message| is_generated(message.full_name(), target));
        for message in sent.chain(generated) {
            if nesting.is_deep(&message) {
                nesting.walk(&message);
            }
        }
        for (name, message) in &nesting.walked {
            let module = module_path(message.package_name());
            nesting.by_module.entry(module).or_default().push(name.clone());
        }
        nesting
    }

    /// The part of a procedure's entry that asks for the check.
    pub(super) fn of(&self, procedure: &Procedure, package: &str) -> TokenStream {
        let types = Types::new(package, self.target);
        let runtime = self.target.runtime;
        let nesting = |message: &MessageDescriptor| {
            let name = message.full_name();
            self.is_deep(message).then(|| {
                let ty = types.message(message);
                if types.is_given(name) {
                    quote!(#runtime::codegen::Nesting::by(#name, #runtime::codegen::walk_of!(#ty, WHOLE)))
                } else {
                    quote!(#runtime::codegen::Nesting::of::<#ty>(#name))
                }
            })
        };
        let request = nesting(&procedure.input).map(|of| quote!(.with_request_nesting(#of)));
        let reply = nesting(&procedure.output).map(|of| quote!(.with_reply_nesting(#of)));
        quote!(#request #reply)
    }

    /// The checks of all messages of a module that need one.
    pub(super) fn walks(&self, module: &[String]) -> TokenStream {
        let walked = self.by_module.get(module).into_iter().flatten();
        walked.map(|name| self.walk_of(&self.walked[name])).collect()
    }

    /// True if a message can be nested too deep.
    fn is_deep(&self, message: &MessageDescriptor) -> bool {
        self.height(message).is_none_or(|height| height > DEEPEST)
    }

    fn height(&self, message: &MessageDescriptor) -> Option<u32> {
        self.heights.get(message.full_name()).copied().flatten()
    }

    /// Records that a message needs the check, and the messages inside it.
    fn walk(&mut self, message: &MessageDescriptor) {
        let mut seen = HashSet::new();
        let mut open = vec![message.clone()];
        while let Some(message) = open.pop() {
            // The runtime has the checks of Google's messages.
            let is_known = is_google(message.parent_file().name())
                || is_given(message.full_name(), self.target)
                || self.walked.contains_key(message.full_name());
            if is_known || !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            let inner = message.fields().filter_map(|field| message_of(&field));
            open.extend(inner.filter(|inner| self.height(inner) != Some(0)));
            // A map's entry has no type in Rust.
            if !message.is_map_entry() {
                self.walked.insert(message.full_name().to_owned(), message);
            }
        }
    }

    fn walk_of(&self, message: &MessageDescriptor) -> TokenStream {
        let runtime = self.target.runtime;
        let types = Types::new(message.package_name(), self.target);
        let ty = types.message(message);
        let fields = message.fields().filter(|field| {
            message_of(field).is_some() && oneof_of(field.field_descriptor_proto()).is_none()
        });
        let fields = fields.map(|field| self.field(&field, &types));
        let protos = &message.descriptor_proto().oneof_decl;
        let oneofs = (0..protos.len()).filter_map(|index| self.oneof(message, index, &types));
        quote! {
            impl #runtime::codegen::Nested for #ty {
                fn walk(&self, at: #runtime::codegen::Depth) -> ::core::result::Result<(), #runtime::codegen::TooDeep> {
                    #(#fields)*
                    #(#oneofs)*
                    ::core::result::Result::Ok(())
                }
            }
        }
    }

    /// The check of a field outside of oneofs.
    fn field(&self, field: &FieldDescriptor, types: &Types<'_>) -> TokenStream {
        let name = ident(&snake(field.name()));
        let shown = field.full_name();
        let Some(message) = message_of(field) else {
            return quote!();
        };
        if field.is_map() {
            let value = message_of(&message.map_entry_value_field());
            return match value {
                None => quote!(at.one(#shown, !self.#name.is_empty())?;),
                Some(value) if self.is_leaf(&value) => quote!(at.leaf_entries(#shown, self.#name.values())?;),
                Some(value) if types.is_given(value.full_name()) => {
                    let walk = self.walk_elsewhere(&value, types);
                    quote!(at.entries_by(#shown, self.#name.values(), #walk)?;)
                }
                Some(_) => quote!(at.entries(#shown, self.#name.values())?;),
            };
        }
        if self.is_leaf(&message) {
            let is_there = match field.cardinality() {
                Cardinality::Repeated => quote!(!self.#name.is_empty()),
                _ if is_option(field) => quote!(self.#name.is_some()),
                _ => quote!(true),
            };
            return quote!(at.one(#shown, #is_there)?;);
        }
        let messages = if field.cardinality() == Cardinality::Repeated || is_option(field) {
            quote!(&self.#name)
        } else {
            quote!([&self.#name])
        };
        let step = self.step(field, &message, &messages, types);
        quote!(#step?;)
    }

    /// The check of a oneof, if it contains messages.
    fn oneof(&self, message: &MessageDescriptor, index: usize, types: &Types<'_>) -> Option<TokenStream> {
        let proto = message.descriptor_proto();
        let name = proto.oneof_decl[index].name();
        let ty = format!("{}.{}", message.full_name(), oneof_type(proto, name));
        let ty = types.path(message.package_name(), &ty);
        let fields: Vec<_> = message
            .fields()
            .filter(|field| oneof_of(field.field_descriptor_proto()) == Some(index))
            .filter_map(|field| Some((message_of(&field)?, field)))
            .collect();
        let arms = fields.iter().map(|(message, field)| {
            let variant = ident(&camel(field.name()));
            let shown = field.full_name();
            if self.is_leaf(message) {
                (
                    quote!(::core::option::Option::Some(#ty::#variant(_))),
                    quote!(at.one(#shown, true)),
                )
            } else {
                (
                    quote!(::core::option::Option::Some(#ty::#variant(value))),
                    self.step(field, message, &quote!([value]), types),
                )
            }
        });
        let arms: Vec<_> = arms.collect();
        let name = ident(&snake(name));
        match &arms[..] {
            [] => None,
            [(pattern, step)] => Some(quote!(if let #pattern = &self.#name { #step?; })),
            arms => {
                let (patterns, steps) = (arms.iter().map(|arm| &arm.0), arms.iter().map(|arm| &arm.1));
                Some(quote!(match &self.#name { #(#patterns => #steps?,)* _ => {} }))
            }
        }
    }

    /// The check of `messages`, the values of `field`, whose type is not a leaf.
    fn step(
        &self,
        field: &FieldDescriptor,
        message: &MessageDescriptor,
        messages: &TokenStream,
        types: &Types<'_>,
    ) -> TokenStream {
        let shown = field.full_name();
        if types.is_given(message.full_name()) {
            let walk = self.walk_elsewhere(message, types);
            let unboxed = self
                .graph
                .is_boxed(field)
                .then(|| quote!(.into_iter().map(::core::convert::AsRef::as_ref)));
            return quote!(at.by(#shown, #messages #unboxed, #walk));
        }
        match self.height(message) {
            None => quote!(at.within(#shown, #messages)),
            Some(height) => {
                let levels = Literal::u32_unsuffixed(height + 1);
                quote!(at.at_most(#levels, #shown, #messages))
            }
        }
    }

    /// The walk through a message that exists elsewhere, if its type has one.
    fn walk_elsewhere(&self, message: &MessageDescriptor, types: &Types<'_>) -> TokenStream {
        let runtime = self.target.runtime;
        let ty = types.message(message);
        quote!(#runtime::codegen::walk_of!(#ty, OF))
    }

    /// True if no level inside a message needs a look.
    fn is_leaf(&self, message: &MessageDescriptor) -> bool {
        match self.height(message) {
            None => false,
            // Types that exist elsewhere have no walk unless they contain themselves.
            Some(height) => {
                height == 0
                    || is_google(message.parent_file().name())
                    || is_given(message.full_name(), self.target)
            }
        }
    }
}

/// The deepest level that prost decodes.
const DEEPEST: u32 = 100;
