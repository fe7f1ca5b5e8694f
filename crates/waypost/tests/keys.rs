//! `waypost keys`: two people make keys, give each other the public halves, and take new ones later.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_waypost");

/// Somebody with a home of their own.
struct Person(tempfile::TempDir);

impl Person {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn home(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("keys")
            .args(arguments)
            .env_remove("WAYPOST_KEYS")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.home())
            .current_dir(self.home())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], expect: &[&str]) {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        for part in expect {
            assert!(said.contains(part), "`{part}` in:\n{said}");
        }
    }

    fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let rows: Value = serde_json::from_str(&self.done(arguments)).unwrap();
        rows.as_array().unwrap().clone()
    }
}

#[test]
fn two_people_give_each_other_their_keys() {
    let (ann, bob) = (Person::new(), Person::new());
    assert!(ann.done(&["list"]).contains("waypost keys new NAME"));
    assert!(ann.rows(&["list", "--json"]).is_empty());

    let said = ann.done(&["new", "ann"]);
    assert!(said.contains("a key to seal for (EC P-256)"), "{said}");
    assert!(said.contains("a key to sign with (EC P-256)"), "{said}");
    assert!(
        said.contains("waypost keys export ann > ann.json"),
        "{said}"
    );
    let rows = ann.rows(&["list", "--json"]);
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(
            (&row["name"], &row["holding"]),
            (&"ann".into(), &"yours".into())
        );
        assert_eq!(row["retired"], Value::Null);
        let file = row["file"].as_str().unwrap();
        assert!(
            file.starts_with(
                ann.home()
                    .join(".config/waypost/keys/own")
                    .to_str()
                    .unwrap()
            )
        );
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    let public = ann.done(&["export", "ann"]);
    let set: Value = serde_json::from_str(&public).unwrap();
    let uses: Vec<_> = set["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["use"])
        .collect();
    assert_eq!(uses, ["enc", "sig"]);
    assert!(
        set["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|key| key["d"].is_null())
    );
    // Through a pipe, as from a mail.
    let mut trusting = bob.command(&["trust", "ann", "-"]);
    let mut child = trusting
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(public.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("compare the ids with what ann sees"),
        "{said}"
    );
    let theirs = bob.rows(&["show", "ann", "--json"]);
    let ids = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&theirs), ids(&rows));
    assert!(theirs.iter().all(|row| row["holding"] == "trusted"));
    assert_eq!(bob.done(&["export", "ann"]), public);

    // New keys come only by will.
    ann.done(&["rotate", "ann"]);
    let shown = ann.done(&["show", "ann"]);
    assert_eq!(shown.matches("old since").count(), 2, "{shown}");
    fs::write(bob.file("ann.json"), ann.done(&["export", "ann"])).unwrap();
    bob.refused(
        &["trust", "ann", "ann.json"],
        &["ann has a key to seal for already", "--replace"],
    );
    bob.done(&["trust", "ann", "ann.json", "--replace"]);
    assert_eq!(bob.rows(&["show", "ann", "--json"]).len(), 4);
    assert!(bob.done(&["trust", "ann", "ann.json"]).contains("already"));
}

