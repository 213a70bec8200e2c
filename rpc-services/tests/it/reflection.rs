//! Reflection: what callers find, what they do not, and what is left out.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};
use demo_api::demo::kv::v1::{Watcher, WatcherServer};
use prost_reflect::{DescriptorPool, prost::Message};
use rpc_runtime::{
    Code, Context, Result, Sender, Server, Streaming,
    prost_types::{FileDescriptorProto, FileDescriptorSet},
};
use rpc_services::{
    Health, Reflection,
    grpc::reflection::{
        v1::{
            ExtensionRequest, ServerReflectionClient, ServerReflectionRequest, ServerReflectionResponse,
            server_reflection_request::MessageRequest as Asks,
            server_reflection_response::MessageResponse as Answers,
        },
        v1alpha,
    },
};
use test_support::{Running, lab::Lab, within};

use crate::{
    caller::{Answer, Caller, prefixed},
    served,
};

/// A stream of requests and the answers to them, over the native protocol.
struct Asking(
    Sender<ServerReflectionRequest>,
    Streaming<ServerReflectionResponse>,
);

impl Asking {
    async fn of(server: &Running) -> Self {
        let client = within(ServerReflectionClient::connect(&server.address))
            .await
            .unwrap();
        let (sender, answers) = within(client.send_recv().server_reflection_info()).await.unwrap();
        Self(sender, answers)
    }

    /// Asks, and returns the answer.
    async fn ask(&mut self, asks: impl Into<Option<Asks>>) -> Answers {
        let request = ServerReflectionRequest {
            host: "here".to_owned(),
            message_request: asks.into(),
        };
        within(self.0.send(request.clone())).await.unwrap();
        let response = within(self.1.message()).await.unwrap().unwrap();
        assert_eq!(response.valid_host, "here");
        assert_eq!(response.original_request, Some(request));
        response.message_response.unwrap()
    }

    /// Asks for a file, and returns the encoded descriptors of the answer.
    async fn files(&mut self, asks: Asks) -> Vec<Bytes> {
        match self.ask(asks).await {
            Answers::FileDescriptorResponse(files) => files.file_descriptor_proto,
            answer => panic!("{answer:?}"),
        }
    }

    /// Asks, and returns code and text of the error.
    async fn error(&mut self, asks: impl Into<Option<Asks>>) -> (Code, String) {
        match self.ask(asks).await {
            Answers::ErrorResponse(error) => {
                (Code::from_number(error.error_code as u32), error.error_message)
            }
            answer => panic!("{answer:?}"),
        }
    }

    /// The names of all services.
    async fn services(&mut self) -> Vec<String> {
        match self.ask(Asks::ListServices(String::new())).await {
            Answers::ListServicesResponse(list) => list.service.into_iter().map(|one| one.name).collect(),
            answer => panic!("{answer:?}"),
        }
    }
}

fn named(name: &str) -> Asks {
    Asks::FileByFilename(name.to_owned())
}

fn symbol(name: &str) -> Asks {
    Asks::FileContainingSymbol(name.to_owned())
}

