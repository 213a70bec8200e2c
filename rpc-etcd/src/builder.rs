//! EtcdBuilder: where etcd is, and as whom it is asked.

use std::{fmt, net::IpAddr, time::Duration};

use rpc_http::Grpc;
use rpc_runtime::{Client, Error, Limits, Status, auth::Secret};

use crate::{Etcd, etcd::User};

/// Configures an [`Etcd`]: at least one endpoint.
///
/// ```
/// use rpc_etcd::Etcd;
///
/// let etcd = Etcd::builder()
///     .endpoint("grpc://127.0.0.1:2379")
///     .user("orders", "a password")
///     .build()?;
/// # Ok::<(), rpc_runtime::Error>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct EtcdBuilder {
    endpoints: Vec<String>,
    user: Option<User>,
    allows_plain_tcp: bool,
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    tls: Option<rpc_runtime::tls::ClientTls>,
}

impl EtcdBuilder {
    pub(crate) fn new() -> Self {
        Self {
            endpoints: Vec::new(),
            user: None,
            allows_plain_tcp: false,
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            tls: None,
        }
    }

    /// Adds a member of the cluster: `grpc://host:port`, `grpcs://host:port` for TLS, or `grpc+unix:/path`.
    ///
    /// One member is asked at a time. If it is away, does not answer, or has no leader, the next one is asked.
    pub fn endpoint(mut self, address: impl Into<String>) -> Self {
        self.endpoints.push(address.into());
        self
    }

    /// Sets the user of etcd, and the password. Default: none.
    ///
    /// The password does not go over plain TCP to another machine, unless [`EtcdBuilder::dangerous_password_over_plain_tcp`] allows it.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<Secret>) -> Self {
        self.user = Some(User {
            name: name.into(),
            password: password.into(),
        });
        self
    }

    /// Lets the password go over plain TCP, where others can read it. Default: no, except to this machine.
    pub fn dangerous_password_over_plain_tcp(mut self) -> Self {
        self.allows_plain_tcp = true;
        self
    }

    /// Sets whom `grpcs://` endpoints have to be, and who asks. Default: that of
    /// [`ClientTls`](rpc_runtime::tls::ClientTls).
    #[cfg(any(feature = "tls", feature = "tls-ring"))]
    pub fn tls(mut self, tls: rpc_runtime::tls::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Makes the [`Etcd`], which connects when it is used first.
    ///
    /// # Errors
    ///
    /// FAILED_PRECONDITION without an endpoint, or if a password would go over plain TCP; INVALID_ARGUMENT for an endpoint that does not begin
    /// with `grpc://`, `grpcs://` or `grpc+unix:`.
    pub fn build(self) -> Result<Etcd, Error> {
        if self.endpoints.is_empty() {
            return Err(Status::failed_precondition(
                "etcd needs an endpoint: add one by .endpoint(\"grpc://127.0.0.1:2379\")",
            )
            .into());
        }
        for endpoint in &self.endpoints {
            if !SCHEMES.iter().any(|scheme| endpoint.starts_with(scheme)) {
                let text = format!(
                    "{endpoint:?} is no endpoint of etcd: write grpc://host:port, or grpcs://host:port for TLS"
                );
                return Err(Status::invalid_argument(text).into());
            }
            if self.user.is_some() && !self.allows_plain_tcp && is_readable_by_others(endpoint) {
                let text = format!(
                    "the password would go to {endpoint} over plain TCP, where others can read it: use grpcs://, or allow it by \
                     EtcdBuilder::dangerous_password_over_plain_tcp"
                );
                return Err(Status::failed_precondition(text).into());
            }
        }
        let members = self.endpoints.iter().map(|endpoint| {
            let client = Client::builder(endpoint)
                .protocol(
                    Grpc::new()
                        .keep_alive(KEEP_ALIVE)
                        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT),
                )
                .limits(Limits::default().max_message(MAX_MESSAGE))
                .timeout(CALL_TIMEOUT)
                .connect_timeout(CONNECT_TIMEOUT)
                .without_spans();
            #[cfg(any(feature = "tls", feature = "tls-ring"))]
            let client = match &self.tls {
                Some(tls) => client.tls(tls.clone()),
                None => client,
            };
            client.connect_lazy()
        });
        Ok(Etcd::new(members.collect(), self.endpoints.clone(), self.user))
    }
}

impl fmt::Debug for EtcdBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBuilder")
            .field("endpoints", &self.endpoints)
            .field("user", &self.user.as_ref().map(|user| &user.name))
            .finish_non_exhaustive()
    }
}

/// Returns whether what goes to `endpoint` leaves this machine, and is not encrypted.
fn is_readable_by_others(endpoint: &str) -> bool {
    let Some(place) = endpoint.strip_prefix("grpc://") else {
        return false;
    };
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const SCHEMES: [&str; 3] = ["grpc://", "grpcs://", "grpc+unix:"];
/// How long a call of etcd may take. A member that is cut off from the others never answers.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After one to two of these without a byte, a PING is sent. By default etcd allows one every 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest reply: that with 10,000 servers.
const MAX_MESSAGE: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use rpc_runtime::Code;

    use super::*;

    fn code_of(builder: EtcdBuilder) -> Code {
        builder.build().unwrap_err().code()
    }

    #[test]
    fn an_etcd_without_a_usable_endpoint_is_refused() {
        assert_eq!(code_of(Etcd::builder()), Code::FailedPrecondition);
        for endpoint in [
            "127.0.0.1:2379",
            "http://127.0.0.1:2379",
            "tcp://127.0.0.1:2379",
            "",
        ] {
            assert_eq!(
                code_of(Etcd::builder().endpoint(endpoint)),
                Code::InvalidArgument,
                "{endpoint}"
            );
        }
    }

    #[test]
    fn a_password_goes_over_plain_tcp_to_this_machine_only() {
        let with_user = |endpoint: &str| Etcd::builder().endpoint(endpoint).user("me", "secret");
        for endpoint in [
            "grpc://127.0.0.1:2379",
            "grpc://[::1]:2379",
            "grpc://localhost:2379",
            "grpcs://etcd.example.com:2379",
            "grpc+unix:/run/etcd.sock",
        ] {
            assert!(with_user(endpoint).build().is_ok(), "{endpoint}");
        }
        for endpoint in [
            "grpc://10.0.0.1:2379",
            "grpc://etcd:2379",
            "grpc://[::]:2379",
            "grpc://etcd",
        ] {
            assert_eq!(
                code_of(with_user(endpoint)),
                Code::FailedPrecondition,
                "{endpoint}"
            );
            assert!(
                with_user(endpoint)
                    .dangerous_password_over_plain_tcp()
                    .build()
                    .is_ok()
            );
        }
    }
}
