//! From HTTP to WebSocket: the opening handshake of RFC 6455, as MQTT uses it (MQTT 5 section 6, MQTT 3.1.1 section 6).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::control::guard::is_known_host;

/// The longest head of a request that is read; above it the answer is 431.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;
/// Headers a request may have; above it the answer is 431.
const HEADERS_MAX: usize = 64;
/// The paths MQTT is at.
const PATHS: [&str; 2] = ["/", "/mqtt"];
/// What RFC 6455 section 1.3 appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A request, however it was parsed.
pub(crate) struct Head<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(&'a str, &'a [u8])>,
}

/// Which pages may come in through a door.
pub(super) struct Pages<'a> {
    /// `http://` or `https://`: how the door's own origin begins.
    pub(super) scheme: &'static str,
    /// Origins besides its own.
    pub(super) allowed_origins: &'a [String],
    /// Only requests that name loopback or one of these hosts: a page elsewhere could reach a door on loopback
    /// through a name of its own. `None`: any name.
    pub(super) allowed_hosts: Option<&'a [String]>,
}

/// A request that is agreed to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// Sec-WebSocket-Accept.
    pub(crate) accept: String,
    /// Sec-WebSocket-Protocol.
    pub(crate) subprotocol: &'static str,
}

/// A request that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) why: &'static str,
    /// A header that says how to do better; its name in lower case.
    pub(crate) header: Option<(&'static str, &'static str)>,
}

const fn refusal(status: u16, reason: &'static str, why: &'static str) -> Refusal {
    Refusal {
        status,
        reason,
        why,
        header: None,
    }
}

/// What the head of a request, parsed from the beginning of `bytes`, leads to.
pub(super) enum Answer {
    /// The head is not whole.
    Incomplete,
    /// Its length, and what is answered.
    Agreed(usize, Agreed),
    Refused(Refusal),
}

pub(super) fn answer(bytes: &[u8], pages: &Pages<'_>) -> Answer {
    const TOO_LARGE: Refusal = refusal(
        431,
        "Request Header Fields Too Large",
        "the head of this request is too large",
    );
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Answer::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Answer::Refused(TOO_LARGE);
        }
        Err(_) => {
            return Answer::Refused(refusal(
                400,
                "Bad Request",
                "this is not an HTTP/1.1 request",
            ));
        }
    };
    if length > HEAD_BYTES_MAX {
        return Answer::Refused(TOO_LARGE);
    }
    let head = Head {
        method: request.method.unwrap_or_default(),
        path: request.path.unwrap_or_default(),
        headers: request
            .headers
            .iter()
            .map(|header| (header.name, header.value))
            .collect(),
    };
    if request.version != Some(1) {
        return Answer::Refused(refusal(400, "Bad Request", "WebSocket needs HTTP/1.1"));
    }
    match pages.check(&head).and_then(|()| head.agree()) {
        Ok(agreed) => Answer::Agreed(length, agreed),
        Err(refused) => Answer::Refused(refused),
    }
}

impl Head<'_> {
    /// The values of all headers of that name.
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.headers
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim_ascii())
    }

    /// The value of the one header of that name; none if there are several.
    fn one(&self, name: &'static str) -> Option<&str> {
        let mut values = self.values(name);
        let value = values.next()?;
        values.next().is_none().then_some(())?;
        str::from_utf8(value).ok()
    }

    /// Whether a header that is a list has the token.
    fn lists(&self, name: &'static str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Checks all that makes a request an opening handshake for MQTT (RFC 6455 section 4.2.1).
    pub(crate) fn agree(&self) -> Result<Agreed, Refusal> {
        let path = self.path.split('?').next().unwrap_or_default();
        if !PATHS.contains(&path) {
            return Err(refusal(404, "Not Found", "MQTT over WebSocket is at /mqtt"));
        }
        if self.method != "GET" {
            return Err(Refusal {
                header: Some(("allow", "GET")),
                ..refusal(405, "Method Not Allowed", "a WebSocket begins with GET")
            });
        }
        if !self.lists("Upgrade", "websocket") || !self.lists("Connection", "upgrade") {
            return Err(Refusal {
                header: Some(("upgrade", "websocket")),
                ..refusal(
                    426,
                    "Upgrade Required",
                    "only WebSocket is spoken here: Connection: Upgrade, Upgrade: websocket",
                )
            });
        }
        if self.one("Sec-WebSocket-Version") != Some("13") {
            return Err(Refusal {
                header: Some(("sec-websocket-version", "13")),
                ..refusal(
                    426,
                    "Upgrade Required",
                    "only version 13 of WebSocket is spoken here",
                )
            });
        }
        let key = self
            .one("Sec-WebSocket-Key")
            .filter(|key| BASE64.decode(key).is_ok_and(|nonce| nonce.len() == 16))
            .ok_or(refusal(
                400,
                "Bad Request",
                "Sec-WebSocket-Key must be 16 bytes in base64",
            ))?;
        // [MQTT-6.0.0-3], [MQTT-6.0.0-4]: the client offers `mqtt`, the server answers with it. Clients of MQTT 3.1
        // called it after their version.
        let subprotocol = ["mqtt", "mqttv3.1"]
            .into_iter()
            .find(|known| self.lists("Sec-WebSocket-Protocol", known))
            .ok_or(refusal(
                400,
                "Bad Request",
                "the subprotocol mqtt must be offered: Sec-WebSocket-Protocol: mqtt",
            ))?;
        Ok(Agreed {
            accept: accept(key),
            subprotocol,
        })
    }
}

