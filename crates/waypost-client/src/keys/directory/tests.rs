use std::time::Duration;

use super::*;
use crate::keys::decode_keys;

const PAIR: [Kind; 2] = [Kind::Ecc, Kind::Signing];

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// An empty directory, and the folder that goes with it.
fn empty() -> (tempfile::TempDir, KeyDirectory) {
    let folder = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::open(folder.path().join("waypost/keys")).unwrap();
    (folder, directory)
}

fn again(directory: &KeyDirectory) -> KeyDirectory {
    KeyDirectory::open(directory.path()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_place_is_the_variable_then_the_configuration_then_the_home() {
    let path = |text: &str| Some(PathBuf::from(text));
    for (keys, configuration, home, expect) in [
        (path("/k"), path("/c"), path("/h"), "/k"),
        (None, path("/c"), path("/h"), "/c/waypost/keys"),
        (
            None,
            path("relative"),
            path("/h"),
            "/h/.config/waypost/keys",
        ),
        (None, None, path("/h"), "/h/.config/waypost/keys"),
    ] {
        assert_eq!(place(keys, configuration, home).unwrap(), Path::new(expect));
    }
    assert!(matches!(place(None, None, None), Err(KeysError::NoPlace)));
}

/// Goal: keys are files for nobody but their owner, and the same when they are read again.
#[test]
fn keys_are_kept_for_nobody_else_and_read_again() {
    let (_folder, mut directory) = empty();
    let ids = directory.generate(&name("ann"), &PAIR, at(1_000)).unwrap();
    let kinds = [Kind::X25519, Kind::Ed25519];
    directory.generate(&name("bob"), &kinds, at(1_001)).unwrap();
    directory
        .generate(&name("room"), &[Kind::Symmetric], at(1_002))
        .unwrap();
    let again = again(&directory);
    assert_eq!(again.keys().len(), 5);
    assert_eq!(again.name_of(ids[0]), Some(&name("ann")));
    let key = again.key(ids[1]).unwrap();
    assert_eq!((key.purpose, key.created), (Purpose::Signing, at(1_000)));
    for key in again.keys() {
        assert_eq!(mode(&key.path), 0o600, "{}", key.path.display());
        assert!(key.is_own() && key.retired.is_none());
        let file = key.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(file, format!("{}.{}.jwk", key.name, key.id()));
    }
    for folder in ["", "own"] {
        assert_eq!(mode(&directory.path().join(folder)), 0o700);
    }
    // Each is there for what it is for, and for nothing else.
    assert!(again.private(ids[0]).is_some() && again.sender(ids[0]).is_none());
    assert!(again.private(ids[1]).is_none() && again.sender(ids[1]).is_some());
    assert!(matches!(
        again.recipient(&name("room")),
        Ok(Recipient::Shared(_))
    ));
    assert_eq!(again.signer(&name("ann")).unwrap().id(), ids[1]);
    assert!(!again.legacy() && again.with_legacy().legacy());
}

#[test]
fn what_others_can_read_is_refused_with_what_helps() {
    let (_folder, mut directory) = empty();
    let ids = directory.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let file = directory.key(ids[0]).unwrap().path.clone();
    let own = directory.path().join("own");
    for (path, wrong, right) in [
        (file.as_path(), 0o640, 0o600),
        (file.as_path(), 0o604, 0o600),
        (&own, 0o711, 0o700),
        (directory.path(), 0o750, 0o700),
    ] {
        set_mode(path, wrong);
        let error = KeyDirectory::open(directory.path()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("mode {wrong:o}")), "{said}");
        assert!(
            said.contains(&format!("chmod {right:o} {}", path.display())),
            "{said}"
        );
        set_mode(path, right);
        assert_eq!(again(&directory).keys().len(), 2);
    }
}

#[test]
fn a_rotated_key_is_kept_to_open_and_the_new_one_is_used() {
    let (_folder, mut directory) = empty();
    let old = directory.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let rotated = directory.rotate(&name("ann"), at(2)).unwrap();
    assert_eq!(rotated.len(), 2);
    let again = again(&directory);
    assert_eq!(again.keys().len(), 4);
    for (before, after) in rotated {
        assert!(old.contains(&before));
        let (before, after) = (again.key(before).unwrap(), again.key(after).unwrap());
        assert_eq!((before.retired, after.retired), (Some(at(2)), None));
        assert_eq!(
            (before.purpose, before.kind()),
            (after.purpose, after.kind())
        );
        assert_eq!(
            again.current(&name("ann"), before.purpose).unwrap().id(),
            after.id()
        );
    }
    assert!(
        again.private(old[0]).is_some(),
        "what was sealed for it opens"
    );
    assert!(again.sender(old[1]).is_some(), "what it signed is known");
}

/// Goal: a rotation that a full disk or a crash ended halfway, with the new key there and the old one in use, is made good by the
/// next. Method: a second key for the same is put beside the first, as such a rotation leaves them.
#[test]
fn a_rotation_that_ended_halfway_is_made_good_by_the_next() {
    let (_folder, mut directory) = empty();
    let ann = name("ann");
    directory.generate(&ann, &PAIR, at(1)).unwrap();
    let given = Given {
        key: Kind::Signing.generate().unwrap(),
        purpose: Purpose::Signing,
    };
    let halfway = directory.add(OWN, &ann, vec![given], at(2)).unwrap();
    let rotated = directory.rotate(&ann, at(3)).unwrap();
    assert_eq!(rotated.len(), 2);
    assert!(rotated.iter().any(|(old, _)| *old == halfway[0]));
    let again = again(&directory);
    let in_use = again.keys().iter().filter(|key| key.retired.is_none());
    let mut in_use: Vec<_> = in_use.map(|key| key.purpose).collect();
    in_use.sort();
    assert_eq!(in_use, [Purpose::Sealing, Purpose::Signing]);
}

/// Goal: what could not be written leaves no half of a key behind. Method: a directory stands where the file is to be.
#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let (_folder, mut directory) = empty();
    let ids = directory.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let key = directory.key(ids[0]).unwrap();
    fs::remove_file(&key.path).unwrap();
    fs::create_dir(&key.path).unwrap();
    key.write().unwrap_err();
    let folder = fs::read_dir(key.path.parent().unwrap()).unwrap();
    assert_eq!(folder.count(), 2, "the directory, and the other key");
}

