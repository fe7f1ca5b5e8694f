//! Publishes many messages without waiting for each: `cargo run -p waypost-client --example many [URL]`, beside a server.

use std::error::Error;

use waypost_client::{Client, Completions, Publish, QoS};

/// The example.
pub async fn example(url: &str) -> Result<(), Box<dyn Error>> {
    let client = Client::builder(url).connect().await?;
    let completions = Completions::new();
    for number in 0..1_000 {
        let message = Publish::new("numbers", number.to_string()).qos(QoS::AtLeastOnce);
        client.publish_into(message, &completions, number).await?;
    }
    for _ in 0..1_000 {
        let (number, outcome) = completions.next().await;
        outcome.map_err(|error| format!("{number}: {error}"))?;
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
