//! TerminateKey: the secret that a server shares with the processes of its user, and the proof that a caller knows it.
//!
//! TCP does not tell the user of a peer. So a server that listens on loopback writes a key into a file that only its own user
//! can read. A caller reads the file, and answers the challenge of its connection with a code that takes the key to compute.
//! The key itself is never sent: what lies between the two sees a code that no other connection accepts.

mod key_file;
mod key_name;
mod stale_keys;

use std::{fmt, io};

pub(crate) use self::key_file::{KeyFile, read_key};
use super::os::random;
use crate::base::hmac::{hmac, is_same};

/// A server's secret: 32 random bytes.
pub(crate) struct TerminateKey([u8; 32]);

/// What a server asks the peer of one connection to prove the key with. It need not be secret, only new.
pub(crate) type Challenge = [u8; 16];

impl TerminateKey {
    /// Draws a key from the OS.
    fn random() -> io::Result<Self> {
        let mut key = [0; 32];
        random(&mut key)?;
        Ok(Self(key))
    }

    /// Returns the proof that this key is known at the other end of the connection with `challenge`.
    pub(crate) fn proof(&self, instance: [u8; 16], challenge: Challenge) -> [u8; 32] {
        hmac(&self.0, &[LABEL, &instance, &challenge])
    }

    /// Returns true if `proof` is the one for that connection.
    pub(crate) fn accepts(&self, proof: &[u8], instance: [u8; 16], challenge: Challenge) -> bool {
        is_same(proof, &self.proof(instance, challenge))
    }
}

/// Does not show the secret.
impl fmt::Debug for TerminateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TerminateKey")
    }
}

/// What the proof says. It is no proof of anything else that a key may be used for.
const LABEL: &[u8] = b"rpc terminate v1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_for_one_key_one_server_and_one_connection() {
        let key = TerminateKey([1; 32]);
        let proof = key.proof([2; 16], [3; 16]);
        assert!(key.accepts(&proof, [2; 16], [3; 16]));
        assert!(!TerminateKey([9; 32]).accepts(&proof, [2; 16], [3; 16]));
        assert!(!key.accepts(&proof, [9; 16], [3; 16]));
        assert!(!key.accepts(&proof, [2; 16], [9; 16]));
        for wrong in [&[][..], &proof[..31], &[&proof[..], &[0]].concat(), &key.0] {
            assert!(!key.accepts(wrong, [2; 16], [3; 16]), "{} bytes", wrong.len());
        }
        for bit in 0..256 {
            let mut near = proof;
            near[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.accepts(&near, [2; 16], [3; 16]), "bit {bit}");
        }
    }

    /// The example of docs/reference/wire.md.
    #[test]
    fn the_proof_is_the_one_that_the_wire_page_computes() {
        let proof = TerminateKey([1; 32]).proof([2; 16], [3; 16]);
        let hex: String = proof.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "61e59f8a5914e09ecd68c27650ec7fdaf322cdeecc58531c345fe0ee544e8b63"
        );
        let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/wire.md"));
        assert!(page.contains(&hex), "the page has {hex}");
    }

    #[test]
    fn every_key_is_new_and_none_is_shown() {
        let (one, other) = (TerminateKey::random().unwrap(), TerminateKey::random().unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(format!("{one:?}"), "TerminateKey");
    }
}
