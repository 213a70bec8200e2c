//! TCP on Windows.

use std::{
    io,
    net::SocketAddr,
    os::windows::io::{AsRawSocket, AsSocket},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
};
use windows_sys::Win32::Networking::WinSock::{SO_EXCLUSIVEADDRUSE, SOCKET, SOL_SOCKET, setsockopt};

use super::super::share_with_each;

/// Makes a socket to bind to `address`, which no other socket can then take over. It is for IPv6 only if `is_apart`.
///
/// learn.microsoft.com, "Using SO_REUSEADDR and SO_EXCLUSIVEADDRUSE": without the second, another process may bind the same port by the
/// first, and gets our connections. A port whose old connections are in TIME_WAIT can be bound all the same. `[::]` leaves out IPv4 here
/// unless it is told: "IPPROTO_IPV6 Socket Options", IPV6_V6ONLY.
pub(crate) fn new_socket(address: SocketAddr, is_apart: bool) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    exclude_others(&socket)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        SockRef::from(&socket).set_only_v6(is_apart)?;
    }
    Ok(socket)
}

/// Sets SO_EXCLUSIVEADDRUSE.
fn exclude_others(socket: &TcpSocket) -> io::Result<()> {
    let on = 1_i32.to_ne_bytes();
    // SAFETY: the socket is open as long as `socket` is borrowed, and the four bytes of the value live until the call returns.
    let failed = unsafe {
        setsockopt(
            socket.as_raw_socket() as SOCKET,
            SOL_SOCKET,
            SO_EXCLUSIVEADDRUSE,
            on.as_ptr(),
            on.len() as i32,
        )
    };
    match failed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`share_with_each`]: Windows spreads connections over no sockets.
pub(crate) fn listen_each(first: TcpListener, _: bool, runtimes: &[Handle]) -> io::Result<Vec<TcpListener>> {
    share_with_each(first, runtimes)
}

/// Sets the options that each TCP stream has.
pub(crate) fn set_stream_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// Does nothing: TCP_MAXRT ("IPPROTO_TCP socket options") counts whole seconds, and the connection's own timers find a dead peer.
pub(crate) fn set_user_timeout(_: &TcpStream, _: Duration) {}

/// Makes a second handle of a socket.
pub(crate) fn copy_tcp(socket: &TcpListener) -> io::Result<std::net::TcpListener> {
    Ok(socket.as_socket().try_clone_to_owned()?.into())
}

#[cfg(test)]
pub(crate) fn user_timeout(_: &TcpStream) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_takes_over_a_port() {
        let any = "127.0.0.1:0".parse().unwrap();
        let socket = new_socket(any, false).unwrap();
        socket.bind(any).unwrap();
        let listener = socket.listen(16).unwrap();
        let thief = TcpSocket::new_v4().unwrap();
        thief.set_reuseaddr(true).unwrap();
        thief.bind(listener.local_addr().unwrap()).unwrap_err();
    }
}
