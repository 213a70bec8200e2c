//! Statuses of failed calls.

use rpc_runtime::{Code, Executed};

use crate::{
    Outcome, Site,
    check::{has_code, must_fail, same},
    interop::v1::{EchoStatus, OutputRequest, UnaryRequest},
    newer::interop::v1::{TestServiceClient as NewerClient, UnimplementedServiceClient},
};

/// The code and the text of a handler's failure reach the caller of a unary call and of a stream.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn status_code_and_message(site: &Site) -> Outcome {
    let client = site.client().await?;
    let status = EchoStatus {
        code: 2,
        message: "test status message".to_owned(),
    };
    unary_fails_with(site, &status).await?;

    let (mut sender, mut replies) = client.send_recv().full_duplex_call().await?;
    let request = OutputRequest {
        status: Some(status.clone()),
        ..OutputRequest::default()
    };
    sender.send(request).await?;
    sender.finish();
    let error = must_fail("a stream that was to fail", replies.message().await)?;
    has_code(&error, Code::Unknown)?;
    same("the text", error.message(), status.message.as_str())?;
    same(
        "whether it was executed",
        error.executed(),
        site.told(Executed::Yes),
    )
}

/// White space and characters beyond the basic plane survive in a status text.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn special_status_message(site: &Site) -> Outcome {
    let status = EchoStatus {
        code: 2,
        message: "\t\ntest with whitespace\r\nand Unicode BMP \u{263a} and non-BMP \u{1f608}\t\n".to_owned(),
    };
    unary_fails_with(site, &status).await
}

/// An unknown procedure is UNIMPLEMENTED and not executed, as far as the protocol tells it.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn unimplemented_method(site: &Site) -> Outcome {
    let client: NewerClient = site.connect().await?;
    let error = must_fail(
        "an unknown procedure",
        client.send_recv().unimplemented_call().await,
    )?;
    has_code(&error, Code::Unimplemented)?;
    same(
        "whether it was executed",
        error.executed(),
        site.told(Executed::No),
    )
}

/// An unknown service is UNIMPLEMENTED and not executed, as far as the protocol tells it.
///
/// # Errors
///
/// The first difference from the expected behaviour.
pub async fn unimplemented_service(site: &Site) -> Outcome {
    let client: UnimplementedServiceClient = site.connect().await?;
    let error = must_fail(
        "an unknown service",
        client.send_recv().unimplemented_call().await,
    )?;
    has_code(&error, Code::Unimplemented)?;
    same(
        "whether it was executed",
        error.executed(),
        site.told(Executed::No),
    )
}

async fn unary_fails_with(site: &Site, status: &EchoStatus) -> Outcome {
    let client = site.client().await?;
    let request = UnaryRequest {
        status: Some(status.clone()),
        ..UnaryRequest::default()
    };
    let error = must_fail(
        "a call that was to fail",
        client.send_recv().unary_call(request).await,
    )?;
    same("the code", error.code() as u32, status.code)?;
    same("the text", error.message(), status.message.as_str())?;
    same(
        "whether it was executed",
        error.executed(),
        site.told(Executed::Yes),
    )
}
