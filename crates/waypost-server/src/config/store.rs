//! `[store]`: how what outlives the process is kept.

use std::path::PathBuf;

use super::Config;
use super::error::Problem;
use super::field::{Field, Number, Word, number};
use super::load::{Loading, line_for};
use super::setting::{Reload, Setting};
use waypost_encrypt::Use;
use waypost_store::cache;

/// `[store]`: how what outlives the process is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreConfig {
    /// From this size on a segment of the log is sealed and the next begins.
    pub segment_bytes: u64,
    /// The strategy (`waypost_compress`) that packs the log's blocks.
    pub compress: &'static str,
    /// The strategy (`waypost_encrypt`) that encrypts them; `none` is none.
    pub encrypt: &'static str,
    /// The file the master key is in.
    pub key_file: Option<PathBuf>,
    /// The environment variable it is in.
    pub key_env: Option<String>,
    /// The program that says it, with its arguments.
    pub key_command: Vec<String>,
    /// Files with the keys of what was written before the key was changed.
    pub old_key_files: Vec<PathBuf>,
    /// The strategy (`waypost_cache`) that decides which messages read back stay in memory.
    pub cache: &'static str,
    /// How many bytes of them.
    pub cache_bytes: u64,
    /// Bytes written down that the disk and the views have not caught up with; beyond it clients are not read.
    pub pending_bytes_max: usize,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            compress: waypost_compress::default_strategy().name,
            encrypt: NO_ENCRYPTION,
            key_file: None,
            key_env: None,
            key_command: Vec::new(),
            old_key_files: Vec::new(),
            cache: cache::default_strategy().name,
            cache_bytes: 16 << 20,
            pending_bytes_max: 16 << 20,
        }
    }
}

/// What `store.encrypt` says where nothing is encrypted.
pub(crate) const NO_ENCRYPTION: &str = "none";

/// Encryption has one key, and a key has something to encrypt.
pub(super) fn check(loading: &Loading, problems: &mut Vec<Problem>) {
    let store = &loading.config.store;
    let given = [
        ("key_file", store.key_file.is_some()),
        ("key_env", store.key_env.is_some()),
        ("key_command", !store.key_command.is_empty()),
    ];
    let mut given = given.iter().filter(|(_, is_given)| *is_given);
    let by_policy = loading.config.topics.first_encrypt();
    if store.encrypt == NO_ENCRYPTION && by_policy.is_none() {
        problems.extend(given.map(|(key, _)| Problem::Idle {
            origin: loading.origin("store", key),
            key: format!("store.{key}"),
            reason: "nothing is encrypted; add encrypt = \"aes-gcm\", or name it in old_key_files if \
                     something was encrypted with it"
                .to_owned(),
        }));
        return;
    }
    let Some((first, _)) = given.next() else {
        let example = "\"/etc/waypost/store.key\"";
        problems.push(match by_policy {
            Some(origin) if store.encrypt == NO_ENCRYPTION => Problem::Missing {
                origin: origin.clone(),
                key: format!("topic.{}", ENCRYPT.key),
                missing: "a key",
                fix: format!("key_file = {example} under [store]"),
            },
            _ => {
                let origin = loading.origin("store", "encrypt");
                Problem::Missing {
                    fix: line_for(&origin, &KEY_FILE, example),
                    origin,
                    key: ENCRYPT.name(),
                    missing: "a key",
                }
            }
        });
        return;
    };
    problems.extend(given.map(|(key, _)| Problem::Idle {
        origin: loading.origin("store", key),
        key: format!("store.{key}"),
        reason: format!("store.{first} says the key already"),
    }));
}

const COMPRESS_WORDS: Word<Config> = Word {
    words: || waypost_names::names(waypost_compress::registry()),
    read: |config| config.store.compress,
    write: |config, name| {
        let found = waypost_compress::find(name);
        found
            .map(|strategy| config.store.compress = strategy.name)
            .is_ok()
    },
};

/// The strategies for data at rest.
pub(super) fn at_rest_names() -> Vec<&'static str> {
    let strategies = waypost_encrypt::registry().iter();
    strategies
        .filter(|strategy| strategy.uses.contains(&Use::AtRest))
        .map(|strategy| strategy.name)
        .collect()
}

/// The name of a strategy for data at rest, however it is written.
pub(super) fn at_rest(name: &str) -> Option<&'static str> {
    let found = waypost_encrypt::find(name).ok()?;
    found.uses.contains(&Use::AtRest).then_some(found.name)
}

const ENCRYPT_WORDS: Word<Config> = Word {
    words: || [vec![NO_ENCRYPTION], at_rest_names()].concat(),
    read: |config| config.store.encrypt,
    write: |config, name| {
        if name.eq_ignore_ascii_case(NO_ENCRYPTION) {
            config.store.encrypt = NO_ENCRYPTION;
            return true;
        }
        at_rest(name)
            .map(|name| config.store.encrypt = name)
            .is_some()
    },
};

const CACHE_WORDS: Word<Config> = Word {
    words: || waypost_names::names(cache::registry()),
    read: |config| config.store.cache,
    write: |config, name| {
        let found = cache::find(name);
        found
            .map(|strategy| config.store.cache = strategy.name)
            .is_ok()
    },
};

