//! The PROXY header: what is read never depends on how the bytes came, and an address agrees with a reading by hand.
//!
//! Input: the bytes of a connection.

use std::net::IpAddr;

use waypost_server::{
    PROXY_FIXED_BYTES, PROXY_HEADER_BYTES_MAX, ProxySource, decode_proxy_header,
    decode_proxy_length,
};

/// Runs the target.
pub fn run(input: &[u8]) {
    let whole = decode_proxy_header(input);
    if let Ok(Some(length)) = decode_proxy_length(input) {
        assert!((PROXY_FIXED_BYTES..=PROXY_HEADER_BYTES_MAX).contains(&length));
        // What follows the header is not looked at.
        let header = input.get(..length).unwrap_or(input);
        assert_eq!(decode_proxy_header(header), whole);
    }
    // A beginning is never taken for a header, and never refused if the whole is taken.
    if let Ok(Some(source)) = whole {
        let length = decode_proxy_length(input).unwrap_or_default();
        for cut in 0..length.unwrap_or_default() {
            let begin = input.get(..cut).unwrap_or_default();
            assert_eq!(decode_proxy_header(begin), Ok(None), "cut at {cut}");
        }
        check(input, source);
    }
}

fn check(input: &[u8], source: ProxySource) {
    let ProxySource::Client(address) = source else {
        return;
    };
    let at = |from: usize, count: usize| input.get(from..from + count).unwrap_or_default().to_vec();
    let (octets, port) = match input.get(13) {
        Some(0x11) => (at(16, 4), at(24, 2)),
        _ => (at(16, 16), at(48, 2)),
    };
    let read = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    assert!(octets.ends_with(&read), "{octets:02x?} {read:02x?}");
    assert_eq!(address.port().to_be_bytes().to_vec(), port);
}
