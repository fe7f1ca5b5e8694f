//! A backup taken while the log is written and segments go holds everything that was synced before it.

use super::*;
use crate::{backup, disk::Disk};

#[test]
fn a_backup_of_a_log_that_goes_on_is_one_moment() {
    let key = Some(Arc::new(waypost_encrypt::MasterKey::new([7; 32])));
    for options in [small(), LogOptions { key, ..small() }] {
        let disk = SimulatedDisk::new(1);
        let (mut writer, reader, ..) = open(&disk, &options, None).unwrap();
        let mut append = |number| {
            writer.append(&[transaction(number, 100)], 1_000).unwrap();
            writer.sync().unwrap();
        };
        (0..40).for_each(&mut append);
        let originals = reader.originals().unwrap();
        // What comes now is not in it, what goes now is.
        (40..80).for_each(&mut append);
        let first = reader.segments()[0].number;
        reader.remove(first).unwrap();
        let to = SimulatedDisk::new(2);
        let copied = backup::back_up(&originals, 5_000, &to, &mut |_| true).unwrap();
        assert!(copied.files.len() > 2, "{copied:?}");
        let restored = SimulatedDisk::new(3);
        backup::restore(&to, &restored, &mut |_| true).unwrap();
        let (mut writer, _, recovered, found) = open(&restored, &options, None).unwrap();
        assert_eq!(recovered.damage, []);
        assert_eq!(found, (0..40).collect::<Vec<_>>());
        // It goes on in a segment of its own.
        let names = restored.list().unwrap();
        let before: Vec<_> = names.iter().map(|name| restored.content(name)).collect();
        writer.append(&[transaction(90, 100)], 9_000).unwrap();
        writer.sync().unwrap();
        assert_eq!(restored.list().unwrap().len(), names.len() + 1);
        for (name, content) in names.iter().zip(before) {
            assert!(content.starts_with(&restored.content(name)), "{name}");
        }
    }
}
