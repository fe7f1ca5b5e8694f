//! Keeps messages on disk while there is no server: `cargo run -p waypost-client --example offline [URL]`, beside a server.

use std::error::Error;
use std::time::Duration;

use waypost_client::{Backoff, Client, FileStore, Notice, Publish, QoS};

/// The example.
pub async fn example(url: &str) -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("waypost-outbox-{}", std::process::id()));
    let client = Client::builder(url)
        .client_id("meter-7")
        .offline(FileStore::open(&path, 64 * 1024 * 1024)?)
        .reconnect(Backoff::new().delays(Duration::from_millis(100), Duration::from_secs(30)))
        .observe(|notice| {
            if let Notice::Lost { why, again_in } = notice {
                eprintln!("{why}; next attempt: {again_in:?}");
            }
        })
        .start()?;
    // Done when it is on disk, or on its way if there is a connection.
    let reading = Publish::new("meters/7", "230.1").qos(QoS::AtLeastOnce);
    let delivery = client.send(reading).await?;
    // Done when the server has it.
    delivery.await?;
    client.disconnect().await;
    std::fs::remove_file(&path)?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
#[allow(dead_code, reason = "a test runs the example itself")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1);
    example(url.as_deref().unwrap_or("mqtt://127.0.0.1:1883")).await
}
