//! What is packed and sealed between clients, and what the server sees of it.

use std::sync::Arc;

use waypost_client::keys::Recipient;
use waypost_client::{
    Client, ContentError, Message, MessageError, Publish, PublishError, QoS, RetainHandling, Spec,
    Subscribe, SubscribeError, Subscription,
};
use waypost_encrypt::{Jwk, KeyKind, KeySet, PrivateKey, Sender, SymmetricKey, SystemRandom};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, message, run, text};

const TEXT: &str = "to be, or not to be, that is the question; ";

fn pair(kind: KeyKind) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(kind, &mut SystemRandom).unwrap())
}

/// The key as its owner's file has it.
fn copy(key: &PrivateKey) -> Jwk {
    Jwk::decode(key.to_jwk().as_bytes()).unwrap()
}

fn public(key: &PrivateKey) -> Recipient {
    Recipient::Public(Arc::new(key.public().clone()))
}

fn at_least_once(topic: &str, payload: impl Into<Vec<u8>>) -> Publish {
    Publish::new(topic, payload).qos(QoS::AtLeastOnce)
}

async fn error(subscription: &mut Subscription) -> MessageError {
    subscription
        .next()
        .await
        .expect("a message")
        .expect_err("an error")
}

/// A client with these keys, a subscription to everything of it, and one that sees what the server sees.
async fn readers(server: &Server, keys: KeySet) -> (Client, Subscription, Subscription) {
    let reader = builder(server)
        .keys(Arc::new(keys))
        .connect()
        .await
        .unwrap();
    let all = reader
        .subscribe(Subscribe::to("#").qos(QoS::AtLeastOnce))
        .await
        .unwrap();
    let watcher = builder(server).raw().connect().await.unwrap();
    let seen = watcher
        .subscribe(Subscribe::to("#").qos(QoS::AtLeastOnce))
        .await
        .unwrap();
    (reader, all, seen)
}

#[test]
fn what_is_packed_travels_packed_and_is_read() {
    let server = Server::start();
    run(async {
        let (client, mut all, mut seen) = readers(&server, KeySet::default()).await;
        let long = TEXT.repeat(50);
        for names in ["zstd", "brotli", "lz77+huffman", "lz78"] {
            client
                .publish(at_least_once("a", &*long).compress(names))
                .await
                .unwrap();
            assert_eq!(text(&mut all).await, long, "{names}");
            assert!(
                message(&mut seen).await.payload().len() < long.len() / 2,
                "{names}"
            );
        }
        let error = client
            .publish(at_least_once("a", "x").compress("zip"))
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Pack(_)), "{error}");
    });
}

#[test]
fn bombs_cost_the_one_who_takes_them_nothing() {
    let server = Server::start();
    run(async {
        let careful = builder(&server)
            .content_bytes_max(1_000)
            .connect()
            .await
            .unwrap();
        let mut all = careful.subscribe("a").await.unwrap();
        for length in [1_001, 5_000_000] {
            let bomb = Publish::new("a", vec![0; length]).compress("zstd");
            careful.publish(bomb).await.unwrap();
            let error = error(&mut all).await;
            assert!(error.to_string().contains("content_bytes_max"), "{error}");
        }
        careful
            .publish(Publish::new("a", vec![0; 1_000]).compress("zstd"))
            .await
            .unwrap();
        assert_eq!(message(&mut all).await.payload().len(), 1_000);
    });
}

fn check_sealed(seen: &Message, opened: &Message, text: &str, sender: Sender) {
    assert_eq!(opened.text(), Some(text));
    assert_eq!(opened.sealed().expect("sealed").sender, sender);
    let wire = seen.payload();
    let plain = text.as_bytes().get(..16).expect("a text");
    assert!(
        !wire.windows(16).any(|window| window == plain),
        "the server reads it"
    );
    assert_eq!(seen.properties().content_type(), Some("application/cose"));
}