#[test]
fn private_keys_leave_with_a_warning_and_move_to_another_machine() {
    let (old, new) = (Person::new(), Person::new());
    old.done(&["new", "ann", "--kind", "x25519", "--kind", "ed25519"]);
    old.done(&["new", "room", "--kind", "symmetric"]);
    for name in ["ann", "room"] {
        let file = new.file(&format!("{name}.json"));
        let file = file.to_str().unwrap();
        let output = old.run(&["export", name, "--private", "--output", file]);
        assert!(output.status.success());
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("warning: these are private keys")
        );
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        old.refused(&["export", name, "--private", "-o", file], &["exists"]);
        new.done(&["import", name, file]);
        assert_eq!(
            old.done(&["export", name, "--private"]),
            new.done(&["export", name, "--private"])
        );
    }
    let kinds = new.rows(&["list", "--json"]);
    let kinds: Vec<_> = kinds
        .iter()
        .map(|row| row["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["OKP X25519", "OKP Ed25519", "symmetric"]);
}

/// Goal: keys go only when that is meant, and by then one has read what goes with them.
#[test]
fn keys_are_removed_only_when_that_is_meant() {
    let (ann, bob) = (Person::new(), Person::new());
    bob.done(&["new", "bob"]);
    fs::write(ann.file("bob.json"), bob.done(&["export", "bob"])).unwrap();
    ann.done(&["new", "ann"]);
    ann.done(&["new", "room", "--kind", "symmetric"]);
    ann.done(&["trust", "bob", "bob.json"]);
    for (name, expect) in [
        (
            "ann",
            &[
                "Without these keys",
                "what is sealed for ann with it opens nowhere",
                "nothing is signed as ann",
            ][..],
        ),
        ("room", &["Without this key", "does not open here"]),
        (
            "bob",
            &["nothing is sealed for bob", "what bob signed with it"],
        ),
    ] {
        let before = ann.rows(&["list", "--json"]);
        ann.refused(&["remove", name], expect);
        ann.refused(&["remove", name], &["nothing was removed", "--yes"]);
        assert_eq!(ann.rows(&["list", "--json"]), before);
        let gone = ann.rows(&["remove", name, "--yes", "--json"]);
        let left = ann.rows(&["list", "--json"]);
        assert_eq!(gone.len() + left.len(), before.len());
        assert!(gone.iter().all(|key| key["name"] == name));
        for key in gone {
            assert!(!Path::new(key["file"].as_str().unwrap()).exists());
        }
    }
    ann.refused(&["remove", "ann", "--yes"], &["no keys of the name ann"]);
    ann.done(&["new", "ann"]);
    assert!(
        ann.done(&["remove", "ann", "--yes"])
            .starts_with("removed\n")
    );
}

/// Goal: pairs of OpenSSL are taken; what is nearly one is refused with the command that makes one of it.
#[test]
fn pem_is_imported_and_other_pem_is_told_how() {
    const MADE_BY_OPENSSL: &str = include_str!("../../waypost-encrypt/tests/vectors/openssl.pem");
    let ann = Person::new();
    let begin = MADE_BY_OPENSSL.find("-----BEGIN PUBLIC").unwrap();
    let (private, rest) = MADE_BY_OPENSSL.split_at(begin);
    let end = rest.find("-----BEGIN PRIVATE").unwrap();
    fs::write(ann.file("mine.pem"), private).unwrap();
    fs::write(ann.file("public.pem"), &rest[..end]).unwrap();
    let imported = ann.rows(&["import", "ann", "mine.pem", "--json"]);
    assert_eq!(imported[0]["kind"], "EC P-256");
    assert_eq!(imported[0]["purpose"], "both");
    let bob = Person::new();
    fs::copy(ann.file("public.pem"), bob.file("ann.pem")).unwrap();
    let trusted = bob.rows(&["trust", "ann", "ann.pem", "--json"]);
    assert_eq!(trusted[0]["id"], imported[0]["id"]);
    for (label, expect) in [
        ("EC PRIVATE KEY", &["PKCS #8", "openssl pkey -in FILE"][..]),
        (
            "ENCRYPTED PRIVATE KEY",
            &["PKCS #8", "openssl pkey -in FILE"],
        ),
        ("CERTIFICATE", &["SPKI", "openssl x509"]),
        ("PRIVATE KEY", &["P-256, X25519, Ed25519, or RSA"]),
    ] {
        let block = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        fs::write(ann.file("other.pem"), block).unwrap();
        ann.refused(&["import", "zoe", "other.pem"], expect);
    }
}

#[test]
fn mistakes_are_told_with_what_fixes_them() {
    let ann = Person::new();
    ann.done(&["new", "ann"]);
    fs::write(ann.file("ann.json"), ann.done(&["export", "ann"])).unwrap();
    fs::write(
        ann.file("private.json"),
        ann.done(&["export", "ann", "--private"]),
    )
    .unwrap();
    fs::write(ann.file("letter"), "hello").unwrap();
    ann.done(&["new", "room", "--kind", "symmetric"]);
    for (arguments, expect) in [
        (
            &["new", "ann"][..],
            &["ann has a key", "waypost keys rotate ann"][..],
        ),
        (&["new", "../ann"], &["is not a name"]),
        (
            &["new", "zoe", "--kind", "elliptic"],
            &["possible values: ecc"],
        ),
        (
            &["show", "Anne"],
            &["no keys of the name Anne (but of ann)", "waypost keys list"],
        ),
        (
            &["export", "zoe"],
            &["waypost keys new zoe", "waypost keys trust zoe FILE"],
        ),
        (&["export", "room"], &["no public half", "--private"]),
        (
            &["import", "bob", "ann.json"],
            &["is a public key", "waypost keys trust"],
        ),
        (
            &["trust", "bob", "private.json"],
            &["is a private or shared key", "without --private"],
        ),
        (
            &["trust", "ann", "ann.json"],
            &["of your own", "waypost keys show ann"],
        ),
        (
            &["trust", "bob", "letter"],
            &["neither a JWK, nor a set", "waypost keys export NAME"],
        ),
        (&["trust", "bob", "nothing"], &["nothing: No such file"]),
    ] {
        ann.refused(arguments, expect);
    }
    let place = ann.file(".config/waypost/keys");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    let chmod = format!("chmod 700 {}", place.display());
    ann.refused(&["list"], &["open to others", &chmod]);
    // Another directory, by flag or variable.
    let other = ann.file("other");
    assert!(
        ann.rows(&["list", "--json", "--keys", other.to_str().unwrap()])
            .is_empty()
    );
    let output = ann
        .command(&["new", "zoe"])
        .env("WAYPOST_KEYS", &other)
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        ann.rows(&["list", "--json", "--keys", other.to_str().unwrap()])
            .len(),
        2
    );
}
