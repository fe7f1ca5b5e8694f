//! Master keys as files and variables give them.

use waypost_encrypt::MasterKey;

/// Runs the target.
pub fn run(input: &[u8]) {
    match MasterKey::read(input) {
        Ok(key) => {
            assert!(input.len() >= 32);
            // Who writes it with space around it means the same key.
            if input.len() != 32 {
                let spaced = [b" ", input, b"\n"].concat();
                let again = MasterKey::read(&spaced).map(|key| key.id());
                assert_eq!(again, Ok(key.id()));
            }
        }
        Err(error) => assert!(error.to_string().contains("openssl rand -hex 32")),
    }
}