pub(super) const SEGMENT_BYTES: Setting = Setting {
    section: "store",
    key: "segment_bytes",
    doc: "Size from which on a file of the log is sealed and the next one begun. What nobody is owed any more goes \
          file by file.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(1 << 20, 1 << 30, store.segment_bytes)),
};

pub(super) const COMPRESS: Setting = Setting {
    section: "store",
    key: "compress",
    doc: "How the log's blocks are packed: a strategy of `waypost strategies compress`. Files have no dictionaries: zstd-dict \
          is zstd there.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Word(COMPRESS_WORDS),
};

pub(super) const ENCRYPT: Setting = Setting {
    section: "store",
    key: "encrypt",
    doc: "How what is on disk is encrypted: a strategy of `waypost strategies encrypt`, with the key of key_file, key_env \
          or key_command; none: not at all.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Word(ENCRYPT_WORDS),
};

pub(super) const KEY_FILE: Setting = Setting {
    section: "store",
    key: "key_file",
    doc: "The file with the key for store.encrypt: 64 hexadecimal digits, as `openssl rand -hex 32` makes them, or 32 \
          bytes. Keep it apart from the data, and keep a copy: without it the data is lost.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::OptionalPath(|config| &mut config.store.key_file),
};

pub(super) const KEY_ENV: Setting = Setting {
    section: "store",
    key: "key_env",
    doc: "The environment variable with that key, in place of a file.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::OptionalName(|config| &mut config.store.key_env),
};

pub(super) const KEY_COMMAND: Setting = Setting {
    section: "store",
    key: "key_command",
    doc: "The program that prints that key, with its arguments, in place of a file. It is run once, at the start, without \
          a shell.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Names(|config| &mut config.store.key_command),
};

pub(super) const OLD_KEY_FILES: Setting = Setting {
    section: "store",
    key: "old_key_files",
    doc: "Files with the keys that were used before. What was written with one is read with it until it is rewritten or no \
          longer needed.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Paths(|config| &mut config.store.old_key_files),
};

pub(super) const CACHE: Setting = Setting {
    section: "store",
    key: "cache",
    doc: "What stays in memory of the messages read back from disk: a strategy of `waypost strategies cache`.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Word(CACHE_WORDS),
};

pub(super) const CACHE_BYTES: Setting = Setting {
    section: "store",
    key: "cache_bytes",
    doc: "Memory for them; what the strategy likes least makes room.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(0, 1 << 40, store.cache_bytes)),
};

pub(super) const PENDING_BYTES_MAX: Setting = Setting {
    section: "store",
    key: "pending_bytes_max",
    doc: "Memory for what is on its way to the log and the views. At the bound clients are not read until the disk has \
          caught up.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(64 << 10, 1 << 40, store.pending_bytes_max)),
};

pub(super) const GROUP_WINDOW_MESSAGES_MAX: Setting = Setting {
    section: "limits",
    key: "group_window_messages_max",
    doc: "Messages that the store has for one group and that wait in memory too. The others are read when half of these \
          are left.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Count(number!(1, 1_000_000, limits.group_window_messages_max)),
};

pub(super) const GROUP_WINDOW_BYTES_MAX: Setting = Setting {
    section: "limits",
    key: "group_window_bytes_max",
    doc: "Memory for these, counted as for one session; the same policy. One message may go beyond.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(0, 1 << 30, limits.group_window_bytes_max)),
};

pub(super) const DELAYED_MESSAGES_MAX: Setting = Setting {
    section: "limits",
    key: "delayed_messages_max",
    doc: "Delayed messages that may wait for their time. Beyond it a message with a delay gets 0x97.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Count(number!(0, 1_000_000_000, limits.delayed_messages_max)),
};

pub(super) const DEAD_LETTERS_WAITING_MAX: Setting = Setting {
    section: "limits",
    key: "dead_letters_waiting_max",
    doc: "Dead letters of one shard that may be on their way, to be published or to the disk. Beyond it a \
          message that dies is dropped and counted.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Count(number!(0, 1_000_000_000, limits.dead_letters_waiting_max)),
};

pub(super) const DEAD_LETTERS_WAITING_BYTES_MAX: Setting = Setting {
    section: "limits",
    key: "dead_letters_waiting_bytes_max",
    doc: "Memory for these, counted as for one session; the same policy.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(0, 1 << 40, limits.dead_letters_waiting_bytes_max)),
};

pub(super) const HISTORY_READERS_PER_SESSION_MAX: Setting = Setting {
    section: "limits",
    key: "history_readers_per_session_max",
    doc: "Subscriptions with $from one session may hold. Beyond it one gets 0x97.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Count(number!(
        0,
        1_000_000,
        limits.history_readers_per_session_max
    )),
};

pub(super) const HISTORY_WINDOW_MESSAGES_MAX: Setting = Setting {
    section: "limits",
    key: "history_window_messages_max",
    doc: "Records that one subscription with $from has in memory. The others are read when half of these are \
          sent.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Count(number!(2, 1_000_000, limits.history_window_messages_max)),
};

pub(super) const HISTORY_WINDOW_BYTES_MAX: Setting = Setting {
    section: "limits",
    key: "history_window_bytes_max",
    doc: "Memory for these, in bytes of their contents; the same policy. Either half may go beyond by one record.",
    reload: Reload::AtStart,
    flag: None,
    field: Field::Bytes(number!(2, 1 << 30, limits.history_window_bytes_max)),
};
