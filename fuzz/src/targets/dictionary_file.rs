//! Bytes read as the file of a dictionary that an earlier run kept, with a key of the store at hand and without: a filter and a
//! dictionary, or an error; what is read in the clear is what stands there.

use std::sync::{Arc, LazyLock};

use waypost_encrypt::MasterKey;
use waypost_server::dictionaries::{decode_dictionary_file, encode_dictionary_file};

static KEYS: LazyLock<[Arc<MasterKey>; 1]> = LazyLock::new(|| [Arc::new(MasterKey::new([7; 32]))]);

/// Runs the target.
pub fn run(input: &[u8]) {
    let without = decode_dictionary_file(input.to_vec(), &[]);
    let with = decode_dictionary_file(input.to_vec(), &*KEYS);
    if input.first() == Some(&0) {
        // Nobody without a key opens what is sealed.
        assert!(without.is_err());
        return;
    }
    assert_eq!(without.is_ok(), with.is_ok());
    if let Ok((filter, dictionary)) = without {
        let again = encode_dictionary_file(filter.as_bytes(), dictionary.bytes());
        assert_eq!(again, input);
    }
    // The same with the right checksum, which chance does not find.
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    if let (Some(filter), Some(rest)) = (parts.next(), parts.next()) {
        let whole = encode_dictionary_file(filter, rest.get(4..).unwrap_or_default());
        if let Ok((filter, dictionary)) = decode_dictionary_file(whole.clone(), &[]) {
            let again = encode_dictionary_file(filter.as_bytes(), dictionary.bytes());
            assert_eq!(again, whole);
        }
    }
}