/// Goal: what is removed is gone from memory and disk, old keys too, and nobody else's is.
#[test]
fn a_removed_name_has_no_keys_left() {
    let (_folder, mut directory) = empty();
    directory.generate(&name("ann"), &PAIR, at(1)).unwrap();
    directory.rotate(&name("ann"), at(2)).unwrap();
    let others = directory.generate(&name("bob"), &PAIR, at(3)).unwrap();
    let removed = directory.remove(&name("ann")).unwrap();
    assert_eq!(removed.len(), 4);
    for directory in [&again(&directory), &directory] {
        for key in &removed {
            assert!(directory.key(key.id()).is_none() && !key.path.exists());
        }
        for other in &others {
            assert!(directory.key(*other).is_some());
        }
        assert!(matches!(
            directory.named(&name("ann")),
            Err(KeysError::Unknown { .. })
        ));
    }
    assert!(matches!(
        directory.remove(&name("ann")),
        Err(KeysError::Unknown { .. })
    ));
    // The name is free again.
    directory.generate(&name("ann"), &PAIR, at(4)).unwrap();
}

/// Goal: pairs that OpenSSL made are ours, or trusted, as those from JWK are. Method: what it wrote, a private and a public key
/// in turn.
#[test]
fn pem_is_taken_as_jwk_is() {
    const MADE_BY_OPENSSL: &str =
        include_str!("../../../../waypost-encrypt/tests/vectors/openssl.pem");
    let keys = decode_keys(MADE_BY_OPENSSL.as_bytes()).unwrap();
    assert_eq!(keys.len(), 8);
    let (_ours, mut ours) = empty();
    let (_theirs, mut theirs) = empty();
    let halves: Vec<_> = MADE_BY_OPENSSL
        .split_inclusive(" KEY-----\n")
        .collect::<Vec<_>>()
        .chunks(2)
        .map(<[&str]>::concat)
        .collect();
    for (index, pair) in halves.chunks(2).enumerate() {
        let (name, now) = (name(&format!("n{index}")), at(1));
        let [private, public] = pair else {
            panic!("{pair:?}");
        };
        let imported = ours.import(&name, private.as_bytes(), now).unwrap();
        let trusted = theirs.trust(&name, public.as_bytes(), false, now).unwrap();
        assert_eq!(imported, trusted);
        let other = empty().1.import(&name, public.as_bytes(), now);
        assert!(matches!(other, Err(KeysError::NotOwn(_))), "{other:?}");
        let other = theirs.trust(&name, private.as_bytes(), true, now);
        assert!(matches!(other, Err(KeysError::NotPublic(_))), "{other:?}");
    }
    assert_eq!(again(&ours).keys().len(), 4);
}

