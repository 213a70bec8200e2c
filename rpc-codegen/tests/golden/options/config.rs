/// Sets the options of the golden case `options`; tests/codegen compiles and calls the same code.
fn options(config: &mut Config) -> &mut Config {
    config
        .extern_path(".acme.common.v1", "crate::common::acme::common::v1")
        .extern_path(".google.protobuf.Timestamp", "crate::common::Moment")
        .leave_out(".acme.meta")
        .default_handlers("Store")
        .default_handlers("Counter")
        .type_names(".", "type.googleapis.com")
        .type_names("Key", "acme.com")
}
