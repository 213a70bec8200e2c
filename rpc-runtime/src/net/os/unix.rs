//! Unix: Linux, and as far as the compiler can tell, macOS and the BSDs.
//!
//! SIGPIPE needs nothing: the standard library ignores it before `main` (`std::io`, "Unix"), and sets SO_NOSIGPIPE where a program without
//! Rust's `main` would still get it (setsockopt(2) of macOS). Keep-alive is that of the protocol, so no system's SO_KEEPALIVE is used.

mod local;
mod own_uid;
mod private_file;
mod private_folder;
mod signals;
mod socket_file;
mod socket_read;
mod tcp;

#[cfg(feature = "tls-dev")]
pub(crate) use self::private_file::create_private;
#[cfg(feature = "_tls")]
pub(crate) use self::private_file::{FileStamp, file_stamp};
pub(crate) use self::{
    local::{
        LocalListener, LocalStream, StdLocalListener, connect_local, credentials, has_file, text_of_local,
    },
    own_uid::own_user,
    private_file::random,
    signals::{OsSignals, STOP_SIGNAL},
    socket_read::{ASKS_SOCKETS, read_local_now, read_tcp_now},
    tcp::{copy_tcp, listen_each, new_socket, set_stream_options, set_user_timeout},
};

/// The folder of files that only our own user can read.
pub(crate) mod private {
    pub(crate) use super::{
        private_file::{check_private, create_private},
        private_folder::PrivateFolder,
    };
}

#[cfg(test)]
pub(crate) use self::{private_folder::tests as tests_of_files, tcp::user_timeout};

/// Named pipes are of Windows.
pub(crate) const HAS_PIPES: bool = false;

/// The user who may do everything.
pub(crate) const SUPERUSER: &str = "root";

/// ENOMEM, ENFILE, EMFILE, and ENOBUFS of Linux and of the BSDs: accept(2).
pub(super) const LACKING: [i32; 5] = [12, 23, 24, 105, 55];
