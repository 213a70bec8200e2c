//! Requests for the routes over HTTP/2.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::Request;
use hyper::body::{Body, Frame};

use super::Routes;
use crate::{
    connection::Shared, held_bytes::HeldBytes, reset_budget::CallEnd, watched_stream::Traffic,
    whole_answer::send_whole,
};

impl Routes {
    /// Answers a request of HTTP/2, unless its peer gives it up.
    pub(crate) async fn answer_http2(
        &self,
        shared: &Shared,
        request: Request<RecvStream>,
        mut respond: SendResponse<HeldBytes>,
    ) -> CallEnd {
        let request = request.map(|stream| Http2Body {
            stream,
            traffic: Arc::clone(&shared.traffic),
        });
        let answer = tokio::select! {
            biased;
            answer = self.answer(shared.route_limits(), &shared.server, request) => answer,
            _ = poll_fn(|cx| respond.poll_reset(cx)) => return CallEnd::GivenUp,
        };
        send_whole(shared, respond, answer).await;
        CallEnd::Answered
    }
}

/// The body of a request of HTTP/2.
struct Http2Body {
    stream: RecvStream,
    traffic: Arc<Traffic>,
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(data) = ready!(self.stream.poll_data(cx)) else {
            return Poll::Ready(None);
        };
        let data = data?;
        self.traffic.add_useful(data.len());
        // It fails if the stream has ended, and then nothing more comes.
        let _ = self.stream.flow_control().release_capacity(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}
