"""What a user of paho does, against a server: python scenarios.py URL VERSION SCENARIO.

URL is mqtt://, mqtts://, ws://, wss:// or unix://; TEST_CA is the authority to trust, TEST_CERT and TEST_KEY a client
certificate.

Exits with 0 when the server did what the scenario expects; otherwise the traceback says what differed.
"""

import sys
import time

import paho.mqtt.client as mqtt
from connection import Connection
from paho.mqtt.properties import Properties

url = None
version = None


def connect(client_id, **options):
    return Connection(url, version, client_id, **options)


def qos_round_trips():
    subscriber, publisher = connect("qos-subscriber"), connect("qos-publisher")
    for granted in 0, 1, 2:
        assert subscriber.subscribe(f"qos/{granted}", granted) == [granted]
        for sent in 0, 1, 2:
            payload = f"{sent} to {granted}".encode()
            publisher.publish(f"qos/{granted}", payload, sent)
            subscriber.expect(f"qos/{granted}", payload, min(sent, granted), retain=False)
    subscriber.unsubscribe("qos/1")
    subscriber.subscribe("qos/fence", 1)
    publisher.publish("qos/1", b"nobody", 1)
    subscriber.expect_nothing_before("qos/fence")
    subscriber.disconnect()
    publisher.disconnect()


def order():
    """A thousand messages at each QoS arrive complete and in order."""
    subscriber, publisher = connect("order-subscriber"), connect("order-publisher")
    subscriber.subscribe("order/#", 2)
    for qos in 0, 1, 2:
        infos = [publisher.client.publish(f"order/{qos}", str(number), qos) for number in range(1000)]
        for number in range(1000):
            subscriber.expect(f"order/{qos}", str(number).encode(), qos)
        for info in infos:
            info.wait_for_publish(15)
    subscriber.disconnect()
    publisher.disconnect()


def retained():
    publisher = connect("retained-publisher")
    publisher.publish("retained/lamp", b"on", 1, retain=True)
    publisher.publish("retained/door", b"shut", 1, retain=True)
    publisher.publish("retained/door", b"", 1, retain=True)
    late = connect("retained-late")
    late.subscribe("retained/#", 1)
    late.expect("retained/lamp", b"on", 1, retain=True)
    late.subscribe("fence", 1)
    late.expect_nothing_before("fence")
    publisher.publish("retained/lamp", b"off", 1, retain=True)
    late.expect("retained/lamp", b"off", 1, retain=False)
    publisher.publish("retained/lamp", b"", 1, retain=True)
    late.disconnect()
    publisher.disconnect()


def will():
    watcher = connect("will-watcher")
    watcher.subscribe("will/#", 1)
    message = {"topic": "will/gone", "payload": b"lost", "qos": 1, "retain": False}
    connect("will-cut", will=message).cut()
    watcher.expect("will/gone", b"lost", 1)
    connect("will-polite", will=message).disconnect()
    watcher.expect_nothing_before("will/fence")
    watcher.disconnect()


def offline_queue():
    """Messages at QoS 1 and 2 wait for a session that is away, in order; the session is taken up again."""
    options = {"clean": False, "session_expiry_s": 300} if version == "5" else {"clean": False}
    away, publisher = connect("offline-reader", **options), connect("offline-publisher")
    assert not away.flags.session_present
    away.subscribe("offline/#", 2)
    away.disconnect()
    for number in range(20):
        publisher.publish("offline/news", str(number).encode(), 1 + number % 2)
    back = connect("offline-reader", **options)
    # The CONNACK of MQTT 3.1 has no Session Present.
    assert back.flags.session_present or version == "3.1"
    heard = [back.message() for _ in range(20)]
    for qos in 1, 2:
        # paho hands over a message of QoS 2 at its PUBREL, so order is to be seen only within one QoS.
        expected = [str(number).encode() for number in range(20) if 1 + number % 2 == qos]
        assert [message.payload for message in heard if message.qos == qos] == expected
    back.disconnect()
    afresh = connect("offline-reader", clean=True)
    assert not afresh.flags.session_present
    afresh.disconnect()
    publisher.disconnect()


