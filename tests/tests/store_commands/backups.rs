//! `waypost store backup` and `restore`, with files that stand for a store where their contents do not matter.

use std::fs;

use waypost_tests::Server;

use super::{World, files};

/// A data directory that no server uses, with two files of a store and what is no part of a backup.
fn with_store() -> World {
    let world = World::new();
    let store = world.path("data/store");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("00000001.log"), vec![1; 3_000_000]).unwrap();
    fs::write(store.join("00000002.kept"), "kept").unwrap();
    fs::write(store.join("views.redb"), "made anew").unwrap();
    fs::write(world.path("data/waypost.lock"), "").unwrap();
    world
}

#[test]
fn a_store_that_nobody_uses_is_backed_up_and_restored() {
    let world = with_store();
    let done = world.store_json("data", &["backup", "b/monday"]);
    assert_eq!(
        (&done["files"], &done["bytes"]),
        (&2.into(), &3_000_004.into())
    );
    let ended = world.store("new", &["restore", "b/monday"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stdout.starts_with("restored 2.86 MiB in 2 files to "),
        "{ended:?}"
    );
    let names = ["00000001.log", "00000002.kept"];
    let expect = names.map(|name| {
        let path = world.path("data/store").join(name);
        (name.to_owned(), fs::read(path).unwrap())
    });
    assert_eq!(files(&world.path("new/store")), expect);
    let done = world.store_json("newer", &["restore", "b/monday"]);
    assert_eq!(done["files"], 2);
}

/// Goal: what was packed with a dictionary can be read where a backup is restored. Method: two dictionaries and what is none,
/// backed up and restored beside a store.
#[test]
fn dictionaries_go_along() {
    let world = with_store();
    let folder = world.path("data/dictionaries");
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in [("0", "one"), ("11", "another"), ("unfinished", "half")] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let done = world.store_json("data", &["backup", "b"]);
    assert_eq!(done["files"], 4);
    assert_eq!(world.store("new", &["restore", "b"]).code, 0);
    let expect = [("0", "one"), ("11", "another")];
    let expect = expect.map(|(name, bytes)| (name.to_owned(), bytes.as_bytes().to_vec()));
    assert_eq!(files(&world.path("new/dictionaries")), expect);
    assert_eq!(files(&world.path("new/store")).len(), 2);
}

#[test]
fn what_would_write_over_something_is_refused() {
    let world = with_store();
    world.store_json("data", &["backup", "b"]);
    world.store("data", &["backup", "b"]).failed_with(
        1,
        &[
            "there are files already",
            "hint: give a directory that is empty",
        ],
    );
    let before = files(&world.path("data/store"));
    world
        .store("data", &["restore", "b"])
        .failed_with(1, &["there is a store already", "mv '"]);
    assert_eq!(files(&world.path("data/store")), before);
}

#[test]
fn a_backup_that_is_not_whole_is_not_restored() {
    let world = with_store();
    world.store_json("data", &["backup", "b"]);
    let path = world.path("b/00000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    world
        .store("new", &["restore", "b"])
        .failed_with(1, &["00000001.log is damaged", "hint: take another backup"]);
    assert!(!world.path("new/store").exists());
    assert!(!world.path("new/store.restoring").exists());
    fs::remove_file(world.path("b/BACKUP")).unwrap();
    world
        .store("new", &["restore", "b"])
        .failed_with(1, &["this is no backup, or one that was not finished"]);
    fs::write(world.path("b/BACKUP"), "waypost backup 7\n").unwrap();
    world.store("new", &["restore", "b"]).failed_with(
        1,
        &[
            "version 7",
            "hint: restore it with the Waypost that made it",
        ],
    );
}

/// Goal: half a restored store, left by a crash, is neither served nor in the way.
#[test]
fn what_an_interrupted_restore_left_is_taken_away() {
    let world = with_store();
    world.store_json("data", &["backup", "b"]);
    let left = world.path("new/store.restoring");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("00000001.log"), "half").unwrap();
    fs::write(world.path("new/waypost.lock"), "").unwrap();
    world.store_json("new", &["restore", "b"]);
    assert!(!left.exists());
    assert_eq!(files(&world.path("new/store")).len(), 2);
}

#[test]
fn where_nothing_is_there_is_nothing_to_copy() {
    let world = World::new();
    world
        .store("none", &["backup", "b"])
        .failed_with(1, &["there is no store in none", "--data-dir DIR"]);
    assert!(!world.path("none").exists() && !world.path("b").exists());
    world
        .store("none", &["restore", "b"])
        .failed_with(1, &["cannot open b"]);
}

#[test]
fn a_directory_in_use_gets_no_store() {
    let world = with_store();
    world.store_json("data", &["backup", "b"]);
    let server = Server::start();
    let data_dir = server.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    world.store(data_dir, &["restore", "b"]).failed_with(
        1,
        &[
            "a server uses the data directory",
            "(process ",
            "hint: stop it first",
        ],
    );
}
