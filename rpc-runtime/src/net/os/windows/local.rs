//! Named pipes: the local transport of Windows.
//!
//! Only our own user may open one (its security descriptor), and nobody on another machine (PIPE_REJECT_REMOTE_CLIENTS). A server fails to
//! start if another process has made a pipe of the name before (FILE_FLAG_FIRST_PIPE_INSTANCE). A client makes sure who serves the pipe, since
//! another user may have taken the name first. learn.microsoft.com, "CreateNamedPipeW" and "Named Pipe Security and Access Rights".
//!
//! A pipe has no half-close. So both ends send messages, and an empty one is the end of a direction, as in Go's and Docker's pipes.

use std::{
    io::{self, IoSlice},
    os::windows::io::AsRawHandle,
    path::Path,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::windows::named_pipe::{ClientOptions, NamedPipeClient, NamedPipeServer, PipeMode, ServerOptions},
    runtime::Handle,
    time::sleep,
};
use windows_sys::Win32::{
    Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY, HANDLE},
    System::Pipes::{GetNamedPipeClientProcessId, GetNamedPipeServerProcessId},
};

use super::{
    super::Credentials,
    security::{OwnUserOnly, ok, user_of_process},
};

/// No pipe comes from another process as a listening socket: there is no value of this.
#[derive(Debug)]
pub(crate) enum StdLocalListener {}

impl StdLocalListener {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        match *self {}
    }
}

/// A stream of the local transport: one end of a pipe.
#[derive(Debug)]
pub(crate) struct LocalStream {
    end: PipeEnd,
    /// True once the empty message was written that ends our direction.
    is_shut: bool,
}

#[derive(Debug)]
enum PipeEnd {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// A pipe that listens.
#[derive(Debug)]
pub(crate) struct LocalListener {
    pipe: Arc<Pipe>,
    /// The instance to which the next client connects. It is only missing if the OS gave none, and the next accept tries again.
    next: tokio::sync::Mutex<Option<NamedPipeServer>>,
}

/// What all instances of a pipe have in common.
#[derive(Debug)]
struct Pipe {
    name: String,
    security: OwnUserOnly,
}

impl Pipe {
    /// Makes an instance in the runtime that this is called in. `is_first`: there must be none yet.
    fn instance(&self, is_first: bool) -> io::Result<NamedPipeServer> {
        let mut options = ServerOptions::new();
        options
            .first_pipe_instance(is_first)
            .reject_remote_clients(true)
            .pipe_mode(PipeMode::Message);
        let mut attributes = self.security.attributes();
        // SAFETY: the attributes are valid, and point to memory of `self.security`, which lives until the call returns.
        unsafe { options.create_with_security_attributes_raw(&self.name, (&raw mut attributes).cast()) }
    }
}

impl LocalListener {
    /// Listens on the pipe called `name`, where only our own user may connect.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if there is a pipe of that name.
    pub(crate) fn bind(name: &Path) -> io::Result<Self> {
        let pipe = Pipe {
            name: full_name(name),
            security: OwnUserOnly::new()?,
        };
        let first = pipe.instance(true).map_err(|error| {
            match error.raw_os_error() == Some(ERROR_ACCESS_DENIED as i32) {
                true => io::Error::new(io::ErrorKind::AddrInUse, error),
                false => error,
            }
        })?;
        Ok(Self {
            pipe: Arc::new(pipe),
            next: tokio::sync::Mutex::new(Some(first)),
        })
    }

    /// Makes one listener of the same pipe for each runtime.
    pub(crate) fn for_each(self, runtimes: &[Handle]) -> io::Result<Vec<Self>> {
        // The first instance stays open until each runtime has one, so that the name is ours all the time.
        let each = runtimes.iter().map(|runtime| {
            let _entered = runtime.enter();
            Ok(Self {
                pipe: Arc::clone(&self.pipe),
                next: tokio::sync::Mutex::new(Some(self.pipe.instance(false)?)),
            })
        });
        each.collect()
    }

    /// Makes listeners of sockets that listen already, of which there are none.
    pub(crate) fn adopting(
        _: Option<&Path>,
    ) -> io::Result<impl Fn(StdLocalListener) -> io::Result<Self> + use<>> {
        Ok(|socket: StdLocalListener| match socket {})
    }

    /// Waits for the next stream.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no stream.
    pub(crate) async fn accept(&self) -> io::Result<LocalStream> {
        let mut next = self.next.lock().await;
        let instance = match &mut *next {
            Some(instance) => instance,
            None => next.insert(self.pipe.instance(false)?),
        };
        if let Err(error) = instance.connect().await {
            // It may be of no use any more.
            *next = None;
            return Err(error);
        }
        // The next one is made first, so that the pipe is never without an instance. If it cannot be made, the client waits in this one.
        let following = self.pipe.instance(false)?;
        let connected = next.replace(following);
        connected
            .map(LocalStream::server)
            .ok_or_else(|| io::Error::other("the instance of the pipe is gone"))
    }

    /// Returns what accepts a client that waits; it never waits itself. There can be one, in the instance that is waiting.
    pub(crate) fn close(self) -> io::Result<impl Fn() -> io::Result<LocalStream>> {
        let next = Mutex::new(self.next.into_inner());
        Ok(move || {
            let instance = next.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(instance) = instance else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let connected = {
                let mut connecting = pin!(instance.connect());
                connecting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
            };
            match connected {
                Poll::Ready(Ok(())) => Ok(LocalStream::server(instance)),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            }
        })
    }

    /// Does nothing: a pipe has no file.
    pub(crate) fn leave(&self) {}