def properties():
    """MQTT 5: what the application says about a message arrives unchanged; options and identifiers work."""
    subscriber, publisher = connect("properties-subscriber"), connect("properties-publisher")
    identified = Properties(mqtt.PacketTypes.SUBSCRIBE)
    identified.SubscriptionIdentifier = 77
    subscriber.client.subscribe(
        "properties/#", options=mqtt.SubscribeOptions(qos=1, noLocal=True), properties=identified
    )
    subscriber.answers.get(timeout=15)
    said = Properties(mqtt.PacketTypes.PUBLISH)
    said.ContentType = "text/plain"
    said.ResponseTopic = "properties/answers"
    said.CorrelationData = b"\x00\x01\xff"
    said.PayloadFormatIndicator = 1
    said.MessageExpiryInterval = 60
    said.UserProperty = [("b", "2"), ("a", "1"), ("b", "ü")]
    subscriber.publish("properties/own", b"not for its own publisher", 1)
    publisher.publish("properties/question", b"why", 1, properties=said)
    heard = subscriber.expect("properties/question", b"why", 1).properties
    assert heard.ContentType == "text/plain"
    assert heard.ResponseTopic == "properties/answers"
    assert heard.CorrelationData == b"\x00\x01\xff"
    assert heard.PayloadFormatIndicator == 1
    assert 0 < heard.MessageExpiryInterval <= 60
    assert heard.UserProperty == [("b", "2"), ("a", "1"), ("b", "ü")]
    assert heard.SubscriptionIdentifier == [77]
    subscriber.disconnect()
    publisher.disconnect()


def large_payload():
    subscriber, publisher = connect("large-subscriber"), connect("large-publisher")
    subscriber.subscribe("large", 1)
    # Over plain WebSocket paho loses what does not fit into one write (eclipse-paho/paho.mqtt.python issue 887).
    largest = (1_048_576,) if url.startswith("ws:") else (2_097_152, 10_000_000)
    for size in 127, 128, 16_383, 16_384, *largest:
        payload = bytes(number % 251 for number in range(1000)) * (size // 1000) + bytes(size % 1000)
        publisher.publish("large", payload, 1)
        subscriber.expect("large", payload, 1)
    subscriber.disconnect()
    publisher.disconnect()


def takeover():
    """A second connection of a client ends the first."""
    first = connect("takeover")
    second = connect("takeover")
    first.ended.get(timeout=15)
    first.client.loop_stop()
    second.subscribe("takeover", 1)
    second.expect_nothing_before("takeover")
    second.disconnect()


def shared():
    """Each message of a group comes to one member, in order for each, and all get some."""
    members = [connect(f"worker-{number}") for number in range(3)]
    for member in members:
        assert member.subscribe("$share/workers/jobs/#", 1) == [1]
    publisher = connect("shared-publisher")
    for number in range(60):
        publisher.publish(f"jobs/{number % 7}", str(number).encode(), 1)
    heard = [[] for _ in members]
    deadline = time.monotonic() + 15
    while sum(map(len, heard)) < 60:
        assert time.monotonic() < deadline, f"heard only {heard}"
        for member, numbers in zip(members, heard):
            while not member.messages.empty():
                numbers.append(int(member.message().payload))
    assert sorted(sum(heard, [])) == list(range(60)), heard
    assert all(numbers and numbers == sorted(numbers) for numbers in heard), heard
    for client in [*members, publisher]:
        client.expect_no_more()
        client.disconnect()


def users():
    """The URL is ann's; she may do what she likes under ann/ and nothing elsewhere, and so bob under bob/."""
    ann = connect("ann-client")
    bob = Connection(url.replace("ann:", "bob:"), version, "bob-client")
    assert ann.subscribe("ann/#", 1) == [1]
    assert bob.subscribe("bob/#", 1) == [1]
    assert ann.subscribe("bob/#", 1) == ann.subscribe("#", 1) == [0x87 if version == "5" else 0x80]
    ann.publish("ann/diary", b"mine", 1)
    ann.expect("ann/diary", b"mine", 1)
    if version == "5":
        ann.publish("bob/diary", b"not hers", 1)
    bob.expect_nothing_before("bob/fence")
    ann.expect_nothing_before("ann/fence")
    ann.disconnect()
    bob.disconnect()
    for wrong in url.replace("ann:", "ann:x"), url.replace("ann:", "eve:"):
        try:
            Connection(wrong, version, "wrong")
        except AssertionError as error:
            assert "authorized" in str(error) or "password" in str(error), error
        else:
            raise AssertionError(f"{wrong} was let in")


SCENARIOS = [
    qos_round_trips,
    order,
    retained,
    will,
    offline_queue,
    properties,
    large_payload,
    takeover,
    shared,
    users,
]

if __name__ == "__main__":
    url, version, name = sys.argv[1:]
    {scenario.__name__: scenario for scenario in SCENARIOS}[name]()
