//! A line of `waypost streams import`: one that is read is written as a line that is read as the same.

use waypost_server::history::decode_line;

/// What has no time of its own is of then, in milliseconds since 1970.
const NOW_MS: u64 = 1_700_000_000_000;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(record) = decode_line(input, NOW_MS) else {
        return;
    };
    let mut line = Vec::new();
    record.encode_line(&mut line);
    let again = decode_line(&line, NOW_MS);
    assert_eq!(
        again.ok().as_ref(),
        Some(&record),
        "{}",
        String::from_utf8_lossy(&line)
    );
}
