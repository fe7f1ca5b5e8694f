//! The sockets a client connects with.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::door::Address;

/// One connection's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects. Small packets go at once: acknowledgements must not wait for one another.
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address).await?;
                socket.set_nodelay(true)?;
                Ok(Self::Tcp(socket))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    pub(crate) async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.ready(interest).await.map(drop),
            Self::Unix(socket) => socket.ready(interest).await.map(drop),
        }
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_read(into),
            Self::Unix(socket) => socket.try_read(into),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write(bytes),
            Self::Unix(socket) => socket.try_write(bytes),
        }
    }

    /// Nothing more will be written.
    pub(crate) async fn shutdown_write(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        })
        .await
    }
}
