//! The kinds of lives that `--mix` goes through, one after the other.

use std::path::Path;

/// Where the key file of a life is to stand in a configuration.
const KEY_FILE: &str = "KEY_FILE";
/// 32 bytes.
const KEY: &str = "5c0ffee3b7d1a8494e20c6f1938a7d52e1b46f0c9d8372a5546b1f8e0d9c2a71";

/// What differs between lives.
pub struct Variant {
    /// How it is called in the line of evidence.
    pub name: &'static str,
    pub shards: u16,
    /// TOML, in which `KEY_FILE` stands for a file with a key.
    pub configuration: Option<String>,
    pub is_power_cut: bool,
}

/// Name, shards, configuration, whether the power is cut too.
const MIX: &[(&str, u16, &str, bool)] = &[
    ("plain", 2, "", false),
    (
        "small segments",
        1,
        "[store]\nsegment_bytes = \"1MiB\"\n",
        false,
    ),
    (
        "encrypted",
        2,
        "[store]\nsegment_bytes = \"1MiB\"\nencrypt = \"aes-gcm\"\nkey_file = \"KEY_FILE\"\n",
        false,
    ),
    ("power cut", 2, "", true),
    ("zstd", 1, "[store]\ncompress = \"zstd\"\n", false),
    (
        "power cut, small segments, encrypted, zstd",
        1,
        "[store]\nsegment_bytes = \"1MiB\"\ncompress = \"zstd\"\nencrypt = \"aes-gcm\"\nkey_file = \"KEY_FILE\"\n",
        true,
    ),
    (
        "identity",
        2,
        "[store]\nsegment_bytes = \"1MiB\"\ncompress = \"identity\"\n",
        false,
    ),
];

/// How many there are.
pub const KINDS: u64 = MIX.len() as u64;

impl Variant {
    /// The kind of the life with that number.
    pub fn of(life: usize) -> Self {
        let (name, shards, configuration, is_power_cut) = MIX[life % MIX.len()];
        Self {
            name,
            shards,
            configuration: Some(configuration.to_owned()),
            is_power_cut,
        }
    }
}

/// `toml` with a key file in `directory`, which outlives the server's processes.
pub fn with_key(toml: &str, directory: &Path) -> String {
    let file = directory.join("key");
    std::fs::write(&file, KEY).expect("the key file is written");
    toml.replace(KEY_FILE, &file.to_string_lossy())
}
