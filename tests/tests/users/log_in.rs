//! Who comes in: names, passwords, nobody's names, and those who guess.

use std::time::{Duration, Instant};

use waypost_mqtt::{Packet, QoS, ReasonCode};
use waypost_tests::{LIMIT, RawClient, ServerOptions, wait_for};

use crate::{BOTH, House, SECRET, SLOW_SECRET, V5, V311, credentials, publish, root, topics, user};

const WRONG: u8 = 0x86;
const DENIED: u8 = 0x87;
const BUSY: u8 = 0x89;

#[test]
fn only_the_right_password_opens() {
    let house =
        House::new(&(user("alice", "") + "[[user]]\nname = \"pump\"\ncertificate = \"cn=pump\"\n"));
    for (version, wrong, denied) in [(V311, 4, 5), (V5, WRONG, DENIED)] {
        for (name, password, expect) in [
            (Some("alice"), Some("secret"), 0),
            (Some("alice"), Some("other"), wrong),
            (Some("alice"), Some(""), wrong),
            (Some("alice"), Some("secret "), wrong),
            (Some("alice"), None, wrong),
            (Some("Alice"), Some("secret"), wrong),
            (Some("bob"), Some("secret"), wrong),
            (Some(""), Some("secret"), wrong),
            // One that has only a certificate has no password that could be right.
            (Some("pump"), Some("secret"), wrong),
            (Some("pump"), None, wrong),
            (None, None, denied),
        ] {
            let connect = credentials(version, "c", name, password);
            assert_eq!(
                house.answer_to(&connect),
                expect,
                "{version:?} {name:?} {password:?}"
            );
        }
    }
    assert_eq!(
        house.answer_to(&credentials(V5, "c", None, Some("secret"))),
        WRONG
    );
}

#[test]
fn those_without_a_name_come_in_if_the_operator_says_so() {
    let users = user("alice", "allow = \"private\"") + "[[permission]]\nallow = \"public\"\n";
    let options = || ServerOptions::new().arguments(["--set", "auth.anonymous=true"]);
    let house = House::with(&users, options());
    let mut nobody = RawClient::connect(&house.server, V5, "nobody");
    assert_eq!(crate::ask(&mut nobody, "public"), 1);
    assert_eq!(crate::ask(&mut nobody, "private"), DENIED);
    // A wrong name is not nobody.
    assert_eq!(
        house.answer_to(&credentials(V5, "x", Some("nobody"), Some("x"))),
        WRONG
    );
    drop(house);
    // The other way round: no users, and nobody comes in.
    let shut = ServerOptions::new().arguments(["--set", "auth.anonymous=false"]);
    let house = House::with("", shut);
    assert_eq!(house.answer_to(&credentials(V5, "x", None, None)), DENIED);
    assert_eq!(house.answer_to(&credentials(V311, "x", None, None)), 5);
    drop(house);
    // And unsaid: everybody, while there are no users.
    let house = House::new("");
    assert_eq!(
        house.answer_to(&credentials(V5, "x", Some("anybody"), Some("x"))),
        0
    );
    assert_eq!(house.change(&users).0, 200);
    assert_eq!(
        house.answer_to(&credentials(V5, "x", Some("anybody"), Some("x"))),
        WRONG
    );
}

#[test]
fn a_session_belongs_to_the_user_who_made_it() {
    for shards in [1, 2, 4] {
        let users = user("alice", "allow = \"a\"") + &user("bob", "allow = \"a\"");
        let house = House::with(&users, ServerOptions::new().shards(shards));
        let mut alice = house.log_in_as(V5, "alice", "shared-id");
        alice.subscribe("a", QoS::AtLeastOnce);
        let mut bob = house.log_in_as(V5, "bob", "bob");
        for (version, expect) in [(V311, 5), (V5, DENIED)] {
            // Often enough to come in on every shard.
            for _ in 0..4 {
                let connect = credentials(version, "shared-id", Some("bob"), Some("secret"));
                assert_eq!(house.answer_to(&connect), expect, "{shards} shards");
            }
        }
        // Alice's connection and session are as they were.
        publish(&mut bob, "a", QoS::AtLeastOnce, false);
        assert_eq!(topics(&mut alice), ["a"]);
    }
}

