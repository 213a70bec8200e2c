//! TerminatePolicy and signals: who may stop a server. The only file that knows the signals of the OS.

use std::{fmt, sync::Arc};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Code, Context, Error, Transport};

/// Which peers may terminate a server.
///
/// By default those that are surely local: a client in the same process, by `in_process` or a `mem:` address; and
/// the peer of a Unix socket whose process runs as the server's own user or as root. Everybody else gets
/// PERMISSION_DENIED, and a warning in the log names the peer; the server goes on.
///
/// A TCP peer, from this machine too, is not surely anybody: any user of the machine can connect. Say
/// [`TerminatePolicy::loopback`] to trust them all. (That a loopback peer's user is looked up by itself is not there
/// yet.)
///
/// A proxy that runs as the server's user passes, whoever talks to the proxy.
///
/// ```
/// use rpc_runtime::TerminatePolicy;
///
/// // Whoever knows the token, over a transport that keeps it secret.
/// let policy = TerminatePolicy::custom(|cx| {
///     cx.peer().uid().is_some() && cx.metadata().get_str("x-stop-token") == Some("a long one")
/// });
/// ```
#[derive(Clone, Default)]
pub struct TerminatePolicy(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    Local,
    Loopback,
    Disabled,
    Custom(Arc<Custom>),
}

type Custom = dyn Fn(&Context) -> bool + Send + Sync;

impl TerminatePolicy {
    /// The default, and every TCP peer that connects from this machine.
    pub fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Nobody: the procedure does not exist, as far as peers can tell.
    ///
    /// Signals and handles of the server still drain it.
    pub fn disabled() -> Self {
        Self(Rule::Disabled)
    }

    /// Those whom `allows` lets pass: it is given the call, with its peer and metadata. Nothing else is checked.
    pub fn custom(allows: impl Fn(&Context) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(allows)))
    }

    /// Whether the caller of `cx` may terminate the server.
    pub(crate) fn allows(&self, cx: &Context) -> bool {
        let peer = cx.peer();
        match &self.0 {
            Rule::Local => peer.is_same_user(),
            Rule::Loopback => peer.is_same_user() || (peer.transport() == Transport::Tcp && peer.is_local()),
            Rule::Disabled => false,
            Rule::Custom(allows) => allows(cx),
        }
    }

    pub(crate) fn is_disabled(&self) -> bool {
        matches!(self.0, Rule::Disabled)
    }
}

impl fmt::Debug for TerminatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Local => "TerminatePolicy::default",
            Rule::Loopback => "TerminatePolicy::loopback",
            Rule::Disabled => "TerminatePolicy::disabled",
            Rule::Custom(_) => "TerminatePolicy::custom",
        })
    }
}

/// SIGTERM and Ctrl-C.
#[derive(Debug)]
pub(crate) struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens for both, from now on; the process no longer ends by them.
    ///
    /// # Errors
    ///
    /// INTERNAL if the OS refuses.
    pub(crate) fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Error::local(Code::Internal, "cannot listen for signals").with_source(error))
        };
        Ok(Self {
            term: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one; its name.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            use std::task::Poll;
            if self.term.poll_recv(cx).is_ready() {
                return Poll::Ready("SIGTERM");
            }
            self.interrupt.poll_recv(cx).map(|_| "SIGINT")
        })
        .await
    }
}
