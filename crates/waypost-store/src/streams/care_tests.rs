//! Goal: whoever looks after a store is told of every damaged block of a stream by file and offset, gets rid of it without
//! losing more, and has streams in backups as they were.

use super::{
    tests::{A, World, expected, read_all},
    *,
};
use crate::{
    Batch, MessageId, Store,
    backup::{Contents, restore},
    check::{self, Report},
    disk::{Disk, SimulatedDisk},
    log::Mended,
    repair::{Repair, repair},
};

impl World {
    fn checked(&self) -> Report {
        let log = self.options.log.clone();
        check::check(Arc::new(self.disk.clone()), log, &mut |_, _| true).unwrap()
    }

    fn repaired(&self) -> Repair {
        let disk = Arc::new(self.disk.clone());
        repair(disk, self.options.clone(), 9_000, &mut |_, _| true).unwrap()
    }
}

fn written() -> World {
    let mut world = World::one();
    world.enter_numbered(0..200);
    world.store.commit(world.now_ms).unwrap();
    world.disk.kill();
    world
}

#[test]
fn a_sound_store_with_streams_is_counted_and_left_as_it_is() {
    let world = written();
    let content = || {
        let names = world.disk.list().unwrap();
        let all = names.iter().map(|name| world.disk.content(name));
        all.collect::<Vec<_>>()
    };
    let before = content();
    let report = world.checked();
    assert_eq!(report.damage, []);
    assert_eq!(report.stream_records, 200);
    let names = world.disk.list().unwrap();
    let files: Vec<_> = names.iter().filter(|name| is_stream_file(name)).collect();
    assert!(files.len() > 2);
    assert_eq!(report.stream_files, files.len() as u64);
    let bytes: usize = files
        .iter()
        .map(|name| world.disk.content(name).len())
        .sum();
    assert_eq!(report.stream_bytes, bytes as u64);
    let disk = Arc::new(world.disk.clone());
    let streams = check::streams(disk, world.options.log.clone()).unwrap();
    assert_eq!((streams.len(), streams[0].id), (1, A));
    assert_eq!((streams[0].name.as_str(), streams[0].first), ("a", 0));
    assert_eq!(
        (streams[0].files, streams[0].bytes),
        (report.stream_files, report.stream_bytes)
    );
    assert_eq!(content(), before);
    assert!(world.repaired().mended.is_empty());
}

