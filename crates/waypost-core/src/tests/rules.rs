//! Changes of the rules: who stays, with what, on one shard and on several.

use std::sync::{Arc, Mutex};

use waypost_mqtt::ReasonCode;

use super::world::{World, options, v3, v5};
use crate::{
    Action, AllowAll, Answer, Authenticate, Authentication, Credentials, Limits, Permit, Standing,
    Ticket, Verdict, Who,
};

/// Forbids topics that begin with one of these, to whoever is not at the address.
#[derive(Clone, Default)]
struct Forbidding {
    topics: Vec<&'static str>,
    home: Option<&'static str>,
}

impl Permit for Forbidding {
    fn check(&mut self, who: &Who<'_>, _: Action, topic: &str) -> Verdict {
        let is_home = who
            .address
            .map(|address| address.ip().to_string())
            .as_deref()
            == self.home;
        let is_forbidden = self.topics.iter().any(|begin| topic.starts_with(begin));
        if is_forbidden && !(is_home && self.home.is_some()) {
            Verdict::Deny
        } else {
            Verdict::Allow
        }
    }
}

fn forbidding<const N: usize>(topics: [&'static str; N]) -> Forbidding {
    Forbidding {
        topics: topics.to_vec(),
        home: None,
    }
}

/// Believes every name; `slow` has to wait. Tells who is forgotten.
#[derive(Clone, Default)]
struct Doorman {
    gone: Vec<&'static str>,
    again: Vec<&'static str>,
    asked: Arc<Mutex<Vec<Ticket>>>,
    forgotten: Arc<Mutex<Vec<Ticket>>>,
}

impl Authenticate for Doorman {
    fn supports(&self, _: &str) -> bool {
        false
    }

    fn authenticate(&mut self, credentials: &Credentials<'_>, _: u32) -> Authentication {
        if credentials.user_name == Some("slow") {
            self.asked.lock().unwrap().push(credentials.ticket);
            return Authentication::Pending;
        }
        Authentication::Accept {
            user: credentials.user_name.map(Box::from),
            data: None,
        }
    }

    fn forget(&mut self, ticket: Ticket) {
        self.forgotten.lock().unwrap().push(ticket);
    }

    fn standing(&self, user: Option<&str>) -> Standing {
        match user.unwrap_or("nobody") {
            user if self.gone.contains(&user) => Standing::Gone,
            user if self.again.contains(&user) => Standing::LogsInAgain,
            _ => Standing::Stays,
        }
    }
}

fn world(shards: u16, doorman: &Doorman) -> World {
    World::with_permit(shards, Limits::default(), 1, |_| {
        (Box::new(AllowAll), Box::new(doorman.clone()))
    })
}

fn change(world: &mut World, permit: &Forbidding, doorman: &Doorman) {
    for shard in 0..world.shards() {
        world.change_rules(shard, permit.clone(), doorman.clone());
    }
    world.settle();
}

fn sum(world: &World, count: impl Fn(&crate::Counters) -> u64) -> u64 {
    (0..world.shards())
        .map(|shard| count(world.broker(shard).counters()))
        .sum()
}

#[test]
fn subscriptions_that_are_forbidden_end() {
    for shards in [1, 2, 4] {
        let mut world = world(shards, &Doorman::default());
        let last = usize::from(shards) - 1;
        let watcher = world.connect(&v5("watcher"));
        world.subscribe(watcher, "$events/client/denied", 0);
        let live = world.connect(&v5("live").user("a").at(last));
        world.subscribe(live, "secret/#", 1);
        world.subscribe(live, "public/#", 1);
        world.subscribe(live, "$share/g/secret/y", 1);
        world.subscribe(live, "$share/g/public/y", 1);
        let away = world.connect(&v5("away").user("a").persistent(600).at(last));
        world.subscribe(away, "secret/x", 1);
        world.subscribe(away, "public/x", 1);
        world.cut(away);
        let publisher = world.connect(&v5("publisher"));
        world.publish(publisher, "secret/x", "before", 1);
        assert_eq!(world.take(live).len(), 1);

        change(&mut world, &forbidding(["secret"]), &Doorman::default());
        assert_eq!(sum(&world, |counters| counters.subscriptions_revoked), 3);
        let events = world.take(watcher);
        assert_eq!(events.len(), 3, "{events:?}");
        assert!(events[0].contains("\"reason_code\":135,\"reason\":\"not permitted any more\""));
        // Somebody who still may: the forbidden ones get nothing all the same.
        for shard in 0..world.shards() {
            world.change_rules(shard, AllowAll, Doorman::default());
        }
        world.publish(publisher, "secret/x", "after", 1);
        world.publish(publisher, "public/x", "after", 1);
        world.publish(publisher, "secret/y", "after", 1);
        world.publish(publisher, "public/y", "after", 1);
        // Once by the plain subscription, once for the group.
        assert_eq!(
            world.take(live),
            [
                "PUBLISH q1 #2 public/x=after",
                "PUBLISH q1 #3 public/y=after",
                "PUBLISH q1 #4 public/y=after"
            ],
            "{shards} shards"
        );
        let away = world.connect(&v5("away").user("a").clean(false).persistent(600).at(0));
        // What it was sent while it was allowed is its own.
        assert_eq!(
            world.take(away),
            [
                "PUBLISH q1 #1 secret/x=before",
                "PUBLISH q1 #2 public/x=after"
            ]
        );
        assert_eq!(world.unsubscribe(live, "secret/#"), "UNSUBACK #2 11");
    }
}

#[test]
fn who_may_not_stay_is_disconnected() {
    for shards in [1, 2, 4] {
        let mut world = world(shards, &Doorman::default());
        let last = usize::from(shards) - 1;
        let mut join = |name: &str| {
            let options = v5(name)
                .user(name)
                .persistent(600)
                .will("will", name, 1, false);
            let client = world.connect(&options.at(last));
            world.subscribe(client, "t", 1);
            client
        };
        let (gone, again, stays) = (join("gone"), join("again"), join("stays"));
        let old = world.connect(&v3("old").user("gone"));
        let anonymous = world.connect(&v5("anonymous"));
        let away = world.connect(&v5("away").user("gone").persistent(600));
        world.cut(away);
        let doorman = Doorman {
            gone: vec!["gone"],
            again: vec!["again"],
            ..Doorman::default()
        };
        change(&mut world, &Forbidding::default(), &doorman);
        assert_eq!(world.take(gone), ["DISCONNECT 87", "closed"]);
        assert_eq!(world.take(again), ["DISCONNECT 87", "closed"]);
        assert_eq!(world.take(old), ["closed"]);
        assert!(!world.is_closed(stays) && !world.is_closed(anonymous));
        assert_eq!(sum(&world, |counters| counters.rules_disconnects), 3);
        // Nobody can come back for the sessions of one that is gone.
        assert_eq!(sum(&world, |counters| counters.sessions_ended), 3);
        let (_, connack) = world.try_connect(&v5("again").user("again").clean(false).persistent(9));
        assert_eq!(connack, "CONNACK 00 present", "{shards} shards");
        // Both have lost their connections: both wills are told, to whoever is left.
        let wills: Vec<_> = world.take(stays);
        assert_eq!(wills, [""; 0]);
        assert_eq!(sum(&world, |counters| counters.wills_published), 2);
    }
}

#[test]
fn wills_are_judged_when_they_fire_and_from_where_their_clients_were() {
    let mut world = world(1, &Doorman::default());
    let subscriber = world.connect(&v5("s"));
    world.subscribe(subscriber, "secret/#", 1);
    let first = world.connect(&v5("first").will("secret/1", "w", 1, false));
    let second = world.connect(&v5("second").will("secret/2", "w", 1, false));
    let at_home = Forbidding {
        topics: vec!["secret"],
        home: Some("127.0.0.1"),
    };
    change(&mut world, &at_home, &Doorman::default());
    world.cut(first);
    assert_eq!(world.take(subscriber), ["PUBLISH q1 #1 secret/1=w"]);
    let elsewhere = Forbidding {
        home: Some("10.0.0.1"),
        ..at_home
    };
    change(&mut world, &elsewhere, &Doorman::default());
    world.cut(second);
    assert_eq!(world.take(subscriber), [""; 0]);
    assert_eq!(world.broker(0).counters().wills_denied, 1);
}

/// Goal: a session that was on its way between two shards while the rules changed keeps nothing that is forbidden.
/// Method: the shard it comes from has the old rules still.
#[test]
fn a_session_that_arrives_after_the_change_is_looked_at() {
    let mut world = world(2, &Doorman::default());
    let client = world.connect(&v5("c").persistent(600).at(0));
    world.subscribe(client, "secret/x", 1);
    world.cut(client);
    world.change_rules(1, forbidding(["secret"]), Doorman::default());
    let client = world.connect(&v5("c").clean(false).persistent(600).at(1));
    assert_eq!(world.broker(1).counters().subscriptions_revoked, 1);
    assert_eq!(world.unsubscribe(client, "secret/x"), "UNSUBACK #2 11");
}

#[test]
fn many_sessions_are_looked_at_in_steps() {
    let mut world = world(1, &Doorman::default());
    for number in 0..30 {
        let client = world.connect(&v5(&format!("c{number}")));
        let filters: Vec<_> = (0..100).map(|at| format!("secret/{at}")).collect();
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| (&**filter, options(0)))
            .collect();
        world.subscribe_with(client, &filters, 0);
    }
    world.change_rules(0, forbidding(["secret"]), Doorman::default());
    let first = world.broker(0).counters().subscriptions_revoked;
    assert!((1..3_000).contains(&first), "{first} at once");
    assert_eq!(world.broker(0).next_timeout(), Some(0));
    // A second change waits for the first to be finished.
    world.change_rules(0, AllowAll, Doorman::default());
    assert_eq!(world.broker(0).counters().subscriptions_revoked, 3_000);
    world.change_rules(0, AllowAll, Doorman::default());
    world.advance(1);
    assert_ne!(world.broker(0).next_timeout(), Some(0));
}

