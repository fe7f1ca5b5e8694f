#!/usr/bin/env python3
"""A chat room with scroll-back: the last lines, then what is said now.

    chat.py ROOM --name NAME [--lines N] [--host HOST] [--port PORT]

Type a line to say it. /older shows what was said before the first line on the screen, /quit ends.
Needs paho-mqtt 2 (pip install paho-mqtt==2.1.0).
"""

import argparse
import json
import queue
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# Which subscription a message came by: subscription identifiers, one of the things MQTT 5 has. Each /older has the next
# one, so that what is still on its way for the last is not taken for it.
NOW = 1


class Room:
    """One room on the screen."""

    def __init__(self, client, topic, lines):
        self.client, self.topic, self.lines = client, topic, lines
        # The offset in the stream of the first line on the screen.
        self.first = None
        # Lines asked for by /older, until all of them are there.
        self.older = None
        self.identifier = NOW
        self.shown = 0

    def enter(self):
        self.subscribe(f"$from/last={self.lines}/{self.topic}", NOW)

    def subscribe(self, topic_filter, identifier):
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = identifier
        self.client.subscribe(topic_filter, qos=1, properties=properties)

    def hear(self, message):
        """A line, of the past or of now: both come in the order in which they were said."""
        offset = int(dict(message.properties.UserProperty)["waypost-offset"])
        line = json.loads(message.payload)
        text = f"{line['user']}: {line['text']}"
        identifiers = message.properties.SubscriptionIdentifier
        if identifiers == [NOW]:
            self.first = offset if self.first is None else self.first
            self.shown += 1
            print(text, flush=True)
        elif self.older is None or identifiers != [self.identifier]:
            return
        elif offset < self.first:
            self.older["lines"].append((offset, text))
        else:
            self.show_older()

    def ask_older(self):
        """The lines before the first one: as many more as are on the screen already."""
        if self.first is None or self.older is not None:
            return
        topic_filter = f"$from/last={self.shown + self.lines}/{self.topic}"
        self.older = {"filter": topic_filter, "lines": []}
        self.identifier += 1
        self.subscribe(topic_filter, self.identifier)

    def show_older(self):
        """The first line on the screen came again: everything before it is there."""
        lines = self.older["lines"]
        self.client.unsubscribe(self.older["filter"])
        # Before anything is printed: who reads it may type the next /older at once.
        if lines:
            self.first = lines[0][0]
            self.shown += len(lines)
        self.older = None
        if not lines:
            print("-- that was all", flush=True)
            return
        print("-- before that", flush=True)
        for _, text in lines:
            print(text, flush=True)
        print("-- until here", flush=True)


def main():
    """Reads what is typed and shows what is said."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("room")
    arguments.add_argument("--name", required=True)
    arguments.add_argument("--lines", type=int, default=50)
    arguments.add_argument("--host", default="127.0.0.1")
    arguments.add_argument("--port", type=int, default=1883)
    options = arguments.parse_args()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    topic = f"chat/{options.room}"
    room = Room(client, topic, options.lines)
    refused = queue.Queue()

    def on_subscribe(_client, _userdata, _packet_id, reasons, properties):
        if any(reason.is_failure for reason in reasons):
            refused.put(f"{reasons[0]}: {getattr(properties, 'ReasonString', 'no reason given')}")

    client.on_connect = lambda *_: room.enter()
    client.on_subscribe = on_subscribe
    client.on_message = lambda _client, _userdata, message: room.hear(message)
    client.connect(options.host, options.port, clean_start=True)
    threading.Thread(target=client.loop_forever, daemon=True).start()

    for typed in sys.stdin:
        if not refused.empty():
            sys.exit(f"chat.py: {refused.get()}")
        typed = typed.rstrip("\n")
        if typed == "/quit":
            break
        if typed == "/older":
            room.ask_older()
        elif typed:
            line = json.dumps({"room": options.room, "user": options.name, "text": typed})
            client.publish(topic, line, qos=1).wait_for_publish(10)
    client.disconnect()


if __name__ == "__main__":
    main()