/// A bit at every place of a whole file: it is told, mended, and then neither told nor stumbled over again; and no more is
/// lost than the block it is in.
#[test]
fn damage_anywhere_is_told_and_mended_and_the_rest_is_read() {
    let name = super::segment::file_name(A, 1);
    let len = written().disk.content(&name).len() as u64;
    let mut hows = Vec::new();
    for at in (0..len).step_by(31) {
        let mut world = written();
        assert!(world.disk.flip_bit(&name, at, 2));
        let report = world.checked();
        // Its end stands there twice, in a way: the table is found by looking.
        let is_end = at >= len - super::segment::END as u64;
        assert_eq!(
            report.damage.len(),
            usize::from(!is_end),
            "{at}: {:?}",
            report.damage
        );
        for damage in &report.damage {
            assert_eq!(damage.file, name);
            assert!(
                (damage.offset..damage.offset + damage.bytes).contains(&at),
                "{at}: {damage}"
            );
        }
        let mended = world.repaired().mended;
        hows.extend(mended.iter().map(|(_, how)| *how));
        assert_eq!(mended.len(), report.damage.len());
        world.disk.kill();
        assert_eq!(world.checked().damage, [], "{at}");
        assert!(world.repaired().mended.is_empty());
        world.reopen(false);
        let read = world.all();
        assert!(read.len() > 185, "{at}: {}", read.len());
        let whole = expected(0..200);
        assert!(read.iter().all(|record| whole.contains(record)));
        let info = world.store.streams().list(0)[0].clone();
        assert_eq!((info.damaged_blocks, info.next), (0, 200), "{at}");
        world.enter_numbered(200..210);
        assert_eq!(world.all().last(), expected(200..210).last());
    }
    assert!(hows.contains(&Mended::Header) && hows.contains(&Mended::Hole));
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_set_aside() {
    let mut world = written();
    let name = super::segment::file_name(A, 1);
    let len = world.disk.content(&name).len() as u64;
    for at in [9, len - 9] {
        assert!(world.disk.flip_bit(&name, at, 2));
    }
    let report = world.checked();
    assert_eq!((report.damage.len(), report.damage[0].offset), (1, 0));
    let mended = world.repaired().mended;
    assert_eq!(mended[0].1, Mended::SetAside);
    world.disk.kill();
    assert_eq!(world.checked().damage, []);
    world.reopen(false);
    let read = world.all();
    assert!(read.len() > 100 && read.len() < 200);
    assert_eq!(read.last(), expected(0..200).last());
}

/// Backups while records enter, are retired from the log, purged and compacted: each, restored, has exactly what there was.
#[test]
fn a_backup_at_any_moment_has_the_streams_at_their_offsets() {
    let mut world = World::one();
    let mut next = 0;
    for round in 0..20 {
        world.enter_numbered(next..next + 30);
        next += 30;
        if round % 2 == 0 {
            world.store.commit(world.now_ms).unwrap();
        }
        if round % 3 == 0 {
            while world.store.retire_step(world.now_ms).unwrap() {}
        }
        if round == 10 {
            let purge = Purge::Before(100);
            assert!(world.store.purge_stream(A, purge, world.now_ms).unwrap());
        }
        let (copy, restored) = (SimulatedDisk::new(2), SimulatedDisk::new(3));
        let contents: Contents = world.store.back_up(&copy, 5, &mut |_| true).unwrap();
        assert!(contents.files.iter().any(|file| is_stream_file(&file.name)));
        restore(&copy, &restored, &mut |_| true).unwrap();
        let open = Store::open(Arc::new(restored), world.options.clone(), 9_000_000);
        let (again, mut writer, recovered) = open.unwrap();
        assert_eq!(recovered.damage, []);
        let read = read_all(&again, 0, Filter::All, world.now_ms);
        assert_eq!(read, world.all(), "round {round}");
        // And it goes on behind it.
        let mut batch = Batch::new();
        batch.message(MessageId(99_999), u64::MAX, b"t/0:more");
        batch.enter(MessageId(99_999), [A]);
        batch.end();
        let appended = writer.append(&[batch.take()], world.now_ms).unwrap();
        writer.sync().unwrap();
        again.apply(&appended).unwrap();
        let read = read_all(&again, next, Filter::All, world.now_ms);
        assert_eq!(read, [(next, "t/0:more".to_owned())], "round {round}");
    }
}

/// Not even the begin of a stream's only file can be read, or nothing of it: the views know its name and its offsets, and its
/// readers go past what is lost.
#[test]
fn a_stream_whose_begin_is_damaged_stays_the_same_stream() {
    let name = super::segment::file_name(A, 1);
    for at in [9, 90, 125] {
        let mut world = World::one();
        world.enter_numbered(0..30);
        world.store.commit(world.now_ms).unwrap();
        world.disk.kill();
        assert!(world.disk.flip_bit(&name, at, 2));
        assert_eq!(world.checked().damage.len(), 1, "{at}");
        let open = || {
            let disk = Arc::new(world.disk.clone());
            Store::open(disk, world.options.clone(), 9_000).unwrap()
        };
        let (store, _, recovered) = open();
        assert_eq!(recovered.damage.len(), 1, "{at}");
        let streams = store.streams().list(0);
        assert_eq!((streams.len(), streams[0].id, streams[0].next), (1, A, 30));
        assert!(streams[0].is_configured);
        let read = read_all(&store, 0, Filter::All, 0);
        // Only what is in a file with a good header can be read.
        assert_eq!(read, expected(0..if at == 9 { 0 } else { 30 }));
        drop(store);
        world.disk.kill();
        assert_eq!(world.repaired().mended.len(), 1, "{at}");
        world.disk.kill();
        assert_eq!(world.checked().damage, [], "{at}");
        world.reopen(false);
        assert_eq!(world.all(), read);
        world.enter_numbered(30..35);
        assert_eq!(world.all()[read.len()..], expected(30..35));
    }
}
