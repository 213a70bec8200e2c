//! SocketFile: takes the path of a Unix socket, even among many starting servers, and gives it back.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
            net,
        },
    },
    path::{Path, PathBuf},
    process,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};

use super::super::ACCEPT_QUEUE;

/// Listens at `path`, which must be free. A file that a killed server left behind is replaced. A missing folder is made, for our
/// own user alone.
///
/// The socket is bound to a name beside `path`, closed to other users, and made to listen. Only then it is linked to
/// `path`; the link fails if anything is there. So one of many starters wins, and a client never finds a socket that
/// does not listen yet.
///
/// Only a socket that refuses a connection counts as left behind. A starter holds a claim on such a socket while it
/// removes it, so that it does not remove what another starter has put there.
///
/// It never waits.
///
/// # Errors
///
/// `AddrInUse`, with the process that listens there as far as the OS tells; `AlreadyExists` for a file that is not a
/// socket; `InvalidInput` for a path that is too long.
pub(super) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    check_len(path)?;
    make_folder(path)?;
    let (socket, own) = bind_beside(path)?;
    let bound = match take(&own.path, path, 0) {
        Ok(()) => SocketFile::new(path, own.inode),
        // The file system has no links between files.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            drop(own);
            return bind_there(path);
        }
        Err(error) => return Err(error),
    };
    Ok((listener(socket)?, bound))
}

/// Makes the folder of `path` if it is missing, and warns of one where other users may replace the socket.
fn make_folder(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    match fs::metadata(folder) {
        Ok(found) if found.mode() & (WRITABLE | STICKY) == WRITABLE => tracing::warn!(
            folder = %folder.display(),
            "other users may replace the socket in this folder: use a folder of this user alone"
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = fs::DirBuilder::new().mode(FOLDER_MODE).create(folder);
            // Another starter may have made it.
            if !folder.is_dir() {
                return made;
            }
        }
        // What is wrong shows when the socket is made.
        _ => {}
    }
    Ok(())
}

/// The file of a listening socket: removed when this is dropped, unless another file has replaced it, or it was left to another process.
///
/// Drop it before the socket is closed. While the socket listens, no starter takes the file for one that was left
/// behind, so no starter replaces it just before it is removed.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: Inode,
    is_left: AtomicBool,
}

impl SocketFile {
    fn new(path: &Path, inode: Inode) -> Self {
        Self {
            path: path.to_owned(),
            inode,
            is_left: AtomicBool::new(false),
        }
    }

    /// Takes over the file of a socket that listens already.
    ///
    /// # Errors
    ///
    /// The OS's error, for example that the file is gone.
    pub(super) fn adopt(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path, inode(path)?))
    }

    /// Leaves the file to another process that listens by the same socket.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_left.load(Relaxed) {
            return;
        }
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            // The next server replaces a file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The identity of a file: its device and its number.
type Inode = (u64, u64);

fn inode(path: &Path) -> io::Result<Inode> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// What is at a path.
enum Found {
    /// Nothing.
    Nothing,
    /// A socket that no process listens on.
    LeftBehind(Inode),
}

/// Links the listening socket at `own` to `path`, and replaces a socket there that was left behind.
fn take(own: &Path, path: &Path, depth: usize) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        match fs::hard_link(own, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if has_no_links(&error) => {
                return Err(io::Error::new(io::ErrorKind::Unsupported, error));
            }
            done => return done,
        }
        if let Found::LeftBehind(inode) = look(path)? {
            if depth == DEPTH {
                break;
            }
            remove(own, path, inode, depth)?;
        }
    }
    Err(in_use("other servers take it and free it all the time"))
}

/// Removes a socket that was left behind. Fails if another starter is about to remove it.
///
/// The claim is a second link to a listening socket of the claimer. So if the claimer is killed, the claim is itself a
/// socket that was left behind.
fn remove(own: &Path, path: &Path, left: Inode, depth: usize) -> io::Result<()> {
    let claim = path.with_file_name(format!(".rpc-stale-{:x}", left.1));
    take(own, &claim, depth + 1)?;
    // An earlier claimer may have replaced the socket, and another file may have its number by now.
    let removed = match look(path) {
        Ok(Found::LeftBehind(found)) if found == left => fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    let given_back = fs::remove_file(&claim);
    removed.and(given_back)
}

/// Finds out what is at `path`.
///
/// # Errors
///
/// `AddrInUse` if a process listens there, or may listen there.
fn look(path: &Path) -> io::Result<Found> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path is a file that is not a socket",
        ));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // `connect` would wait if the socket's queue is full.
    socket.set_nonblocking(true)?;
    let reachable = match Reachable::of(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        reachable => reachable?,
    };
    let Err(error) = socket.connect(&SockAddr::unix(&reachable.path)?) else {
        return Err(in_use(&holder(socket)));
    };
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Ok(Found::LeftBehind((metadata.dev(), metadata.ino()))),
        io::ErrorKind::NotFound => Ok(Found::Nothing),
        io::ErrorKind::WouldBlock => Err(in_use(
            "a server is there, and its queue of clients to accept is full",
        )),
        io::ErrorKind::PermissionDenied => Err(in_use(&format!(
            "the file belongs to user {}, and this user may not connect to it",
            metadata.uid()
        ))),
        _ => Err(in_use(&format!(
            "the socket there refuses our connection, so no server of this kind has it: {error}"
        ))),
    }
}

