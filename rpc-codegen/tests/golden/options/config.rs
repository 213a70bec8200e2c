/// Sets the options of the golden case `options`; tests/codegen compiles and calls the same code.
fn options(config: &mut Config) -> &mut Config {
    config
        .extern_path(".acme.common.v1", "crate::common::acme::common::v1")
        .extern_path(".google.protobuf.Timestamp", "crate::common::Moment")
        .leave_out(".acme.meta")
        .message_attribute(".acme.store.Key", "#[derive(PartialOrd, Ord)]")
        .enum_attribute("Kind", "#[doc(alias = \"sort\")]")
        .client_attribute(".acme.store", "#[doc(alias = \"caller\")]")
        .server_attribute("Hooks", "#[doc(alias = \"callee\")]")
        .trait_attribute("Hooks", "#[doc(alias = \"callback\")]")
        .client_only_for("Reports")
        .server_only_for("Hooks")
        .btree_map("counts")
        .btree_map(".acme.store.Item.pictures")
        .bytes_type(".", BytesType::Vec)
        .bytes_type(".acme.store.Item.blob", BytesType::Bytes)
        .bytes_type("pictures", BytesType::Bytes)
        .default_handlers("Store")
        .default_handlers("Counter")
        .type_names(".", "type.googleapis.com")
        .type_names("Key", "acme.com")
}
