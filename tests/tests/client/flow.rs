//! Bounds: programs that take slowly, programs that publish faster than the server takes.

use waypost_client::{Completions, Publish, QoS, Subscribe, WhenFull};
use waypost_tests::Server;

use crate::{builder, eventually, run, text};

/// Messages that come while nobody takes any.
async fn flood(server: &Server, count: u32) {
    let sender = builder(server).connect().await.unwrap();
    for number in 1..=count {
        sender
            .send(Publish::new("flood", number.to_string()))
            .await
            .unwrap()
            .await
            .unwrap();
    }
    sender.disconnect().await;
}

/// Goal: a queue holds its capacity and no more, and what did not fit is still read. Method: N, N + 1, 2 N and many messages come
/// before the first is taken.
#[test]
fn a_full_queue_stops_the_reading() {
    let server = Server::start();
    run(async {
        for count in [10, 11, 20, 500] {
            let client = builder(&server).connect().await.unwrap();
            let mut slow = client
                .subscribe(Subscribe::to("flood").capacity(10))
                .await
                .unwrap();
            flood(&server, count).await;
            for number in 1..=count {
                assert_eq!(text(&mut slow).await, number.to_string());
            }
            assert_eq!(client.dropped(), 0);
            client.disconnect().await;
        }
    });
}

#[test]
fn dropping_the_oldest_keeps_the_newest_and_counts() {
    let server = Server::start();
    run(async {
        for (count, dropped) in [(10, 0), (11, 1), (20, 10)] {
            let client = builder(&server).connect().await.unwrap();
            let subscribe = Subscribe::to("flood")
                .capacity(10)
                .when_full(WhenFull::DropOldest);
            let mut newest = client.subscribe(subscribe).await.unwrap();
            let mut fence = client.subscribe("fence").await.unwrap();
            flood(&server, count).await;
            client
                .publish(Publish::new("fence", "up").qos(QoS::AtLeastOnce))
                .await
                .unwrap();
            text(&mut fence).await;
            assert_eq!(client.dropped(), dropped);
            for number in dropped + 1..=u64::from(count) {
                assert_eq!(text(&mut newest).await, number.to_string());
            }
        }
    });
}

/// Goal: a program that answers each message and waits for the acknowledgement does not wait for itself. Method: far more messages
/// come than fit, and each is answered at QoS 1 from the loop that takes them.
#[test]
fn a_program_that_answers_what_it_takes_is_not_stuck() {
    let server = Server::start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        let mut questions = client
            .subscribe(Subscribe::to("flood").capacity(5))
            .await
            .unwrap();
        flood(&server, 300).await;
        let mut answered = 0;
        loop {
            let number: u64 = text(&mut questions).await.parse().unwrap();
            client
                .publish(Publish::new("answers", "x").qos(QoS::AtLeastOnce))
                .await
                .unwrap();
            answered += 1;
            if number == 300 {
                break;
            }
        }
        assert_eq!(answered + client.dropped(), 300);
    });
}

/// What is unfinished is bounded: at the bound nothing more is taken, and an acknowledgement makes room.
#[test]
fn publishing_beyond_the_bound_waits() {
    let server = Server::start();
    run(async {
        let client = builder(&server)
            .unfinished_max(4, 100)
            .connect()
            .await
            .unwrap();
        let completions = Completions::new();
        let message = |bytes| Publish::new("a", vec![0; bytes]).qos(QoS::AtLeastOnce);
        let mut refused = 0;
        for key in 0..8 {
            refused += u32::from(
                client
                    .try_publish_into(message(1), &completions, key)
                    .unwrap()
                    .is_some(),
            );
        }
        assert_eq!(
            (refused, client.unfinished()),
            (4, 4),
            "messages, no await between: nothing is finished"
        );
        for key in 0..4 {
            assert_eq!(completions.next().await.0, key);
        }
        assert!(
            client
                .try_publish_into(message(50), &completions, 9)
                .unwrap()
                .is_none()
        );
        assert!(
            client
                .try_publish_into(message(49), &completions, 10)
                .unwrap()
                .is_some(),
            "bytes"
        );
        completions.next().await.1.unwrap();
        let alone = client
            .try_publish_into(message(500), &completions, 11)
            .unwrap();
        assert!(alone.is_none(), "one larger than the bound goes alone");
        completions.next().await.1.unwrap();
        let sent: Vec<_> = (0..20).map(|_| client.publish(message(30))).collect();
        for sent in sent {
            sent.await.unwrap();
        }
        eventually("nothing to be unfinished", || client.unfinished() == 0).await;
    });
}
