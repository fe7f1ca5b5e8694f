"""The crew of `cargo xtask crash` that speaks through paho: python crash_crew.py PORT.

Commands are lines on stdin, reports are lines on stdout, both words with blanks between them; main() has the commands.
Clients connect again by themselves when the server is gone; publishers repeat what was not acknowledged, as paho does.
"""

import queue
import random
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MessageState
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

HOST = "127.0.0.1"
SESSION_EXPIRY_S = 86_400
IN_FLIGHT_MAX = 20
RECONNECT_S = 0.02, 0.1
PAUSE_S = 0.004

RESEND_PUBREL = MessageState.MQTT_MS_RESEND_PUBREL

port = int(sys.argv[1])
said = threading.Lock()


def say(*words):
    with said:
        sys.stdout.write(" ".join(map(str, words)) + "\n")
        sys.stdout.flush()


class Careful(mqtt.Client):
    """paho, but for one fault (2.2.0): when connecting fails twice, it forgets that it has a PUBREC and sends the PUBLISH
    anew, as a new one, instead of the PUBREL.

    It tells of each PUBLISH as it writes it, because order is owed to what it wrote: a new message that is handed over
    before CONNACK goes out before those that it repeats."""

    line = 0

    def writes(self, payload):
        """A PUBLISH goes out on connection number `line`."""

    def _create_socket(self):
        sock = super()._create_socket()
        self.line += 1
        return sock

    def _send_publish(self, mid, topic, payload=b"", *rest, **named):
        if self._sock is not None:
            self.writes(payload)
        return super()._send_publish(mid, topic, payload, *rest, **named)

    def _messages_reconnect_reset_out(self):
        released = [message for message in self._out_messages.values() if message.state == RESEND_PUBREL]
        super()._messages_reconnect_reset_out()
        for message in released:
            message.state = RESEND_PUBREL


class Client:
    """A durable client: its session outlives its connections and the server's process."""

    def __init__(self, name, version, filters=(), qos=0, entry=None, clean=False):
        self.name, self.filters, self.qos, self.entry = name, filters, qos, entry or name
        self.attempt = self.connection = 0
        self.is_off = False
        is_v5 = version == "5"
        self.client = Careful(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=mqtt.MQTTv5 if is_v5 else mqtt.MQTTv311,
            **({} if is_v5 else {"clean_session": clean}),
        )
        self.client.max_inflight_messages_set(IN_FLIGHT_MAX)
        self.client.reconnect_delay_set(*RECONNECT_S)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_message = self.on_message
        self.client.on_subscribe = self.on_subscribe
        self.client.on_unsubscribe = lambda c, u, mid, reasons, p: say("unsuback", name, mid)
        self.client.on_pre_connect = self.on_pre_connect
        options = {}
        if is_v5:
            properties = Properties(PacketTypes.CONNECT)
            if not clean:
                properties.SessionExpiryInterval = SESSION_EXPIRY_S
            options = {"clean_start": clean, "properties": properties}
        self.client.connect_async(HOST, port, keepalive=60, **options)
        self.client.loop_start()

    def on_pre_connect(self, client, user):
        self.attempt += 1

    def on_connect(self, client, user, flags, reason, properties):
        if reason.is_failure:
            say("refused-connect", self.name, reason.value)
            return
        self.connection = self.attempt
        say("on", self.name, self.connection, int(flags.session_present))
        if not flags.session_present:
            for topic_filter in self.filters:
                client.subscribe(topic_filter, self.qos)

    def on_disconnect(self, client, user, flags, reason, properties):
        say("off", self.name, self.connection)

    def on_message(self, client, user, message):
        text = message.payload.decode(errors="replace")
        say("got", self.name, self.entry, self.connection, message.qos, int(message.retain), message.topic, text)

    def on_subscribe(self, client, user, mid, reasons, properties):
        say("suback", self.name, mid, *(reason.value for reason in reasons))

    def leave(self, how):
        self.is_off = True
        if how == "bye":
            self.client.disconnect()
        self.client.loop_stop()
        if how == "cut":
            self.client._sock_close()
            say("off", self.name, self.connection)

    def come(self):
        while self.is_off:
            try:
                self.client.reconnect()
                self.client.loop_start()
                self.is_off = False
            except OSError:
                time.sleep(RECONNECT_S[0])


