//! Seals a message for its reader and packs it first: `cargo run -p waypost-client --example sealed [URL]`, beside a server.

use std::error::Error;
use std::sync::Arc;

use waypost_client::keys::Recipient;
use waypost_client::{Client, Publish, QoS, Subscribe};
use waypost_encrypt::{Jwk, KeyKind, KeySet, PrivateKey, SystemRandom};

/// The example.
pub async fn example(url: &str) -> Result<(), Box<dyn Error>> {
    // Keys come from files (waypost keys new) in a program that is more than an example.
    let ann = PrivateKey::generate(KeyKind::X25519, &mut SystemRandom)?;
    let for_ann = Recipient::Public(Arc::new(ann.public().clone()));
    let mut ring = KeySet::default();
    ring.insert(Jwk::Private(ann));
    let client = Client::builder(url).keys(Arc::new(ring)).connect().await?;
    let mut mail = client
        .subscribe(Subscribe::to("mail/ann").sealed_only())
        .await?;
    let letter = Publish::new("mail/ann", "dear ann, ".repeat(20))
        .qos(QoS::AtLeastOnce)
        .compress("zstd")
        .seal_for([for_ann]);
    client.publish(letter).await?;
    if let Some(message) = mail.next().await.transpose()? {
        println!("{:?}", message.sealed().map(|sealed| sealed.sender));
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
