"""A paho connection that a scenario can wait on: no callback is left to chance, every wait has a deadline."""

import os
import queue
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties

LIMIT_S = 15
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}


class Connection:
    """One client that is connected (or has been) and what it has been told so far."""

    def __init__(
        self, url, version, client_id, clean=True, will=None, session_expiry_s=None, accept_encoding=None
    ):
        self.version = VERSIONS[version]
        address = urlsplit(url)
        is_v5 = self.version == mqtt.MQTTv5
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=self.version,
            transport={"ws": "websockets", "wss": "websockets", "unix": "unix"}.get(address.scheme, "tcp"),
            reconnect_on_failure=False,
            **({} if is_v5 else {"clean_session": clean}),
        )
        if address.scheme in ("mqtts", "wss"):
            files = os.environ.get("TEST_CERT"), os.environ.get("TEST_KEY")
            self.client.tls_set(os.environ["TEST_CA"], *files)
        if address.scheme in ("ws", "wss"):
            self.client.ws_set_options(path="/mqtt")
        if address.username is not None:
            self.client.username_pw_set(unquote(address.username), unquote(address.password))
        self.messages = queue.Queue()
        self.answers = queue.Queue()
        self.ended = queue.Queue()
        self.client.on_connect = lambda c, u, flags, reason, p: self.answers.put((flags, reason))
        self.client.on_subscribe = lambda c, u, mid, reasons, p: self.answers.put((mid, reasons))
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: self.answers.put((mid, reasons))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_disconnect = lambda c, u, flags, reason, p: self.ended.put(reason)
        if will is not None:
            self.client.will_set(**will)
        options = {}
        if is_v5:
            properties = Properties(mqtt.PacketTypes.CONNECT)
            if session_expiry_s is not None:
                properties.SessionExpiryInterval = session_expiry_s
            if accept_encoding is not None:
                properties.UserProperty = ("accept-encoding", accept_encoding)
            options = {"clean_start": clean, "properties": properties}
        place = (address.path, 1) if address.scheme == "unix" else (address.hostname, address.port)
        self.client.connect(*place, keepalive=30, **options)
        self.client.loop_start()
        self.flags, reason = self.answers.get(timeout=LIMIT_S)
        assert reason == 0, f"CONNACK says {reason}"

    def subscribe(self, topic, qos=0, **options):
        if options:
            options = {"options": mqtt.SubscribeOptions(qos=qos, **options)}
            qos = 0
        result, mid = self.client.subscribe(topic, qos, **options)
        assert result == 0, f"subscribe: {result}"
        answered, reasons = self.answers.get(timeout=LIMIT_S)
        assert answered == mid
        return [reason.value for reason in reasons]

    def unsubscribe(self, topic):
        result, mid = self.client.unsubscribe(topic)
        assert result == 0, f"unsubscribe: {result}"
        assert self.answers.get(timeout=LIMIT_S)[0] == mid

    def publish(self, topic, payload, qos=0, retain=False, properties=None):
        """Returns when the exchange is complete (at QoS 0: when it is sent)."""
        info = self.client.publish(topic, payload, qos, retain, properties)
        info.wait_for_publish(LIMIT_S)
        assert info.is_published(), f"{topic}: not acknowledged"

    def message(self):
        return self.messages.get(timeout=LIMIT_S)

    def expect(self, topic, payload, qos=None, retain=None):
        message = self.message()
        assert message.topic == topic, f"topic {message.topic}, expected {topic}"
        assert message.payload == payload, f"payload {message.payload[:40]!r}, expected {payload[:40]!r}"
        assert qos is None or message.qos == qos, f"QoS {message.qos}, expected {qos}"
        assert retain is None or message.retain == retain, f"RETAIN {message.retain}, expected {retain}"
        return message

    def expect_nothing_before(self, topic):
        """All that was sent to this client before now is what came: a message to itself comes next."""
        self.publish(topic, b"fence", 1)
        self.expect(topic, b"fence")

    def expect_no_more(self):
        assert self.messages.empty(), f"heard {self.message().payload[:40]!r} too"

    def disconnect(self):
        self.client.disconnect()
        self.ended.get(timeout=LIMIT_S)
        self.client.loop_stop()

    def cut(self):
        """Ends the connection without DISCONNECT, as a network failure does."""
        self.client._sock_close()
        self.client.loop_stop()