class Publisher(Client):
    """Publishes on a thread of its own, which also reports the answers: paho holds its locks while it calls back.

    It has paused when all that it was given is answered."""

    def __init__(self, name, version, qos, topic, retain=False):
        self.publish_qos, self.topic, self.retain = qos, topic, retain
        self.number = 0
        self.is_on = False
        self.todo = queue.Queue()
        super().__init__(name, version)
        self.client.writes = self.writes
        self.client.on_publish = lambda c, u, mid, reason, p: self.todo.put((mid, reason, self.client.line))
        threading.Thread(target=self.work, daemon=True).start()

    def message(self):
        """The topic and payload of the present number."""
        return self.topic, f"{self.name} {self.number} {'x' * random.randrange(40)}"

    def writes(self, payload):
        say("sent", self.name, payload.split()[1].decode(), self.client.line)

    def may_publish(self, in_flight):
        return len(in_flight) < IN_FLIGHT_MAX

    def work(self):
        numbers = {}
        pausing = False
        while True:
            if pausing and not numbers:
                pausing = False
                say("paused", self.name)
            try:
                answer = self.todo.get(timeout=random.random() * PAUSE_S)
            except queue.Empty:
                if self.is_on and self.may_publish(numbers.values()):
                    self.number += 1
                    topic, payload = self.message()
                    info = self.client.publish(topic, payload, self.publish_qos, retain=self.retain)
                    numbers[info.mid] = self.number
                continue
            if answer is None:
                self.is_on, pausing = False, True
                continue
            mid, reason, connection = answer
            number = numbers.pop(mid)
            if reason.is_failure:
                say("refused", self.name, number, reason.value)
            else:
                say("acked", self.name, number, connection)

    def pause(self):
        self.todo.put(None)


class Retainer(Publisher):
    """Number n goes to topic n mod 4; two sets, then a deletion, which has no number to be told by when it is written.

    One message of a topic is in flight at a time: what stays is the last that paho wrote, which need not be the highest."""

    def may_publish(self, in_flight):
        return self.number - 3 not in in_flight

    def writes(self, payload):
        pass

    def message(self):
        say("sent", self.name, self.number, self.client.line)
        topic = f"{self.topic}/{self.number % 4}"
        return topic, "" if self.number // 4 % 3 == 2 else f"{self.name} {self.number} "


class Mortal(Client):
    """Its will is the number of the connection that it would come from. Each CONNECT has its own: that of one whose CONNACK
    never came is published too, if the server had it on disk."""

    def on_pre_connect(self, client, user):
        super().on_pre_connect(client, user)
        client.will_set(f"will/{self.name}", f"{self.name} {self.attempt} ", 1)


def main():
    publishers = [
        Publisher("paho1", "5", 1, "crash/paho1"),
        Publisher("paho2", "3.1.1", 2, "crash/paho2"),
        Retainer("keeper", "5", 1, "kept", retain=True),
    ]
    clients = {
        "steady": Client("steady", "5", ["crash/#", "will/#"], 2),
        "flapper": Client("flapper", "3.1.1", ["crash/#", "will/#"], 2),
        "sleeper": Client("sleeper", "5", ["crash/#", "will/#"], 2),
        "changer": Client("changer", "5"),
        "mortal": Mortal("mortal", "5"),
    }
    for number, version in (1, "5"), (2, "3.1.1"), (3, "5"):
        name = f"member{number}"
        clients[name] = Client(name, version, ["$share/group/crash/#"], 2, entry="group")
    changer = clients["changer"].client
    lookers = []
    for line in sys.stdin:
        command, *words = line.split()
        if command == "publish":
            for publisher in publishers:
                publisher.is_on = True
        elif command == "pause":
            for publisher in publishers:
                publisher.pause()
        elif command == "leave":
            clients[words[0]].leave(words[1])
        elif command == "come":
            threading.Thread(target=clients[words[0]].come, daemon=True).start()
        elif command == "subscribe":
            say("asked", words[0], changer.subscribe(words[0], 1)[1])
        elif command == "unsubscribe":
            say("asked", words[0], changer.unsubscribe(words[0])[1])
        elif command == "tell":
            changer.publish(words[0], "changer 0 ", 1)
        elif command == "look":
            lookers.append(Client(words[0], "3.1.1", ["kept/#"], 1, entry="look", clean=True))
        elif command == "unlook":
            while lookers:
                looker = lookers.pop()
                looker.client.disconnect()
                looker.client.loop_stop()


main()
