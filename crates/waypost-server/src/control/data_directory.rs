//! The data directory: one server at a time, for its owner only, with the administrator's socket.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, flock};
use rustix::process::{geteuid, umask};

const LOCK_FILE: &str = "waypost.lock";
const SOCKET_FILE: &str = "waypost.sock";

/// The longest path a Unix socket can have: `sun_path` is 108 bytes, the last one NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirectoryError {
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
    /// Another server has it.
    #[error(
        "the data directory {} is in use by another server{}; stop it, or choose another directory \
         with --data-dir",
        path.display(),
        process.map_or_else(String::new, |process| format!(" (process {process})"))
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other server's process id, if it wrote it down.
        process: Option<u32>,
    },
    /// Other users could look into it.
    #[error(
        "the data directory {} is open to other users (mode {mode:o}) and has files in it that are \
         not ours; choose another with --data-dir, or close it: chmod 700 '{}'",
        path.display(),
        path.display()
    )]
    OpenToOthers {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "the data directory {} belongs to user {owner}, this server runs as user {user}; start it \
         as that user, or choose another directory with --data-dir",
        path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
        /// Ours.
        user: u32,
    },
    /// No place for the socket.
    #[error(
        "the administrator's socket would be {} ({} bytes, at most {SOCKET_PATH_BYTES_MAX} are \
         possible) and $XDG_RUNTIME_DIR {why}; choose a shorter --data-dir",
        path.display(),
        path.as_os_str().len()
    )]
    NoPlaceForSocket {
        /// The path that is too long.
        path: PathBuf,
        /// Why the other place cannot be used.
        why: &'static str,
    },
    /// A file that is no socket is where the socket belongs.
    #[error("{} is in the way of the administrator's socket and is no socket; move it", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
}

/// A data directory that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    /// Its lock ends when it is closed.
    _lock: File,
}

impl DataDirectory {
    /// Makes the directory if it is missing (mode 0700), or closes it to other users if it is new
    /// or was a data directory before, and locks it.
    pub fn open(path: &Path) -> Result<Self, DataDirectoryError> {
        make(path).map_err(failed("make the data directory", path))?;
        // Whoever looks for the socket finds the same path, from wherever it was started.
        let path = &path.canonicalize().map_err(failed("find", path))?;
        let metadata = fs::metadata(path).map_err(failed("look at", path))?;
        let user = geteuid().as_raw();
        if metadata.uid() != user {
            return Err(DataDirectoryError::NotOurs {
                path: path.clone(),
                owner: metadata.uid(),
                user,
            });
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            if !is_ours_to_close(path).map_err(failed("look into", path))? {
                let path = path.clone();
                return Err(DataDirectoryError::OpenToOthers { path, mode });
            }
            fs::set_permissions(path, Permissions::from_mode(0o700))
                .map_err(failed("close to other users", path))?;
        }
        Ok(Self {
            _lock: lock(path)?,
            path: path.clone(),
        })
    }

    /// Where it is: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the administrator's socket of a data directory is; also for programs that look for a
    /// running server. The path must be as [`DataDirectory::path`] says it.
    pub fn socket_path(path: &Path) -> Result<PathBuf, DataDirectoryError> {
        socket_path(
            path,
            std::env::var_os("XDG_RUNTIME_DIR")
                .map(PathBuf::from)
                .as_deref(),
        )
    }

    /// Listens on the administrator's socket, in the place of one that a dead server left: the
    /// lock says that it is dead.
    pub(super) fn listen(&self) -> Result<(UnixListener, PathBuf), DataDirectoryError> {
        let path = Self::socket_path(&self.path)?;
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                fs::remove_file(&path).map_err(failed("remove the old socket", &path))?;
            }
            Ok(_) => return Err(DataDirectoryError::NotASocket { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at", &path)(error)),
        }
        let socket = bind_for_owner(&path).map_err(failed("listen on", &path))?;
        socket
            .set_nonblocking(true)
            .map_err(failed("listen on", &path))?;
        Ok((socket, path))
    }
}

fn make(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        made => made?,
    }
    // What is kept in it must not go with its name when the power does.
    match path.parent() {
        Some(around) if around.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(around) => File::open(around)?.sync_all(),
        None => Ok(()),
    }
}

/// Whether nothing but our own files can be in a directory: then its mode is ours to change. That
/// of somebody's home, or of `/tmp`, is not.
fn is_ours_to_close(path: &Path) -> io::Result<bool> {
    if path.join(LOCK_FILE).exists() {
        return Ok(true);
    }
    // A freshly made file system has this one directory.
    let mut others = fs::read_dir(path)?.filter(|entry| {
        !entry
            .as_ref()
            .is_ok_and(|entry| entry.file_name() == "lost+found")
    });
    Ok(others.next().is_none())
}

fn lock(directory: &Path) -> Result<File, DataDirectoryError> {
    let path = directory.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    if let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed("lock", &path)(error.into()));
        }
        // The number is a courtesy to the reader; without it the message is still right.
        let mut text = String::new();
        let process = Read::by_ref(&mut file).take(16).read_to_string(&mut text);
        return Err(DataDirectoryError::InUse {
            path: directory.to_owned(),
            process: process.ok().and_then(|_| text.trim().parse().ok()),
        });
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("write", &path))?;
    Ok(file)
}

