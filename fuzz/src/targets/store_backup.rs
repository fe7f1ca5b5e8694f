//! What a backup says it has.
//!
//! Input: the text of its `BACKUP` file; its checksum is also mended, so that what is behind it is reached.

use waypost_store::backup::decode_contents;

/// Runs the target.
pub fn run(input: &[u8]) {
    check(input);
    let mended = format!("{:08x} end\n", crc32c::crc32c(input));
    check(&[input, mended.as_bytes()].concat());
}

fn check(bytes: &[u8]) {
    let Ok(contents) = decode_contents(bytes) else {
        return;
    };
    for file in contents.files {
        assert!(!file.name.contains('/') && file.name != "..");
    }
}
