//! Keys as JSON, and names of suites: what is read is written and read to the same, and nothing is printed.

use waypost_encrypt::{Jwk, Suite};

/// Runs the target.
pub fn run(input: &[u8]) {
    if let Ok(name) = std::str::from_utf8(input)
        && let Ok(suite) = Suite::parse(name)
    {
        assert_eq!(Suite::parse_legacy(&suite.to_string()), Ok(suite));
    }
    let Ok(key) = Jwk::decode(input) else { return };
    let text = match &key {
        Jwk::Public(key) => key.to_jwk(),
        Jwk::Private(key) => key.to_jwk().as_str().to_owned(),
        Jwk::Symmetric(key) => key.to_jwk().as_str().to_owned(),
    };
    let again = Jwk::decode(text.as_bytes());
    assert!(again.is_ok(), "what was written is not read");
    let Ok(again) = again else { return };
    assert_eq!((again.id(), again.kind()), (key.id(), key.kind()));
    assert!(format!("{key:?}").len() < 100, "a key is printed");
}