fn socket_path(
    directory: &Path,
    runtime_dir: Option<&Path>,
) -> Result<PathBuf, DataDirectoryError> {
    let path = directory.join(SOCKET_FILE);
    if fits(&path) {
        return Ok(path);
    }
    let refused = |why| DataDirectoryError::NoPlaceForSocket {
        path: path.clone(),
        why,
    };
    let runtime_dir = runtime_dir.ok_or_else(|| refused("is not set"))?;
    let metadata = fs::metadata(runtime_dir).map_err(|_| refused("is no directory"))?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
        return Err(refused("is not for this user alone"));
    }
    let name = format!(
        "waypost-{:016x}.sock",
        fnv1a(directory.as_os_str().as_bytes())
    );
    Some(runtime_dir.join(name))
        .filter(|path| fits(path))
        .ok_or_else(|| refused("is too long as well"))
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX
}

/// FNV-1a, 64 bits: the same name in every build, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Binds under umask 077, so that there is no moment in which another user could connect.
pub(crate) fn bind_for_owner(path: &Path) -> io::Result<UnixListener> {
    // The umask is the process's: two servers in one process must not restore each other's.
    static UMASK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = UMASK.lock().unwrap_or_else(PoisonError::into_inner);
    let before = umask(Mode::RWXG | Mode::RWXO);
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirectoryError {
    let path = path.to_owned();
    move |source| DataDirectoryError::System {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_for_its_owner_only() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("deep/data");
        let directory = DataDirectory::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        let (_listener, socket) = directory.listen().unwrap();
        assert_eq!(socket, directory.path().join("waypost.sock"));
        assert_eq!(mode(&socket) & 0o077, 0);
        assert_eq!(mode(&path.join(LOCK_FILE)), 0o600);
    }

    #[test]
    fn a_directory_with_other_files_that_is_open_to_others_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().canonicalize().unwrap();
        fs::write(path.join("diary.txt"), "not ours").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            DataDirectory::open(&path).unwrap_err().to_string(),
            format!(
                "the data directory {0} is open to other users (mode 755) and has files in it that \
                 are not ours; choose another with --data-dir, or close it: chmod 700 '{0}'",
                path.display()
            )
        );
        assert_eq!(mode(&path), 0o755, "what is not ours stays as it is");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn an_empty_directory_or_one_of_ours_is_closed_to_others() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().canonicalize().unwrap();
        fs::create_dir(path.join("lost+found")).unwrap();
        for _ in 0..2 {
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            DataDirectory::open(&path).unwrap();
            assert_eq!(mode(&path), 0o700);
        }
    }

    #[test]
    fn a_second_server_is_refused_until_the_first_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().canonicalize().unwrap().join("data");
        let first = DataDirectory::open(&path).unwrap();
        assert_eq!(
            DataDirectory::open(&path).unwrap_err().to_string(),
            format!(
                "the data directory {} is in use by another server (process {}); stop it, or choose \
                 another directory with --data-dir",
                path.display(),
                std::process::id()
            )
        );
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn the_socket_of_a_dead_server_is_replaced_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(&temporary.path().join("data")).unwrap();
        let (dead, socket) = directory.listen().unwrap();
        drop(dead);
        assert!(UnixStream::connect(&socket).is_err());
        let (_alive, socket) = directory.listen().unwrap();
        UnixStream::connect(&socket).unwrap();
        fs::remove_file(&socket).unwrap();
        fs::write(&socket, "precious").unwrap();
        assert!(matches!(
            directory.listen().unwrap_err(),
            DataDirectoryError::NotASocket { .. }
        ));
        assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
    }

    #[test]
    fn a_path_too_long_for_a_socket_goes_to_the_runtime_directory() {
        let runtime = tempfile::tempdir().unwrap();
        fs::set_permissions(runtime.path(), Permissions::from_mode(0o700)).unwrap();
        for (length, fits) in [(107, true), (108, false)] {
            let directory =
                PathBuf::from("/".to_owned() + &"d".repeat(length - "//waypost.sock".len()));
            let path = socket_path(&directory, Some(runtime.path())).unwrap();
            assert_eq!(path.starts_with(&directory), fits, "{length}");
            assert_eq!(path.starts_with(runtime.path()), !fits, "{length}");
        }
        let long = PathBuf::from("/".to_owned() + &"d".repeat(200));
        let other = PathBuf::from("/".to_owned() + &"e".repeat(200));
        assert_ne!(
            socket_path(&long, Some(runtime.path())).unwrap(),
            socket_path(&other, Some(runtime.path())).unwrap()
        );
        let message = |runtime| socket_path(&long, runtime).unwrap_err().to_string();
        assert!(
            message(None).ends_with("$XDG_RUNTIME_DIR is not set; choose a shorter --data-dir")
        );
        assert!(message(Some(&long)).contains("$XDG_RUNTIME_DIR is no directory"));
        fs::set_permissions(runtime.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(message(Some(runtime.path())).contains("is not for this user alone"));
    }
}