impl Pages<'_> {
    fn check(&self, head: &Head<'_>) -> Result<(), Refusal> {
        let host =
            head.one("Host")
                .ok_or(refusal(400, "Bad Request", "a request names one Host"))?;
        if self
            .allowed_hosts
            .is_some_and(|allowed| !is_known_host(host, allowed))
        {
            return Err(refusal(
                403,
                "Forbidden",
                "the Host of this request is not one of this server's; use 127.0.0.1, localhost or [::1], or add the \
                 name to http.allowed_hosts",
            ));
        }
        if head.values("Origin").next().is_none() {
            return Ok(());
        }
        let own_or_allowed = |origin: &str| {
            origin
                .strip_prefix(self.scheme)
                .is_some_and(|rest| rest.eq_ignore_ascii_case(host))
                || self
                    .allowed_origins
                    .iter()
                    .any(|allowed| allowed.eq_ignore_ascii_case(origin))
        };
        if head.one("Origin").is_some_and(own_or_allowed) {
            return Ok(());
        }
        Err(refusal(
            403,
            "Forbidden",
            "the Origin of this request is not this server's; to let that page connect, add its origin to \
             http.allowed_origins",
        ))
    }
}

/// RFC 6455 section 4.2.2, 5.4.
fn accept(key: &str) -> String {
    let joined = format!("{key}{GUID}");
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    BASE64.encode(aws_lc_rs::digest::digest(sha1, joined.as_bytes()))
}

impl Agreed {
    pub(super) fn response(&self) -> Vec<u8> {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
            self.accept, self.subprotocol
        )
        .into_bytes()
    }
}

