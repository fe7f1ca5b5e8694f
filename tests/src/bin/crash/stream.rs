//! The stream that everything on `crash/…` enters: what stands where must be there once, and stay there.

use serde_json::Value;
use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{RawClient, Server, waypost};

use crate::report::{Reports, received};

/// The configuration of the stream, for every life.
pub const CONFIGURATION: &str = "[[stream]]\nname = \"crash\"\nfilters = [\"crash/#\"]\n";
/// Whose entry in the ledger it is.
pub const ENTRY: &str = "stream";
/// The filter of somebody who reads it from the beginning.
pub const FROM_THE_BEGINNING: &str = "$from/offset=0/crash/#";

/// The stream as it was seen last: the payload at each offset.
#[derive(Default)]
pub struct Seen(Vec<String>);

impl Seen {
    /// Reads all of it, as an operator does and as a client does. What is new goes into the ledger; returns what is wrong.
    pub fn read(&mut self, server: &Server, round: u64, to: &Reports) -> Vec<String> {
        let mut wrong = Vec::new();
        let records = match records(server) {
            Ok(records) => records,
            Err(why) => return vec![format!("the stream cannot be read: {why}")],
        };
        let mut payloads = Vec::with_capacity(records.len());
        for (offset, record) in records.iter().enumerate() {
            let payload = record["payload"].as_str().unwrap_or_default();
            if record["offset"].as_u64() != Some(offset as u64) {
                wrong.push(format!("offset {} stands at {offset}", record["offset"]));
                break;
            }
            if let Some(before) = self.0.get(offset) {
                if before != payload {
                    wrong.push(format!("offset {offset} was {before:?} and is {payload:?}"));
                }
            } else {
                let qos = record["qos"]
                    .as_u64()
                    .and_then(|qos| u8::try_from(qos).ok());
                let report = received(ENTRY, payload, qos.unwrap_or(0), round);
                // Whoever listens is who asks.
                let _ = to.send(report);
            }
            payloads.push(payload.to_owned());
        }
        if payloads.len() < self.0.len() {
            let (is, was) = (payloads.len(), self.0.len());
            wrong.push(format!("the stream has {is} messages and had {was}"));
        }
        wrong.extend(read_as_client(server, &payloads));
        self.0 = payloads;
        wrong
    }
}

/// All records, by the command.
fn records(server: &Server) -> Result<Vec<Value>, String> {
    let mut command = waypost();
    command.args(["streams", "read", "crash", "--json", "--data-dir"]);
    let output = command.arg(server.data_dir()).output();
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
        .collect()
}

/// What a client that begins at the beginning gets is the same, in the same order.
fn read_as_client(server: &Server, expect: &[String]) -> Option<String> {
    let mut client = RawClient::connect(server, ProtocolVersion::V311, "historian");
    client.subscribe(FROM_THE_BEGINNING, QoS::AtMostOnce);
    for (offset, payload) in expect.iter().enumerate() {
        let message = client.receive();
        let found = String::from_utf8_lossy(message.publish().payload).into_owned();
        if found != *payload {
            return Some(format!(
                "a reader got {found:?} at {offset}, where {payload:?} stands"
            ));
        }
    }
    client.disconnect();
    None
}
