//! Records as lines for people, and the parameters of a request for them.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

/// `orders/#` as a parameter of a request has it.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b'=' => {
                out.push(char::from(byte));
            }
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A time for people, to the millisecond.
pub fn time(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time)
        .map_or_else(|_| "at no time".to_owned(), |at| format!("{at:.3}"))
}

/// `offset  time  topic payload`; a payload that is no text is told by its length.
pub fn write_plain(line: &[u8], out: &mut impl Write) -> io::Result<()> {
    let record: Value = serde_json::from_slice(line)?;
    let number = |name: &str| record.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let (offset, time) = (number("offset"), time(number("time_ms")));
    let topic = text("topic").unwrap_or("(damaged)");
    match (text("payload"), text("payload_base64")) {
        (Some(payload), _) => writeln!(out, "{offset}  {time}  {topic} {payload}"),
        (None, Some(packed)) => {
            let padding = packed
                .bytes()
                .rev()
                .take_while(|byte| *byte == b'=')
                .count();
            let bytes = packed.len() / 4 * 3 - padding.min(packed.len());
            writeln!(out, "{offset}  {time}  {topic} ({bytes} bytes)")
        }
        (None, None) => writeln!(out, "{offset}  {time}  {topic}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line() {
        for (line, expect) in [
            (
                r#"{"offset":41,"time_ms":1700000000000,"topic":"a/b","payload":"x y"}"#,
                "41  2023-11-14T22:13:20.000Z  a/b x y\n",
            ),
            (
                r#"{"offset":0,"time_ms":0,"topic":"a","payload_base64":"/w=="}"#,
                "0  1970-01-01T00:00:00.000Z  a (1 bytes)\n",
            ),
            (
                r#"{"offset":0,"time_ms":0,"body_base64":"/w=="}"#,
                "0  1970-01-01T00:00:00.000Z  (damaged)\n",
            ),
        ] {
            let mut out = Vec::new();
            write_plain(line.as_bytes(), &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expect);
        }
    }

    #[test]
    fn parameters_are_encoded() {
        assert_eq!(percent_encoded("a/+/ü#&x=1"), "a/%2B/%C3%BC%23%26x=1");
    }
}