/// The process that listens at the other end of `socket`, as text.
fn holder(socket: Socket) -> String {
    let stream = net::UnixStream::from(OwnedFd::from(socket));
    match UnixStream::from_std(stream).and_then(|stream| stream.peer_cred()) {
        Ok(cred) => match cred.pid() {
            Some(pid) if u32::try_from(pid).is_ok_and(|pid| pid == process::id()) => {
                "this process already listens there".to_owned()
            }
            // The pid is 0 for a process that this one cannot see.
            Some(pid) if pid > 0 => format!("process {pid} of user {} listens there", cred.uid()),
            _ => format!("a process of user {} listens there", cred.uid()),
        },
        Err(_) => "a process accepts connections there".to_owned(),
    }
}

fn in_use(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, why)
}

/// Makes a socket that listens beside `path`, and its file.
fn bind_beside(path: &Path) -> io::Result<(Socket, SocketFile)> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let beside = beside(path);
        if beside == path {
            continue;
        }
        match bind_at(&beside) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            bound => return bound,
        }
    }
    Err(last.unwrap_or_else(|| in_use("no free name was found for a second file in its folder")))
}

/// Makes a socket that listens at `path`, which must be free. Only its own user may connect to it.
fn bind_at(path: &Path) -> io::Result<(Socket, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::new(path, inode(path)?);
    // Before it listens: until then every connection is refused.
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(ACCEPT_QUEUE as i32)?;
    Ok((socket, file))
}

/// As [`bind`], on a file system without links. Another starter may take this socket for one that was left behind
/// before it listens.
fn bind_there(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let (socket, file) = match bind_at(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if let Found::LeftBehind(_) = look(path)? {
                fs::remove_file(path)?;
            }
            bind_at(path)?
        }
        bound => bound?,
    };
    Ok((listener(socket)?, file))
}

fn listener(socket: Socket) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(net::UnixListener::from(OwnedFd::from(socket)))
}

/// True if the file system is why a link cannot be made: a socket could be bound in the same folder.
fn has_no_links(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
    )
}

/// A random name in the folder of `path` that is short enough for a socket, and hardly taken.
fn beside(path: &Path) -> PathBuf {
    const PREFIX: &str = ".rpc-";
    const LEN: usize = PREFIX.len() + 7;
    let name_len = path.file_name().map_or(0, |name| name.len());
    let room = max_len().saturating_sub(path.as_os_str().len() - name_len);
    let random = |len| -> String { std::iter::repeat_with(fastrand::alphanumeric).take(len).collect() };
    let name = match room >= LEN {
        true => format!("{PREFIX}{}", random(LEN - PREFIX.len())),
        // A socket with a name of this length fits, because the name of `path` fits.
        false => random(room),
    };
    path.with_file_name(name)
}

/// A path by which a socket can be connected to: its own, or a second link if its own is too long.
struct Reachable {
    path: PathBuf,
    is_link: bool,
}

impl Reachable {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= max_len() {
            return Ok(Self {
                path: path.to_owned(),
                is_link: false,
            });
        }
        for _ in 0..ATTEMPTS {
            let link = beside(path);
            match fs::hard_link(path, &link) {
                // The random part may have room for one letter only, so the name may be taken.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                linked => {
                    return linked.map(|()| Self {
                        path: link,
                        is_link: true,
                    });
                }
            }
        }
        Err(in_use("no free name was found for a second file in its folder"))
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        if self.is_link {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses a path that is too long for a socket.
pub(super) fn check_len(path: &Path) -> io::Result<()> {
    let (len, max) = (path.as_os_str().len(), max_len());
    if len > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("path of {len} bytes exceeds limit of {max} bytes for Unix sockets"),
        ));
    }
    Ok(())
}

/// Maximum length of a socket's path: 107 bytes on Linux, 103 elsewhere.
fn max_len() -> usize {
    static MAX: OnceLock<usize> = OnceLock::new();
    let fits = |len: &usize| net::SocketAddr::from_pathname("x".repeat(*len)).is_ok();
    *MAX.get_or_init(|| (1..256).rev().find(fits).unwrap_or(0))
}

