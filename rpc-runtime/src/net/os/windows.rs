//! Windows. The only files of this library that call the OS by themselves, because neither the standard library nor tokio does it for us.
#![allow(
    unsafe_code,
    reason = "users, security descriptors, SO_EXCLUSIVEADDRUSE and random bytes are functions of Windows in C"
)]

mod local;
mod private_folder;
mod registry;
mod security;
mod signals;
mod socket_read;
mod tcp;

#[cfg(feature = "tls-dev")]
pub(crate) use self::private_folder::create_private;
#[cfg(feature = "_tls")]
pub(crate) use self::private_folder::{FileStamp, file_stamp};
pub(crate) use self::{
    local::{
        LocalListener, LocalStream, StdLocalListener, connect_local, credentials, has_file, text_of_local,
    },
    security::{own_user, random},
    signals::{OsSignals, STOP_SIGNAL},
    socket_read::{ASKS_SOCKETS, read_local_now, read_tcp_now},
    tcp::{copy_tcp, listen_each, new_socket, set_stream_options, set_user_timeout},
};

/// The folder of files that only our own user can read.
pub(crate) mod private {
    pub(crate) use super::private_folder::{PrivateFolder, check_private, create_private};
}

#[cfg(test)]
pub(crate) use self::{private_folder::tests as tests_of_files, tcp::user_timeout};

/// Named pipes are the local transport here.
pub(crate) const HAS_PIPES: bool = true;

/// The user who may do everything.
pub(crate) const SUPERUSER: &str = "LocalSystem";

/// ERROR_TOO_MANY_OPEN_FILES, ERROR_NOT_ENOUGH_MEMORY, ERROR_NO_SYSTEM_RESOURCES, WSAEMFILE and WSAENOBUFS: learn.microsoft.com, "System
/// Error Codes" and "Windows Sockets Error Codes".
pub(super) const LACKING: [i32; 5] = [4, 8, 1450, 10024, 10055];
