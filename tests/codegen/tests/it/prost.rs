//! Messages that prost-build alone would write wrong.

use codegen_tests::{
    acme::{
        descriptors::{Described, Descriptors, DescriptorsClient, DescriptorsServer, Each, each::One},
        prost::{Accessors, Defaults, Inner, Mode, Speed, Wrappers},
    },
    google::protobuf::{
        FeatureSet, FeatureSetDefaults, feature_set::JsonFormat, field_options::EditionDefault,
    },
};
use rpc_runtime::{
    Context, Result,
    prost_types::{DescriptorProto, FieldOptions},
};

#[test]
fn a_default_by_a_second_name_of_its_number_is_that_number() {
    let defaults = Defaults::default();
    assert_eq!((defaults.speed(), defaults.last()), (Speed::Slow, Speed::Fast));
    assert_eq!(defaults.self_(), Speed::Self_);
}

#[test]
fn every_default_has_its_value() {
    let defaults = Defaults::default();
    assert_eq!(
        (defaults.ratio().to_string(), defaults.small()),
        ("3.14".to_owned(), -1.5e-10)
    );
    assert!(defaults.nothing().is_nan());
    assert_eq!((defaults.least(), defaults.whole()), (f32::NEG_INFINITY, 5.0));
    assert_eq!((defaults.lowest(), defaults.highest()), (i64::MIN, u64::MAX));
    assert_eq!(defaults.text(), "a\"b\\c\n{}é\u{202e}'");
    assert_eq!(defaults.data(), b"\0\xff\"\\");
    assert!(defaults.on());
}

#[test]
fn only_fields_whose_accessors_clash_lose_them() {
    let mut message = Accessors {
        mode: 1,
        ..Accessors::default()
    };
    message.set_set_mode(Mode::On);
    message.push_modes = 1;
    // A number, and the default of a field that is not set.
    assert_eq!(
        (message.mode, message.push_modes(), message.maybe()),
        (1, Mode::On, 0)
    );
    assert_eq!((message.set_maybe(), message.get_by_name()), (Mode::Off, ""));
    message.by_number.insert("a".into(), 1);
    message.r#type.insert("b".into(), 1);
    message.set_fn(Mode::On);
    assert_eq!((message.insert_by_number(), message.r#fn()), (&b""[..], Mode::On));
}

#[test]
fn an_enum_may_have_a_name_of_prost_s_own() {
    let mut wrappers = Wrappers::default();
    wrappers.push_inners(Inner::None);
    assert!(format!("{wrappers:?}").contains("inners: [None]"));
}

/// Returns what it gets, or one of each.
struct Describer;

impl Descriptors for Describer {
    async fn rpc_features(&self, _: &Context, features: FeatureSet) -> Result<FeatureSetDefaults> {
        assert_eq!(features.json_format(), JsonFormat::Allow);
        Ok(FeatureSetDefaults::default())
    }
    async fn rpc_edition_default(&self, _: &Context, default: EditionDefault) -> Result<FieldOptions> {
        assert_eq!(default.value(), "a");
        Ok(FieldOptions::default())
    }
    async fn rpc_descriptor(&self, _: &Context, request: Described) -> Result<Described> {
        Ok(request)
    }
    async fn rpc_each(&self, _: &Context, request: Each) -> Result<Each> {
        Ok(request)
    }
}

#[tokio::test]
async fn google_s_descriptors_come_back_with_the_types_that_prost_lacks() {
    let client = DescriptorsClient::in_process(DescriptorsServer::new(Describer));
    let features = FeatureSet {
        json_format: Some(JsonFormat::Allow.into()),
        ..FeatureSet::default()
    };
    client
        .send_recv()
        .features(features)
        .await
        .expect("it is answered");
    let default = EditionDefault {
        value: Some("a".into()),
        ..EditionDefault::default()
    };
    client
        .send_recv()
        .edition_default(default)
        .await
        .expect("it is answered");
    let descriptor = DescriptorProto {
        name: Some("Order".into()),
        nested_type: vec![DescriptorProto::default()],
        ..DescriptorProto::default()
    };
    let request = Described {
        descriptor: Some(descriptor.clone()),
    };
    let reply = client
        .send_recv()
        .descriptor(descriptor)
        .await
        .expect("it is answered");
    assert_eq!(reply, request);
    let request = Each {
        feature_set: vec![features],
        one: Some(One::Edition(1)),
        option_target_type: vec![2],
        ..Each::default()
    };
    let reply = client
        .send_recv()
        .each(request.clone())
        .await
        .expect("it is answered");
    assert_eq!(reply, request);
    client.close().await.expect("it ends well");
}
