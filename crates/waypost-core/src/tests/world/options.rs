//! What CONNECT and SUBSCRIBE say.

use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, QoS, SubscriptionOptions};

/// Subscription Options with nothing but a QoS.
pub(in crate::tests) fn options(qos: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::try_from(qos).unwrap(),
        ..SubscriptionOptions::default()
    }
}

/// What a CONNECT says.
pub(in crate::tests) struct Options {
    pub shard: usize,
    pub version: ProtocolVersion,
    pub client_id: String,
    pub clean_start: bool,
    pub keep_alive: u16,
    pub properties: PropertyBuffer,
    pub will: Option<WillOptions>,
    pub user_name: Option<String>,
}

pub(in crate::tests) struct WillOptions {
    pub topic: String,
    pub payload: String,
    pub qos: QoS,
    pub retain: bool,
    pub properties: PropertyBuffer,
}

fn connect_options(version: ProtocolVersion, client_id: &str) -> Options {
    Options {
        shard: 0,
        version,
        client_id: client_id.into(),
        clean_start: true,
        keep_alive: 0,
        properties: PropertyBuffer::new(),
        will: None,
        user_name: None,
    }
}

/// MQTT 5, Clean Start, no expiry.
pub(in crate::tests) fn v5(client_id: &str) -> Options {
    connect_options(ProtocolVersion::V5, client_id)
}

/// MQTT 3.1.1, Clean Session.
pub(in crate::tests) fn v3(client_id: &str) -> Options {
    connect_options(ProtocolVersion::V311, client_id)
}

impl Options {
    /// Clean Start 0; in MQTT 5 the session lives for that many seconds.
    pub fn persistent(mut self, expiry_s: u32) -> Self {
        self.clean_start = false;
        if self.version == ProtocolVersion::V5 {
            self.properties
                .push(Property::SessionExpiryInterval(expiry_s));
        }
        self
    }

    pub fn at(mut self, shard: usize) -> Self {
        self.shard = shard;
        self
    }

    pub fn clean(mut self, clean_start: bool) -> Self {
        self.clean_start = clean_start;
        self
    }

    pub fn user(mut self, user_name: &str) -> Self {
        self.user_name = Some(user_name.into());
        self
    }

    pub fn keep_alive(mut self, keep_alive: u16) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    pub fn with(mut self, property: Property<'_>) -> Self {
        self.properties.push(property);
        self
    }

    pub fn will(mut self, topic: &str, payload: &str, qos: u8, retain: bool) -> Self {
        self.will = Some(WillOptions {
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::try_from(qos).unwrap(),
            retain,
            properties: PropertyBuffer::new(),
        });
        self
    }

    pub fn will_with(mut self, property: Property<'_>) -> Self {
        self.will.as_mut().unwrap().properties.push(property);
        self
    }
}