/// Goal: what one exports the other trusts; private keys leave only when they are asked for, and are not taken for public.
#[test]
fn public_halves_are_exported_and_trusted() {
    let (_ours, mut ann) = empty();
    let (_theirs, mut bob) = empty();
    let ids = ann.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let public = ann.export(&name("ann"), false).unwrap();
    let private = ann.export(&name("ann"), true).unwrap();
    assert!(!public.contains("\"d\"") && private.contains("\"d\""));

    assert_eq!(
        bob.trust(&name("ann"), public.as_bytes(), false, at(2))
            .unwrap(),
        ids
    );
    let again_bob = again(&bob);
    assert!(again_bob.sender(ids[1]).is_some() && again_bob.private(ids[0]).is_none());
    assert!(matches!(
        again_bob.recipient(&name("ann")),
        Ok(Recipient::Public(key)) if key.id() == ids[0]
    ));
    assert!(matches!(
        again_bob.signer(&name("ann")),
        Err(KeysError::Theirs(_))
    ));
    assert!(matches!(
        again_bob.export(&name("ann"), true),
        Err(KeysError::Theirs(_))
    ));
    assert_eq!(*again_bob.export(&name("ann"), false).unwrap(), *public);
    // The same again changes nothing.
    assert_eq!(
        bob.trust(&name("ann"), public.as_bytes(), false, at(3))
            .unwrap(),
        []
    );
    assert!(matches!(
        bob.rotate(&name("ann"), at(3)),
        Err(KeysError::Theirs(_))
    ));

    assert!(matches!(
        bob.trust(&name("eve"), private.as_bytes(), false, at(3)),
        Err(KeysError::NotPublic(_))
    ));
    assert!(matches!(
        bob.import(&name("eve"), public.as_bytes(), at(3)),
        Err(KeysError::NotOwn(_))
    ));
    let (_third, mut moved) = empty();
    assert_eq!(
        moved
            .import(&name("ann"), private.as_bytes(), at(4))
            .unwrap(),
        ids
    );
    assert!(moved.private(ids[0]).is_some());
}

#[test]
fn other_keys_of_somebody_are_trusted_only_when_that_is_meant() {
    let (_ours, mut ann) = empty();
    let (_theirs, mut bob) = empty();
    let old = ann.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let public = ann.export(&name("ann"), false).unwrap();
    bob.trust(&name("ann"), public.as_bytes(), false, at(1))
        .unwrap();
    ann.rotate(&name("ann"), at(2)).unwrap();
    let public = ann.export(&name("ann"), false).unwrap();
    assert!(matches!(
        bob.trust(&name("ann"), public.as_bytes(), false, at(3)),
        Err(KeysError::Exists { id, .. }) if id == old[0]
    ));
    let new = bob
        .trust(&name("ann"), public.as_bytes(), true, at(3))
        .unwrap();
    let bob = again(&bob);
    assert_eq!(
        bob.current(&name("ann"), Purpose::Sealing).unwrap().id(),
        new[0]
    );
    assert_eq!(bob.key(old[0]).unwrap().retired, Some(at(3)));
    // What she signed before is known still.
    assert!(bob.sender(old[1]).is_some() && bob.sender(new[1]).is_some());
}

#[test]
fn a_name_is_one_persons_and_has_one_key_for_each_purpose() {
    let (_folder, mut directory) = empty();
    directory
        .generate(&name("ann"), &[Kind::Ecc], at(1))
        .unwrap();
    assert!(matches!(
        directory.generate(&name("ann"), &[Kind::X25519], at(2)),
        Err(KeysError::Exists { .. })
    ));
    directory
        .generate(&name("ann"), &[Kind::Ed25519], at(2))
        .unwrap();
    assert!(matches!(
        directory.generate(&name("eve"), &[Kind::Ecc, Kind::Rsa], at(2)),
        Err(KeysError::Exists { .. })
    ));
    assert_eq!(directory.keys().len(), 2, "all of them or none");
    let public = directory.export(&name("ann"), false).unwrap();
    assert!(matches!(
        directory.trust(&name("ann"), public.as_bytes(), true, at(3)),
        Err(KeysError::IsOwn(_))
    ));
    // A key is one name's.
    assert!(matches!(
        directory.trust(&name("ann2"), public.as_bytes(), true, at(3)),
        Err(KeysError::Exists { name, .. }) if name.as_str() == "ann"
    ));
    let (_other, mut other) = empty();
    other
        .trust(&name("ann"), public.as_bytes(), false, at(3))
        .unwrap();
    assert!(matches!(
        other.generate(&name("ann"), &PAIR, at(3)),
        Err(KeysError::IsTrusted(_))
    ));
    for (asked, like) in [("Ann", Some("ann")), ("anna", Some("ann")), ("zoe", None)] {
        let Err(KeysError::Unknown { like: found, .. }) = directory.recipient(&name(asked)) else {
            panic!("{asked}");
        };
        assert_eq!(found.as_ref().map(KeyName::as_str), like, "{asked}");
    }
}

