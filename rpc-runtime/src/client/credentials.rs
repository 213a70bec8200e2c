//! Credentials: what a client says about itself, and whether its addresses keep that secret.

use std::sync::Arc;

use super::{
    channel::addresses::{AddressEntry, ConnectTarget},
    errors,
    token::{Bearer, DynTokenSource, Tokens},
};
use crate::{
    Code, Error, Metadata,
    api::secret::Secret,
    net::{Address, UnixServers},
};

/// What a client says about itself: once for each connection, or beside each call.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// The entries of each connection.
    pub(super) metadata: Metadata,
    pub(super) token: TokenChoice,
    /// True if a token may go where others can read it.
    pub(super) allows_plain_tcp: bool,
    /// The users that may serve at a Unix socket. None: anybody, or our own user and root if a token is sent.
    pub(super) unix_servers: Vec<u32>,
}

/// Which token a client sends.
#[derive(Clone, Default)]
pub(super) enum TokenChoice {
    #[default]
    None,
    /// This one, once for each connection.
    Fixed(Secret),
    /// Those of a source, with each call.
    Source(Arc<dyn DynTokenSource>),
}

impl Credentials {
    /// Makes ready what the client says at `places`; `calls_have_token` is true if calls carry a token anyway.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if the entries or the token cannot be sent; FAILED_PRECONDITION if a token would go over plain TCP.
    pub(super) fn checked(
        &self,
        places: &[AddressEntry],
        calls_have_token: bool,
    ) -> Result<CheckedCredentials, Error> {
        let mut metadata = self.metadata.clone();
        let mut tokens = None;
        match &self.token {
            TokenChoice::None => {}
            TokenChoice::Fixed(secret) => Bearer::new(secret)
                .map_err(|text| Error::local(Code::InvalidArgument, text))?
                .put_into(&mut metadata),
            TokenChoice::Source(source) => tokens = Some(Arc::new(Tokens::new(Arc::clone(source)))),
        }
        metadata.check_keys().map_err(errors::bad_metadata_key)?;
        if !metadata.fits() {
            return Err(errors::too_much_metadata());
        }
        if self.have_token(calls_have_token) && !self.allows_plain_tcp {
            places.iter().try_for_each(keeps_secret)?;
        }
        Ok(CheckedCredentials { metadata, tokens })
    }

    /// Returns who may serve at a Unix socket; none for anybody.
    pub(super) fn unix_servers(&self, calls_have_token: bool) -> Option<UnixServers> {
        match &self.unix_servers[..] {
            [] => self.have_token(calls_have_token).then(UnixServers::of_own_user),
            uids => Some(UnixServers::of_users(uids)),
        }
    }

    fn have_token(&self, calls_have_token: bool) -> bool {
        let has_choice = !matches!(self.token, TokenChoice::None);
        has_choice || self.metadata.contains_key(Metadata::AUTHORIZATION) || calls_have_token
    }
}

/// What a client says about itself, ready to be sent.
#[derive(Default)]
pub(super) struct CheckedCredentials {
    /// The entries of each connection.
    pub(super) metadata: Metadata,
    /// The tokens for each call.
    pub(super) tokens: Option<Arc<Tokens>>,
}

/// Checks that others cannot read what goes to an address.
fn keeps_secret(place: &AddressEntry) -> Result<(), Error> {
    let how = match place.target.way() {
        ConnectTarget::Address(Address::Tls(_), security) if !security.is_verified() => {
            "over TLS that takes any certificate"
        }
        ConnectTarget::Address(Address::Tls(_) | Address::Local(_) | Address::Memory(_), _)
        | ConnectTarget::InProcess(_)
        | ConnectTarget::Lent
        // It is reached in another way, which is what this looks at.
        | ConnectTarget::Bridged(_)
        // Its own error says more.
        | ConnectTarget::Bad(_) => return Ok(()),
        ConnectTarget::Address(Address::Tcp(_) | Address::Custom(_), _) => "over plain TCP",
        ConnectTarget::Custom(..) => "over a stream of your connector, which may be plain TCP",
    };
    let text = format!(
        "the token was not sent to {} {how}, where others can read it: use a tls:// address with a certificate that is verified, or a unix: address, or allow it by \
         ClientBuilder::dangerous_token_over_plain_tcp",
        place.address
    );
    Err(Error::local(Code::FailedPrecondition, text))
}
