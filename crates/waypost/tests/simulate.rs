//! `waypost compress simulate` and `encrypt simulate` with the built program, given what a stranger gives them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn waypost() -> Command {
    Command::new(env!("CARGO_BIN_EXE_waypost"))
}

fn simulate(directory: &Path, family: &str, words: &str) -> Output {
    waypost()
        .args([family, "simulate"])
        .args(words.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What nobody can make sense of, by name.
fn strange_files(directory: &Path) {
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    write("empty.jsonl", b"");
    write("blank.jsonl", b"\n\r\n\n");
    write("one.jsonl", b"{\"text\":\"hello\"}\n");
    write("list.jsonl", b"{\"text\":\"hello\"}\n[1]\n");
    write("deep.jsonl", &vec![b'['; 100_000]);
    write("bytes.jsonl", b"\xff\xfe\n\x00\n");
    // A header of gzip, and not even that.
    write("cut.gz", &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48]);
    fs::create_dir(directory.join("folder")).unwrap();
}

/// Goal: what cannot be read or is not known is refused with its place, in one line of its own, exit code 2.
#[test]
fn what_is_wrong_is_said_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    strange_files(directory.path());
    let check = |family: &str, words: &str, said: &str| {
        let output = simulate(directory.path(), family, words);
        let error = text(&output.stderr);
        assert!(error.contains(said), "{family} {words}: {error}");
        assert!(error.starts_with("error: "), "{family} {words}: {error}");
        assert_eq!(output.status.code(), Some(2), "{family} {words}: {error}");
        assert!(output.stdout.is_empty(), "{family} {words}");
    };
    for family in ["compress", "encrypt"] {
        for (words, said) in [
            ("no-such-file", "no-such-file: No such file"),
            ("folder", "folder: Is a directory"),
            ("cut.gz", "cut.gz: "),
            ("empty.jsonl", "there is no message in these files"),
            ("blank.jsonl", "there is no message in these files"),
            ("one.jsonl --field body", "one.jsonl:1: --field: no field"),
            ("list.jsonl --field text", "list.jsonl:2: no JSON object"),
            ("deep.jsonl --field text", "deep.jsonl:1: not JSON"),
            ("bytes.jsonl --field text", "bytes.jsonl:1: not JSON"),
            ("one.jsonl --strategy zstb", "did you mean"),
            ("one.jsonl --strategy +", "There are: "),
        ] {
            check(family, words, said);
        }
    }
    for (strategy, said) in [
        ("zstd+zstd", "zstd stands there twice"),
        ("auto+zstd", "auto goes with no other stage"),
        ("zstd+zstd-dict", "zstd-dict is the first stage or none"),
        ("rle+lz4+huffman+zstd", "4 stages"),
    ] {
        let words = format!("one.jsonl --strategy {strategy}");
        check("compress", &words, said);
    }
    check("encrypt", "--size 1,10GiB", "\"GiB\" is no unit");
    check("encrypt", "--strategy ecc+aes", "is no suite; there are: ");
    let words = "one.jsonl --publisher-field user";
    check(
        "compress",
        words,
        "one.jsonl:1: --publisher-field: no field",
    );
}

/// Goal: what was measured is printed, though a page cannot be written; and a reader that has seen enough is no failure.
#[test]
fn figures_are_printed_before_a_page_that_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    strange_files(directory.path());
    let check = |family: &str, words: &str, printed: &str| {
        let words = format!("{words} --html no-such-folder/page.html");
        let output = simulate(directory.path(), family, &words);
        let said = text(&output.stdout);
        assert!(said.contains(printed), "{family} {words}: {said}");
        let error = text(&output.stderr);
        let expect = "error: no-such-folder/page.html: No such file";
        assert!(error.contains(expect), "{family} {words}: {error}");
        assert_eq!(output.status.code(), Some(1));
    };
    check("compress", "one.jsonl --strategy lz4", "\nlz4 ");
    check("compress", "one.jsonl --strategy lz4 --json", "\"lz4\"");
    check("encrypt", "one.jsonl --strategy aes-gcm", "\naes-gcm ");
    check(
        "cache",
        "--trace one.jsonl --capacity 1 --strategy lru",
        "lru",
    );

    let mut command = waypost();
    let mut child = command
        .args(["compress", "simulate", "one.jsonl", "--json"])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success());
}

/// Goal: a suite that seals no such message is not left out without a word.
#[test]
fn a_suite_that_is_left_out_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let output = simulate(directory.path(), "encrypt", "--size 9MiB --strategy des");
    let error = text(&output.stderr);
    let expect = "des does not seal 9437184 bytes with one key\n";
    assert!(error.ends_with(expect), "{error}");
    assert!(output.status.success());
}