/// The names of files, sorted.
fn names(files: &[Bytes]) -> BTreeSet<String> {
    let decoded = files
        .iter()
        .map(|file| FileDescriptorProto::decode(&file[..]).unwrap());
    decoded.map(|file| file.name().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const KV_AND_IMPORTS: [&str; 4] = [
    "google/protobuf/descriptor.proto",
    "google/protobuf/empty.proto",
    "kv.proto",
    "rpc/options.proto",
];

#[tokio::test(crate = "test_support::gate")]
async fn services_are_listed_over_both_versions_and_both_protocols() {
    let lab = Lab::default();
    let server = served(|server| server.service(Reflection::new()).service(lab.clone())).await;
    let expected = [
        "demo.kv.v1.Kv",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        // It has no descriptors.
        "lab.v1.Lab",
    ];
    assert_eq!(Asking::of(&server).await.services().await, expected);
    let old = within(v1alpha::ServerReflectionClient::connect(&server.address))
        .await
        .unwrap();
    let (sender, answers) = within(old.send_recv().server_reflection_info()).await.unwrap();
    let mut old = Asking(sender, answers);
    assert_eq!(old.services().await, expected);
    let request = ServerReflectionRequest {
        message_request: Some(Asks::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let grpc = Caller::connect(&server.address).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let (response, mut stream) = grpc.open(&path, &[]).await;
        // Two requests, two answers.
        let mut requests = BytesMut::from(&prefixed(&request)[..]);
        requests.extend_from_slice(&prefixed(&request));
        stream.send_data(requests.freeze(), true).unwrap();
        let answer = within(Answer::read(response)).await;
        assert_eq!(answer.code(), "0");
        let responses = answer.messages::<ServerReflectionResponse>();
        assert_eq!(responses.len(), 2);
        for response in responses {
            let Some(Answers::ListServicesResponse(list)) = response.message_response else {
                panic!("{response:?}")
            };
            let names: Vec<&str> = list.service.iter().map(|one| &*one.name).collect();
            assert_eq!(names, expected);
        }
    }
    drop((grpc, old));
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_file_comes_with_its_imports_and_they_come_once_on_a_stream() {
    let server = served(|server| server.service(Reflection::new())).await;
    let mut asking = Asking::of(&server).await;
    let files = asking.files(symbol("demo.kv.v1.Kv")).await;
    let first = FileDescriptorProto::decode(&files[0][..]).unwrap();
    assert_eq!(first.name(), "kv.proto", "the file itself comes first");
    assert_eq!(names(&files), set(&KV_AND_IMPORTS));
    // They fit together, as a caller needs them.
    let mut pool = DescriptorPool::new();
    let file = files
        .iter()
        .map(|file| FileDescriptorProto::decode(&file[..]).unwrap())
        .collect();
    pool.add_file_descriptor_set(FileDescriptorSet { file }).unwrap();
    assert!(pool.get_message_by_name("demo.kv.v1.FetchRequest").is_some());
    // The file that is asked for comes again; those that it imports do not.
    let again = asking.files(named("kv.proto")).await;
    assert_eq!(names(&again), set(&["kv.proto"]));
    let import = asking.files(named("rpc/options.proto")).await;
    assert_eq!(names(&import), set(&["rpc/options.proto"]));
    // Another stream has seen nothing.
    let files = Asking::of(&server).await.files(named("rpc/options.proto")).await;
    assert_eq!(
        names(&files),
        set(&["google/protobuf/descriptor.proto", "rpc/options.proto"])
    );
    drop(asking);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn names_of_all_kinds_are_found() {
    let server = served(|server| server.service(Reflection::new()).service(Health::new())).await;
    for (name, file) in [
        ("demo.kv.v1.Kv", "kv.proto"),
        ("demo.kv.v1.Kv.rpc_fetch", "kv.proto"),
        ("demo.kv.v1.FetchRequest", "kv.proto"),
        ("demo.kv.v1.FetchRequest.key", "kv.proto"),
        ("rpc.procedure", "rpc/options.proto"),
        ("rpc.ProcedureOptions.Priority", "rpc/options.proto"),
        ("rpc.ProcedureOptions.BULK", "rpc/options.proto"),
        ("google.protobuf.Empty", "google/protobuf/empty.proto"),
        (
            "google.protobuf.FieldDescriptorProto.Type",
            "google/protobuf/descriptor.proto",
        ),
        (
            "grpc.health.v1.HealthCheckResponse.ServingStatus",
            "grpc/health/v1/health.proto",
        ),
        (
            "grpc.health.v1.HealthCheckResponse.NOT_SERVING",
            "grpc/health/v1/health.proto",
        ),
        (
            "grpc.reflection.v1.ServerReflectionRequest.message_request",
            "grpc/reflection/v1/reflection.proto",
        ),
        (
            "grpc.reflection.v1alpha.ErrorResponse",
            "grpc/reflection/v1alpha/reflection.proto",
        ),
    ] {
        let files = Asking::of(&server).await.files(symbol(name)).await;
        let first = FileDescriptorProto::decode(&files[0][..]).unwrap();
        assert_eq!(first.name(), file, "{name}");
    }
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn extensions_are_found_by_what_they_extend() {
    let server = served(|server| server.service(Reflection::new())).await;
    let mut asking = Asking::of(&server).await;
    let extension = |containing_type: &str, extension_number| {
        Asks::FileContainingExtension(ExtensionRequest {
            containing_type: containing_type.to_owned(),
            extension_number,
        })
    };
    let files = asking
        .files(extension("google.protobuf.MethodOptions", 72390))
        .await;
    assert_eq!(
        names(&files),
        set(&["google/protobuf/descriptor.proto", "rpc/options.proto"])
    );
    assert_eq!(
        asking
            .error(extension("google.protobuf.MethodOptions", 72391))
            .await,
        (
            Code::NotFound,
            "extension not found: 72391 of google.protobuf.MethodOptions".to_owned()
        )
    );
    for (message, numbers) in [
        ("google.protobuf.ServiceOptions", &[72390][..]),
        ("demo.kv.v1.FetchRequest", &[]),
    ] {
        let answer = asking
            .ask(Asks::AllExtensionNumbersOfType(message.to_owned()))
            .await;
        let Answers::AllExtensionNumbersResponse(found) = answer else {
            panic!("{answer:?}")
        };
        assert_eq!(
            (&*found.base_type_name, &*found.extension_number),
            (message, numbers)
        );
    }
    let unknown = Asks::AllExtensionNumbersOfType("demo.kv.v1.None".to_owned());
    assert_eq!(
        asking.error(unknown).await,
        (Code::NotFound, "message not found: demo.kv.v1.None".to_owned())
    );
    drop(asking);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn what_is_not_there_is_an_error_and_the_stream_goes_on() {
    let server = served(|server| server.service(Reflection::new())).await;
    let mut asking = Asking::of(&server).await;
    assert_eq!(
        asking.error(named("none.proto")).await,
        (Code::NotFound, "file not found: none.proto".to_owned())
    );
    // It is in the file of the demo, but no part of it, and `hello.proto` is of a service that is not served.
    for name in ["demo.kv.v1.None", "kv.proto", "", "demo.kv.v1", "hello.v1.Hello"] {
        assert_eq!(
            asking.error(symbol(name)).await,
            (Code::NotFound, format!("symbol not found: {name}"))
        );
    }
    assert_eq!(
        asking.error(None).await,
        (
            Code::InvalidArgument,
            "the request asks for nothing that this server knows".to_owned()
        )
    );
    assert_eq!(asking.files(named("kv.proto")).await.len(), 4);
    // The end of the requests ends the answers.
    asking.0.finish();
    assert!(within(asking.1.message()).await.unwrap().is_none());
    server.stop().await;
}

/// Does nothing of what a watcher does.
struct Deaf;

impl Watcher for Deaf {
    async fn rpc_changed(&self, _: &Context, _: String, _: Bytes) -> Result<()> {
        Ok(())
    }

    async fn rpc_missed(&self, _: &Context, _: u64) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_that_is_left_out_is_not_shown() {
    let server = served(|server| {
        let reflection = Reflection::new()
            .leave_out("grpc.health.v1.Health")
            .leave_out("demo.kv.v1.Watcher");
        server
            .service(WatcherServer::new(Deaf))
            .service(Health::new())
            .service(reflection)
    })
    .await;
    let mut asking = Asking::of(&server).await;
    assert_eq!(
        asking.services().await,
        [
            "demo.kv.v1.Kv",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
    );
    // Nothing needs this file.
    assert_eq!(
        asking.error(named("grpc/health/v1/health.proto")).await.0,
        Code::NotFound
    );
    for name in [
        "grpc.health.v1.Health",
        "demo.kv.v1.Watcher",
        "demo.kv.v1.Watcher.rpc_missed",
    ] {
        assert_eq!(asking.error(symbol(name)).await.0, Code::NotFound, "{name}");
    }
    // This one is shown without the service, and with all that it has besides.
    let files = asking.files(named("kv.proto")).await;
    let mut pool = DescriptorPool::new();
    for file in [
        "google/protobuf/descriptor.proto",
        "google/protobuf/empty.proto",
        "rpc/options.proto",
        "kv.proto",
    ] {
        let is_it = |bytes: &&Bytes| FileDescriptorProto::decode(&bytes[..]).unwrap().name() == file;
        let bytes = files.iter().find(is_it).unwrap();
        pool.decode_file_descriptor_proto(&bytes[..]).unwrap();
    }
    assert!(pool.get_service_by_name("demo.kv.v1.Watcher").is_none());
    assert!(pool.get_message_by_name("demo.kv.v1.MissedRequest").is_some());
    let kv = pool.get_service_by_name("demo.kv.v1.Kv").unwrap();
    let import = kv.methods().find(|method| method.name() == "rpc_import").unwrap();
    let options = import.options();
    let options = options.get_extension(&pool.get_extension_by_name("rpc.procedure").unwrap());
    let priority = options
        .as_message()
        .unwrap()
        .get_field_by_name("priority")
        .unwrap();
    assert_eq!(priority.as_enum_number(), Some(2), "the custom options are kept");
    drop(asking);
    server.stop().await;
}

#[tokio::test(crate = "test_support::gate")]
async fn a_service_to_leave_out_has_to_be_there() {
    let server = Server::builder()
        .service(Reflection::new().leave_out("demo.kv.v1.Kv"))
        .listener("mem:reflection-left-out");
    let error = server.bind().await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::FailedPrecondition,
            "service grpc.reflection.v1.ServerReflection: reflection leaves out demo.kv.v1.Kv, which this server does not have"
        )
    );
}

#[tokio::test(crate = "test_support::gate")]
async fn a_drain_ends_a_stream_of_requests() {
    let server = served(|server| server.service(Reflection::new())).await;
    let mut asking = Asking::of(&server).await;
    asking.services().await;
    server.handle.drain();
    let error = within(asking.1.message()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    drop(asking);
    assert!(server.report().await.is_clean());
}
