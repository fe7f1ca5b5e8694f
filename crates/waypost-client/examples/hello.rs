//! Publishes a message and receives it: `cargo run -p waypost-client --example hello [URL]`, beside a server.

use std::error::Error;

use waypost_client::{Client, Publish, QoS, Subscribe};

/// The example.
pub async fn example(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::builder(url).connect().await?;
    let subscribe = Subscribe::to("chat/#").qos(QoS::AtLeastOnce);
    let mut chat = client.subscribe(subscribe).await?;
    let hello = Publish::new("chat/lobby", "hello").qos(QoS::AtLeastOnce);
    let published = client.publish(hello).await?;
    println!("the server says: {}", published.reason.text());
    if let Some(message) = chat.next().await.transpose()? {
        println!("{}: {}", message.topic(), message.text().unwrap_or("?"));
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
