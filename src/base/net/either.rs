//! Sockets that are the system's, or those of the simulated network that the current thread belongs to.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::simulated::{self, Listener, Stream};

/// See the head of the file.
pub enum TcpStream {
    Real(tokio::net::TcpStream),
    Simulated(Stream),
}

/// A stream that belongs to no event loop.
pub enum DetachedTcpStream {
    Real(std::net::TcpStream),
    Simulated(Stream),
}

pub enum TcpListener {
    Real(tokio::net::TcpListener),
    Simulated(Listener),
}

pub enum UdpSocket {
    Real(tokio::net::UdpSocket),
    Simulated(simulated::UdpSocket),
}

impl std::fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TcpStream")
    }
}

impl TcpStream {
    pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        match simulated::here() {
            Some(host) => Stream::connect(host, addr).await.map(TcpStream::Simulated),
            None => tokio::net::TcpStream::connect(addr).await.map(TcpStream::Real),
        }
    }

    pub fn from_std(stream: DetachedTcpStream) -> io::Result<TcpStream> {
        match stream {
            DetachedTcpStream::Real(stream) => tokio::net::TcpStream::from_std(stream).map(TcpStream::Real),
            DetachedTcpStream::Simulated(stream) => Ok(TcpStream::Simulated(stream)),
        }
    }

    pub fn into_std(self) -> io::Result<DetachedTcpStream> {
        match self {
            TcpStream::Real(stream) => stream.into_std().map(DetachedTcpStream::Real),
            TcpStream::Simulated(stream) => Ok(DetachedTcpStream::Simulated(stream)),
        }
    }

    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            TcpStream::Real(stream) => stream.set_nodelay(nodelay),
            TcpStream::Simulated(_) => Ok(()),
        }
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpStream::Real(stream) => stream.peer_addr(),
            TcpStream::Simulated(stream) => Ok(stream.peer_addr()),
        }
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpStream::Real(stream) => stream.local_addr(),
            TcpStream::Simulated(stream) => Ok(stream.local_addr()),
        }
    }

    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            TcpStream::Real(stream) => {
                let (reader, writer) = stream.split();
                (ReadHalf::Real(reader), WriteHalf::Real(writer))
            }
            TcpStream::Simulated(stream) => (ReadHalf::Simulated(stream), WriteHalf::Simulated(stream)),
        }
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            TcpStream::Real(stream) => stream.try_write(bytes),
            TcpStream::Simulated(stream) => stream.try_write(bytes),
        }
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            TcpStream::Real(stream) => stream.poll_write_ready(cx),
            TcpStream::Simulated(stream) => stream.poll_write_ready(cx),
        }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            TcpStream::Real(stream) => Pin::new(stream).poll_read(cx, buf),
            TcpStream::Simulated(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            TcpStream::Real(stream) => Pin::new(stream).poll_write(cx, bytes),
            TcpStream::Simulated(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            TcpStream::Real(stream) => Pin::new(stream).poll_shutdown(cx),
            TcpStream::Simulated(stream) => {
                stream.shut_down();
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// The reading half of a stream.
pub enum ReadHalf<'a> {
    Real(tokio::net::tcp::ReadHalf<'a>),
    Simulated(&'a Stream),
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ReadHalf::Real(half) => Pin::new(half).poll_read(cx, buf),
            ReadHalf::Simulated(stream) => stream.poll_read(cx, buf),
        }
    }
}

/// The writing half of a stream.
pub enum WriteHalf<'a> {
    Real(tokio::net::tcp::WriteHalf<'a>),
    Simulated(&'a Stream),
}

impl WriteHalf<'_> {
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            WriteHalf::Real(half) => half.writable().await,
            WriteHalf::Simulated(stream) => std::future::poll_fn(|cx| stream.poll_write_ready(cx)).await,
        }
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            WriteHalf::Real(half) => half.try_write(bytes),
            WriteHalf::Simulated(stream) => stream.try_write(bytes),
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            WriteHalf::Real(half) => Pin::new(half).poll_write(cx, bytes),
            WriteHalf::Simulated(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            WriteHalf::Real(half) => Pin::new(half).poll_shutdown(cx),
            WriteHalf::Simulated(stream) => {
                stream.shut_down();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl io::Write for DetachedTcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            DetachedTcpStream::Real(stream) => stream.write(bytes),
            DetachedTcpStream::Simulated(stream) => stream.try_write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TcpListener {
    pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        match simulated::here() {
            Some(_) => Listener::bind(addr).map(TcpListener::Simulated),
            None => tokio::net::TcpListener::bind(addr).await.map(TcpListener::Real),
        }
    }

    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        tokio::net::TcpListener::from_std(listener).map(TcpListener::Real)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            TcpListener::Real(listener) => listener.local_addr(),
            TcpListener::Simulated(listener) => Ok(listener.addr()),
        }
    }

    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            TcpListener::Real(listener) => {
                listener.accept().await.map(|(stream, from)| (TcpStream::Real(stream), from))
            }
            TcpListener::Simulated(listener) => {
                let stream = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
                let from = stream.peer_addr();
                Ok((TcpStream::Simulated(stream), from))
            }
        }
    }
}

impl UdpSocket {
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            UdpSocket::Real(socket) => socket.local_addr(),
            UdpSocket::Simulated(socket) => Ok(socket.addr()),
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        match self {
            UdpSocket::Real(socket) => socket.readable().await,
            UdpSocket::Simulated(socket) => std::future::poll_fn(|cx| socket.poll_readable(cx)).await,
        }
    }

    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            UdpSocket::Real(socket) => socket.try_recv(buf),
            UdpSocket::Simulated(socket) => socket.try_recv(buf),
        }
    }

    pub fn try_send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        match self {
            UdpSocket::Real(socket) => socket.try_send_to(bytes, to),
            UdpSocket::Simulated(socket) => Ok(socket.send_to(bytes, to)),
        }
    }
}

pub fn keep_alive(stream: &TcpStream, keepalive: &TcpKeepalive) -> io::Result<()> {
    match stream {
        TcpStream::Real(stream) => SockRef::from(stream).set_tcp_keepalive(keepalive),
        TcpStream::Simulated(_) => Ok(()),
    }
}

pub fn bind_udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    if simulated::here().is_some() {
        return simulated::UdpSocket::bind(addr).map(UdpSocket::Simulated);
    }
    let socket = std::net::UdpSocket::bind(addr)?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket).map(UdpSocket::Real)
}
