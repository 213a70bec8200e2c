//! What differs between operating systems: local sockets, options of TCP, users, files of one user, signals.
//!
//! No other file of this crate asks for which system it is compiled. Both folders have the same names. A system call that
//! differs has the platform's own page beside it.

mod listening_socket;
mod resources;
#[cfg(test)]
mod scratch;
mod user;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
mod windows;
#[cfg(windows)]
use self::windows as system;

use std::{io, path::Path, time::Duration};

#[cfg(not(any(target_os = "linux", target_os = "android")))]
use tokio::{net::TcpListener, runtime::Handle};

pub use self::listening_socket::ListeningSocket;
#[cfg(feature = "tls-dev")]
pub(crate) use self::system::create_private;
#[cfg(feature = "_tls")]
pub(crate) use self::system::{FileStamp, file_stamp};
pub(crate) use self::{
    listening_socket::SocketKind,
    resources::lacks_resources,
    system::{
        ASKS_SOCKETS, HAS_PIPES, LocalListener, LocalStream, OsSignals, STOP_SIGNAL, SUPERUSER,
        StdLocalListener, connect_local, copy_tcp, credentials, has_file, listen_each, new_socket, own_user,
        private, random, read_local_now, read_tcp_now, set_stream_options, set_user_timeout, text_of_local,
    },
    user::{Credentials, User},
};

/// Maximum number of streams that wait to be accepted, and that a closing listener takes over.
///
/// The number of tokio's own listeners. Linux cuts it to net.core.somaxconn (listen(2)), FreeBSD and macOS to kern.ipc.soacceptqueue and
/// kern.ipc.somaxconn (listen(2) there), Windows to a number of its own (winsock2, `listen`).
pub(crate) const ACCEPT_QUEUE: usize = 1024;

/// Adds the path to an error of the OS.
pub(crate) fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Replaces `first` by the same socket for each runtime. The quickest one accepts.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share_with_each(first: TcpListener, runtimes: &[Handle]) -> io::Result<Vec<TcpListener>> {
    let socket = first.into_std()?;
    let each = runtimes.iter().map(|runtime| {
        let _entered = runtime.enter();
        TcpListener::from_std(socket.try_clone()?)
    });
    each.collect()
}

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OsSignal {
    /// Its name in logs.
    pub(crate) name: &'static str,
    /// The exit code of a process that it ends.
    pub(crate) code: i32,
    /// The time until the OS ends the process, whatever the process does; none without a limit.
    pub(crate) limit: Option<Duration>,
}

/// Tests that only Unix can pass.
#[cfg(test)]
macro_rules! on_unix {
    ($($item:item)*) => { $(#[cfg(unix)] $item)* };
}
#[cfg(test)]
pub(crate) use on_unix;

#[cfg(test)]
pub(crate) use self::system::{tests_of_files, user_timeout};

/// An address for one test of the local transport: `unix:` with a path below the temporary folder, or `pipe:`.
#[cfg(test)]
pub(crate) fn local_address(name: &str) -> String {
    let name = format!("rpc-{}-{name}", std::process::id());
    match HAS_PIPES {
        true => format!("pipe:{name}"),
        false => format!("unix:{}", std::env::temp_dir().join(name).display()),
    }
}
