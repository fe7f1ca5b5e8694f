//! What a client asks of a server: wills, retained messages, properties, history, sessions that outlive programs.

use std::time::Duration;

use waypost_client::{Publish, QoS, ReasonCode, RetainHandling, Spec, Subscribe};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, eventually, message as next, run, text};

const CHAT: &str = "[[stream]]\nname = \"chat\"\nfilters = [\"chat/#\"]\n";

#[test]
fn acknowledgements_say_whether_somebody_was_there() {
    let server = Server::start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        let publish = || client.publish(Publish::new("a", "1").qos(QoS::AtLeastOnce));
        let nobody = publish().await.unwrap().reason;
        assert_eq!(nobody, ReasonCode::NoMatchingSubscribers);
        let mut subscription = client.subscribe("a").await.unwrap();
        assert_eq!(subscription.granted().reasons, [ReasonCode::Success]);
        assert_eq!(publish().await.unwrap().reason, ReasonCode::Success);
        assert_eq!(text(&mut subscription).await, "1");
        let gone = subscription.unsubscribe().await;
        assert_eq!(gone, [ReasonCode::Success]);
        let nobody = publish().await.unwrap().reason;
        assert_eq!(nobody, ReasonCode::NoMatchingSubscribers);
    });
}

#[test]
fn a_subscription_that_is_dropped_ends_with_the_server_too() {
    let server = Server::start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        let (one, two) = (
            client.subscribe("a").await.unwrap(),
            client.subscribe("a").await.unwrap(),
        );
        drop(one);
        drop(two);
        let publish = || client.publish(Publish::new("a", "1").qos(QoS::AtLeastOnce));
        while publish().await.unwrap().reason != ReasonCode::NoMatchingSubscribers {}
    });
}

#[test]
fn wills_properties_and_retained_messages_arrive() {
    let server = Server::start();
    run(async {
        let watcher = builder(&server).connect().await.unwrap();
        let mut wills = watcher.subscribe("will/#").await.unwrap();
        let will = Publish::new("will/a", "gone")
            .user_property("k", "v")
            .retain();
        let client = builder(&server)
            .client_id("a")
            .will(will)
            .connect()
            .await
            .unwrap();
        // The second of the same id throws the first out, whose will is published.
        let second = builder(&server).client_id("a").connect().await.unwrap();
        let message = next(&mut wills).await;
        assert_eq!(
            (message.text(), message.user_property("k")),
            (Some("gone"), Some("v"))
        );
        let why = client.ended().await;
        assert!(why.to_string().contains("taken over"), "{why}");
        let later = Subscribe::to("will/+").retain_handling(RetainHandling::SendAtSubscribe);
        let mut kept = second.subscribe(later).await.unwrap();
        assert!(next(&mut kept).await.is_retained());
        let rich = Publish::new("will/rich", "x")
            .content_type("text/plain")
            .response("answers", b"7")
            .expires_in(Duration::from_mins(1));
        second.publish(rich).await.unwrap();
        let rich = next(&mut kept).await;
        let properties = rich.properties();
        assert_eq!(properties.content_type(), Some("text/plain"));
        assert_eq!(properties.response_topic(), Some("answers"));
        assert_eq!(properties.correlation_data(), Some(&b"7"[..]));
        assert_eq!(properties.message_expiry_interval(), Some(60));
    });
}

#[test]
fn each_subscription_gets_its_own_messages_only() {
    let server = Server::start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        let mut wide = client.subscribe("a/#").await.unwrap();
        let mut narrow = client
            .subscribe(Subscribe::to("a/b").and("c"))
            .await
            .unwrap();
        for (topic, payload) in [("a/x", "1"), ("a/b", "2"), ("c", "3")] {
            client
                .publish(Publish::new(topic, payload).qos(QoS::AtLeastOnce))
                .await
                .unwrap();
        }
        assert_eq!(
            (text(&mut wide).await, text(&mut wide).await),
            ("1".into(), "2".into())
        );
        assert_eq!(
            (text(&mut narrow).await, text(&mut narrow).await),
            ("2".into(), "3".into())
        );
        assert!(wide.try_next().is_none() && narrow.try_next().is_none());
    });
}

#[test]
fn history_comes_before_what_is_live() {
    let server = ServerOptions::new().configuration(CHAT).start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        for number in 1..=5 {
            let line = Publish::new("chat/lobby", number.to_string()).qos(QoS::AtLeastOnce);
            client.publish(line).await.unwrap();
        }
        for (spec, first) in [
            (Spec::last(2), "4"),
            (Spec::offset(0).stream("chat"), "1"),
            (Spec::since(Duration::from_mins(10)), "1"),
            (Spec::time_ms(0), "1"),
            (Spec::each(1), "5"),
        ] {
            let subscribe = Subscribe::to("chat/#").from(spec.clone());
            let mut chat = client.subscribe(subscribe).await.unwrap();
            let message = next(&mut chat).await;
            assert_eq!(message.text(), Some(first), "{spec}");
            assert_eq!(message.place().unwrap().stream, "chat");
        }
    });
}

/// Goal: a session keeps what comes while its program is away, and nothing that the program has not taken is lost with it.
/// Method: of five messages the program takes two, and is gone; three more come; the next program takes six.
#[test]
fn what_a_program_has_not_taken_stays_for_the_next() {
    let server = Server::start();
    let persistent = || {
        builder(&server)
            .client_id("ann")
            .clean_start(false)
            .session_expiry(Duration::from_mins(10))
    };
    run(async {
        let sender = builder(&server).connect().await.unwrap();
        let send = async |numbers: std::ops::RangeInclusive<u32>| {
            for number in numbers {
                let message = Publish::new("mail", number.to_string()).qos(QoS::AtLeastOnce);
                sender.publish(message).await.unwrap();
            }
        };
        let ann = persistent().connect().await.unwrap();
        let mail = Subscribe::to("mail").qos(QoS::AtLeastOnce);
        let mut subscription = ann.subscribe(mail.clone()).await.unwrap();
        send(1..=5).await;
        assert_eq!(
            (text(&mut subscription).await, text(&mut subscription).await),
            ("1".into(), "2".into())
        );
        drop(subscription);
        ann.disconnect().await;
        send(6..=8).await;
        let connected = persistent().inbox(100).connect_with_inbox().await.unwrap();
        assert!(connected.session_present);
        let mut inbox = connected.inbox.unwrap();
        for number in 3..=5 {
            assert_eq!(text(&mut inbox).await, number.to_string());
        }
        drop(inbox);
        drop(connected.client);
        let ann = {
            // What came before the program subscribes waits for it.
            persistent().connect().await.unwrap()
        };
        let mut subscription = ann.subscribe(mail).await.unwrap();
        for number in 6..=8 {
            assert_eq!(text(&mut subscription).await, number.to_string());
        }
        subscription.unsubscribe().await;
        ann.disconnect().await;
        eventually("the server to see it go", || {
            server.metric("waypost_clients_connected") < 2.0
        })
        .await;
    });
}
