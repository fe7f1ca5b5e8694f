//! Settings that are one word of several.

use super::Config;
use super::field::Word;

const LEVELS: [(&str, log::LevelFilter); 6] = [
    ("off", log::LevelFilter::Off),
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
    ("trace", log::LevelFilter::Trace),
];

const LET_IN: [(&str, Option<bool>); 3] =
    [("auto", None), ("true", Some(true)), ("false", Some(false))];

/// `auth.anonymous`
pub(super) const ANONYMOUS: Word<Config> = Word {
    words: || LET_IN.iter().map(|(word, _)| *word).collect(),
    read: |config| {
        let found = LET_IN
            .iter()
            .find(|(_, value)| *value == config.auth.anonymous);
        found.map_or("", |(word, _)| word)
    },
    write: |config, word| {
        let found = LET_IN.iter().find(|(known, _)| *known == word);
        found
            .map(|(_, value)| config.auth.anonymous = *value)
            .is_some()
    },
};

/// `server.balance`
pub(super) const BALANCE: Word<Config> = Word {
    words: || waypost_names::names(waypost_balance::registry()),
    read: |config| config.server.balance,
    write: |config, name| {
        let found = waypost_balance::find(name);
        found
            .map(|strategy| config.server.balance = strategy.name)
            .is_ok()
    },
};

/// `log.level`
pub(super) const LEVEL: Word<Config> = Word {
    words: || LEVELS.iter().map(|(word, _)| *word).collect(),
    read: |config| {
        let found = LEVELS.iter().find(|(_, level)| *level == config.log.level);
        found.map_or("", |(word, _)| word)
    },
    write: |config, word| {
        let found = LEVELS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(word));
        found.map(|(_, level)| config.log.level = *level).is_some()
    },
};
