//! What kind of bytes a message is: by its content type, by its first bytes, and by a sample of them.

/// What a message is made of, as far as it matters for packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON, by its first byte or its content type.
    Json,
    /// Other text.
    Text,
    /// Anything else.
    Binary,
    /// Packed or encrypted already, and what says so.
    Packed(&'static str),
}

/// How what is packed already begins: `(bytes, how far in, what it is)`.
const MAGIC: &[(&[u8], usize, &str)] = &[
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"GIF8", 0, "GIF"),
    (b"WEBP", 8, "WebP"),
    (b"ftyp", 4, "MP4 or AVIF"),
    (b"\x1a\x45\xdf\xa3", 0, "WebM"),
    (b"OggS", 0, "Ogg"),
    (b"ID3", 0, "MP3"),
    (b"fLaC", 0, "FLAC"),
    (b"\x28\xb5\x2f\xfd", 0, "zstd"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"\x1f\x9d", 0, "compress"),
    (b"PK\x03\x04", 0, "ZIP"),
    (b"BZh", 0, "bzip2"),
    (b"\xfd7zXZ\x00", 0, "xz"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7-Zip"),
    (b"\x04\x22\x4d\x18", 0, "lz4"),
    (b"wOF2", 0, "WOFF2"),
];

/// How content types begin whose bytes are packed already, and those of them that are not.
const PACKED_TYPES: &[&str] = &[
    "image/",
    "audio/",
    "video/",
    "font/woff",
    "application/zip",
    "application/gzip",
    "application/zstd",
    "application/cose",
];
const UNPACKED_TYPES: &[&str] = &[
    "image/svg",
    "image/bmp",
    "image/x-ms-bmp",
    "image/tiff",
    "audio/wav",
    "audio/x-wav",
];

/// Shorter messages are not looked at for noise: a few bytes say little, and cost little.
const NOISE_BYTES_MIN: usize = 256;

/// A message is looked at in so many places,
const PLACES: usize = 16;

/// each so many bytes long.
const PLACE_BYTES: usize = 256;

/// Two bytes of noise are the same in one case of 256. What is so only by this factor more often is taken for noise: what
/// is packed or encrypted comes to 1.0 to 1.1, text to 10 and more.
const NOISE_FACTOR_MAX: f64 = 1.2;

/// Text has at least so many printable bytes of a hundred.
const PRINTABLE_PER_CENT_MIN: usize = 90;

/// Looks at a message.
#[must_use]
pub fn look(message: &[u8], content_type: Option<&str>) -> Kind {
    let begins = |types: &[&str]| {
        let said = content_type.unwrap_or_default().trim_start();
        types.iter().any(|begin| {
            let start = said.get(..begin.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(begin))
        })
    };
    if begins(PACKED_TYPES) && !begins(UNPACKED_TYPES) {
        return Kind::Packed("its content type");
    }
    for (magic, at, name) in MAGIC {
        if message
            .get(*at..)
            .is_some_and(|rest| rest.starts_with(magic))
        {
            return Kind::Packed(name);
        }
    }
    if message.len() >= NOISE_BYTES_MIN && is_noise(message) {
        return Kind::Packed("noise");
    }
    if begins(&["application/json"]) {
        return Kind::Json;
    }
    let is_printable = |byte: &&u8| !byte.is_ascii_control() || (9..=13).contains(*byte);
    let printable = |place: &[u8]| place.iter().filter(is_printable).count();
    let (printable, all) = places(message).fold((0, 0), |(so_far, all), place| {
        (so_far + printable(place), all + place.len())
    });
    if printable * 100 < all * PRINTABLE_PER_CENT_MIN {
        return Kind::Binary;
    }
    match message.trim_ascii_start().first() {
        Some(b'{' | b'[') => Kind::Json,
        _ => Kind::Text,
    }
}

/// Where a message is looked at; a short one everywhere.
fn places(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let step = (message.len() / PLACES).max(PLACE_BYTES);
    let places = message.chunks(step).take(PLACES);
    places.map(|place| place.get(..PLACE_BYTES).unwrap_or(place))
}

/// Whether two bytes are the same hardly more often than by chance.
fn is_noise(message: &[u8]) -> bool {
    let mut counts = [0_u32; 256];
    for byte in places(message).flatten() {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let all: u32 = counts.iter().sum();
    let pairs = |n: u32| f64::from(n) * (f64::from(n) - 1.0);
    let same: f64 = counts.iter().map(|n| pairs(*n)).sum();
    same * 256.0 <= pairs(all) * NOISE_FACTOR_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mixed = (0..u32::MAX)
            .take(length)
            .map(|n| (n ^ 0x5bd1).wrapping_mul(0x9e37_79b1));
        mixed
            .map(|n| (n ^ (n >> 15)).wrapping_mul(0x85eb_ca6b))
            .map(|n| (n >> 24) as u8)
            .collect()
    }

    #[test]
    fn messages_are_told_apart() {
        let long = "what is said in words, at some length, twice over; ".repeat(20);
        for (message, content_type, expect) in [
            (&b"{\"a\":1}"[..], None, Kind::Json),
            (b" [1, 2]", None, Kind::Json),
            (b"hello", None, Kind::Text),
            (long.as_bytes(), None, Kind::Text),
            ("grüß Gott, наконец-то, やっと".as_bytes(), None, Kind::Text),
            (b"\x00\x01\x02\x03hello", None, Kind::Binary),
            (b"", None, Kind::Text),
            (b"x", Some("Application/JSON; charset=utf-8"), Kind::Json),
            (b"x", Some("image/png"), Kind::Packed("its content type")),
            (b"<svg", Some("image/svg+xml"), Kind::Text),
            (
                b"\xff\xd8\xff\xe0",
                Some("text/plain"),
                Kind::Packed("JPEG"),
            ),
            (b"\x1f\x8b\x08", None, Kind::Packed("gzip")),
            (b"RIFF\x00\x00\x00\x00WEBPVP8 ", None, Kind::Packed("WebP")),
            (&noise(4_000), None, Kind::Packed("noise")),
            (&noise(NOISE_BYTES_MIN), None, Kind::Packed("noise")),
            (&noise(100), None, Kind::Binary),
        ] {
            assert_eq!(
                look(message, content_type),
                expect,
                "{:?}",
                message.get(..20)
            );
        }
        let base64: Vec<u8> = noise(4_000).iter().map(|byte| b'0' + byte % 64).collect();
        assert_eq!(look(&base64, None), Kind::Text);
    }
}