/// Only the server's own user may connect to a Unix socket.
const MODE: u32 = 0o600;
/// Only the server's own user may enter a folder that is made for a socket.
const FOLDER_MODE: u32 = 0o700;
/// The bit of a mode that lets all users make and remove files in a folder.
const WRITABLE: u32 = 0o002;
/// The bit of a mode that lets only their owners remove files.
const STICKY: u32 = 0o1000;
/// Number of attempts for a name that other processes take and free meanwhile.
const ATTEMPTS: usize = 100;
/// Maximum depth of claims on claims: each starter in such a chain was killed while it held a claim.
const DEPTH: usize = 4;

#[cfg(test)]
mod tests {
    use std::{
        sync::{Barrier, Mutex},
        thread,
    };

    use super::*;

    /// A folder for one test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("rpc-{}-{name}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn leave_behind(path: &Path) -> Inode {
        drop(net::UnixListener::bind(path).unwrap());
        inode(path).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn in_use_text(path: &Path) -> String {
        let error = bind(path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}");
        error.to_string()
    }

    #[tokio::test]
    async fn a_unix_socket_is_private_replaces_a_stale_file_and_is_removed() {
        let folder = Folder::new("stale");
        let path = folder.0.join("socket");
        leave_behind(&path);
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(mode(&path), MODE);
        assert_eq!(folder.names(), ["socket"], "nothing is left beside it");
        assert_eq!(in_use_text(&path), "this process already listens there");
        drop((file, listener));
        assert_eq!(folder.names(), [""; 0]);
    }

