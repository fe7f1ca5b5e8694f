//! TLS on the HTTP address: what hyper reads and writes goes through our one TLS connection type, so that an upgraded
//! connection can go on to a shard as it is.
//!
//! Deliberately not here: which certificate is shown, and whether a client's is good (`door`).

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::stream::Outgoing;
use crate::stream::tls::{Tls, TlsError};

/// What is read from the socket at a time, in bytes.
const READ_BYTES: usize = 8 * 1024;
/// What is taken from hyper at a time, in bytes: what fits into one record.
const WRITE_BYTES_MAX: usize = 16 * 1024;

/// A TLS connection after its handshake, as tokio's reader and writer.
pub(super) struct Secure {
    socket: TcpStream,
    tls: Tls,
    /// Decrypted and not read yet, from `plain_at` on.
    plain: Vec<u8>,
    plain_at: usize,
    /// Encrypted and not written yet, from `out_at` on.
    out: Outgoing,
    out_at: usize,
    is_closing: bool,
    /// The names of the client's certificate.
    pub(super) certificate: Vec<String>,
}

impl Secure {
    /// Shakes hands. What TLS has to say of a failure is sent before this returns it.
    pub(super) async fn accept(socket: TcpStream, tls: Tls) -> io::Result<Self> {
        let mut secure = Self {
            socket,
            tls,
            plain: Vec::new(),
            plain_at: 0,
            out: Outgoing::default(),
            out_at: 0,
            is_closing: false,
            certificate: Vec::new(),
        };
        let mut wire = vec![0; READ_BYTES];
        while secure.tls.is_handshaking() {
            let count = secure.socket.read(&mut wire).await?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let taken = secure.understand(wire.get(..count).unwrap_or_default());
            secure.flush().await?;
            taken?;
        }
        Ok(secure)
    }

    pub(super) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The socket, its TLS, what was decrypted and not read, and the names of the certificate. `None` while something waits to be written: whoever
    /// goes on with it would write around that.
    pub(super) fn into_parts(self) -> Option<(TcpStream, Tls, Vec<u8>, Vec<String>)> {
        let is_written = self.out_at == self.out.as_slice().len();
        let unread = self.plain.get(self.plain_at..).unwrap_or_default().to_vec();
        is_written.then_some((self.socket, self.tls, unread, self.certificate))
    }

    /// Takes bytes from the socket: what they say to `plain`, what must be answered to `out`.
    fn understand(&mut self, wire: &[u8]) -> io::Result<()> {
        if self.plain_at == self.plain.len() {
            self.plain.clear();
            self.plain_at = 0;
        }
        let plain = &mut self.plain;
        let taken = self.tls.read(wire, &mut self.out, &mut |bytes| {
            plain.extend_from_slice(bytes);
        });
        taken.map_err(of_tls)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.as_slice().get(self.out_at..)
            && !rest.is_empty()
        {
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                count => self.out_at += count,
            }
        }
        self.out.clear();
        self.out_at = 0;
        Poll::Ready(Ok(()))
    }
}

fn of_tls(error: TlsError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

impl AsyncRead for Secure {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let unread = this.plain.get(this.plain_at..).unwrap_or_default();
            let count = unread.len().min(into.remaining());
            if count > 0 {
                into.put_slice(unread.get(..count).unwrap_or_default());
                this.plain_at += count;
                return Poll::Ready(Ok(()));
            }
            if this.tls.is_peer_closed() {
                return Poll::Ready(Ok(()));
            }
            let mut wire = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut wire);
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                // Without close_notify the end may be somebody else's doing (RFC 8446 section 6.1).
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            let taken = this.understand(read.filled());
            // An answer of TLS's own waits for the next flush if the socket is full.
            if let Poll::Ready(sent) = this.poll_send(context) {
                sent?;
            }
            taken?;
        }
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(context))?;
        let record = bytes.get(..WRITE_BYTES_MAX).unwrap_or(bytes);
        this.tls.write(record, &mut this.out).map_err(of_tls)?;
        if let Poll::Ready(sent) = this.poll_send(context) {
            sent?;
        }
        Poll::Ready(Ok(record.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_closing {
            this.is_closing = true;
            this.tls.close(&mut this.out).map_err(of_tls)?;
        }
        ready!(this.poll_send(context))?;
        Pin::new(&mut this.socket).poll_shutdown(context)
    }
}