/// Goal: right credentials are hashed once a minute, and not at all remembered when users change. Method: the counters.
#[test]
fn right_credentials_are_remembered_until_users_change() {
    let house = House::new(&user("alice", ""));
    let hashed = || house.count("waypost_passwords_hashed_total");
    for version in BOTH {
        for _ in 0..3 {
            house.log_in(version, "alice");
        }
    }
    assert_eq!(hashed(), 1);
    house
        .server
        .wait_for_metric("waypost_log_ins_remembered_total", 5.0);
    // A wrong password is hashed each time.
    assert_eq!(
        house.answer_to(&credentials(V5, "c", Some("alice"), Some("other"))),
        WRONG
    );
    assert_eq!(hashed(), 2);
    assert_eq!(house.change(&(user("alice", "") + &user("bob", ""))).0, 200);
    house.log_in(V5, "alice");
    assert_eq!(hashed(), 3);
    // The old password is not remembered beyond its end.
    let changed = crate::user_with_other_password("alice", "");
    assert_eq!(house.change(&changed).0, 200);
    assert_eq!(
        house.answer_to(&credentials(V5, "c", Some("alice"), Some("secret"))),
        WRONG
    );
}

/// Goal: many clients of one user that come at once are checked as one. Method: a check that takes long, and all of them
/// in line before it is done.
#[test]
fn those_who_waited_behind_the_first_need_no_check() {
    let slow = user("alice", "").replace(SECRET, SLOW_SECRET);
    let options = ServerOptions::new().arguments(["--set", "server.hash_threads=1"]);
    let house = House::with(&slow, options);
    let mut clients: Vec<_> = (0..20)
        .map(|number| {
            let mut client = RawClient::open(house.server.mqtt(), V5);
            let name = format!("c{number}");
            let connect = credentials(V5, &name, Some("alice"), Some("secret"));
            client.send(&Packet::Connect(connect));
            client
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.receive().conn_ack().reason, ReasonCode::Success);
    }
    assert_eq!(house.count("waypost_passwords_hashed_total"), 1);
    assert_eq!(house.count("waypost_log_ins_remembered_total"), 19);
}

#[test]
fn at_most_so_many_credentials_are_remembered() {
    let users: String = (0..4)
        .map(|number| user(&format!("user-{number}"), ""))
        .collect();
    let options = ServerOptions::new().arguments(["--set", "limits.log_ins_remembered_max=2"]);
    let house = House::with(&users, options);
    for (logged_in, forgotten) in [(2, 0), (3, 1), (4, 2)] {
        house.log_in(V5, &format!("user-{}", logged_in - 1));
        if logged_in == 2 {
            house.log_in(V5, "user-0");
        }
        assert_eq!(house.count("waypost_log_ins_forgotten_total"), forgotten);
    }
}

/// Sends CONNECT and does not wait.
fn knock(house: &House, name: &str, password: &str) -> RawClient {
    let mut client = RawClient::open(house.server.mqtt(), V5);
    client.send(&Packet::Connect(credentials(
        V5,
        name,
        Some(name),
        Some(password),
    )));
    client
}

/// Goal: guessing gets slower and slower, and has two places at a time; who logs in from elsewhere does not feel it.
/// Method: guesses from one address of the loopback network, a log-in from another.
#[test]
fn guessing_is_slow_and_in_nobodys_way() {
    let house = House::new(&user("alice", ""));
    let mut delays = Vec::new();
    for _ in 0..4 {
        let started = Instant::now();
        assert_eq!(
            house.answer_from(
                "127.0.0.1",
                &credentials(V5, "c", Some("alice"), Some("guess"))
            ),
            WRONG
        );
        delays.push(started.elapsed());
    }
    for (delay, at_least_ms) in delays.iter().zip([250, 500, 1_000, 2_000]) {
        assert!(*delay >= Duration::from_millis(at_least_ms), "{delays:?}");
    }
    // Two more wait; whoever comes then, from that address, is sent away at once.
    let _waiting = [
        knock(&house, "alice", "guess 1"),
        knock(&house, "alice", "guess 2"),
    ];
    house
        .server
        .wait_for_metric("waypost_passwords_hashed_total", 6.0);
    assert_eq!(
        house.answer_from(
            "127.0.0.1",
            &credentials(V5, "c", Some("alice"), Some("guess"))
        ),
        BUSY
    );
    assert_eq!(
        house.answer_from(
            "127.0.0.1",
            &credentials(V311, "c", Some("alice"), Some("guess"))
        ),
        3
    );
    house
        .server
        .wait_for_metric("waypost_log_ins_refused_total", 2.0);
    // From elsewhere.
    let started = Instant::now();
    let mut elsewhere = RawClient::open_from("127.0.0.2", house.server.mqtt(), V5);
    elsewhere.send(&Packet::Connect(credentials(
        V5,
        "d",
        Some("alice"),
        Some("secret"),
    )));
    assert_eq!(elsewhere.receive().conn_ack().reason, ReasonCode::Success);
    // Less than what the next guess waits, though who hashes has only what others leave of the machine.
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
}

