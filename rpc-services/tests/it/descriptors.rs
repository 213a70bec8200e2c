//! The definitions of the services, which have to be those of gRPC to the letter.

use std::fmt::Write as _;

use prost_reflect::{Cardinality, DescriptorPool, EnumDescriptor, MessageDescriptor, ServiceDescriptor};
use rpc_runtime::server::Service;
use rpc_services::{Health, Reflection};

/// All that travels: each procedure, field and value, a line each.
fn shown(set: &[u8]) -> String {
    let pool = DescriptorPool::decode(set).expect("the set is whole");
    let mut text = String::new();
    for file in pool.files() {
        let _ = writeln!(text, "{}", file.name());
        file.services().for_each(|one| service(&one, &mut text));
        file.messages().for_each(|one| message(&one, &mut text));
        file.enums().for_each(|one| values(&one, &mut text));
    }
    text
}

fn service(service: &ServiceDescriptor, text: &mut String) {
    for method in service.methods() {
        let stream = |is: bool| if is { "stream " } else { "" };
        let (requests, replies) = (
            stream(method.is_client_streaming()),
            stream(method.is_server_streaming()),
        );
        let (input, output) = (method.input(), method.output());
        let _ = writeln!(
            text,
            "  {}/{}: {requests}{} -> {replies}{}",
            service.full_name(),
            method.name(),
            input.full_name(),
            output.full_name()
        );
    }
}

fn message(one: &MessageDescriptor, text: &mut String) {
    let _ = writeln!(text, "  {}", one.full_name());
    for field in one.fields() {
        let many = match field.cardinality() {
            Cardinality::Repeated => "repeated ",
            _ => "",
        };
        let oneof = field.containing_oneof();
        let oneof = oneof.map_or(String::new(), |oneof| format!(" in {}", oneof.name()));
        let _ = writeln!(
            text,
            "    {} = {}: {many}{:?}{oneof}",
            field.name(),
            field.number(),
            field.kind()
        );
    }
    one.child_messages().for_each(|inner| message(&inner, text));
    one.child_enums().for_each(|inner| values(&inner, text));
}

fn values(one: &EnumDescriptor, text: &mut String) {
    let values: Vec<String> = one
        .values()
        .map(|value| format!("{} = {}", value.name(), value.number()))
        .collect();
    let _ = writeln!(text, "  {}: {}", one.full_name(), values.join(", "));
}

#[test]
fn the_definitions_are_those_of_grpc() {
    let shown = [Health::new().descriptors(), Reflection::new().descriptors()].map(shown);
    let expected = include_str!("descriptors.txt");
    assert_eq!(shown.concat(), expected);
}

#[test]
fn the_procedures_have_the_paths_of_grpc() {
    let (health, reflection) = (Health::new(), Reflection::new());
    let procedures = health.procedures().iter().chain(reflection.procedures());
    let paths: Vec<&str> = procedures.map(|procedure| procedure.path()).collect();
    assert_eq!(
        paths,
        [
            "grpc.health.v1.Health/Check",
            "grpc.health.v1.Health/List",
            "grpc.health.v1.Health/Watch",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ]
    );
}
