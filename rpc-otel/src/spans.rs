//! Spans: sends finished spans to a collector.

use std::sync::Arc;

use opentelemetry_proto::{
    tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    transform::{
        common::tonic::ResourceAttributesWithSchema, trace::tonic::group_spans_by_resource_and_scope,
    },
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};

use crate::collector::{Collector, EXPORT_SPANS};

/// Sends the spans that the SDK's batches have.
#[derive(Debug)]
pub(crate) struct Spans {
    collector: Arc<Collector>,
    resource: ResourceAttributesWithSchema,
}

impl Spans {
    pub(crate) fn new(collector: Arc<Collector>) -> Self {
        Self {
            collector,
            resource: ResourceAttributesWithSchema::default(),
        }
    }
}

impl SpanExporter for Spans {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let client = self.collector.client();
        let sending = self.collector.runtime().map(|runtime| {
            runtime.spawn(async move {
                client
                    .send::<_, ExportTraceServiceResponse>(&EXPORT_SPANS, request)
                    .await
            })
        });
        async move {
            let Some(sending) = sending else {
                return Err(OTelSdkError::AlreadyShutdown);
            };
            let sent = sending
                .await
                .map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
            let response = sent.map_err(|error| OTelSdkError::InternalFailure(error.to_string()))?;
            match response
                .partial_success
                .filter(|partial| partial.rejected_spans > 0)
            {
                None => Ok(()),
                Some(partial) => Err(OTelSdkError::InternalFailure(format!(
                    "the collector rejected {} spans: {}",
                    partial.rejected_spans, partial.error_message
                ))),
            }
        }
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}
