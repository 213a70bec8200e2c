//! Statuses of failed calls.

use interop::{
    Outcome,
    check::{has_code, must_fail, same},
};
use rpc_runtime::{Code, Executed};

use crate::interop::{
    Site,
    grpc::testing::{
        EchoStatus, Empty, SimpleRequest, StreamingOutputCallRequest, UnimplementedServiceClient,
    },
};

/// The code and the text of a handler's failure reach the caller of a unary call and of a stream.
pub(super) async fn status_code_and_message(site: &Site) -> Outcome {
    let status = EchoStatus {
        code: 2,
        message: "test status message".to_owned(),
    };
    unary_fails_with(site, &status).await?;

    let client = site.client().await?;
    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    let request = StreamingOutputCallRequest {
        response_status: Some(status.clone()),
        ..Default::default()
    };
    sender.send(request).await?;
    sender.finish();
    let error = must_fail("a stream that was to fail", replies.message().await)?;
    has_code(&error, Code::Unknown)?;
    same("the text", error.message(), status.message.as_str())
}

/// White space and characters beyond the basic plane survive in a status text.
pub(super) async fn special_status_message(site: &Site) -> Outcome {
    let status = EchoStatus {
        code: 2,
        message: "\t\ntest with whitespace\r\nand Unicode BMP \u{263a} and non-BMP \u{1f608}\t\n".to_owned(),
    };
    unary_fails_with(site, &status).await
}

/// A procedure that the server lacks is UNIMPLEMENTED.
pub(super) async fn unimplemented_method(site: &Site) -> Outcome {
    let client = site.client().await?;
    let call = client.send_recv().unimplemented_call(Empty {});
    let error = must_fail("a procedure that is not there", call.await)?;
    has_code(&error, Code::Unimplemented)
}

/// A service that the server lacks is UNIMPLEMENTED.
pub(super) async fn unimplemented_service(site: &Site) -> Outcome {
    let client: UnimplementedServiceClient = site.connect().await?;
    let call = client.send_recv().unimplemented_call(Empty {});
    let error = must_fail("a service that is not there", call.await)?;
    has_code(&error, Code::Unimplemented)
}

async fn unary_fails_with(site: &Site, status: &EchoStatus) -> Outcome {
    let client = site.client().await?;
    let request = SimpleRequest {
        response_status: Some(status.clone()),
        ..Default::default()
    };
    let call = client.send_recv().unary_call(request);
    let error = must_fail("a call that was to fail", call.await)?;
    same("the code", error.code() as i32, status.code)?;
    same("the text", error.message(), status.message.as_str())?;
    // A library may have sent UNKNOWN, too.
    same("whether it was executed", error.executed(), Executed::Maybe)
}
