//! Reads the last lines of a stream and what is said then: `cargo run -p waypost-client --example history [URL]`, beside a server.

use std::error::Error;

use waypost_client::{Client, Publish, QoS, Spec, Subscribe};

/// The example.
pub async fn example(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::builder(url).connect().await?;
    for line in ["one", "two", "three"] {
        let message = Publish::new("chat/lobby", line).qos(QoS::AtLeastOnce);
        client.publish(message).await?;
    }
    let subscribe = Subscribe::to("chat/#").from(Spec::last(2));
    let mut chat = client.subscribe(subscribe).await?;
    for _ in 0..2 {
        let Some(message) = chat.next().await.transpose()? else {
            break;
        };
        let offset = message.place().map(|place| place.offset);
        println!("{offset:?} {}", message.text().unwrap_or("?"));
    }
    client.disconnect().await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test runs the example itself")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1);
    example(url.as_deref().unwrap_or("mqtt://127.0.0.1:1883")).await
}