/// Goal: who has the key reads, the server does not, by every kind of recipient. Method: one who sees what the server sees looks for
/// the text.
#[test]
fn sealed_messages_are_read_by_their_receivers_and_nobody_else() {
    let server = Server::start();
    run(async {
        let (ann, bob, x) = (
            pair(KeyKind::P256),
            pair(KeyKind::Ed25519),
            pair(KeyKind::X25519),
        );
        let shared = SymmetricKey::generate(&mut SystemRandom).unwrap();
        let mut keys = KeySet::default();
        keys.insert(copy(&ann));
        keys.insert(copy(&x));
        keys.insert(Jwk::Public(bob.public().clone()));
        keys.insert(Jwk::decode(shared.to_jwk().as_bytes()).unwrap());
        let (client, mut all, mut seen) = readers(&server, keys).await;
        let text = TEXT.repeat(10);
        let shared = Recipient::Shared(Arc::new(shared));
        let signed = Sender::Signed { key_id: bob.id() };
        for (recipients, sender) in [
            (vec![shared], Sender::Unknown),
            (vec![public(&ann)], Sender::Unknown),
            (vec![public(&x)], signed),
            (vec![public(&ann), public(&pair(KeyKind::X25519))], signed),
        ] {
            let mut sealed = at_least_once("room/1", &*text)
                .compress("zstd")
                .seal_for(recipients);
            if sender == signed {
                sealed = sealed.sign_as(Arc::clone(&bob));
            }
            client.publish(sealed).await.unwrap();
            let (seen, opened) = (message(&mut seen).await, message(&mut all).await);
            check_sealed(&seen, &opened, &text, sender);
        }
        let delayed = at_least_once("$delayed/1/room/2", &*text).seal_for([public(&ann)]);
        client.publish(delayed).await.unwrap();
        assert_eq!(message(&mut all).await.topic(), "room/2");
    });
}

#[test]
fn a_sealed_message_on_another_topic_or_played_back_is_an_error() {
    let server = Server::start();
    run(async {
        let ann = pair(KeyKind::P256);
        let mut keys = KeySet::default();
        keys.insert(copy(&ann));
        let (client, mut all, mut seen) = readers(&server, keys).await;
        client
            .publish(at_least_once("a", TEXT).seal_for([public(&ann)]))
            .await
            .unwrap();
        assert_eq!(text(&mut all).await, TEXT);
        let wire = message(&mut seen).await.into_payload();
        let again =
            |topic: &str| at_least_once(topic, wire.clone()).content_type("application/cose");
        client.publish(again("a")).await.unwrap();
        assert!(matches!(
            error(&mut all).await.why,
            ContentError::Repeated(_)
        ));
        client.publish(again("b")).await.unwrap();
        let moved = error(&mut all).await;
        assert!(matches!(moved.why, ContentError::Opening(_)), "{moved}");
        assert!(
            moved.to_string().contains("sealed for the topic \"a\""),
            "{moved}"
        );
        let strangers = at_least_once("a", TEXT).seal_for([public(&pair(KeyKind::P256))]);
        client.publish(strangers).await.unwrap();
        let unread = error(&mut all).await;
        assert!(
            unread.to_string().contains("none of these keys is here"),
            "{unread}"
        );
        let mut only = client
            .subscribe(Subscribe::to("only").sealed_only())
            .await
            .unwrap();
        client
            .publish(at_least_once("only", "plain"))
            .await
            .unwrap();
        assert!(matches!(
            error(&mut only).await.why,
            ContentError::NotSealed(_)
        ));
    });
}

/// Goal: what is retained is opened once too: whoever plays a message back could say that it is. Method: a retained message comes by
/// one of a client's two filters, then by the other.
#[test]
fn a_sealed_message_that_is_retained_opens_once() {
    let server = Server::start();
    run(async {
        let ann = pair(KeyKind::P256);
        let mut keys = KeySet::default();
        keys.insert(copy(&ann));
        let reader = builder(&server).keys(Arc::new(keys)).inbox(10);
        let connected = reader.connect_with_inbox().await.unwrap();
        let (client, mut inbox) = (connected.client, connected.inbox.unwrap());
        let state = at_least_once("state", TEXT).retain();
        let sealed = state.seal_for([public(&ann)]);
        client.publish(sealed).await.unwrap();
        client.subscribe_inbox("state").unwrap();
        let first = message(&mut inbox).await;
        assert_eq!((first.text(), first.is_retained()), (Some(TEXT), true));
        client.subscribe_inbox("state/#").unwrap();
        let again = error(&mut inbox).await;
        assert!(again.message.is_retained());
        assert!(matches!(again.why, ContentError::Repeated(_)), "{again}");
        // Another subscription has not seen it.
        let mut other = client.subscribe("state").await.unwrap();
        assert_eq!(text(&mut other).await, TEXT);
    });
}