impl Refusal {
    pub(super) fn response(&self) -> Vec<u8> {
        let header = self
            .header
            .map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
        format!(
            "HTTP/1.1 {} {}\r\n{header}Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\n\r\n{}\n",
            self.status,
            self.reason,
            self.why.len() + 1,
            self.why
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[(&str, &str)] = &[
        ("Host", "127.0.0.1:8083"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "mqtt"),
    ];

    /// The good request with one header replaced, removed (no value) or added; the status of the answer.
    fn status(line: &str, name: &str, value: Option<&str>, local: bool) -> u16 {
        let mut headers: Vec<_> = GOOD
            .iter()
            .filter(|(known, _)| *known != name)
            .copied()
            .collect();
        headers.extend(value.map(|value| (name, value)));
        let mut request = format!("{line}\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request += "\r\nbeyond";
        let (hosts, origins) = (
            ["broker.example.org".to_owned()],
            ["https://app.example.org".to_owned()],
        );
        let pages = Pages {
            scheme: "http://",
            allowed_origins: &origins,
            allowed_hosts: local.then_some(&hosts),
        };
        match answer(request.as_bytes(), &pages) {
            Answer::Incomplete => 0,
            Answer::Agreed(length, agreed) => {
                assert_eq!(&request[length..], "beyond");
                // The example of RFC 6455 section 1.3.
                assert_eq!(agreed.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                101
            }
            Answer::Refused(refused) => refused.status,
        }
    }

    #[test]
    fn what_is_agreed_to() {
        let get = "GET /mqtt HTTP/1.1";
        for (line, name, value, expect) in [
            (get, "", None, 101),
            ("GET / HTTP/1.1", "", None, 101),
            ("GET /mqtt?token=1 HTTP/1.1", "", None, 101),
            ("GET /other HTTP/1.1", "", None, 404),
            ("GET /mqtt/ HTTP/1.1", "", None, 404),
            ("POST /mqtt HTTP/1.1", "", None, 405),
            ("GET /mqtt HTTP/1.0", "", None, 400),
            ("nonsense", "", None, 400),
            (get, "Host", None, 400),
            (get, "Upgrade", None, 426),
            (get, "Upgrade", Some("h2c"), 426),
            (get, "Upgrade", Some("WebSocket"), 101),
            (get, "Connection", Some("close"), 426),
            (get, "Sec-WebSocket-Version", Some("8"), 426),
            (get, "Sec-WebSocket-Version", None, 426),
            (get, "Sec-WebSocket-Key", None, 400),
            (get, "Sec-WebSocket-Key", Some("short"), 400),
            (get, "Sec-WebSocket-Key", Some("dGhlIHNhbXBsZQ=="), 400),
            (get, "Sec-WebSocket-Protocol", None, 400),
            (get, "Sec-WebSocket-Protocol", Some("chat"), 400),
            (get, "Sec-WebSocket-Protocol", Some("chat, mqttv3.1"), 101),
            (get, "Sec-WebSocket-Protocol", Some("mqttv3.1,mqtt"), 101),
            (get, "Origin", Some("http://127.0.0.1:8083"), 101),
            (get, "Origin", Some("https://127.0.0.1:8083"), 403),
            (get, "Origin", Some("https://app.example.org"), 101),
            (get, "Origin", Some("https://evil.example"), 403),
            (get, "Origin", Some("null"), 403),
        ] {
            assert_eq!(
                status(line, name, value, true),
                expect,
                "{line} {name}: {value:?}"
            );
        }
    }

    #[test]
    fn on_loopback_only_known_hosts() {
        for (host, local, open) in [
            ("localhost:8083", 101, 101),
            ("broker.example.org:8083", 101, 101),
            ("evil.example:8083", 403, 101),
        ] {
            let get = "GET /mqtt HTTP/1.1";
            assert_eq!(status(get, "Host", Some(host), true), local, "{host}");
            assert_eq!(status(get, "Host", Some(host), false), open, "{host}");
        }
    }

    #[test]
    fn mqtt_is_preferred() {
        let mut headers: Vec<(&str, &[u8])> = GOOD
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        headers.insert(0, ("Sec-WebSocket-Protocol", b"mqttv3.1"));
        let head = Head {
            method: "GET",
            path: "/mqtt",
            headers,
        };
        assert_eq!(head.agree().unwrap().subprotocol, "mqtt");
    }

    #[test]
    fn the_head_is_bounded() {
        let pages = Pages {
            scheme: "http://",
            allowed_origins: &[],
            allowed_hosts: None,
        };
        for (length, expect) in [
            (HEAD_BYTES_MAX - 1, 0),
            (HEAD_BYTES_MAX, 431),
            (2 * HEAD_BYTES_MAX, 431),
        ] {
            let mut request = b"GET / HTTP/1.1\r\nX: ".to_vec();
            request.resize(length, b'x');
            let status = match answer(&request, &pages) {
                Answer::Incomplete => 0,
                Answer::Agreed(..) => 101,
                Answer::Refused(refused) => refused.status,
            };
            assert_eq!(status, expect, "{length}");
        }
        for (count, expect) in [
            (HEADERS_MAX, 404),
            (HEADERS_MAX + 1, 431),
            (2 * HEADERS_MAX, 431),
        ] {
            let headers = "Host: a\r\n".to_owned() + &"X: y\r\n".repeat(count - 1);
            let request = format!("GET /no HTTP/1.1\r\n{headers}\r\n");
            let Answer::Refused(refused) = answer(request.as_bytes(), &pages) else {
                panic!()
            };
            assert_eq!(refused.status, expect, "{count}");
        }
    }
}