    /// No other process could use a pipe that listens.
    pub(crate) fn copy(&self) -> io::Result<Option<StdLocalListener>> {
        Ok(None)
    }
}

/// Connects to a pipe, and waits while all of its instances are taken: learn.microsoft.com, "Named Pipe Client", ERROR_PIPE_BUSY.
///
/// # Cancel safety
///
/// Dropping the future abandons the attempt.
pub(crate) async fn connect_local(name: &Path) -> io::Result<LocalStream> {
    let name = full_name(name);
    let mut options = ClientOptions::new();
    options.pipe_mode(PipeMode::Message);
    let mut pause = BUSY_PAUSE;
    loop {
        match options.open(&name) {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY as i32) => {}
            Ok(client) => return Ok(LocalStream::of(PipeEnd::Client(client))),
            Err(error) => return Err(error),
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_BUSY_PAUSE);
    }
}

/// The user and the process at the other end. None if it has left, or belongs to a user whom this one may not look at.
pub(crate) fn credentials(stream: &LocalStream) -> Option<Credentials> {
    let mut pid = 0;
    // SAFETY: the handle is open as long as the stream is borrowed, and `pid` has room for the number.
    let found = unsafe {
        match &stream.end {
            PipeEnd::Server(pipe) => {
                GetNamedPipeClientProcessId(pipe.as_raw_handle() as HANDLE, &raw mut pid)
            }
            PipeEnd::Client(pipe) => {
                GetNamedPipeServerProcessId(pipe.as_raw_handle() as HANDLE, &raw mut pid)
            }
        }
    };
    ok(found).ok()?;
    Some(Credentials {
        user: user_of_process(pid).ok()?,
        gid: None,
        pid: i32::try_from(pid).ok(),
    })
}

/// No listening socket has a file.
pub(crate) fn has_file(socket: &StdLocalListener) -> io::Result<bool> {
    match *socket {}
}

/// No listening socket has an address of the local transport.
pub(crate) fn text_of_local(socket: &StdLocalListener) -> String {
    match *socket {}
}

fn full_name(name: &Path) -> String {
    format!(r"\\.\pipe\{}", name.display())
}

impl LocalStream {
    fn server(pipe: NamedPipeServer) -> Self {
        Self::of(PipeEnd::Server(pipe))
    }

    fn of(end: PipeEnd) -> Self {
        Self { end, is_shut: false }
    }

    /// Writes one message.
    fn poll_message(&mut self, cx: &mut Context<'_>, message: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.end {
            PipeEnd::Server(pipe) => Pin::new(pipe).poll_write(cx, message),
            PipeEnd::Client(pipe) => Pin::new(pipe).poll_write(cx, message),
        }
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.end {
            PipeEnd::Server(pipe) => Pin::new(pipe).poll_read(cx, buf),
            PipeEnd::Client(pipe) => Pin::new(pipe).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        // An empty message would be the end.
        match buf {
            [] => Poll::Ready(Ok(0)),
            _ => self.poll_message(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| &**buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.end {
            PipeEnd::Server(pipe) => Pin::new(pipe).poll_flush(cx),
            PipeEnd::Client(pipe) => Pin::new(pipe).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(self.poll_message(cx, &[]))?;
            self.is_shut = true;
        }
        self.poll_flush(cx)
    }
}

/// First pause before a pipe without a free instance is tried again; each further pause is twice as long.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_BUSY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{super::own_user, *};

    fn pipe(test: &str) -> PathBuf {
        PathBuf::from(format!("rpc-{}-{test}", std::process::id()))
    }

    #[tokio::test]
    async fn both_ends_know_the_user_and_the_process_of_the_other() {
        let name = pipe("credentials");
        let listener = LocalListener::bind(&name).unwrap();
        let client = connect_local(&name).await.unwrap();
        let server = listener.accept().await.unwrap();
        for end in [&client, &server] {
            let found = credentials(end).unwrap();
            assert_eq!(Some(found.user), own_user());
            assert_eq!(found.pid, i32::try_from(std::process::id()).ok());
        }
    }

    #[tokio::test]
    async fn a_name_belongs_to_the_first_who_listens() {
        let name = pipe("first");
        let listener = LocalListener::bind(&name).unwrap();
        let taken = LocalListener::bind(&name).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse, "{taken}");
        drop(listener);
        LocalListener::bind(&name).unwrap();
    }

    #[tokio::test]
    async fn one_direction_ends_and_the_other_goes_on() {
        let name = pipe("half");
        let listener = LocalListener::bind(&name).unwrap();
        let mut client = connect_local(&name).await.unwrap();
        let mut server = listener.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = Vec::new();
        server.read_to_end(&mut question).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!((&*question, &*answer), (&b"question"[..], &b"answer"[..]));
    }

    #[tokio::test]
    async fn each_client_gets_an_instance_of_its_own() {
        let name = pipe("many");
        let listener = LocalListener::bind(&name).unwrap();
        let connecting = tokio::spawn({
            let name = name.clone();
            async move {
                let mut clients = Vec::new();
                for number in 0..5 {
                    let mut client = connect_local(&name).await.unwrap();
                    client.write_u8(number).await.unwrap();
                    clients.push(client);
                }
                clients
            }
        });
        let mut numbers = Vec::new();
        for _ in 0..5 {
            let mut server = listener.accept().await.unwrap();
            numbers.push(server.read_u8().await.unwrap());
        }
        assert_eq!(numbers, [0, 1, 2, 3, 4]);
        connecting.await.unwrap();
        let error = connect_local(&pipe("absent")).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }
}
