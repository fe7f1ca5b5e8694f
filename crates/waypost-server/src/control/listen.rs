//! Opening a TCP listener.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// Listens on the address with that backlog; the listener does not block.
///
/// The standard library's own `bind` leaves no choice of the backlog, and a listener on `[::]`
/// would take the IPv4 port as well.
pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A server that starts again need not wait for its last connections to be forgotten.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn listens_where_it_was_told_and_nowhere_twice() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap(), 8).unwrap();
            let bound = listener.local_addr().unwrap();
            assert_ne!(bound.port(), 0);
            TcpStream::connect(bound).unwrap();
            assert_eq!(
                listen(bound, 8).unwrap_err().kind(),
                io::ErrorKind::AddrInUse
            );
        }
    }

    #[test]
    fn the_backlog_is_the_one_asked_for() {
        // What limits.accept_backlog sets: Linux completes backlog + 1 handshakes for a listener that does not accept.
        let listener = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listener.local_addr().unwrap();
        let patience = std::time::Duration::from_millis(200);
        let waiting: Vec<_> = (0..3)
            .map(|_| TcpStream::connect_timeout(&address, patience).unwrap())
            .collect();
        assert!(TcpStream::connect_timeout(&address, patience).is_err());
        drop(waiting);
    }
}
