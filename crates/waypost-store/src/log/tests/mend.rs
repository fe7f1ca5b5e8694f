//! After mending nothing is damaged any more, and what could be read before still can, where it was.

use super::*;
use crate::{
    disk::{Disk, Fault},
    log::{LogDamage, Mended},
};
use waypost_encrypt::MasterKey;

const COUNT: u64 = 24;

/// A log of a few segments, the last one sealed as well, and where its blocks are.
fn written(options: &LogOptions) -> (SimulatedDisk, Vec<BlockPosition>) {
    let disk = SimulatedDisk::new(1);
    let (mut writer, ..) = open(&disk, options, None).unwrap();
    let mut positions = Vec::new();
    for first in (0..COUNT).step_by(3) {
        let batches = [0, 1, 2].map(|step| transaction(first + step, 100));
        let appended = writer.append(&batches, 1_000 + first).unwrap();
        positions.extend(appended.blocks.iter().map(|block| block.position));
        writer.sync().unwrap();
    }
    drop(writer);
    disk.kill();
    (disk, positions)
}

fn mend(disk: &SimulatedDisk, options: &LogOptions) -> Vec<(LogDamage, Mended)> {
    let recovery = Recovery::open(Arc::new(disk.clone()), options.clone(), None).unwrap();
    recovery.mend().unwrap()
}

/// Opens what was damaged, mends it and opens it again; says what was done.
fn check(disk: &SimulatedDisk, options: &LogOptions, said: &str) -> Vec<Mended> {
    let recovery = Recovery::open(Arc::new(disk.clone()), options.clone(), None).unwrap();
    let mut before = recovery;
    let mut found = Vec::new();
    while let Some(block) = before.next_block().unwrap() {
        found.push((block.position, numbers(&block.records)));
    }
    let damage = before.found().damage.clone();
    let mended = mend(disk, options);
    let of: Vec<_> = mended.iter().map(|(damage, _)| damage.clone()).collect();
    assert_eq!(of, damage, "{said}");
    let mut after = Recovery::open(Arc::new(disk.clone()), options.clone(), None).unwrap();
    let mut again = Vec::new();
    while let Some(block) = after.next_block().unwrap() {
        again.push((block.position, numbers(&block.records)));
    }
    assert_eq!(after.found().damage, [], "{said}");
    assert_eq!(again, found, "{said}");
    assert!(mend(disk, options).is_empty(), "{said}");
    mended.into_iter().map(|(_, how)| how).collect()
}

#[test]
fn whatever_bit_is_flipped_the_rest_is_sound_afterwards() {
    let key = Some(Arc::new(MasterKey::new([7; 32])));
    for options in [small(), LogOptions { key, ..small() }] {
        let (disk, _) = written(&options);
        let mut done = Vec::new();
        for name in disk.list().unwrap() {
            let whole = disk.content(&name);
            for at in (0..whole.len()).step_by(13) {
                disk.kill();
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << (at % 8);
                disk.put(&name, &bytes);
                done.extend(check(&disk, &options, &format!("{name} {at}")));
            }
            disk.put(&name, &whole);
        }
        assert!(done.contains(&Mended::Hole) && done.contains(&Mended::Header));
        assert!(!done.contains(&Mended::SetAside), "a seal has the header");
    }
}

#[test]
fn several_blocks_in_a_row_become_one_hole_and_a_cut_end_too() {
    let (disk, positions) = written(&small());
    let at = |index: usize| u64::from(positions[index].offset);
    assert_eq!(positions[3].segment, 1);
    for index in [1, 2] {
        assert!(disk.flip_bit("00000001.log", at(index) + 5, 0));
    }
    assert_eq!(check(&disk, &small(), "in a row"), [Mended::Hole]);
    let name = "00000001.log";
    let bytes = disk.content(name);
    // Nothing in the hole can ever be taken for a block, and the disk can read all of it.
    let hole = usize::try_from(at(1)).unwrap() + 40..usize::try_from(at(3)).unwrap();
    assert!(bytes[hole].iter().all(|byte| *byte == 0));
    disk.kill();
    disk.put(name, &bytes[..usize::try_from(at(4)).unwrap() + 20]);
    assert_eq!(check(&disk, &small(), "cut"), [Mended::Hole]);
    let (.., found) = open(&disk, &small(), None).unwrap();
    assert!(found.len() > 8 && found.contains(&(COUNT - 1)), "{found:?}");
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_set_aside() {
    let (disk, _) = written(&small());
    disk.put("00000001.log", &[0xaa; 3_000]);
    assert_eq!(check(&disk, &small(), "noise"), [Mended::SetAside]);
    let names = disk.list().unwrap();
    assert!(names.contains(&"00000001.log.damaged".to_owned()));
    assert!(!names.contains(&"00000001.log".to_owned()));
}

/// Goal: a log that was mended goes on. Method: append to it, and read it all.
#[test]
fn a_mended_log_goes_on() {
    let (disk, positions) = written(&small());
    let last = positions.last().unwrap();
    let name = format!("{:08}.log", last.segment);
    assert!(disk.flip_bit(&name, u64::from(last.offset) + 50, 3));
    check(&disk, &small(), "last block");
    let (mut writer, .., before) = open(&disk, &small(), None).unwrap();
    writer.append(&[transaction(90, 100)], 5_000).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let (_, _, recovered, found) = open(&disk, &small(), None).unwrap();
    assert_eq!(recovered.damage, []);
    assert_eq!(found, [&before[..], &[90]].concat());
}

/// Goal: mending that ends halfway can be done again. Method: the process dies at each step of it.
#[test]
fn mending_can_be_interrupted() {
    for step in 0.. {
        let (disk, positions) = written(&small());
        for index in [1, 4] {
            let at = u64::from(positions[index].offset) + 50;
            assert!(disk.flip_bit("00000001.log", at, 0));
        }
        let recovery = Recovery::open(Arc::new(disk.clone()), small(), None);
        let mut recovery = recovery.unwrap();
        while recovery.next_block().unwrap().is_some() {}
        let steps = disk.steps();
        disk.crash_at(steps + step);
        let ended = recovery.mend();
        disk.crash();
        let is_done = ended.is_ok();
        check(&disk, &small(), &format!("step {step}"));
        let (_, _, recovered, found) = open(&disk, &small(), None).unwrap();
        assert_eq!(recovered.damage, []);
        assert!(found.len() >= 20, "{found:?}");
        if is_done {
            assert!(step > 3, "nothing was interrupted");
            return;
        }
    }
}

#[test]
fn a_disk_that_does_not_write_is_said() {
    let (disk, positions) = written(&small());
    assert!(disk.flip_bit("00000001.log", u64::from(positions[1].offset) + 50, 0));
    let recovery = Recovery::open(Arc::new(disk.clone()), small(), None);
    let mut recovery = recovery.unwrap();
    while recovery.next_block().unwrap().is_some() {}
    disk.fail_at(disk.steps() + 1, Fault::Io, u64::MAX);
    let error = recovery.mend().unwrap_err();
    assert!(
        error.to_string().contains("mending 00000001.log"),
        "{error}"
    );
}
