//! The key that what is on disk is encrypted with, from where the operator keeps it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use waypost_encrypt::{KeyError, MasterKey, auto};
use zeroize::Zeroizing;

use crate::config::StoreConfig;

/// More than this is no key, wherever it comes from.
const GIVEN_BYTES_MAX: usize = 4 * 1024;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The file cannot be read.
    #[error(
        "store.key_file: cannot read {}: {source}; make a key with `openssl rand -hex 32 > '{}'` if there is no data yet",
        path.display(),
        path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of an older key cannot be read.
    #[error("store.old_key_files: cannot read {}: {source}", path.display())]
    OldFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such variable.
    #[error(
        "store.key_env: the environment variable {name} is not set; set it, or use store.key_file"
    )]
    Environment {
        /// Its name.
        name: String,
    },
    /// The program did not run, or not well.
    #[error(
        "store.key_command: {program}: {problem}; run it by hand as this user to see what it says"
    )]
    Command {
        /// The program.
        program: String,
        /// What became of it.
        problem: String,
    },
    /// What was given is no key.
    #[error("store.{setting}: {source}")]
    NotAKey {
        /// Where it is from.
        setting: &'static str,
        /// What is wrong with it.
        source: KeyError,
    },
}

/// The keys of what is on disk.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// Of what is written from now on, as far as the configuration wants it encrypted.
    pub(super) current: Option<MasterKey>,
    /// Of what was written before.
    pub(super) older: Vec<MasterKey>,
}

/// Reads the keys from where the configuration says they are.
pub(super) fn read(
    config: &StoreConfig,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Keys, NoKey> {
    let mut keys = Keys::default();
    for path in &config.old_key_files {
        let given = from_file(path).map_err(|source| NoKey::OldFile {
            path: path.clone(),
            source,
        })?;
        keys.older.push(key("old_key_files", &given)?);
    }
    if config.encrypt == auto::NAME {
        let begun = Instant::now();
        let choice = auto::measured(|| begun.elapsed());
        log::info!("store.encrypt = auto: {}", choice.explain());
    }
    // The configuration has only names of what is for data at rest, and a key only where something is encrypted.
    let strategy = waypost_encrypt::find_at_rest(config.encrypt);
    let strategy = strategy.unwrap_or(waypost_encrypt::default_strategy());
    let current = read_current(config, variable)?;
    keys.current = current.map(|key| key.with_strategy(strategy));
    Ok(keys)
}

fn read_current(
    config: &StoreConfig,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<MasterKey>, NoKey> {
    let (setting, given) = if let Some(path) = &config.key_file {
        let given = from_file(path).map_err(|source| NoKey::File {
            path: path.clone(),
            source,
        })?;
        ("key_file", given)
    } else if let Some(name) = &config.key_env {
        let given = variable(name).ok_or_else(|| NoKey::Environment { name: name.clone() })?;
        ("key_env", Zeroizing::new(given.into_vec()))
    } else if let [program, arguments @ ..] = config.key_command.as_slice() {
        let given = from_command(program, arguments).map_err(|problem| NoKey::Command {
            program: program.clone(),
            problem,
        })?;
        ("key_command", given)
    } else {
        return Ok(None);
    };
    key(setting, &given).map(Some)
}

fn key(setting: &'static str, given: &[u8]) -> Result<MasterKey, NoKey> {
    MasterKey::read(given).map_err(|source| NoKey::NotAKey { setting, source })
}

fn from_file(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_some(File::open(path)?)
}

fn from_command(program: &str, arguments: &[String]) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut running = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be run: {error}"))?;
    // Whatever it says beyond the bound meets a closed pipe.
    let given = running
        .stdout
        .take()
        .map_or_else(|| Ok(Zeroizing::default()), read_some);
    let status = running
        .wait()
        .map_err(|error| format!("cannot be waited for: {error}"))?;
    if !status.success() {
        return Err(format!("ended with {status}"));
    }
    given.map_err(|error| format!("what it prints cannot be read: {error}"))
}

fn read_some(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it, and for what `read_to_end` tries beyond: a vector that grows leaves copies of the key behind.
    let mut given = Zeroizing::new(Vec::with_capacity(2 * GIVEN_BYTES_MAX));
    from.take(GIVEN_BYTES_MAX as u64).read_to_end(&mut given)?;
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn told(config: &StoreConfig) -> String {
        let variable = |name: &str| (name == "STORE_KEY").then(|| DIGITS.into());
        match read(config, variable) {
            Ok(keys) => {
                let ids = keys.current.iter().chain(&keys.older).map(MasterKey::id);
                ids.map(|id| id.to_string()).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    /// Goal: `store.key_file`, `store.key_env` and `store.key_command` give the same key.
    #[test]
    fn a_key_is_read_from_file_environment_or_command() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, format!("{DIGITS}\n")).unwrap();
        let id = MasterKey::read(DIGITS.as_bytes()).unwrap().id().to_string();
        let from_file = StoreConfig {
            key_file: Some(path.clone()),
            encrypt: "aes-gcm",
            ..StoreConfig::default()
        };
        let from_environment = StoreConfig {
            key_env: Some("STORE_KEY".to_owned()),
            encrypt: "aes-gcm",
            ..StoreConfig::default()
        };
        let from_command = StoreConfig {
            key_command: vec!["cat".to_owned(), path.display().to_string()],
            encrypt: "aes-gcm",
            ..StoreConfig::default()
        };
        for config in [from_file, from_environment, from_command] {
            assert_eq!(told(&config), id);
        }
        assert_eq!(told(&StoreConfig::default()), "");
        let rotated = StoreConfig {
            old_key_files: vec![path],
            ..StoreConfig::default()
        };
        assert_eq!(told(&rotated), id, "store.old_key_files");
    }

    #[test]
    fn a_key_is_at_work_with_the_strategy_of_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, DIGITS).unwrap();
        for (encrypt, number) in [("aes-gcm", 1), ("chacha20-poly1305", 2), ("aes-ccm", 3)] {
            let config = StoreConfig {
                key_file: Some(path.clone()),
                encrypt,
                ..StoreConfig::default()
            };
            let keys = read(&config, |_| None).unwrap();
            assert_eq!(keys.current.unwrap().strategy().number, number);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_do() {
        let none = || StoreConfig {
            encrypt: "aes-gcm",
            ..StoreConfig::default()
        };
        let missing = StoreConfig {
            key_file: Some("/nowhere/key".into()),
            ..none()
        };
        assert!(told(&missing).contains("openssl rand -hex 32 > '/nowhere/key'"));
        let unset = StoreConfig {
            key_env: Some("OTHER".to_owned()),
            ..none()
        };
        assert!(told(&unset).contains("OTHER is not set"));
        let failing = StoreConfig {
            key_command: vec!["false".to_owned()],
            ..none()
        };
        assert!(
            told(&failing).contains("ended with exit status: 1"),
            "{}",
            told(&failing)
        );
        let no_program = StoreConfig {
            key_command: vec!["/nowhere/program".to_owned()],
            ..none()
        };
        assert!(told(&no_program).contains("cannot be run"));
        let endless = StoreConfig {
            key_command: vec![
                "head".to_owned(),
                "-c".to_owned(),
                "65".to_owned(),
                "/dev/zero".to_owned(),
            ],
            ..none()
        };
        assert!(
            told(&endless).contains("store.key_command"),
            "{}",
            told(&endless)
        );
    }
}