/// Goal: hanging up does not make guessing faster. Method: guesses whose connections close at once.
#[test]
fn hanging_up_gives_no_further_guess() {
    let house = House::new(&user("alice", ""));
    assert_eq!(
        house.answer_from(
            "127.0.0.1",
            &credentials(V5, "c", Some("alice"), Some("guess"))
        ),
        WRONG
    );
    for number in 0..50 {
        drop(knock(&house, "alice", &format!("guess {number}")));
    }
    // Two of them had places; the answers to these are held back.
    house
        .server
        .wait_for_metric("waypost_log_ins_refused_total", 20.0);
    assert!(house.count("waypost_passwords_hashed_total") < 10);
}

/// Goal: at most so many wait for their passwords to be checked. Method: room for two, and passwords that take long.
#[test]
fn at_most_so_many_wait() {
    // 256 MiB and one pass: about a quarter of a second.
    let slow = user("alice", "").replace("m=8,t=1,p=1", "m=262144,t=1,p=1");
    for (waiting, refused) in [(2, 0), (3, 1), (4, 2)] {
        let options = ServerOptions::new().arguments([
            "--set",
            "limits.log_ins_waiting_max=2",
            "--set",
            "server.hash_threads=1",
        ]);
        let house = House::with(&slow, options);
        let mut clients: Vec<_> = (0..waiting)
            .map(|number| {
                let mut client = RawClient::open(house.server.mqtt(), V5);
                let name = format!("c{number}");
                let connect = credentials(V5, &name, Some("alice"), Some("guess"));
                client.send(&Packet::Connect(connect));
                client
            })
            .collect();
        let answers: Vec<_> = clients
            .iter_mut()
            .map(|client| client.receive().conn_ack().reason)
            .collect();
        let busy = answers
            .iter()
            .filter(|answer| answer.as_u8() == BUSY)
            .count();
        assert_eq!(busy, refused, "{answers:?}");
    }
}

/// Goal: no shard hashes. Method: the names and the niceness of the threads, and who has used the time.
#[test]
fn passwords_are_hashed_by_nice_threads_that_are_no_shards() {
    let costly = user("alice", "").replace("m=8,t=1,p=1", "m=65536,t=3,p=1") + &root();
    let options = ServerOptions::new().arguments(["--set", "server.hash_threads=2"]);
    let house = House::with(&costly, options);
    for _ in 0..3 {
        house.answer_to(&credentials(V5, "c", Some("alice"), Some("guess")));
    }
    let tasks = format!("/proc/{}/task", house.server.pid());
    let mut hashing = Vec::new();
    let mut others_ms = 0;
    for task in std::fs::read_dir(&tasks).unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // proc(5): utime, stime in ticks of 10 ms, nice.
        let ms = 10 * (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap());
        if name.starts_with("hash-") {
            hashing.push((fields[16].to_owned(), ms));
        } else if name.starts_with("shard-") || name == "log-ins" {
            others_ms += ms;
        }
    }
    assert_eq!(hashing.len(), 2);
    assert!(hashing.iter().all(|(nice, _)| nice == "19"), "{hashing:?}");
    let hashing_ms: u64 = hashing.iter().map(|(_, ms)| ms).sum();
    assert!(
        hashing_ms > 100 && others_ms < hashing_ms / 2,
        "{hashing_ms} ms hashing, {others_ms} ms elsewhere"
    );
}

/// Goal: a name that is nobody's takes as long as a wrong password. Method: hashing that takes much longer than all
/// else, one attempt each from addresses that have not failed.
#[test]
fn nobodys_name_costs_as_much_as_a_wrong_password() {
    let costly = user("alice", "").replace("m=8,t=1,p=1", "m=131072,t=2,p=1");
    let house = House::with(&costly, ServerOptions::new());
    for (number, name) in ["alice", "mallory"].into_iter().enumerate() {
        let before = house.count("waypost_passwords_hashed_total");
        let mut client =
            RawClient::open_from(&format!("127.0.1.{}", number + 1), house.server.mqtt(), V5);
        client.send(&Packet::Connect(credentials(
            V5,
            "c",
            Some(name),
            Some("guess"),
        )));
        assert_eq!(client.receive().conn_ack().reason.as_u8(), WRONG);
        assert_eq!(
            house.count("waypost_passwords_hashed_total"),
            before + 1,
            "{name}"
        );
    }
    wait_for("two wrong ones", LIMIT, || {
        (house.count("waypost_passwords_wrong_total") >= 2).then_some(())
    });
}
