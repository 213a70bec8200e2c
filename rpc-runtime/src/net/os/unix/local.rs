//! Unix sockets: the local transport of Unix.

use std::{
    io,
    os::{fd::AsFd, unix::net},
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    runtime::Handle,
    time::sleep,
};

use super::{
    super::{Credentials, User},
    socket_file::{self, SocketFile},
};

/// A stream of the local transport.
pub(crate) type LocalStream = UnixStream;
/// A listening socket as the standard library has it.
pub(crate) type StdLocalListener = net::UnixListener;

/// A Unix socket that listens, and its file.
#[derive(Debug)]
pub(crate) struct LocalListener {
    /// Removed with the last listener that has it, and before the socket is closed. None if another process keeps the socket.
    file: Option<Arc<SocketFile>>,
    socket: UnixListener,
}

impl LocalListener {
    /// Listens at `path`, where only our own user may connect.
    ///
    /// # Errors
    ///
    /// As [`socket_file::bind`].
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let (socket, file) = socket_file::bind(path)?;
        let file = Some(Arc::new(file));
        Ok(Self { file, socket })
    }

    /// Makes one listener of the same socket for each runtime.
    pub(crate) fn for_each(self, runtimes: &[Handle]) -> io::Result<Vec<Self>> {
        let Self { file, socket } = self;
        let socket = socket.into_std()?;
        let each = runtimes.iter().map(|runtime| {
            let _entered = runtime.enter();
            Ok(Self {
                file: file.clone(),
                socket: UnixListener::from_std(socket.try_clone()?)?,
            })
        });
        each.collect()
    }

    /// Makes listeners of one socket that listens already: a function that makes one of each handle. The file at `path` is removed with
    /// the last one. No path: there is no file, or it is not ours.
    ///
    /// # Errors
    ///
    /// The OS's error, for example that the file is gone.
    pub(crate) fn adopting(
        path: Option<&Path>,
    ) -> io::Result<impl Fn(StdLocalListener) -> io::Result<Self> + use<>> {
        let file = path.map(SocketFile::adopt).transpose()?.map(Arc::new);
        Ok(move |socket: StdLocalListener| {
            socket.set_nonblocking(true)?;
            let file = file.clone();
            let socket = UnixListener::from_std(socket)?;
            Ok(Self { file, socket })
        })
    }

    /// Waits for the next stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub(crate) async fn accept(&self) -> io::Result<LocalStream> {
        Ok(self.socket.accept().await?.0)
    }

    /// Removes the file, so that no further client connects. Returns what accepts a client that waits; it never waits itself.
    pub(crate) fn close(self) -> io::Result<impl Fn() -> io::Result<LocalStream>> {
        drop(self.file);
        let socket = self.socket.into_std()?;
        Ok(move || {
            let (stream, _) = socket.accept()?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        })
    }

    /// Leaves the file to another process that has the socket.
    pub(crate) fn leave(&self) {
        if let Some(file) = &self.file {
            file.leave();
        }
    }

    /// Makes a second handle of the socket; none if no other process could use it.
    pub(crate) fn copy(&self) -> io::Result<Option<StdLocalListener>> {
        Ok(Some(self.socket.as_fd().try_clone_to_owned()?.into()))
    }
}

/// Connects to a Unix socket, and waits while its backlog is full. The OS waits by itself for TCP only: connect(2), EAGAIN.
///
/// # Cancel safety
///
/// Dropping the future abandons the attempt.
pub(crate) async fn connect_local(path: &Path) -> io::Result<LocalStream> {
    socket_file::check_len(path)?;
    let mut pause = BACKLOG_PAUSE;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_BACKLOG_PAUSE);
    }
}

/// What the kernel tells of the other end: SO_PEERCRED on Linux (unix(7)); getpeereid(3) and LOCAL_PEERPID on macOS; LOCAL_PEERCRED on
/// FreeBSD (unix(4)), with the pid from 13 on.
pub(crate) fn credentials(stream: &LocalStream) -> Option<Credentials> {
    let found = stream.peer_cred().ok()?;
    Some(Credentials {
        user: User::Uid(found.uid()),
        gid: Some(found.gid()),
        pid: found.pid(),
    })
}

/// True if a Unix socket was bound to a path, and not to a name without a file.
pub(crate) fn has_file(socket: &StdLocalListener) -> io::Result<bool> {
    Ok(socket.local_addr()?.as_pathname().is_some())
}

/// The address of a Unix socket: its path, or its name if it has no file. Only Linux has such names: unix(7), "abstract".
pub(crate) fn text_of_local(socket: &StdLocalListener) -> String {
    let Ok(address) = socket.local_addr() else {
        return "unix:?".to_owned();
    };
    if let Some(path) = address.as_pathname() {
        return format!("unix:{}", path.display());
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use std::os::linux::net::SocketAddrExt;

        if let Some(name) = address.as_abstract_name() {
            return format!("unix:@{}", String::from_utf8_lossy(name));
        }
    }
    "unix:unnamed".to_owned()
}

/// First pause before a Unix socket with a full backlog is tried again; each further pause is twice as long.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_BACKLOG_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_know_the_user_and_the_process_of_the_other() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = credentials(&one).unwrap();
        assert_eq!(Some(&found.user), super::super::own_user().as_ref());
        assert!(found.gid.is_some());
    }
}