#[test]
fn a_late_answer_reaches_nobody() {
    let doorman = Doorman::default();
    let mut world = world(1, &doorman);
    let first = world.open();
    world.send_connect(first, &v5("a").user("slow"));
    assert!(world.is_parked(first));
    world.cut(first);
    let tickets = doorman.asked.lock().unwrap().clone();
    assert_eq!(*doorman.forgotten.lock().unwrap(), tickets);
    // The next connection takes the slot, and waits too.
    let second = world.open();
    world.send_connect(second, &v5("b").user("slow"));
    let both = doorman.asked.lock().unwrap().clone();
    assert_eq!(both[0].connection, both[1].connection);
    let accept = || {
        Answer::Authenticate(Authentication::Accept {
            user: Some("slow".into()),
            data: None,
        })
    };
    world.answer_ticket(0, both[0], accept());
    assert!(world.is_parked(second));
    assert_eq!(world.take(second), [""; 0]);
    world.answer_ticket(0, both[1], accept());
    assert_eq!(world.take(second), ["CONNACK 00"]);
    assert_eq!(doorman.forgotten.lock().unwrap().len(), 1);
    // Once more, to one that waits for nothing.
    world.answer_ticket(
        0,
        both[1],
        Answer::Authenticate(Authentication::Reject(ReasonCode::Banned)),
    );
    assert!(!world.is_closed(second));
}
