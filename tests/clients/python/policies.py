"""What a user of paho meets at topics with a policy: python policies.py URL SCENARIO [HEX].

Exits with 0 when the server did what the scenario expects; otherwise the traceback says what differed.
"""

import queue
import sys

import paho.mqtt.client as mqtt
from connection import Connection
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

SECONDS = 60

# A COSE_Encrypt0 as anybody may write it: what is in it nobody here can open.
SEALED = bytes.fromhex("d08343a10103a1054c000102030405060708090a0b51") + bytes(17)


def with_properties(packet_type, **values):
    properties = Properties(packet_type)
    for name, value in values.items():
        setattr(properties, name, value)
    return properties


def acknowledged(client, answers, topic, payload, properties=None):
    """Publishes, and gives the reason code and string of the answer."""
    client.publish(topic, payload, 1, properties=properties)
    return answers.get(timeout=SECONDS)


def seal(url):
    host, port = url.removeprefix("mqtt://").split(":")
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho", protocol=mqtt.MQTTv5)
    answers, connected = queue.Queue(), queue.Queue()
    client.on_connect = lambda *_: connected.put(True)
    client.on_publish = lambda _c, _u, _mid, reason, properties: answers.put(
        (reason.value, getattr(properties, "ReasonString", ""))
    )
    client.connect(host, int(port))
    client.loop_start()
    connected.get(timeout=SECONDS)
    cose = with_properties(PacketTypes.PUBLISH, ContentType="application/cose")
    reason, why = acknowledged(client, answers, "chat/a", b"hello")
    assert reason == 0x83, hex(reason)
    assert why.startswith("the policy of chat/# takes only sealed messages"), why
    reason, why = acknowledged(client, answers, "chat/a", SEALED, cose)
    assert reason in (0, 0x10), hex(reason)
    reason, why = acknowledged(client, answers, "log/a", SEALED, cose)
    assert reason == 0x83, hex(reason)
    assert why.startswith("the policy of log/+ takes no sealed messages"), why
    client.disconnect()
    client.loop_stop()


def transcode(url, packed):
    """Two subscribers, one of which accepts what the publisher sends."""
    payload = bytes.fromhex(packed)
    taker = Connection(url, "5", "taker", accept_encoding="br;q=0.1, zstd")
    other = Connection(url, "5", "other")
    old = Connection(url, "3.1.1", "old")
    for subscriber in taker, other, old:
        subscriber.subscribe("t/#", 1)
    publisher = Connection(url, "5", "publisher")
    said = with_properties(PacketTypes.PUBLISH, UserProperty=[("a", "1"), ("content-encoding", "zstd")])
    publisher.publish("t/a", payload, 1, properties=said)
    message = taker.expect("t/a", payload, 1)
    assert message.properties.UserProperty == [("a", "1"), ("content-encoding", "zstd")]
    message = other.expect("t/a", b"hello " * 100, 1)
    assert message.properties.UserProperty == [("a", "1")]
    old.expect("t/a", b"hello " * 100, 1)


if __name__ == "__main__":
    {"seal": seal, "transcode": transcode}[sys.argv[2]](sys.argv[1], *sys.argv[3:])
