//! Where a server is and through which door: `mqtts://user:password@host:port`.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The path WebSocket servers have MQTT at, unless the URL says another.
const WEBSOCKET_PATH: &str = "/mqtt";
/// How long to wait for one of several addresses of a name.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The doors of a server, by the schemes of their URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT over a Unix socket.
    Unix,
}

/// A server's address, and who connects if the URL says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Through which door.
    pub scheme: Scheme,
    /// Name or address, an IPv6 address without its brackets; of a Unix socket its path.
    pub host: String,
    /// TCP port; 0 for a Unix socket.
    pub port: u16,
    /// What a WebSocket is asked for, from the first `/`; else empty.
    pub path: String,
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
    /// Not a scheme of ours.
    #[error("unknown scheme `{0}://`; Waypost knows mqtt, mqtts, ws, wss and unix")]
    UnknownScheme(String),
    /// `mqtt://:1883`.
    #[error("the URL names no host; write {0}://HOST:PORT")]
    NoHost(Scheme),
    /// `unix://`.
    #[error("the URL names no socket; write unix:///PATH")]
    NoSocket,
    /// The port is no number from 1 to 65535.
    #[error("`{0}` is not a port; write a number from 1 to 65535")]
    BadPort(String),
    /// `%` without two hexadecimal digits, or not UTF-8.
    #[error("`{0}` is not percent-encoded UTF-8; write `%25` for a percent sign")]
    BadEscape(String),
    /// An IPv6 address without its closing bracket, or text behind it.
    #[error("`{0}` is not a host; an IPv6 address is written in brackets: [::1]")]
    BadHost(String),
    /// Only WebSocket has a path.
    #[error("{0}:// has no path, but the URL says `{1}`; give the topic with -t")]
    Path(Scheme, String),
    /// What HTTP cannot ask for.
    #[error("`{0}` is not a path to ask a server for; percent-encode what is not plain ASCII")]
    BadPath(String),
}

impl Scheme {
    /// As a URL writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// The registered port.
    pub const fn port_default(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
            Self::Unix => 0,
        }
    }

    /// Whether TLS is spoken there.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    /// Whether WebSocket is spoken there.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => Self::Mqtt,
            "mqtts" => Self::Mqtts,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            "unix" => Self::Unix,
            _ => return None,
        })
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Endpoint {
    /// A host's door of MQTT without WebSocket; `port`: none for the registered one.
    pub fn host(scheme: Scheme, host: &str, port: Option<u16>) -> Self {
        Self {
            scheme,
            host: host.to_owned(),
            port: port.unwrap_or(scheme.port_default()),
            path: String::new(),
            user_name: None,
            password: None,
        }
    }

    /// A Unix socket.
    pub fn unix(path: &str) -> Self {
        Self::host(Scheme::Unix, path, None)
    }

    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(UrlError::NoScheme(url.to_owned()));
        };
        let Some(scheme) = Scheme::parse(scheme) else {
            return Err(UrlError::UnknownScheme(scheme.to_owned()));
        };
        if scheme == Scheme::Unix {
            let path = unescape(rest)?;
            return if path.is_empty() {
                Err(UrlError::NoSocket)
            } else {
                Ok(Self::unix(&path))
            };
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path {
            "" | "/" if scheme.is_websocket() => WEBSOCKET_PATH,
            "" | "/" => "",
            path if !scheme.is_websocket() => {
                return Err(UrlError::Path(scheme, path.to_owned()));
            }
            path if path.starts_with('/')
                && path
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && byte != b'#') =>
            {
                path
            }
            path => return Err(UrlError::BadPath(path.to_owned())),
        };
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
            return Err(UrlError::NoHost(scheme));
        }
        let port = match port {
            None => None,
            Some(text) => match text.parse() {
                Ok(port) if port > 0 => Some(port),
                _ => return Err(UrlError::BadPort(text.to_owned())),
            },
        };
        Ok(Self {
            path: path.to_owned(),
            user_name,
            password,
            ..Self::host(scheme, host, port)
        })
    }

    /// `HOST:PORT`, the host in brackets where it must be.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The TCP address to connect to. Where the name has several, the first that answers.
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
        match self.scheme {
            Scheme::Mqtt => f.write_str(&self.authority()),
            Scheme::Unix => write!(f, "unix://{}", self.host),
            scheme => write!(f, "{scheme}://{}{}", self.authority(), self.path),
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

    fn check(url: &str, shown: &str, user: Option<&str>, password: Option<&str>) {
        let endpoint = Endpoint::parse(url).unwrap();
        assert_eq!(endpoint.to_string(), shown, "{url}");
        assert_eq!(endpoint.user_name.as_deref(), user, "{url}");
        assert_eq!(endpoint.password.as_deref(), password, "{url}");
    }

    #[test]
    fn urls_say_door_host_port_path_and_who() {
        check("mqtt://example.org", "example.org:1883", None, None);
        check("MQTT://127.0.0.1:2000/", "127.0.0.1:2000", None, None);
        check("mqtt://[::1]:99", "[::1]:99", None, None);
        check("mqtts://[::1]", "mqtts://[::1]:8883", None, None);
        check("ws://h", "ws://h:80/mqtt", None, None);
        check("ws://h:8080/", "ws://h:8080/mqtt", None, None);
        check("wss://h/a/b?c=d", "wss://h:443/a/b?c=d", None, None);
        check("unix:///run/a%20b", "unix:///run/a b", None, None);
        check("unix://here.sock", "unix://here.sock", None, None);
        check("mqtt://ann@h:1", "h:1", Some("ann"), None);
        check(
            "wss://a%40b:p%3a%25@h",
            "wss://h:443/mqtt",
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
            ("http://h", UrlError::UnknownScheme("http".into())),
            ("mqtt://", UrlError::NoHost(Scheme::Mqtt)),
            ("wss://:1883", UrlError::NoHost(Scheme::Wss)),
            ("unix://", UrlError::NoSocket),
            ("mqtt://h:", UrlError::BadPort(String::new())),
            ("mqtt://h:0", UrlError::BadPort("0".into())),
            ("mqtt://h:65536", UrlError::BadPort("65536".into())),
            ("mqtt://::1", UrlError::BadHost("::1".into())),
            ("mqtt://[::1", UrlError::BadHost("[::1".into())),
            (
                "mqtts://h/a/topic",
                UrlError::Path(Scheme::Mqtts, "/a/topic".into()),
            ),
            ("ws://h/a b", UrlError::BadPath("/a b".into())),
            ("ws://h/a#b", UrlError::BadPath("/a#b".into())),
            ("ws://h?a", UrlError::BadPath("?a".into())),
            ("mqtt://a%4@h", UrlError::BadEscape("a%4".into())),
            ("mqtt://a%ff@h", UrlError::BadEscape("a%ff".into())),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }
}
