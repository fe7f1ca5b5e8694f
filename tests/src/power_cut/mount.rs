//! The file system of [`Volatile`](super::Volatile), mounted.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use tempfile::TempDir;

use super::{Directory, File, Node, Refused, Volatile};

/// Nothing may be remembered by the kernel: a cut changes everything behind its back.
const AT_ONCE: Duration = Duration::ZERO;
/// The file type's bits of a mode, and those of a socket.
const TYPE: u32 = 0o170_000;
const SOCKET: u32 = 0o140_000;

/// A mounted file system whose power can be cut; gone when dropped.
pub struct PowerCut {
    content: Arc<Mutex<Volatile>>,
    session: Option<BackgroundSession>,
    directory: TempDir,
}

impl PowerCut {
    /// Mounts an empty one; none, said on stderr, where that is not possible.
    pub fn mount(seed: u64) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let content = Arc::new(Mutex::new(Volatile::new(seed)));
        let mounted = fuser::spawn_mount(
            Mounted(Arc::clone(&content)),
            directory.path(),
            &Config::default(),
        );
        match mounted {
            Ok(session) => Some(Self {
                content,
                session: Some(session),
                directory,
            }),
            Err(error) => {
                eprintln!("skipped: no FUSE here: {error}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Loses what was not synced. Nobody may have a file open.
    pub fn cut(&self) {
        self.content
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cut();
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            drop(session.umount_and_join());
        }
    }
}

struct Mounted(Arc<Mutex<Volatile>>);

impl From<Refused> for Errno {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoEntry => Self::ENOENT,
            Refused::Exists => Self::EEXIST,
            Refused::NotDirectory => Self::ENOTDIR,
            Refused::IsDirectory => Self::EISDIR,
            Refused::NotEmpty => Self::ENOTEMPTY,
        }
    }
}

impl Volatile {
    fn attributes(&self, number: u64) -> Result<FileAttr, Refused> {
        let (kind, size, perm) = match self.nodes.get(&number).ok_or(Refused::NoEntry)? {
            Node::File(file) => (FileType::RegularFile, file.len, 0o600),
            Node::Directory(_) => (FileType::Directory, 0, 0o700),
            Node::Socket => (FileType::Socket, 0, 0o600),
        };
        Ok(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn make_with_attributes(
        &mut self,
        parent: u64,
        name: &str,
        node: Node,
    ) -> Result<FileAttr, Refused> {
        self.make(parent, name, node)
            .and_then(|number| self.attributes(number))
    }
}

impl Mounted {
    fn content(&self) -> MutexGuard<'_, Volatile> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as it is kept; the server writes no other than text.
fn text(name: &OsStr) -> String {
    name.to_string_lossy().into_owned()
}

fn entry(result: Result<FileAttr, Refused>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&AT_ONCE, &attributes, Generation(0)),
        Err(refused) => reply.error(refused.into()),
    }
}

fn empty(result: Result<(), Refused>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(refused) => reply.error(refused.into()),
    }
}

impl Filesystem for Mounted {
    fn init(&mut self, _: &Request, _: &mut fuser::KernelConfig) -> io::Result<()> {
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut content = self.content();
        let found = content.look_up(parent.0, &text(name));
        entry(found.and_then(|number| content.attributes(number)), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.content().attributes(ino.0) {
            Ok(attributes) => reply.attr(&AT_ONCE, &attributes),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut content = self.content();
        if let (Some(size), Ok(file)) = (size, content.file(ino.0)) {
            file.set_len(size);
        }
        match content.attributes(ino.0) {
            Ok(attributes) => reply.attr(&AT_ONCE, &attributes),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let node = if mode & TYPE == SOCKET {
            Node::Socket
        } else {
            Node::File(File::default())
        };
        entry(
            self.content()
                .make_with_attributes(parent.0, &text(name), node),
            reply,
        );
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let node = Node::Directory(Directory::default());
        entry(
            self.content()
                .make_with_attributes(parent.0, &text(name), node),
            reply,
        );
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.content().remove(parent.0, &text(name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.content().remove(parent.0, &text(name)), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(
            self.content()
                .rename(parent.0, &text(name), newparent.0, &text(newname)),
            reply,
        );
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.content().make_with_attributes(
            parent.0,
            &text(name),
            Node::File(File::default()),
        ) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&AT_ONCE, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.content().file(ino.0) {
            Ok(file) => reply.data(&file.read(offset, size as usize)),
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.content().file(ino.0) {
            Ok(file) => {
                file.write(offset, data);
                reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX));
            }
            Err(refused) => reply.error(refused.into()),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.content().sync(ino.0), reply);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.content().sync(ino.0), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut content = self.content();
        let entries = match content.directory(ino.0) {
            Ok(directory) => directory.entries.clone(),
            Err(refused) => return reply.error(refused.into()),
        };
        for (index, (name, number)) in (1..)
            .zip(entries)
            .skip(usize::try_from(offset).unwrap_or(usize::MAX))
        {
            let kind = content
                .attributes(number)
                .map_or(FileType::RegularFile, |attributes| attributes.kind);
            if reply.add(INodeNo(number), index, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (blocks, files) = (1 << 20, 1 << 20);
        reply.statfs(blocks, blocks, blocks, files, files, 4096, 255, 4096);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{Read, Write},
        os::unix::net::UnixListener,
    };

    use super::*;

    /// What a program does with files works on it, and a cut takes what it did not sync.
    #[test]
    fn programs_can_use_it_and_a_cut_takes_what_is_unsynced() {
        let Some(disk) = PowerCut::mount(1) else {
            return;
        };
        let folder = disk.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let mut file = fs::File::create(folder.join("draft")).unwrap();
        file.write_all(&vec![1; 100_000]).unwrap();
        file.sync_data().unwrap();
        fs::rename(folder.join("draft"), folder.join("kept")).unwrap();
        fs::File::open(&folder).unwrap().sync_all().unwrap();
        fs::File::open(disk.path()).unwrap().sync_all().unwrap();
        drop(UnixListener::bind(folder.join("socket")).unwrap());
        file.write_all(&vec![2; 100_000]).unwrap();
        file.try_lock().unwrap();
        drop(file);
        disk.cut();
        let mut content = Vec::new();
        fs::File::open(folder.join("kept"))
            .unwrap()
            .read_to_end(&mut content)
            .unwrap();
        assert!(content.starts_with(&vec![1; 100_000]));
        assert_ne!(content.split_off(100_000), vec![2; 100_000]);
        assert!(!folder.join("draft").exists());
        fs::write(folder.join("again"), b"after the cut").unwrap();
        assert_eq!(fs::read(folder.join("again")).unwrap(), b"after the cut");
        fs::remove_file(folder.join("again")).unwrap();
        assert!(!folder.join("again").exists());
    }
}
