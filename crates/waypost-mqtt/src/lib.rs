//! MQTT 3.1, 3.1.1 and 5 on the wire: bytes in, packets out. No I/O, no allocation to decode.