/// Goal: a client gets what it says it takes, and reads it either way. Method: under a `transcode` policy two clients of this crate, one
/// that accepts zstd and one that says nothing, with one beside each that sees the same bytes as they came; messages packed by their
/// publisher, by the policy, in a way nobody accepts, and the same from a stream.
#[test]
fn a_client_gets_what_it_accepts_and_reads_it_either_way() {
    const POLICIES: &str = r#"
[[topic]]
filter = "t/#"
transcode = true

[[topic]]
filter = "t/chatty"
compress = "zstd"

[[stream]]
name = "all"
filters = ["t/#"]
"#;
    let server = ServerOptions::new().configuration(POLICIES).start();
    run(async {
        let long = TEXT.repeat(50);
        let publisher = builder(&server).connect().await.unwrap();
        let send = async |topic: &str, names: &str| {
            let message = at_least_once(topic, &*long).retain().compress(names);
            publisher.publish(message).await.unwrap();
        };
        let cases = [
            // Topic, packed by its publisher, and what who accepts zstd gets.
            ("t/packed", "zstd", Some("zstd")),
            ("t/chatty", "identity", Some("zstd")),
            ("t/other", "brotli", None),
            ("t/plain", "identity", None),
        ];
        for accepts in [&["zstd"][..], &[]] {
            let client = |is_raw: bool| {
                let builder = builder(&server);
                let builder = match accepts {
                    [] => builder,
                    _ => builder.accept_encoding(accepts.iter().copied()),
                };
                if is_raw { builder.raw() } else { builder }
            };
            let reader = client(false).connect().await.unwrap();
            let watcher = client(true).connect().await.unwrap();
            let filter = || {
                Subscribe::to("t/#")
                    .qos(QoS::AtLeastOnce)
                    .retain_handling(RetainHandling::DoNotSend)
            };
            let mut all = reader.subscribe(filter()).await.unwrap();
            let mut seen = watcher.subscribe(filter()).await.unwrap();
            for (topic, names, packed) in cases {
                send(topic, names).await;
                // As it is published, as it is retained, and as a stream has it.
                let mut kept = watcher.subscribe(topic).await.unwrap();
                let from = Subscribe::to(topic).from(Spec::last(1));
                let mut past = reader.subscribe(from.clone()).await.unwrap();
                let mut past_seen = watcher.subscribe(from).await.unwrap();
                let packed = packed.filter(|_| !accepts.is_empty());
                assert_eq!(text(&mut all).await, long, "{topic}");
                assert_eq!(text(&mut past).await, long, "{topic}");
                for bytes in [&mut seen, &mut kept, &mut past_seen] {
                    let came = message(bytes).await;
                    assert_eq!(came.user_property("content-encoding"), packed, "{topic}");
                    assert_eq!(
                        came.payload() == long.as_bytes(),
                        packed.is_none(),
                        "{topic}"
                    );
                }
            }
        }
    });
}

/// Goal: the inbox reads as strictly as its client was told to, and a subscription of it that asks for more is refused and not
/// heeded in part.
#[test]
fn the_inbox_is_as_strict_as_its_client() {
    let server = Server::start();
    run(async {
        let ann = pair(KeyKind::P256);
        for is_strict in [false, true] {
            let mut keys = KeySet::default();
            keys.insert(copy(&ann));
            let mut reader = builder(&server).keys(Arc::new(keys)).inbox(10);
            if is_strict {
                reader = reader.sealed_only();
            }
            let connected = reader.connect_with_inbox().await.unwrap();
            let (client, mut inbox) = (connected.client, connected.inbox.unwrap());
            let asked = client.subscribe_inbox(Subscribe::to("a").sealed_only());
            assert_eq!(matches!(asked, Err(SubscribeError::Inbox)), !is_strict);
            client.subscribe_inbox("a").unwrap();
            let sealed = at_least_once("a", TEXT).seal_for([public(&ann)]);
            client.publish(sealed).await.unwrap();
            assert_eq!(text(&mut inbox).await, TEXT);
            client.publish(at_least_once("a", "plain")).await.unwrap();
            if is_strict {
                let plain = error(&mut inbox).await;
                assert!(matches!(plain.why, ContentError::NotSealed(_)), "{plain}");
            } else {
                assert_eq!(text(&mut inbox).await, "plain");
            }
            client.disconnect().await;
        }
    });
}
