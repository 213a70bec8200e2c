//! JSON: serde's traits for messages and enums, in protobuf's canonical mapping.
//!
//! The code names the mapping of each field; the mappings are in rpc-runtime/src/json.

use std::collections::HashMap;

use proc_macro2::{Literal, TokenStream};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use quote::quote;

use super::pretty::pretty;
use crate::{
    model::{
        Json, NULL_VALUE, Types, ident, is_option,
        naming::{camel, module_path, snake},
        oneof_of, oneof_type,
    },
    target::Target,
};

/// The messages and enums that get serde's traits, sorted by module.
pub(super) struct JsonModules<'a> {
    all: &'a Json,
    modules: HashMap<Vec<String>, JsonModule<'a>>,
}

#[derive(Default)]
struct JsonModule<'a> {
    messages: Vec<&'a MessageDescriptor>,
    enums: Vec<&'a EnumDescriptor>,
}

impl<'a> JsonModules<'a> {
    pub(super) fn new(all: &'a Json) -> Self {
        let mut modules: HashMap<Vec<String>, JsonModule<'a>> = HashMap::new();
        for message in all.messages.values() {
            let module = modules.entry(module_path(message.package_name())).or_default();
            module.messages.push(message);
        }
        for proto in all.enums.values() {
            let module = modules.entry(module_path(proto.package_name())).or_default();
            module.enums.push(proto);
        }
        Self { all, modules }
    }

    /// The text of the serde traits of everything in `module`; empty without `Config::json`.
    pub(super) fn text(&self, module: &[String], target: &Target<'_>) -> Result<String, syn::Error> {
        let Some(JsonModule { messages, enums }) = self.modules.get(module) else {
            return Ok(String::new());
        };
        let writer = JsonWriter { target };
        let enums = enums.iter().map(|proto| writer.enumeration(proto));
        let objects = messages.iter().map(|message| writer.object(message));
        let first = messages.iter().find(|message| holds_any(message));
        let any = first.map(|first| writer.any_types(first.package_name(), self.all));
        let items = quote!(#any #(#enums)* #(#objects)*);
        // The formatter does not look into macros, so this one goes around what is already formatted.
        let runtime = target.runtime_path;
        let items = pretty(&syn::parse2(items)?);
        Ok(format!("\n{runtime}::codegen::in_json! {{\n{items}}}\n"))
    }
}

struct JsonWriter<'a> {
    target: &'a Target<'a>,
}

