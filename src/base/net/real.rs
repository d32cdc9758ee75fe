//! The system's sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, TcpKeepalive};

pub use std::net::TcpStream as DetachedTcpStream;
pub use tokio::net::tcp::{ReadHalf, WriteHalf};
pub use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Has the system ask whether the other side is still there, when it has been silent for long.
pub fn keep_alive(stream: &TcpStream, keepalive: &TcpKeepalive) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(keepalive)
}

/// A socket for datagrams at this address. Must be called within a tokio runtime.
pub fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
