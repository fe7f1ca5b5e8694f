//! What listens: a TCP port or a Unix socket.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::Bound;
use crate::config::Place;
use crate::control::data_directory::bind_for_owner;
use crate::control::listen;
use crate::socket::Socket;

/// A listening socket.
pub(crate) enum Gate {
    Tcp(mio::net::TcpListener),
    Unix(UnixGate),
}

/// A listening Unix socket; its file goes with it.
pub(crate) struct UnixGate {
    socket: mio::net::UnixListener,
    path: PathBuf,
    /// Device and inode of our file: another server may have put its own there since.
    file: (u64, u64),
}

impl Drop for UnixGate {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.file);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!("{} stays: {error}", self.path.display());
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Gate {
    /// Listens there, without blocking.
    pub(crate) fn open(place: &Place, backlog: u32) -> io::Result<(Self, Bound)> {
        match place {
            Place::Tcp(address) => {
                let socket = listen(*address, backlog)?;
                let bound = Bound::Tcp(socket.local_addr()?);
                Ok((Self::Tcp(mio::net::TcpListener::from_std(socket)), bound))
            }
            Place::Unix(path) => {
                make_room(path)?;
                let socket = bind_for_owner(path)?;
                socket.set_nonblocking(true)?;
                let gate = UnixGate {
                    socket: mio::net::UnixListener::from_std(socket),
                    path: path.clone(),
                    file: identity(&fs::symlink_metadata(path)?),
                };
                Ok((Self::Unix(gate), Bound::Unix(path.clone())))
            }
        }
    }

    pub(crate) fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept()?;
                // Small packets must not wait for a full segment; the shard writes once per tick anyway. A socket that
                // refuses the option is closed already and whoever has it will find out.
                let _ = socket.set_nodelay(true);
                Ok((Socket::Tcp(socket), Some(peer)))
            }
            Self::Unix(gate) => {
                let (socket, _) = gate.socket.accept()?;
                Ok((Socket::Unix(socket), None))
            }
        }
    }

    pub(crate) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let source: &mut dyn Source = match self {
            Self::Tcp(listener) => listener,
            Self::Unix(gate) => &mut gate.socket,
        };
        registry.register(source, token, Interest::READABLE)
    }
}

/// Removes the socket of a server that is gone: nobody answers there.
fn make_room(path: &Path) -> io::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file is there that is no socket; move it, or choose another path",
        ));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn open(path: &Path) -> io::Result<(Gate, Bound)> {
        Gate::open(&Place::Unix(path.to_owned()), 8)
    }

    #[test]
    fn a_unix_gate_is_for_its_owner_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mqtt.sock");
        let (gate, bound) = open(&path).unwrap();
        assert_eq!(bound, Bound::Unix(path.clone()));
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        drop(gate);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mqtt.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file");
        let (gate, _) = open(&path).unwrap();
        let error = open(&path).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        // Somebody else's file is not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(gate);
        assert!(path.exists());
        assert!(open(&path).err().unwrap().to_string().contains("no socket"));
    }
}
