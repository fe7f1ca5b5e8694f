//! Where a server is: `mqtt://user:password@host:port`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// MQTT's registered port.
pub const PORT_DEFAULT: u16 = 1883;
/// How long to wait for one of several addresses of a name.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// A server's address, and who connects if the URL says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// From `user@`.
    pub user_name: Option<String>,
    /// From `user:password@`.
    pub password: Option<String>,
}

/// Why a URL cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// There is no `scheme://`.
    #[error("`{0}` is not a URL; write mqtt://{0}")]
    NoScheme(String),
    /// A door of Waypost that later revisions open.
    #[error(
        "{0}:// is not built in this revision; use mqtt://HOST:PORT, which is plain MQTT over TCP"
    )]
    NotBuilt(String),
    /// Not a scheme of ours.
    #[error("unknown scheme `{0}://`; Waypost knows mqtt, mqtts, ws, wss and unix")]
    UnknownScheme(String),
    /// `mqtt://:1883`.
    #[error("the URL names no host; write mqtt://HOST:PORT")]
    NoHost,
    /// The port is no number from 1 to 65535.
    #[error("`{0}` is not a port; write a number from 1 to 65535")]
    BadPort(String),
    /// `%` without two hexadecimal digits, or not UTF-8.
    #[error("`{0}` is not percent-encoded UTF-8; write `%25` for a percent sign")]
    BadEscape(String),
    /// An IPv6 address without its closing bracket, or text behind it.
    #[error("`{0}` is not a host; an IPv6 address is written in brackets: [::1]")]
    BadHost(String),
    /// MQTT over TCP has no path.
    #[error("mqtt:// has no path, but the URL says `{0}`; give the topic with -t")]
    Path(String),
}

impl Endpoint {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(UrlError::NoScheme(url.to_owned()));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => {}
            known @ ("mqtts" | "ws" | "wss" | "unix") => {
                return Err(UrlError::NotBuilt(known.to_owned()));
            }
            _ => return Err(UrlError::UnknownScheme(scheme.to_owned())),
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if !matches!(path, "" | "/") {
            return Err(UrlError::Path(path.to_owned()));
        }
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(credentials), address),
            None => (None, authority),
        };
        let (user_name, password) = match credentials.map(|text| text.split_once(':')) {
            None => (None, None),
            Some(None) => (credentials.map(unescape).transpose()?, None),
            Some(Some((user, password))) => (Some(unescape(user)?), Some(unescape(password)?)),
        };
        let (host, port) = split_address(address)?;
        if host.is_empty() {
            return Err(UrlError::NoHost);
        }
        let port = match port {
            None => PORT_DEFAULT,
            Some(text) => match text.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(UrlError::BadPort(text.to_owned())),
            },
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            user_name,
            password,
        })
    }

    /// The address to connect to. Where the name has several, the first that answers.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let addresses: Vec<SocketAddr> =
            (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if let &[only] = addresses.as_slice() {
            return Ok(only);
        }
        let mut outcome = Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
        for address in addresses {
            outcome = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).map(|_| address);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

fn split_address(address: &str) -> Result<(&str, Option<&str>), UrlError> {
    if let Some(bracketed) = address.strip_prefix('[') {
        let bad = || UrlError::BadHost(address.to_owned());
        let (host, rest) = bracketed.split_once(']').ok_or_else(bad)?;
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(bad()),
        };
    }
    match address.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Err(UrlError::BadHost(address.to_owned())),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((address, None)),
    }
}

fn unescape(text: &str) -> Result<String, UrlError> {
    let bad = || UrlError::BadEscape(text.to_owned());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || {
                rest.next()
                    .and_then(|digit| char::from(digit).to_digit(16))
                    .ok_or_else(bad)
            };
            let value = digit()? * 16 + digit()?;
            bytes.push(u8::try_from(value).map_err(|_| bad())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, host: &str, port: u16, user: Option<&str>, password: Option<&str>) {
        let expect = Endpoint {
            host: host.into(),
            port,
            user_name: user.map(Into::into),
            password: password.map(Into::into),
        };
        assert_eq!(Endpoint::parse(url), Ok(expect), "{url}");
    }

    #[test]
    fn urls_say_host_port_and_who() {
        check("mqtt://example.org", "example.org", 1883, None, None);
        check("MQTT://127.0.0.1:2000/", "127.0.0.1", 2000, None, None);
        check("mqtt://[::1]:99", "::1", 99, None, None);
        check("mqtt://[::1]", "::1", 1883, None, None);
        check("mqtt://ann@h:1", "h", 1, Some("ann"), None);
        check(
            "mqtt://a%40b:p%3a%25@h",
            "h",
            1883,
            Some("a@b"),
            Some("p:%"),
        );
    }

    #[test]
    fn wrong_urls_say_what_to_write() {
        for (url, error) in [
            (
                "localhost:1883",
                UrlError::NoScheme("localhost:1883".into()),
            ),
            ("mqtts://h", UrlError::NotBuilt("mqtts".into())),
            ("ws://h/mqtt", UrlError::NotBuilt("ws".into())),
            ("wss://h", UrlError::NotBuilt("wss".into())),
            ("unix:///run/x.sock", UrlError::NotBuilt("unix".into())),
            ("http://h", UrlError::UnknownScheme("http".into())),
            ("mqtt://", UrlError::NoHost),
            ("mqtt://:1883", UrlError::NoHost),
            ("mqtt://h:", UrlError::BadPort(String::new())),
            ("mqtt://h:0", UrlError::BadPort("0".into())),
            ("mqtt://h:65536", UrlError::BadPort("65536".into())),
            ("mqtt://::1", UrlError::BadHost("::1".into())),
            ("mqtt://[::1", UrlError::BadHost("[::1".into())),
            ("mqtt://h/a/topic", UrlError::Path("/a/topic".into())),
            ("mqtt://a%4@h", UrlError::BadEscape("a%4".into())),
            ("mqtt://a%ff@h", UrlError::BadEscape("a%ff".into())),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }
}
