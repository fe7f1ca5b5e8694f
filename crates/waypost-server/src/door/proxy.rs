//! The PROXY protocol, version 2: who the client is, as the proxy before us says.
//!
//! Specified with `HAProxy` (doc/proxy-protocol.txt, sections 2.2 to 2.4). The header has 16 bytes that say how long the rest
//! is, so it can be read to its last byte and not one beyond it.
//!
//! Deliberately not here: who may send one (`proxy_from`), and the TLVs behind the addresses, which are skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The part of the header whose length is fixed.
pub const PROXY_FIXED_BYTES: usize = 16;

/// The longest header that is read: addresses take at most 216 bytes, the rest is for TLVs.
pub const PROXY_HEADER_BYTES_MAX: usize = 4 << 10;

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Where a connection comes from, as a PROXY header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxySource {
    /// From the proxy itself (a health check), or from somewhere it does not name.
    Proxy,
    /// From this client.
    Client(SocketAddr),
    /// From a Unix socket at the proxy.
    Unix,
}

/// Why bytes are no PROXY header that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// Something else altogether.
    #[error("the connection does not begin with a PROXY header")]
    NoHeader,
    /// Version 1, in text.
    #[error(
        "the PROXY header is version 1; set the proxy to version 2 (HAProxy: send-proxy-v2, nginx and AWS call it v2 too)"
    )]
    Version1,
    /// A version after 2.
    #[error("the PROXY header has version {0}; only 2 is understood")]
    Version(u8),
    /// A command that is not LOCAL or PROXY.
    #[error("the PROXY header has the unknown command {0}")]
    Command(u8),
    /// An address family or transport that no connection of ours can have.
    #[error(
        "the PROXY header has family and transport 0x{0:02x}; only TCP and Unix streams are possible here"
    )]
    Family(u8),
    /// Fewer bytes than the addresses of the family take.
    #[error("the PROXY header has {0} bytes for addresses, too few for their family")]
    TooShort(usize),
    /// More than we read.
    #[error("the PROXY header has {0} bytes; at most {PROXY_HEADER_BYTES_MAX} are read")]
    TooLong(usize),
}

/// How long the whole header is, when `bytes` has its fixed part; `None` when more bytes are needed.
///
/// Bytes that cannot begin a header are an error at the first that is wrong, so that nobody waits for the rest.
pub fn decode_proxy_length(bytes: &[u8]) -> Result<Option<usize>, ProxyError> {
    let begin = bytes.get(..SIGNATURE.len()).unwrap_or(bytes);
    if !SIGNATURE.starts_with(begin) {
        return Err(if b"PROXY ".starts_with(bytes.get(..6).unwrap_or(bytes)) {
            ProxyError::Version1
        } else {
            ProxyError::NoHeader
        });
    }
    let Some(&[version, _, high, low]) = bytes.get(SIGNATURE.len()..PROXY_FIXED_BYTES) else {
        return Ok(None);
    };
    if version >> 4 != 2 {
        return Err(ProxyError::Version(version >> 4));
    }
    let length = PROXY_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong(length));
    }
    Ok(Some(length))
}

