//! A network in memory, for one thread that simulates many hosts; `world` is what happens on it, and these are its
//! sockets.
//!
//! Which host a call is made on behalf of is a property of the thread ([`enter`]): code under test dials and listens as
//! usual. A socket is a number and its addresses; what belongs to it lies in the thread's [`Network`].

mod weather;
mod world;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

pub use weather::Weather;
use world::Ends;
pub use world::Network;

thread_local! {
    static NETWORK: RefCell<Option<Network>> = const { RefCell::new(None) };
    static HERE: Cell<Option<IpAddr>> = const { Cell::new(None) };
}

/// Gives the current thread a network of its own.
pub fn install(network: Network) {
    NETWORK.set(Some(network));
}

/// Does something with the current thread's network.
///
/// # Panics
/// When it has none, and inside of itself.
pub fn with<T>(act: impl FnOnce(&mut Network) -> T) -> T {
    NETWORK.with_borrow_mut(|network| act(network.as_mut().expect("a thread that simulates a network")))
}

/// Makes the current thread act for the host of this address, or for none.
pub fn enter(host: Option<IpAddr>) {
    HERE.set(host);
}

/// The host that the current thread acts for, if it simulates one.
pub fn here() -> Option<IpAddr> {
    HERE.get()
}

/// One end of a connection.
pub struct Stream(Ends);

impl Stream {
    /// Dials, in the name of `host`.
    pub async fn connect(host: IpAddr, to: SocketAddr) -> io::Result<Stream> {
        struct Dialling(u64);
        impl Drop for Dialling {
            fn drop(&mut self) {
                with(|network| network.give_up(self.0));
            }
        }
        let dialling = Dialling(with(|network| network.dial(host, to)));
        std::future::poll_fn(|cx| with(|network| network.poll_dialled(dialling.0, cx))).await.map(Stream)
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with(|network| network.poll_read(self.0.incoming, cx, buf))
    }

    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        with(|network| network.send(self.0.outgoing, bytes))
    }

    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(|network| network.poll_write_ready(self.0.outgoing, cx))
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::task::ready!(self.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// Says that no more is sent.
    pub fn shut_down(&self) {
        with(|network| network.end(self.0.outgoing));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        with(|network| network.close(&self.0));
    }
}

/// Where a host accepts connections.
pub struct Listener(SocketAddr);

impl Listener {
    pub fn bind(addr: SocketAddr) -> io::Result<Listener> {
        with(|network| network.listen(addr)).map(|()| Listener(addr))
    }

    pub fn addr(&self) -> SocketAddr {
        self.0
    }

    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Stream> {
        with(|network| network.poll_accept(self.0, cx)).map(Stream)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        with(|network| network.stop_listening(self.0));
    }
}

/// Where a host receives datagrams.
pub struct UdpSocket(SocketAddr);

impl UdpSocket {
    pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        with(|network| network.bind(addr)).map(|()| UdpSocket(addr))
    }

    pub fn addr(&self) -> SocketAddr {
        self.0
    }

    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with(|network| network.poll_readable(self.0, cx)).map(Ok)
    }

    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = with(|network| network.receive(self.0)).ok_or(io::ErrorKind::WouldBlock)?;
        let len = bytes.len().min(buf.len());
        buf[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }

    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> usize {
        with(|network| network.send_datagram(self.0.ip(), to, bytes));
        bytes.len()
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        with(|network| network.unbind(self.0));
    }
}
