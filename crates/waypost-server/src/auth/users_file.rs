//! The users file on disk: read as a whole, changed by one at a time, replaced at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use waypost_auth::{EditError, Problems, Rules, UsersText};

use crate::config::Config;

/// In the data directory, where the configuration names no other.
const FILE_NAME: &str = "users.toml";
/// For its owner only: it has the hashes of passwords.
const MODE: u32 = 0o600;

/// Why a users file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UsersFileError {
    /// Something the system would not do.
    #[error("cannot {action} {}: {source}", path.display())]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration names a file that is not there.
    #[error(
        "the users file {} (auth.users_file) is not there; `waypost users add NAME` makes it",
        path.display()
    )]
    Missing {
        /// As it was named.
        path: PathBuf,
    },
    /// It is there and not right.
    #[error("{}", told(path, problems))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problems: Problems,
    },
    /// The change asked for cannot be made.
    #[error(transparent)]
    Change(#[from] EditError),
}

/// One problem per line, as compilers tell them.
fn told(path: &Path, problems: &Problems) -> String {
    let lines = problems
        .0
        .iter()
        .map(|problem| format!("{}:{}: {}", path.display(), problem.line, problem.message));
    lines.collect::<Vec<_>>().join("\n")
}

/// Where the users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersFile {
    path: PathBuf,
    /// The configuration names it: then it must be there.
    is_named: bool,
}

impl UsersFile {
    /// The file of that configuration.
    pub fn of(config: &Config) -> Self {
        match &config.auth.users_file {
            Some(path) => Self {
                path: path.clone(),
                is_named: true,
            },
            None => Self {
                path: config.server.data_dir.join(FILE_NAME),
                is_named: false,
            },
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Its rules. Without a file there are no users, unless the configuration names it.
    pub fn read(&self) -> Result<Rules, UsersFileError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.is_named => {
                return Ok(Rules::open());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = self.path.clone();
                return Err(UsersFileError::Missing { path });
            }
            Err(error) => return Err(failed("read", &self.path)(error)),
        };
        text.parse().map_err(|problems| self.wrong(problems))
    }

    /// Its text; empty without a file.
    pub fn text(&self) -> Result<UsersText, UsersFileError> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(failed("read", &self.path))?,
        };
        UsersText::parse(&text).map_err(|problems| self.wrong(problems))
    }

    /// The permissions of others on it, if they have any.
    pub fn open_to_others(&self) -> Option<u32> {
        let mode = fs::metadata(&self.path).ok()?.mode() & 0o777;
        (mode & !MODE != 0).then_some(mode)
    }

    /// Changes it, alone: the old file or the new one is there at any time, never a part.
    pub fn change(
        &self,
        change: impl FnOnce(&mut UsersText) -> Result<(), EditError>,
    ) -> Result<(), UsersFileError> {
        // Whoever named a symbolic link wants it to stay one.
        let path = self
            .path
            .canonicalize()
            .unwrap_or_else(|_| self.path.clone());
        let mut old = lock(&path).map_err(failed("lock", &path))?;
        let mut text = String::new();
        old.read_to_string(&mut text)
            .map_err(failed("read", &path))?;
        let mut text = UsersText::parse(&text).map_err(|problems| self.wrong(problems))?;
        change(&mut text)?;
        replace(&path, &old, &text.to_string()).map_err(failed("write", &path))
    }

    fn wrong(&self, problems: Problems) -> UsersFileError {
        UsersFileError::Wrong {
            path: self.path.clone(),
            problems,
        }
    }
}

/// The file at that path, made if missing, and locked; never one that was replaced before the lock came.
fn lock(path: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        let is_there = fs::metadata(path).is_ok_and(|there| {
            file.metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
        });
        if is_there {
            return Ok(file);
        }
    }
}

/// Puts the text in the place of the locked file, for the same owner: a server that is not root's must be able to read
/// what root changed.
fn replace(path: &Path, old: &File, text: &str) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = directory.join(format!(".{name}.new"));
    // Under the lock, one that lies there is what a crash left.
    let _ = fs::remove_file(&draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&draft)?;
    let owner = match old.metadata()? {
        // Just made: then the directory says whose it is.
        made if made.len() == 0 => fs::metadata(directory)?,
        metadata => metadata,
    };
    let ours = file.metadata()?;
    if (owner.uid(), owner.gid()) != (ours.uid(), ours.gid()) {
        // Only root can; anybody else keeps it.
        let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UsersFileError {
    let path = path.to_owned();
    move |source| UsersFileError::System {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use waypost_auth::ListedUser;

    use super::*;

    fn file(directory: &Path) -> UsersFile {
        let mut config = Config::default();
        config.server.data_dir = directory.to_owned();
        UsersFile::of(&config)
    }

    fn add(file: &UsersFile, name: &str) -> Result<(), UsersFileError> {
        let user = ListedUser {
            name: name.to_owned(),
            certificate: vec![format!("cn={name}")],
            ..ListedUser::default()
        };
        file.change(|text| text.add(&user, None))
    }

    #[test]
    fn a_missing_file_is_nobody_or_a_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let unnamed = file(directory.path());
        assert!(unnamed.read().unwrap().is_open());
        let named = UsersFile {
            is_named: true,
            ..unnamed.clone()
        };
        assert!(
            named
                .read()
                .unwrap_err()
                .to_string()
                .contains("is not there; `waypost users add NAME`")
        );
        // It is made where it is missing.
        add(&named, "alice").unwrap();
        assert_eq!(named.read().unwrap().user_count(), 1);
    }

    #[test]
    fn changes_are_for_the_owner_only_and_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        add(&file, "alice").unwrap();
        assert_eq!(file.open_to_others(), None);
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(file.open_to_others(), Some(0o644));
        fs::write(directory.path().join(".users.toml.new"), "half of").unwrap();
        add(&file, "bob").unwrap();
        assert_eq!(file.open_to_others(), None);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert_eq!(file.read().unwrap().user_count(), 2);
        let error = add(&file, "bob").unwrap_err().to_string();
        assert_eq!(error, "there is a user \"bob\" already");
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("elsewhere.toml");
        fs::write(&target, "").unwrap();
        let file = file(directory.path());
        std::os::unix::fs::symlink(&target, file.path()).unwrap();
        add(&file, "alice").unwrap();
        assert!(file.path().is_symlink());
        assert_eq!(file.read().unwrap().user_count(), 1);
    }

    #[test]
    fn mistakes_are_told_with_file_and_line_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        fs::write(file.path(), "\n[[usr]]\n").unwrap();
        let expect = format!(
            "{}:2: unknown section [[usr]]; did you mean [[user]]?",
            file.path().display()
        );
        assert_eq!(file.read().unwrap_err().to_string(), expect);
        assert_eq!(add(&file, "alice").unwrap_err().to_string(), expect);
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "\n[[usr]]\n");
    }

    /// Goal: nothing is lost between two who change at once. Method: many do.
    #[test]
    fn many_change_it_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = file(directory.path());
        thread::scope(|scope| {
            for worker in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    for number in 0..5 {
                        add(file, &format!("user-{worker}-{number}")).unwrap();
                    }
                });
            }
        });
        assert_eq!(file.read().unwrap().user_count(), 40);
    }
}
