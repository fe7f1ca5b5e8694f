//! What the end-to-end tests share: starting a server, raw MQTT connections, waiting for a condition.
