//! What the server has of sealed messages: topics and bytes that say nothing.

use std::fs;
use std::path::Path;

use crate::people::{People, server};

/// Every file below a directory.
fn files(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

fn has(folder: &Path, text: &str) -> bool {
    let mut found = Vec::new();
    files(folder, &mut found);
    assert!(!found.is_empty());
    found.iter().any(|file| {
        let bytes = fs::read(file).unwrap();
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    })
}

/// Goal: nothing readable is on the server's disk, retained, queued or in a stream. Method: the same text plain, which is found
/// there, shows that the search finds what there is.
#[test]
fn nothing_readable_is_on_the_servers_disk() {
    let (mut server, people) = (server(), People::meet());
    let secret = "the treasure is under the third oak";
    people.publish(
        "ann",
        &server,
        &[
            "-t",
            "letters/bob",
            "-r",
            "-m",
            secret,
            "--seal-for",
            "bob",
            "--sign-as",
            "ann",
        ],
    );
    people.publish(
        "ann",
        &server,
        &["-t", "letters/room", "-m", secret, "--seal-for", "room"],
    );
    let bob = people.sub("bob", &server, "letters/#");
    bob.opens("letters/bob", secret, Some("ann"));
    drop(bob);
    // What a stream has opens as well.
    let plain = "nothing to hide here, in the open air";
    people.publish("ann", &server, &["-t", "letters/plain", "-m", plain]);
    assert!(server.terminate().success());
    let data = server.data_dir();
    assert!(has(&data, plain), "the search finds what there is");
    assert!(has(&data, "letters/bob"), "the topic is there to see");
    assert!(!has(&data, secret));
    assert!(!has(&data, "third oak"));
}
