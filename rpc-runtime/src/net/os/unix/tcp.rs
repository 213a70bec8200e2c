//! TCP on Unix: the options that each system has in another way.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::super::ACCEPT_QUEUE;

/// Makes a socket that can be bound to `address` even soon after another one was. It is for IPv6 only if `is_apart`.
///
/// SO_REUSEADDR lets a port be bound whose old connections are in TIME_WAIT, and never one where another socket listens: socket(7),
/// setsockopt(2) of the BSDs. `[::]` includes IPv4 on Linux (ipv6(7)) and macOS; FreeBSD leaves it out unless it is told (ip6(4)).
pub(crate) fn new_socket(address: SocketAddr, is_apart: bool) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    let is_any_v6 = address.is_ipv6() && address.ip().is_unspecified();
    if address.is_ipv6() && is_apart {
        SockRef::from(&socket).set_only_v6(true)?;
    } else if is_any_v6 && cfg!(target_os = "freebsd") {
        SockRef::from(&socket).set_only_v6(false)?;
    }
    Ok(socket)
}

/// Replaces `first` by one socket of the same port for each runtime. The OS spreads connections over them.
///
/// Linux spreads by SO_REUSEPORT: socket(7). FreeBSD spreads by another option, SO_REUSEPORT_LB (setsockopt(2)), which tokio does not have.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn listen_each(
    first: TcpListener,
    is_apart: bool,
    runtimes: &[Handle],
) -> io::Result<Vec<TcpListener>> {
    let address = first.local_addr()?;
    drop(first);
    let each = runtimes.iter().map(|runtime| {
        let socket = new_socket(address, is_apart)?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let _entered = runtime.enter();
        socket.listen(ACCEPT_QUEUE as u32)
    });
    each.collect()
}

/// As [`share_with_each`](super::super::share_with_each).
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn listen_each(first: TcpListener, _: bool, runtimes: &[Handle]) -> io::Result<Vec<TcpListener>> {
    super::super::share_with_each(first, runtimes)
}

/// Sets the options that each TCP stream has.
pub(crate) fn set_stream_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Without this limit the kernel takes megabytes, and a CANCEL or a PING would wait behind them: TCP_NOTSENT_LOWAT in Linux' own
    // Documentation/networking/ip-sysctl. FreeBSD has no such option: tcp(4).
    #[cfg(any(target_os = "linux", target_os = "android"))]
    SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    Ok(())
}

/// Sets TCP_USER_TIMEOUT, which only Linux has: tcp(7). macOS has TCP_RXT_CONNDROPTIME (tcp(4)), and FreeBSD only one number for all
/// sockets (tcp(4)); there the connection's own timers are enough for us, and the OS keeps its buffers for longer.
pub(crate) fn set_user_timeout(stream: &TcpStream, time: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(time)) {
        tracing::debug!(%error, "cannot set TCP_USER_TIMEOUT: the OS keeps unacknowledged data for longer");
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = (stream, time);
}

/// Makes a second handle of a socket.
pub(crate) fn copy_tcp(socket: &TcpListener) -> io::Result<std::net::TcpListener> {
    Ok(socket.as_fd().try_clone_to_owned()?.into())
}

/// Maximum number of unsent bytes that the kernel holds for a TCP stream before it reports that it is full.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 512 * 1024;

/// The time that [`set_user_timeout`] has set, as the OS has it.
#[cfg(test)]
pub(crate) fn user_timeout(stream: &TcpStream) -> Option<Duration> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return SockRef::from(stream).tcp_user_timeout().unwrap();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = stream;
        None
    }
}
