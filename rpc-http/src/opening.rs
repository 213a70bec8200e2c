//! Opening: finds out which HTTP a peer speaks, and serves it.

use std::fmt;

use rpc_runtime::server::{GuestConnection, GuestServer, PeerCut};

use crate::{
    connection,
    http_guest::Settings,
    preface::{self, Spoken},
};

/// Serves a connection until it ends.
pub(crate) async fn serve(settings: Settings, connection: GuestConnection) {
    let (mut stream, server, handshake) = connection.into_parts();
    let spoken = tokio::select! {
        biased;
        spoken = preface::read(&mut stream) => spoken,
        () = server.draining() => return note_drain(&server),
    };
    // A future has room for its longest part. So the parts that few connections need are boxed.
    match spoken {
        Ok(Spoken::Http2) => connection::serve(settings, stream, server, handshake).await,
        #[cfg(feature = "routes")]
        Ok(Spoken::Http1(begun)) if settings.routes.is_some() => {
            Box::pin(crate::routes::http1::serve(
                settings, stream, begun, server, handshake,
            ))
            .await;
        }
        Ok(Spoken::Http1(_)) => {
            server.note_cut(
                PeerCut::HandshakeRejected,
                "peer speaks HTTP/1, and gRPC needs HTTP/2",
            );
            Box::pin(preface::answer_http1(&mut stream)).await;
        }
        Ok(Spoken::Unknown) => {
            server.note_cut(PeerCut::HandshakeRejected, "peer does not begin as HTTP/2 does");
        }
        Err(error) => note_loss(&server, &error),
    }
}

/// Logs that a peer was lost before it had shaken hands.
pub(crate) fn note_loss(server: &GuestServer, error: &dyn fmt::Display) {
    let peer = server.peer().address();
    tracing::debug!(peer, %error, "peer lost before the HTTP/2 handshake");
}

/// Logs that a drain ended the handshake of a peer.
pub(crate) fn note_drain(server: &GuestServer) {
    let peer = server.peer().address();
    tracing::debug!(peer, "the server drains before the HTTP/2 handshake");
}
