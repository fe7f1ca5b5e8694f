//! What can go wrong says what to do.

use waypost_client::{
    Client, ConnectError, Publish, PublishError, QoS, Spec, Subscribe, SubscribeError,
};
use waypost_tests::{Server, ServerOptions};

use crate::{builder, run};

#[track_caller]
fn check(error: &impl ToString, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn mistakes_are_named_before_anything_is_sent() {
    let server = Server::start();
    run(async {
        let connect = async |url: &str| Client::builder(url).connect().await.unwrap_err();
        check(
            &connect("localhost").await,
            &["not a URL", "mqtt://localhost"],
        );
        check(
            &connect("http://localhost").await,
            &["mqtts, ws, wss and unix"],
        );
        check(
            &connect("unix:///nowhere/here.sock").await,
            &["is a server running there?"],
        );
        let bad_will = builder(&server).will(Publish::new("a/+", ""));
        check(&bad_will.connect().await.unwrap_err(), &["will", "a/+"]);
        let client = builder(&server).connect().await.unwrap();
        let error = client.publish(Publish::new("a/#", "")).await.unwrap_err();
        check(&error, &["`a/#`", "wildcards are for subscriptions"]);
        let error = client.subscribe("a/#/b").await.unwrap_err();
        check(&error, &["`a/#/b`", "at the end only"]);
        let past = Subscribe::to("a").from(Spec::last(1).stream("b/#"));
        let error = client.subscribe(past).await.unwrap_err();
        check(&error, &["`last=1;stream=b/#` is no place in a stream"]);
    });
}

#[test]
fn a_server_that_refuses_is_quoted() {
    let server = ServerOptions::new()
        .configuration("[limits]\npacket_bytes_max = \"1000B\"\n")
        .start();
    run(async {
        let client = builder(&server).connect().await.unwrap();
        let error = client
            .publish(Publish::new("$SYS/a", "x").qos(QoS::AtLeastOnce))
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Refused { .. }), "{error}");
        let large = Publish::new("a", vec![0; 2_000]).qos(QoS::AtLeastOnce);
        check(
            &client.publish(large).await.unwrap_err(),
            &["Packet too large"],
        );
        let error = client
            .subscribe(Subscribe::to("a").from(Spec::last(1)))
            .await
            .unwrap_err();
        assert!(
            matches!(error, SubscribeError::Refused { text: Some(_), .. }),
            "{error}"
        );
        client.disconnect().await;
        let error = client.publish(Publish::new("a", "x")).await.unwrap_err();
        check(&error, &["the client ended"]);
        assert!(matches!(
            client.subscribe("a").await,
            Err(SubscribeError::Ended(_))
        ));
    });
}

#[test]
fn without_a_runtime_it_says_so() {
    let error = Client::builder("mqtt://127.0.0.1:1").start().unwrap_err();
    assert!(matches!(error, ConnectError::NoRuntime), "{error}");
}