    #[tokio::test]
    async fn a_missing_folder_is_made_for_this_user_alone() {
        let folder = Folder::new("made");
        let private = folder.0.join("private");
        for _ in 0..2 {
            drop(bind(&private.join("socket")).unwrap());
            assert_eq!(mode(&private), 0o700);
        }
        let error = bind(&folder.0.join("no/such/socket")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(!folder.0.join("no").exists(), "only the last folder is made");
        fs::write(folder.0.join("file"), "").unwrap();
        assert_eq!(
            bind(&folder.0.join("file/socket")).unwrap_err().kind(),
            io::ErrorKind::NotADirectory
        );
    }

    #[tokio::test]
    async fn a_folder_that_is_there_keeps_its_mode() {
        let folder = Folder::new("kept");
        for bits in [0o755, 0o777, 0o1777] {
            fs::set_permissions(&folder.0, fs::Permissions::from_mode(bits)).unwrap();
            let path = folder.0.join("socket");
            let _bound = bind(&path).unwrap();
            assert_eq!((mode(&folder.0), mode(&path)), (bits & 0o777, MODE));
        }
    }

    #[tokio::test]
    async fn a_plain_file_is_never_replaced() {
        let folder = Folder::new("plain");
        let path = folder.0.join("socket");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_socket_that_another_server_replaced_is_left_alone() {
        let folder = Folder::new("replaced");
        let path = folder.0.join("socket");
        let bound = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = net::UnixListener::bind(&path).unwrap();
        drop(bound.1);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_server_whose_queue_is_full_keeps_its_socket() {
        let folder = Folder::new("full");
        let path = folder.0.join("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let before = inode(&path).unwrap();
        let mut waiting = Vec::new();
        loop {
            let one = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            if let Err(error) = one.connect(&SockAddr::unix(&path).unwrap()) {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
            waiting.push(one);
        }
        assert!(in_use_text(&path).contains("clients to accept is full"));
        assert_eq!(inode(&path).unwrap(), before);
        assert_eq!(folder.names(), ["socket"]);
    }

    #[tokio::test]
    async fn a_datagram_socket_is_left_alone() {
        let folder = Folder::new("datagram");
        let path = folder.0.join("socket");
        let _socket = net::UnixDatagram::bind(&path).unwrap();
        let before = inode(&path).unwrap();
        assert!(in_use_text(&path).contains("refuses our connection"));
        assert_eq!(inode(&path).unwrap(), before);
    }

    #[tokio::test]
    async fn a_path_may_be_as_long_as_the_os_lets_it() {
        let folder = Folder::new("lengths");
        let max = max_len();
        for len in max - 20..=max {
            // Once with a long name, once with a long folder.
            let room = len - folder.0.as_os_str().len() - 1;
            let deep = folder.0.join("d".repeat(room - 2));
            fs::create_dir(&deep).unwrap();
            for path in [folder.0.join("s".repeat(room)), deep.join("s")] {
                assert_eq!(path.as_os_str().len(), len);
                for stale in [false, true] {
                    if stale {
                        leave_behind(&path);
                    }
                    let (listener, file) = bind(&path).unwrap();
                    assert_eq!(mode(&path), MODE);
                    net::UnixStream::connect(&path).unwrap();
                    drop((file, listener));
                }
            }
            assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
            fs::remove_dir(&deep).unwrap();
        }
        let error = bind(&folder.0.join("s".repeat(max))).unwrap_err().to_string();
        let (len, limit) = (
            folder.0.as_os_str().len() + 1 + max,
            format!("limit of {max} bytes"),
        );
        assert!(
            error.contains(&format!("path of {len} bytes")) && error.contains(&limit),
            "{error}"
        );
    }

    #[tokio::test]
    async fn leftovers_of_killed_starters_block_no_start() {
        let folder = Folder::new("claims");
        for (name, len) in [("socket", 6), ("s", 1)] {
            let room = max_len() - folder.0.as_os_str().len() - 2 - len;
            let deep = folder.0.join("d".repeat(if len == 1 { room } else { 5 }));
            fs::create_dir(&deep).unwrap();
            let path = deep.join(name);
            let left = leave_behind(&path);
            let claim = deep.join(format!(".rpc-stale-{:x}", left.1));
            // The name of the claim may be too long to be bound.
            let short = deep.join("t");
            let claimed = leave_behind(&short);
            fs::rename(&short, &claim).unwrap();
            assert_eq!(inode(&claim).unwrap(), claimed);
            drop(bind(&path).unwrap().1);
            assert_eq!(fs::read_dir(&deep).unwrap().count(), 0, "all is tidied up");
        }
    }

    #[tokio::test]
    async fn a_stale_socket_that_another_starter_is_about_to_replace_is_left_to_it() {
        let folder = Folder::new("claimed");
        let path = folder.0.join("socket");
        let left = leave_behind(&path);
        let claim = folder.0.join(format!(".rpc-stale-{:x}", left.1));
        let _other = net::UnixListener::bind(&claim).unwrap();
        in_use_text(&path);
        assert_eq!(inode(&path).unwrap(), left);
        assert!(claim.exists());
    }

    #[tokio::test]
    async fn a_folder_without_hard_links_works() {
        let folder = Folder::new("no-links");
        let path = folder.0.join("socket");
        for _ in 0..2 {
            let (listener, file) = bind_there(&path).unwrap();
            assert_eq!(mode(&path), MODE);
            assert_eq!(bind_there(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            drop((file, listener));
            leave_behind(&path);
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap()
    }

    #[test]
    fn one_of_many_starters_wins_and_gets_the_connections() {
        const STARTERS: usize = 8;
        const ROUNDS: usize = 100;
        let folder = Folder::new("starters");
        let path = folder.0.join("socket");
        let [begin, bound, looked, gone] = [(); 4].map(|()| Barrier::new(STARTERS + 1));
        let outcomes = Mutex::new(Vec::new());
        let start = || {
            let runtime = runtime();
            let _entered = runtime.enter();
            for _ in 0..ROUNDS {
                begin.wait();
                let result = bind(&path);
                let outcome = match &result {
                    Ok((_, file)) => Ok(file.inode),
                    Err(error) => Err(error.kind()),
                };
                outcomes.lock().unwrap().push(outcome);
                bound.wait();
                looked.wait();
                drop(result.map(|(listener, file)| drop((file, listener))));
                gone.wait();
            }
        };
        // Nothing panics before all rounds are over: the other threads would wait for ever.
        let mut rounds = Vec::new();
        thread::scope(|scope| {
            for _ in 0..STARTERS {
                scope.spawn(start);
            }
            for round in 0..ROUNDS {
                if round % 2 == 0 {
                    leave_behind(&path);
                }
                begin.wait();
                bound.wait();
                let there = inode(&path).ok();
                let is_connected = net::UnixStream::connect(&path).is_ok();
                let outcomes = std::mem::take(&mut *outcomes.lock().unwrap());
                rounds.push((outcomes, there, is_connected, folder.names()));
                looked.wait();
                gone.wait();
            }
        });
        for (round, (outcomes, there, is_connected, names)) in rounds.into_iter().enumerate() {
            let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
            let winners: Vec<_> = won.into_iter().flatten().collect();
            assert_eq!(winners, [there.unwrap()], "round {round}");
            assert!(is_connected, "round {round}");
            assert_eq!(
                lost,
                [Err(io::ErrorKind::AddrInUse); STARTERS - 1],
                "round {round}"
            );
            assert_eq!(names, ["socket"], "round {round}");
        }
    }

    #[test]
    fn a_server_that_ends_never_removes_the_socket_of_its_successor() {
        let folder = Folder::new("successor");
        let path = folder.0.join("socket");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let runtime = runtime();
                    let _entered = runtime.enter();
                    for _ in 0..300 {
                        let bound = loop {
                            match bind(&path) {
                                Ok(bound) => break bound,
                                Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
                            }
                        };
                        assert_eq!(inode(&path).unwrap(), bound.1.inode);
                        drop((bound.1, bound.0));
                    }
                });
            }
        });
    }
}