/// What a whole header says; `None` when bytes are missing.
pub fn decode_proxy_header(bytes: &[u8]) -> Result<Option<ProxySource>, ProxyError> {
    let Some(length) = decode_proxy_length(bytes)? else {
        return Ok(None);
    };
    let (Some(addresses), Some(&[version, family])) =
        (bytes.get(PROXY_FIXED_BYTES..length), bytes.get(12..14))
    else {
        return Ok(None);
    };
    match version & 0x0f {
        // LOCAL: the proxy speaks for itself, whatever the rest says.
        0 => return Ok(Some(ProxySource::Proxy)),
        1 => {}
        command => return Err(ProxyError::Command(command)),
    }
    let too_short = || ProxyError::TooShort(addresses.len());
    match family {
        // AF_UNSPEC: a connection the proxy cannot describe; the real endpoints are to be used.
        0x00 => Ok(Some(ProxySource::Proxy)),
        // TCP over IPv4: both addresses, then both ports.
        0x11 => {
            let &[a, b, c, d, _, _, _, _, high, low, _, _] =
                addresses.first_chunk::<12>().ok_or_else(too_short)?;
            let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(ProxySource::Client(SocketAddr::new(ip, port))))
        }
        // TCP over IPv6.
        0x21 => {
            let whole = addresses.first_chunk::<36>().ok_or_else(too_short)?;
            let (source, rest) = whole.split_first_chunk::<16>().ok_or_else(too_short)?;
            let &[high, low] = rest
                .get(16..)
                .and_then(|ports| ports.first_chunk::<2>())
                .ok_or_else(too_short)?;
            let ip = IpAddr::V6(Ipv6Addr::from(*source)).to_canonical();
            let port = u16::from_be_bytes([high, low]);
            Ok(Some(ProxySource::Client(SocketAddr::new(ip, port))))
        }
        // A Unix stream: two paths of 108 bytes.
        0x31 if addresses.len() < 216 => Err(too_short()),
        0x31 => Ok(Some(ProxySource::Unix)),
        other => Err(ProxyError::Family(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn ipv4() -> Vec<u8> {
        vec![203, 0, 113, 7, 192, 0, 2, 1, 0xc0, 0x01, 0x07, 0x5b]
    }

    fn ipv6() -> Vec<u8> {
        let source: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let mut bytes = source.octets().to_vec();
        bytes.extend([0; 16]);
        bytes.extend([0x00, 0x50, 0x07, 0x5b]);
        bytes
    }

    #[test]
    fn what_headers_say() {
        let with_tlv = [ipv4(), vec![0x04, 0, 3, 1, 2, 3]].concat();
        let mapped = {
            let mut bytes = ipv6();
            bytes[..16].copy_from_slice(&Ipv4Addr::new(203, 0, 113, 7).to_ipv6_mapped().octets());
            bytes
        };
        let client = |text: &str| Ok(Some(ProxySource::Client(text.parse().unwrap())));
        for (version, family, rest, expect) in [
            (0x21, 0x11, ipv4(), client("203.0.113.7:49153")),
            (0x21, 0x11, with_tlv, client("203.0.113.7:49153")),
            (0x21, 0x21, ipv6(), client("[2001:db8::7]:80")),
            (0x21, 0x21, mapped, client("203.0.113.7:80")),
            (0x21, 0x31, vec![0; 216], Ok(Some(ProxySource::Unix))),
            (0x21, 0x00, vec![], Ok(Some(ProxySource::Proxy))),
            (0x20, 0x00, vec![], Ok(Some(ProxySource::Proxy))),
            (0x20, 0x11, ipv4(), Ok(Some(ProxySource::Proxy))),
            (0x20, 0xff, vec![1, 2, 3], Ok(Some(ProxySource::Proxy))),
            (0x21, 0x11, vec![0; 11], Err(ProxyError::TooShort(11))),
            (0x21, 0x21, vec![0; 35], Err(ProxyError::TooShort(35))),
            (0x21, 0x31, vec![0; 215], Err(ProxyError::TooShort(215))),
            (0x21, 0x12, ipv4(), Err(ProxyError::Family(0x12))),
            (0x21, 0x41, ipv4(), Err(ProxyError::Family(0x41))),
            (0x22, 0x11, ipv4(), Err(ProxyError::Command(2))),
            (0x11, 0x11, ipv4(), Err(ProxyError::Version(1))),
            (0x31, 0x11, ipv4(), Err(ProxyError::Version(3))),
        ] {
            let bytes = header(version, family, &rest);
            assert_eq!(decode_proxy_header(&bytes), expect, "{bytes:02x?}");
            if let Ok(Some(_)) = expect {
                for cut in 0..bytes.len() {
                    assert_eq!(decode_proxy_header(&bytes[..cut]), Ok(None), "cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_at_its_first_wrong_byte() {
        for (bytes, expect) in [
            (
                &b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"[..],
                ProxyError::Version1,
            ),
            (b"PROXY ", ProxyError::Version1),
            (b"\x10\x0c\0\x04MQTT", ProxyError::NoHeader),
            (b"\x16\x03\x01", ProxyError::NoHeader),
            (b"GET / HTTP/1.1", ProxyError::NoHeader),
            (b"\r\n\r\n\0\r\nQUIX", ProxyError::NoHeader),
        ] {
            assert_eq!(decode_proxy_length(bytes), Err(expect), "{bytes:?}");
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let bound = PROXY_HEADER_BYTES_MAX - PROXY_FIXED_BYTES;
        for (rest, expect) in [
            (bound, Ok(Some(PROXY_HEADER_BYTES_MAX))),
            (
                bound + 1,
                Err(ProxyError::TooLong(PROXY_HEADER_BYTES_MAX + 1)),
            ),
            (
                2 * bound,
                Err(ProxyError::TooLong(PROXY_FIXED_BYTES + 2 * bound)),
            ),
        ] {
            assert_eq!(
                decode_proxy_length(&header(0x21, 0x11, &vec![0; rest])),
                expect
            );
        }
    }
}