impl JsonWriter<'_> {
    /// The path of the room `json`.
    fn json(&self) -> TokenStream {
        let runtime = self.target.runtime;
        quote!(#runtime::codegen::json)
    }

    fn types<'a>(&'a self, package: &'a str) -> Types<'a> {
        Types::new(package, self.target)
    }

    fn enumeration(&self, proto: &EnumDescriptor) -> TokenStream {
        let json = self.json();
        let ty = self.types(proto.package_name()).enumeration(proto);
        let name = proto.full_name();
        // Not the sorted ones: of two names with one number, the first is written.
        let declared = &proto.enum_descriptor_proto().value;
        let values = declared.iter().map(|value| {
            let (name, number) = (value.name(), Literal::i32_unsuffixed(value.number()));
            quote!((#name, #number))
        });
        let unknown = if self.target.choices.json_skips_unknown {
            let first = Literal::i32_unsuffixed(declared.first().map_or(0, |value| value.number()));
            quote!(::core::option::Option::Some(#first))
        } else {
            quote!(::core::option::Option::None)
        };
        quote! {
            impl #json::Names for #ty {
                const NAME: &'static str = #name;
                const VALUES: &'static [(&'static str, i32)] = &[#(#values),*];
                const UNKNOWN: ::core::option::Option<i32> = #unknown;
            }
            #json::enum_traits!(#ty);
        }
    }

    fn object(&self, message: &MessageDescriptor) -> TokenStream {
        let json = self.json();
        let ty = self.types(message.package_name()).message(message);
        let name = message.full_name();
        let skips_unknown = self.target.choices.json_skips_unknown;
        let fields: Vec<_> = message.fields().collect();
        let names = fields.iter().map(|field| {
            let (in_json, in_proto) = (field.json_name(), field.name());
            let required = (field.cardinality() == Cardinality::Required).then(|| quote!(.required()));
            quote!(#json::Field::new(#in_json, #in_proto) #required)
        });
        let writes = fields.iter().map(|field| self.write(field));
        let oneofs =
            (0..message.descriptor_proto().oneof_decl.len()).map(|index| self.write_oneof(message, index));
        let reads = fields.iter().enumerate().map(|(index, field)| {
            let index = Literal::usize_unsuffixed(index);
            let read = self.read(field);
            quote!(#index => #read,)
        });
        let (out, index, input) = if fields.is_empty() {
            (quote!(_), quote!(_), quote!(_))
        } else {
            (quote!(out), quote!(index), quote!(input))
        };
        let read = if fields.is_empty() {
            quote!(::core::result::Result::Ok(()))
        } else {
            quote!(match index { #(#reads)* _ => ::core::result::Result::Ok(()) })
        };
        quote! {
            impl #json::Object for #ty {
                const NAME: &'static str = #name;
                const FIELDS: &'static [#json::Field] = &[#(#names),*];
                const SKIPS_UNKNOWN: bool = #skips_unknown;

                fn write<S: #json::serde::ser::SerializeMap>(
                    &self,
                    #out: &mut #json::ObjectWriter<S>,
                ) -> ::core::result::Result<(), S::Error> {
                    #(#writes)*
                    #(#oneofs)*
                    ::core::result::Result::Ok(())
                }

                fn read<'de, A: #json::serde::de::MapAccess<'de>>(
                    &mut self,
                    #index: usize,
                    #input: &mut #json::ObjectReader<A>,
                ) -> ::core::result::Result<(), A::Error> {
                    #read
                }
            }
            #json::object_traits!(#ty);
        }
    }

    /// Writes a field outside of oneofs.
    fn write(&self, field: &FieldDescriptor) -> TokenStream {
        if oneof_of(field.field_descriptor_proto()).is_some() {
            return quote!();
        }
        let name = ident(&snake(field.name()));
        let shown = field.json_name();
        let mapping = self.mapping(field);
        let put = match field.cardinality() {
            Cardinality::Required => quote!(put),
            Cardinality::Optional if is_option(field) => quote!(optional),
            _ => quote!(implicit),
        };
        quote!(out.#put::<#mapping, _>(#shown, &self.#name)?;)
    }

    fn write_oneof(&self, message: &MessageDescriptor, index: usize) -> TokenStream {
        let fields = message
            .fields()
            .filter(|field| oneof_of(field.field_descriptor_proto()) == Some(index));
        let arms: Vec<_> = fields
            .map(|field| {
                let (variant, shown, mapping) = (
                    self.variant(&field),
                    field.json_name().to_owned(),
                    self.mapping(&field),
                );
                let pattern = quote!(::core::option::Option::Some(#variant(value)));
                (pattern, quote!(out.put::<#mapping, _>(#shown, value)?))
            })
            .collect();
        let name = ident(&snake(message.descriptor_proto().oneof_decl[index].name()));
        match &arms[..] {
            // The hidden oneof of an `optional` field.
            [] => quote!(),
            [(pattern, put)] => quote!(if let #pattern = &self.#name { #put; }),
            arms => {
                let (patterns, puts) = (arms.iter().map(|arm| &arm.0), arms.iter().map(|arm| &arm.1));
                quote!(match &self.#name { #(#patterns => #puts,)* ::core::option::Option::None => {} })
            }
        }
    }

    /// Reads a field.
    fn read(&self, field: &FieldDescriptor) -> TokenStream {
        let mapping = self.mapping(field);
        if let Some(index) = oneof_of(field.field_descriptor_proto()) {
            let message = field.parent_message();
            let name = ident(&snake(message.descriptor_proto().oneof_decl[index].name()));
            let variant = self.variant(field);
            return quote!(input.member::<#mapping, _, _>(&mut self.#name, #variant));
        }
        let name = ident(&snake(field.name()));
        if field.cardinality() == Cardinality::Optional && is_option(field) {
            quote!(input.optional::<#mapping, _>(&mut self.#name))
        } else {
            quote!(input.put::<#mapping, _>(&mut self.#name))
        }
    }

    /// The variant of a oneof that holds a field.
    fn variant(&self, field: &FieldDescriptor) -> TokenStream {
        let message = field.parent_message();
        let proto = message.descriptor_proto();
        let oneof = oneof_of(field.field_descriptor_proto()).unwrap_or_default();
        let oneof = oneof_type(proto, proto.oneof_decl[oneof].name());
        let ty = format!("{}.{oneof}", message.full_name());
        let ty = self
            .types(message.package_name())
            .path(message.package_name(), &ty);
        let variant = ident(&camel(field.name()));
        quote!(#ty::#variant)
    }

    /// The mapping of a whole field.
    fn mapping(&self, field: &FieldDescriptor) -> TokenStream {
        let json = self.json();
        if field.is_map() {
            if let Kind::Message(entry) = field.kind() {
                let value = self.mapping_of_one(&entry.map_entry_value_field(), field);
                return quote!(#json::Map<#value>);
            }
        }
        let one = self.mapping_of_one(field, field);
        if field.cardinality() == Cardinality::Repeated {
            quote!(#json::List<#one>)
        } else {
            one
        }
    }

    /// The mapping of one value of `field`, as seen from the message of `outer`.
    fn mapping_of_one(&self, field: &FieldDescriptor, outer: &FieldDescriptor) -> TokenStream {
        let json = self.json();
        match field.kind() {
            Kind::Bytes => quote!(#json::Base64),
            Kind::Enum(proto) if proto.full_name() == NULL_VALUE => quote!(#json::Null),
            Kind::Enum(proto) => {
                let message = outer.parent_message();
                let ty = self.types(message.package_name()).enumeration(&proto);
                // `S` alone would mean a type parameter.
                let is_name = ty.clone().into_iter().count() == 1;
                if is_name {
                    quote!(#json::Enum<self::#ty>)
                } else {
                    quote!(#json::Enum<#ty>)
                }
            }
            Kind::Message(message) => match message.full_name().strip_prefix("google.protobuf.") {
                None => quote!(#json::Message),
                Some("Any") => quote!(#json::Any<_JsonTypes>),
                Some("Empty") => quote!(#json::Empty),
                Some("BytesValue") => quote!(#json::Base64),
                Some("Duration" | "FieldMask" | "ListValue" | "Struct" | "Timestamp" | "Value") => {
                    quote!(#json::Google)
                }
                // The other wrappers.
                Some(_) => quote!(#json::Scalar),
            },
            _ => quote!(#json::Scalar),
        }
    }

    /// The table of types that an `Any` may hold, as seen from `package`.
    fn any_types(&self, package: &str, json: &Json) -> TokenStream {
        let types = self.types(package);
        let path = self.json();
        // A map is sorted by its keys, as the runtime needs them.
        let rows = json.messages.iter().map(|(name, message)| {
            let ty = types.message(message);
            quote!(#path::AnyType::new::<#ty>(#name))
        });
        // No message has a name that begins with an underscore and a letter.
        quote! {
            struct _JsonTypes;

            impl #path::AnyTypes for _JsonTypes {
                const TYPES: &'static [#path::AnyType] = &[#(#rows),*];
            }
        }
    }
}

/// True if a field of `message` holds an `Any`.
fn holds_any(message: &MessageDescriptor) -> bool {
    message.fields().any(|field| match field.kind() {
        Kind::Message(entry) if field.is_map() => is_any(&entry.map_entry_value_field()),
        _ => is_any(&field),
    })
}

fn is_any(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.Any")
}
