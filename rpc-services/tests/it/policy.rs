//! Who may ask for health and reflection.

use bytes::Bytes;
use rpc_runtime::{Code, auth::Roles};
use rpc_services::{
    Health, Reflection,
    grpc::{
        health::v1::{HealthCheckRequest, HealthClient},
        reflection::{v1, v1alpha},
    },
};
use test_support::within;

use crate::{
    caller::{Caller, prefixed},
    served,
};

#[tokio::test(crate = "test_support::gate")]
async fn a_policy_lets_all_ask_for_health_and_nobody_for_reflection() {
    let server = served(|server| {
        server
            .service(Health::new())
            .service(Reflection::new())
            .policy(Roles::new())
            .allow("grpc.health.v1.Health", ["anyone"])
            .allow("grpc.reflection.v1.ServerReflection", ["admin"])
    })
    .await;
    let client = within(HealthClient::connect(&server.address)).await.unwrap();
    within(client.send_recv().check("")).await.unwrap();
    let grpc = Caller::connect(&server.address).await;
    let request = prefixed(&HealthCheckRequest::default());
    let answer = grpc.call("/grpc.health.v1.Health/Check", &[], request).await;
    assert_eq!(answer.code(), "0");

    let channel = client.client().clone();
    let reflection = v1::ServerReflectionClient::new(channel.clone());
    let (_sender, mut answers) = within(reflection.send_recv().server_reflection_info())
        .await
        .unwrap();
    let error = within(answers.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    // One rule is for both versions.
    let reflection = v1alpha::ServerReflectionClient::new(channel);
    let (_sender, mut answers) = within(reflection.send_recv().server_reflection_info())
        .await
        .unwrap();
    let error = within(answers.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated);
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let answer = within(grpc.call(&path, &[], Bytes::new())).await;
        assert_eq!(answer.code(), "16", "{version}");
    }
    drop((grpc, reflection, client));
    server.stop().await;
}