#[test]
fn a_shared_key_keeps_count_of_what_it_sealed() {
    let (_folder, mut directory) = empty();
    let ids = directory
        .generate(&name("room"), &[Kind::Symmetric], at(1))
        .unwrap();
    let mut other = again(&directory);
    let key = |directory: &KeyDirectory| directory.symmetric(ids[0]).unwrap();
    let read = |sealed, blocks| {
        let set = other.export(&name("room"), true).unwrap();
        let Jwk::Symmetric(key) = set::read(set.as_bytes()).unwrap().remove(0).key else {
            panic!("another key");
        };
        key.with_sealed(sealed).with_legacy_blocks(blocks)
    };
    let (ours, its) = (read(5, 2), read(7, 0));
    directory.note_sealed(&ours, (0, 0)).unwrap();
    other.note_sealed(&its, (0, 0)).unwrap();
    other.note_sealed(&its, (7, 0)).unwrap();
    let kept = key(&again(&directory));
    assert_eq!((kept.sealed(), kept.legacy_blocks()), (12, 2));
    assert!(matches!(
        directory.export(&name("room"), false),
        Err(KeysError::Shared(_))
    ));
    let set = directory.export(&name("room"), true).unwrap();
    let (_other, mut member) = empty();
    assert_eq!(
        member.import(&name("room"), set.as_bytes(), at(2)).unwrap(),
        ids
    );
}

#[test]
fn a_directory_has_its_bound() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let bounded = |max| KeyDirectory::bounded(path.clone(), max);
    let one = |number: u64| name(&format!("n{number}"));
    let mut directory = bounded(4).unwrap();
    for number in 0..4 {
        directory
            .generate(&one(number), &[Kind::Symmetric], at(number))
            .unwrap();
    }
    assert!(matches!(
        directory.generate(&one(4), &[Kind::Symmetric], at(4)),
        Err(KeysError::TooMany { max: 4, .. })
    ));
    assert_eq!(bounded(4).unwrap().keys().len(), 4);
    assert!(bounded(3).is_err() && bounded(2).is_err());
}

#[test]
fn damage_is_told_with_the_file() {
    let (_folder, mut directory) = empty();
    let ids = directory.generate(&name("ann"), &PAIR, at(1)).unwrap();
    let path = directory.key(ids[0]).unwrap().path.clone();
    let whole = fs::read(&path).unwrap();
    let long = [&whole[..], &vec![b' '; 20_000]].concat();
    for wrong in [&b""[..], b"{}", &whole[..whole.len() / 2], &long] {
        fs::write(&path, wrong).unwrap();
        let said = KeyDirectory::open(directory.path())
            .unwrap_err()
            .to_string();
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    // Neither a directory nor a pipe that nobody writes into is waited for.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let said = KeyDirectory::open(directory.path()).unwrap_err();
    assert!(said.to_string().ends_with("it is not a file"), "{said}");
    fs::remove_dir(&path).unwrap();
    fs::write(&path, &whole).unwrap();
    set_mode(&path, FILE_MODE);
    // Under the name of somebody else's key, or of none.
    for wrong in ["ann.0123456789abcdef.jwk", "ann.jwk", "readme"] {
        let wrong = path.with_file_name(wrong);
        fs::rename(&path, &wrong).unwrap();
        assert!(KeyDirectory::open(directory.path()).is_err());
        fs::rename(&wrong, &path).unwrap();
    }
    // What a crash left behind is not read.
    let half = path.with_file_name(".ann.0123456789abcdef.tmp");
    fs::write(&half, b"{").unwrap();
    assert_eq!(again(&directory).keys().len(), 2);
    // A private key that somebody put among those of others.
    let trusted = directory.path().join("trusted");
    make(&trusted).unwrap();
    fs::rename(&path, trusted.join(path.file_name().unwrap())).unwrap();
    assert!(KeyDirectory::open(directory.path()).is_err());
}

#[test]
fn texts_that_are_no_keys_are_refused() {
    let (_folder, mut directory) = empty();
    let mut ann = empty().1;
    let _ = ann.generate(&name("ann"), &[Kind::X25519], at(1)).unwrap();
    let set = ann.export(&name("ann"), false).unwrap();
    let signs = set.replace("\"use\":\"enc\"", "\"use\":\"sig\"");
    let one = set.lines().nth(1).unwrap();
    let many = format!("{{\"keys\":[{}]}}", vec![one; 17].join(","));
    for wrong in ["", "[]", "{\"keys\":[]}", "{\"kty\":\"EC\"}", &signs, &many] {
        assert!(
            directory
                .trust(&name("x"), wrong.as_bytes(), false, at(1))
                .is_err(),
            "{wrong}"
        );
    }
    directory
        .trust(&name("x"), one.as_bytes(), false, at(1))
        .unwrap();
}
