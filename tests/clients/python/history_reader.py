"""Reads a stream: python history_reader.py PORT FILTER COUNT [SPEC].

With MQTT 5, at QoS 1; SPEC goes into the User Property waypost-from. Prints `stream offset topic payload` of each message, says
`subscribed` before, and ends after COUNT.
"""

import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

LIMIT_S = 60


def main():
    port, topic_filter, left = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    properties = Properties(PacketTypes.SUBSCRIBE)
    if len(sys.argv) > 4:
        properties.UserProperty = ("waypost-from", sys.argv[4])
    done = threading.Event()

    def on_message(_client, _user, message):
        nonlocal left
        told = dict(message.properties.UserProperty)
        print(told["waypost-stream"], told["waypost-offset"], message.topic, message.payload.decode(), flush=True)
        left -= 1
        if left == 0:
            done.set()

    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = on_message
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_connect = lambda client, *_: client.subscribe(topic_filter, qos=1, properties=properties)
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not done.wait(LIMIT_S):
        sys.exit("too few messages came")


main()
