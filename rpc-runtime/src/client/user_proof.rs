//! User proof: shows a server over loopback TCP that this process runs as its user.

use std::{io, sync::Arc};

use bytes::Bytes;

use super::{
    Client,
    channel::{HadConnection, WaitFor, connection::ClientConnection, pool::ChannelPool},
};
use crate::{Code, Error, Metadata, message::control::USER_PROOF, net::read_key};

impl Client {
    /// Makes a client whose calls prove that this process runs as the server's user: for services for
    /// [operators](crate::server::Service::is_for_operators), over loopback TCP.
    ///
    /// By a Unix socket and within a process no proof is needed, and elsewhere none is possible: then it is this client. The proof is for
    /// the present connection alone. When that ends, calls are denied with PERMISSION_DENIED: make another client.
    ///
    /// ```no_run
    /// # async fn example(server: &str) -> Result<(), rpc_runtime::Error> {
    /// use rpc_runtime::Client;
    ///
    /// let operator = Client::connect(server).await?.with_user_proof().await?;
    /// // InspectClient::from(operator).send_recv().limits(..)
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// PERMISSION_DENIED if this process cannot read the server's key; as [`Client::ping`] if there is no connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    pub async fn with_user_proof(&self) -> Result<Self, Error> {
        let deadline = self.call().deadline(self.timeout);
        let channel = self.channel();
        let on = channel
            .connected(WaitFor::FirstRound, HadConnection::No, deadline)
            .await?;
        let proof = user_proof(&on).map_err(|missing| {
            let text = format!("this client cannot prove that it runs as the server's user: {missing}");
            Error::local(Code::PermissionDenied, text).with_peer(Arc::clone(&on.peer))
        })?;
        if proof.is_empty() {
            return Ok(self.clone());
        }
        let mut metadata = self.metadata.as_deref().cloned().unwrap_or_default();
        metadata.insert(USER_PROOF, proof);
        let one = Self {
            channels: ChannelPool::one(Arc::clone(channel)),
            ..self.clone()
        };
        Ok(one.with_metadata(metadata))
    }
}

/// The proof that this process runs as the user of the server at the other end of `on`; empty if the server asks for none, or is elsewhere.
///
/// # Errors
///
/// The server's key cannot be read.
pub(super) fn user_proof(on: &ClientConnection) -> io::Result<Bytes> {
    let instance = on.instance().unwrap_or_default();
    // A peer elsewhere is never our user on this machine, whatever it asks for.
    match (instance[..].try_into(), on.challenge()[..].try_into()) {
        (Ok(instance), Ok(challenge)) if on.is_loopback => {
            let key = read_key(instance)?;
            Ok(Bytes::copy_from_slice(&key.proof(instance, challenge)))
        }
        _ => Ok(Bytes::new()),
    }
}

/// Reads the proof of a call.
pub(crate) fn proof_of(metadata: &Metadata) -> &[u8] {
    metadata.get(USER_PROOF).map_or(&[], |proof| proof)
}
