//! ServerKey: the key by which a loopback peer proves to a server that it runs as the server's user.

use std::{
    future::pending,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    client::inherited::InstanceId,
    net::{Challenge, KeyFile},
};

/// The key of a server, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct ServerKey(Mutex<KeyState>);

#[derive(Debug, Default)]
enum KeyState {
    /// No peer can use one, or the server has ended.
    #[default]
    None,
    /// Removed with its file when this is dropped.
    Written(KeyFile),
    /// It cannot be written. The log says why.
    Missing,
}

impl ServerKey {
    /// Writes the key of the server `instance`. If it cannot be written, that is logged, and no proof is accepted.
    pub(crate) fn write(&self, instance: InstanceId) {
        *self.state() = match KeyFile::create(instance) {
            Ok(file) => KeyState::Written(file),
            Err(error) => {
                tracing::warn!(
                    %error,
                    "the key of this server cannot be written, so no peer over loopback TCP can terminate it"
                );
                KeyState::Missing
            }
        };
    }

    /// Removes the key: no proof is accepted from now on.
    pub(crate) fn remove(&self) {
        *self.state() = KeyState::None;
    }

    /// Returns true if peers can prove that they know the key.
    pub(crate) fn is_written(&self) -> bool {
        matches!(*self.state(), KeyState::Written(_))
    }

    /// Checks the proof of a terminate, or returns why it is none. The text goes to the peer, who may be anybody behind a tunnel:
    /// it names no file of this machine.
    pub(super) fn check(
        &self,
        proof: &[u8],
        instance: InstanceId,
        challenge: Challenge,
    ) -> Result<(), &'static str> {
        match &*self.state() {
            KeyState::Written(file) if file.key().accepts(proof, instance, challenge) => Ok(()),
            KeyState::Written(_) if proof.is_empty() => {
                Err("over loopback TCP it has to prove that it runs as the \
                                                            server's user, and this request has no proof")
            }
            KeyState::Written(_) => {
                Err("its proof was not made with the key of this server for this connection")
            }
            KeyState::Missing => Err(
                "over loopback TCP it has to prove that it runs as the server's user, and the server \
                                      could not write its key: the server's log says why",
            ),
            KeyState::None => Err("the server has ended"),
        }
    }

    /// Shows again and again that the server lives, so that nothing removes its key as stale. It never ends.
    pub(crate) async fn keep_fresh(&self) {
        if !self.is_written() {
            return pending().await;
        }
        loop {
            self.refresh();
            sleep(REFRESH).await;
        }
    }

    fn refresh(&self) {
        if let KeyState::Written(file) = &mut *self.state() {
            if let Err(error) = file.refresh() {
                tracing::warn!(%error, "the key of this server cannot be refreshed: peers may not find it");
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, KeyState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often the key is refreshed. It is stale after an hour, and cleaners of temporary folders wait for longer.
const REFRESH: Duration = Duration::from_secs(10 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_its_key_accepts_no_proof_and_names_no_file() {
        let key = ServerKey::default();
        *key.state() = KeyState::Missing;
        let why = key.check(&[], [0; 16], [0; 16]).unwrap_err();
        assert!(
            why.ends_with("could not write its key: the server's log says why"),
            "{why}"
        );
        assert!(!key.is_written());
    }

    #[test]
    fn a_key_that_was_removed_is_not_written_again() {
        let id = fastrand::u128(..).to_be_bytes();
        let key = ServerKey::default();
        key.write(id);
        assert!(key.is_written());
        crate::net::read_key(id).unwrap();
        key.remove();
        key.refresh();
        assert!(crate::net::read_key(id).is_err());
        assert!(key.check(&[], id, [0; 16]).is_err());
    }
}
